"""The API behind an HTTP API of API Gateway (payload format 2.0), which waits for 30 s and takes 6 MB.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from typing import Any

from mangum import Mangum
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES

from ..api.app import create_app
from ..api.problems import MEDIA_TYPE
from .invocation import Context, invocation

WARM_UP = {
    "version": "2.0",
    "headers": {"host": "localhost"},
    "requestContext": {"http": {"method": "GET", "path": "/health/live", "sourceIp": "127.0.0.1"}},
}
"""The request that is answered before anybody asks: the first answer of an application takes longest."""


class NotARequest(ValueError):
    """The function was invoked with something else than a request of an HTTP API."""


_app = Mangum(create_app(), lifespan="off", text_mime_types=[*DEFAULT_TEXT_MIME_TYPES, MEDIA_TYPE])
_app(WARM_UP, None)  # type: ignore[arg-type]


def handler(event: Any, context: Context) -> dict[str, Any]:
    """Answer a request. Raises NotARequest."""
    gateway = event.get("requestContext") if isinstance(event, dict) else None
    if not (isinstance(gateway, dict) and "http" in gateway and event.get("version") == "2.0"):
        raise NotARequest("this is no request of an HTTP API, in payload format 2.0")
    # The gateway's id is the one that a caller and the access log have.
    with invocation(context, request=str(gateway.get("requestId", ""))):
        return _app(event, context)  # type: ignore[arg-type]
