"""One log line a request, and its time for the metrics.

What is told of a request is its route's template and never its path, which may carry a token or a sealed
upload id. Health checks are not told at all.
"""

import re
import time
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import metrics
from ..errors import Problem
from ..records import is_id
from .problems import answer

log = structlog.get_logger()

UNMATCHED = "unmatched"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

# These last as long as their reader likes, the recording they carry, or the work they wait for, which says
# nothing of us.
_LASTING = re.compile(
    r"GET .*/events|POST (/upload/stream|/speech-to-text|/v1/audio/.+)|(POST|PATCH) /uploads/files.*"
)

_SLASH = rb"(?:/|%2[Ff])"
_KEY_ID = re.compile(rb"(?:^|&)key=uploads" + _SLASH + rb"[a-z0-9-]+" + _SLASH + rb"([0-9a-f-]{36})" + _SLASH)


class RequestLog:
    """ASGI middleware; outside of all that answers a request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            # 499, as nginx has it: nobody waited for an answer.
            _tell(scope, status or 499, time.perf_counter() - begun)


class InternalErrors:
    """ASGI middleware: a problem instead of a bare 500. Inside of what gives every answer its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http":
                raise
            log.exception("request failed", code="internal", method=scope["method"], **_who_and_where(scope))
            if begun:
                raise
            detail = "Something went wrong on our side, and stands in the log. Nothing is lost; try again."
            await answer(Problem("internal", detail))(scope, receive, send)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    told = _who_and_where(scope)
    route: str = told["route"]
    if not route.startswith("/health"):
        method = scope["method"]
        log.info("request", method=method, status=status, ms=round(seconds * 1000, 1), **told)
        if not _LASTING.fullmatch(f"{method} {route}"):
            metrics.observe(
                "request_seconds",
                seconds,
                route=route,
                method=method if method in METHODS else "other",
                status=f"{status // 100}xx",
            )
    metrics.flush()


def _who_and_where(scope: Scope) -> dict[str, Any]:
    told = {"route": getattr(scope.get("route"), "path", UNMATCHED)}
    owner = getattr(scope.get("state", {}).get("principal"), "owner", None)
    if owner is not None:
        told["owner"] = owner
    id = _id(scope)
    if id is not None:
        told["id"] = id
    return told


def _id(scope: Scope) -> str | None:
    """The transcription's id, of the path or of the recording's key, if it is one."""
    id = scope.get("path_params", {}).get("id")
    if id is None and (keys := _KEY_ID.findall(scope["query_string"])):
        id = keys[-1].decode()
    return id if isinstance(id, str) and is_id(id) else None
