"""Problems on the wire: RFC 9457 documents for everything that can go wrong, and their part of OpenAPI."""

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import structlog
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.routing import Match

from ..bucket import Bucket, StorageError
from ..errors import PROBLEMS, Problem
from ..records import NoRecord

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"

STORAGE_FULL = (
    "The object store takes no more: its disk is full, or its quota used up. Nothing is lost. Ask whoever "
    "runs it to free space, as by `bucketscribe purge`, or to raise the quota; then try again. An upload in "
    "progress goes on with what was sent, if it has not been idle for too long by then."
)


ANYWHERE = ("invalid_request", "storage_unavailable", "storage_full")


class ProblemDocument(BaseModel):
    """An RFC 9457 problem. `error` and `message` repeat `detail`, where Uppy looks for it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    error: str
    message: str


def problems(*codes: str, everywhere: bool = True) -> dict[int | str, dict[str, Any]]:
    """The OpenAPI responses of a route that can answer with these problems, an example each.

    And with those that any route can have, unless told that they stand there already.
    """
    by_status: dict[int, dict[str, Any]] = defaultdict(dict)
    for code in (*codes, *(ANYWHERE if everywhere else ())):
        status, title = PROBLEMS[code]
        by_status[status][code] = {"summary": title, "value": Problem(code, f"{title}.").document()}
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {
            "description": ", ".join(f"`{code}`" for code in examples),
            "content": {MEDIA_TYPE: {"schema": schema, "examples": examples}},
        }
        for status, examples in sorted(by_status.items())
    }


class _Document(JSONResponse):
    media_type = MEDIA_TYPE

    def render(self, content: Any) -> bytes:
        # What was wrong may be told by its own name, and that may be half a surrogate pair.
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def answer(
    problem: Problem, headers: dict[str, str] | None = None, document: dict[str, Any] | None = None
) -> JSONResponse:
    """The response that tells a problem; its `retryAfter`, in seconds, is a header as well.

    `document` is told instead of the problem's own.
    """
    headers = dict(headers or {})
    if problem.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="bucketscribe"'
    if "retryAfter" in problem.extra:
        headers["Retry-After"] = str(problem.extra["retryAfter"])
    return _Document(document or problem.document(), problem.status, headers=headers)


def _methods(request: Request) -> str:
    """What an address takes. Starlette tells of the first of its routes only; RFC 9110, 10.2.1 wants all."""
    routes = iter_route_contexts(request.app.routes)
    fitting = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


def _told(request: Request, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response, in the form the route's clients know if that is another."""
    tell: Callable[..., JSONResponse] = getattr(request.scope.get("route"), "tell", answer)
    return tell(problem, headers)


def install(app: FastAPI) -> None:
    """Turn every exception a route can raise into a problem."""

    @app.exception_handler(Problem)
    async def told(request: Request, problem: Problem) -> JSONResponse:
        return _told(request, problem)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        faults = [
            {"where": ".".join(str(step) for step in fault["loc"]), "what": fault["msg"]}
            for fault in error.errors()
        ]
        detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
        return _told(request, Problem("invalid_request", detail, {"faults": faults}))

    @app.exception_handler(NoRecord)
    async def gone(request: Request, error: NoRecord) -> JSONResponse:
        return _told(request, Problem("no_such_transcription", "There is no such transcription any more."))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 405:
            methods = _methods(request)
            problem = Problem("method_not_allowed", f"This address takes {methods}.")
            return _told(request, problem, {"Allow": methods})
        if error.status_code == 404:
            return _told(request, Problem("no_such_route", "There is nothing at this address; see /docs."))
        if error.status_code == 413:
            return _told(
                request, Problem("body_too_large", "The body of this request is too large; send less.")
            )
        return _told(request, Problem("invalid_request", str(error.detail)))

    async def storage(request: Request, error: Exception) -> JSONResponse:
        bucket: Bucket = request.app.state.service.bucket
        if await to_thread.run_sync(bucket.is_full, error):
            log.error("storage full", code="storage_full", reason=str(error))
            return _told(request, Problem("storage_full", STORAGE_FULL))
        log.error("storage unavailable", code="storage_unavailable", reason=str(error))
        detail = "The object store does not answer as it should. Nothing is lost; try again in a moment."
        return _told(request, Problem("storage_unavailable", detail), {"Retry-After": "5"})

    for kind in StorageError:
        app.add_exception_handler(kind, storage)
