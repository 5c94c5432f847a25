"""HTTP to the API: requests, problems, and which calls may be sent twice.

A call that changes nothing when repeated is sent again after a lost answer or a gateway's error; any call is
after a 429 or 503, which say that nothing was done, unless it is a limit that no pause of ours outlasts. No
redirect is followed here: the API's headers are for the API alone. Fails with `ServerProblem` (RFC 9457), or
`Unreachable` when the tries are used up.
"""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import BaseModel, ValidationError
from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from .backoff import QUICK, Backoff
from .errors import ServerProblem, Unreachable
from .offline import Line, is_offline

CONNECT_SECONDS = 30
"""Also what urllib3 allows for sending one block: a slow line must manage that."""

READ_SECONDS = 60
"""Completing an upload answers within 20 s, through a gateway within 30 s."""

LASTING = frozenset({"too_many_uploads", "daily_limit_reached"})
"""Refusals with a 429 that somebody must do something about, or wait until tomorrow."""

RETRY_AFTER_SECONDS = 10
"""No server is waited for longer than this because it asks for it."""

BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What can stand behind `Bearer` (RFC 6750, 2.1): an API key, or a JSON Web Token."""


class BadApiKey(ValueError):
    """This cannot be an API key. The text does not repeat it."""


class Api:
    """Calls to one server. `asker` tells whose calls they are, by a hash: who brings no key is None."""

    def __init__(
        self, server: str, pool: PoolManager, headers: Mapping[str, str], api_key: str | None = None
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{server!r} is not a URL such as http://127.0.0.1:8000")
        self.server = server.rstrip("/")
        self._pool = pool
        self._headers = dict(headers)
        self.asker: str | None = None
        if api_key is not None:
            if not BEARER.fullmatch(api_key):
                raise BadApiKey("an API key has letters, digits and a few signs, with no space between them")
            self._headers["Authorization"] = f"Bearer {api_key}"
            self.asker = hashlib.sha256(api_key.encode()).hexdigest()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        backoff: Backoff = QUICK,
        repeatable: bool | None = None,
        redirects: bool = False,
        seconds: float | None = None,
        stream_seconds: float | None = None,
        line: Line | None = None,
    ) -> BaseHTTPResponse:
        """The answer, with a status below 300, or 400 if it may be one of the `redirects`.

        Only GETs count as repeatable unless it is said. With a `line`, no connection to the server is waited
        for, if the call is repeatable. Connecting and answering may each take `seconds`. With
        `stream_seconds` the body is left to be read, and nothing may be silent for longer than that.
        """
        repeatable = method == "GET" if repeatable is None else repeatable
        url = self._url(path, query)
        pauses = backoff.pauses()
        while True:
            error: ServerProblem | Unreachable
            try:
                response = self._send(method, url, body, headers, seconds, stream_seconds)
            except HTTPError as lost:
                error = Unreachable(self.server, reason(lost))
                if line is not None and repeatable and is_offline(lost):
                    line.lost(error)
                    continue
                again, least = repeatable, 0.0
            else:
                if line is not None:
                    line.found(self.server)
                if response.status < (400 if redirects else 300):
                    return response
                if response.status < 400:
                    raise bad_answer(response, f"status {response.status}")
                error = problem(response)
                refused = response.status in (429, 503) and error.code not in LASTING
                again = refused or (repeatable and response.status in (500, 502, 504))
                asked = response.headers.get("Retry-After", "")
                least = min(float(asked), RETRY_AFTER_SECONDS) if asked.isdecimal() else 0.0
            pause = next(pauses, None) if again else None
            if pause is None:
                raise error
            time.sleep(max(pause, least))

    def document[M: BaseModel](self, model: type[M], response: BaseHTTPResponse) -> M:
        """The answer's JSON as `model`. Raises ServerProblem `bad_answer` for anything else."""
        try:
            return model.model_validate_json(response.data)
        except ValidationError as invalid:
            raise bad_answer(response, str(invalid.errors(include_url=False)[0]["msg"])) from None
        except HTTPError as lost:
            raise Unreachable(self.server, reason(lost)) from lost

    def _url(self, path: str, query: Mapping[str, str | int | None] | None) -> str:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return f"{self.server}{path}{'?' + urlencode(given, quote_via=quote) if given else ''}"

    def _send(
        self,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        seconds: float | None,
        stream_seconds: float | None,
    ) -> BaseHTTPResponse:
        sent = {"Accept": "application/json", **self._headers, **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        return self._pool.request(
            method,
            url,
            body=None if body is None else json.dumps(body).encode(),
            headers=sent,
            retries=False,
            redirect=False,
            preload_content=stream_seconds is None,
            timeout=Timeout(
                connect=seconds or CONNECT_SECONDS, read=seconds or stream_seconds or READ_SECONDS
            ),
        )


def problem(response: BaseHTTPResponse) -> ServerProblem:
    """The refusal in a response; what is no problem document gets the code `http_` and its status."""
    try:
        document = json.loads(response.data)
    except (ValueError, HTTPError):
        document = None
    if not isinstance(document, dict):
        document = {}
    code = str(document.get("code") or f"http_{response.status}")
    detail = str(document.get("detail") or document.get("title") or response.reason or "no explanation")
    return ServerProblem(response.status, code, detail, document)


def bad_answer(response: BaseHTTPResponse, why: str) -> ServerProblem:
    """An answer that is not what the API promises: most likely another server's."""
    return ServerProblem(
        response.status, "bad_answer", f"The answer is not one of Bucketscribe's API: {why}.", {}
    )


def reason(error: BaseException) -> str:
    """Why a request failed, in the system's words: urllib3 wraps them several times."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error).rsplit(": ", 1)[-1].rstrip(".") or type(error).__name__
