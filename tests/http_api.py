"""An HTTP API of API Gateway before a function, as a transport of httpx2: any client can call a Lambda by it.

Requests and answers have payload format 2.0; what is larger than a Lambda takes is refused as there.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import httpx2

PAYLOAD_BYTES = 6 * 1024**2
DOMAIN = "a1b2c3d4e5.execute-api.eu-central-1.amazonaws.com"


class HttpApi(httpx2.BaseTransport):
    """Calls the function with each request's event."""

    def __init__(self, invoke: Callable[[dict[str, Any]], Any]) -> None:
        self._invoke = invoke

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        event = event_of(request)
        if len(json.dumps(event)) > PAYLOAD_BYTES:
            return httpx2.Response(413, json={"message": "Request Too Long"})
        answer = self._invoke(event)
        body = answer.get("body") or ""
        content = b64decode(body) if answer.get("isBase64Encoded") else body.encode()
        headers = [*answer["headers"].items(), *(("set-cookie", one) for one in answer.get("cookies", []))]
        return httpx2.Response(answer["statusCode"], headers=headers, content=content)


def event_of(request: httpx2.Request) -> dict[str, Any]:
    """The event of a request. Whatever is no text comes in base64, as a tus client's bytes do."""
    body = request.read()
    path, _, query = request.url.raw_path.decode().partition("?")
    headers: dict[str, str] = {}
    for name, value in request.headers.multi_items():
        headers[name.lower()] = ",".join(filter(None, (headers.get(name.lower()), value)))
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": query,
        "headers": headers | {"host": DOMAIN, "x-forwarded-for": "203.0.113.7", "x-forwarded-proto": "https"},
        "requestContext": {
            "domainName": DOMAIN,
            "http": {
                "method": request.method,
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": "Uy3x1hPrFiAEPaQ=",
            "routeKey": "$default",
            "stage": "$default",
        },
        **(
            {"body": b64encode(body).decode(), "isBase64Encoded": True}
            if body
            else {"isBase64Encoded": False}
        ),
    }
