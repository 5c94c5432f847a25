"""The list of transcriptions, live: server-sent events, as HTML's "Server-sent events" has them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final

import structlog
from anyio import to_thread
from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from ..auth import Scope
from ..bucket import StorageError
from ..view import Transcription
from ..watching import Watch
from .context import TheOwner, TheService
from .guard import Guard, GuardedRoute, needs
from .problems import problems
from .streams import Streams, TheStreams, event_stream
from .transcriptions import KEEP_ALIVE_SECONDS, PAGE, TranscriptionPage

log = structlog.get_logger()

router = APIRouter(prefix="/transcriptions", tags=["transcriptions"], route_class=GuardedRoute)

BUSY_SECONDS = 1.0
"""From look to look while something is under way."""

QUIET_SECONDS = 5.0
"""From look to look while nothing is; what is begun elsewhere shows so much later at most."""

HELD_QUIET_SECONDS = 3.0
"""The same where streams are held. A Lambda that waits for news is paid, and is one of few, all that time, so
it looks once and says when to come again: sooner than a browser would by itself."""


def _described(event: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "properties": {
            "event": {"const": event},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": schema},
        }
    }


_EVENT: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {"id": {"type": "string", "pattern": "^[0-9a-f]{32}([+][0-9]+)*$"}},
    "oneOf": [
        _described("list", {"$ref": "#/components/schemas/TranscriptionPage"}),
        _described("transcription", {"$ref": "#/components/schemas/Transcription"}),
        _described(
            "deleted", {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}
        ),
    ],
}


@router.get(
    "/events",
    summary="Follow the list by server-sent events",
    openapi_extra=needs(Scope.READ),
    description="First an event `list`, its data the first page of `GET /transcriptions`. Then, as things "
    "change, an event `transcription` for what is new or different, and `deleted` for what is gone. The "
    "newest 200 are looked at. After `wait` seconds the stream ends; a client goes on with `Last-Event-ID`, "
    "and is told the list again only if it is another one. Behind an HTTP API of AWS the stream ends after "
    "one look, and says by `retry` when to come again.",
    response_class=StreamingResponse,
    responses=problems()
    | {
        200: {
            "content": {
                "text/event-stream": {
                    "itemSchema": _EVENT,
                    "example": "event: transcription\n"
                    'data: {"id": "019a…", "state": "running"}\n\n'
                    "id: 5d41402abc4b2a76b9719d911017c592\n"
                    'event: deleted\ndata: {"id": "019a…"}\n\n',
                }
            },
        }
    },
)
async def follow_list(
    request: Request,
    service: TheService,
    owner: TheOwner,
    streams: TheStreams,
    wait: Annotated[float, Query(ge=0, le=3600, description="Seconds to follow it at most.")] = 300,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    watch = Watch(service.transcriptions, owner)
    page = await to_thread.run_sync(watch.begin, last_event_id, PAGE, limiter=streams.threads)
    first = [] if page is None else [("list", TranscriptionPage.of(*page).model_dump_json())]
    guard: Guard = request.app.state.guard
    admitted = partial(guard.still_admits, request)
    return event_stream(_changes(watch, first, time.monotonic() + wait, admitted, streams))


async def _changes(
    watch: Watch,
    events: list[tuple[str, str]],
    until: float,
    admitted: Callable[[], Awaitable[bool]],
    streams: Streams,
) -> AsyncIterator[str]:
    quiet_since, seen = time.monotonic(), watch.state
    if streams.held:
        pause = BUSY_SECONDS if watch.busy else HELD_QUIET_SECONDS
        yield f"retry: {pause * 1000:.0f}\n\n" + _written(events, seen)
        return
    while True:
        if events:
            quiet_since, seen = time.monotonic(), watch.state
            yield _written(events, seen)
        elif watch.state != seen:
            # What had been told to be gone is gone for good, say: no event, but where to go on from.
            quiet_since, seen = time.monotonic(), watch.state
            yield f"id: {seen}\n\n"
        elif time.monotonic() - quiet_since > KEEP_ALIVE_SECONDS:
            quiet_since = time.monotonic()
            yield ": still here\n\n"
        left = until - time.monotonic()
        if left <= 0:
            return
        await asyncio.sleep(min(left, BUSY_SECONDS if watch.busy else QUIET_SECONDS))
        events = []
        try:
            if not await admitted():
                return
            changed, gone = await to_thread.run_sync(watch.look, limiter=streams.threads)
        except StorageError as error:
            log.warning("cannot follow the list", code="storage_unavailable", reason=str(error))
            continue
        events = [("transcription", Transcription.of(record).model_dump_json()) for record in changed]
        events += [("deleted", json.dumps({"id": id})) for id in gone]


def _written(events: list[tuple[str, str]], state: str) -> str:
    """The events; who has read the last of them has seen this state of the list, and nobody before."""
    last = events[-1] if events else None
    return "".join(
        f"{f'id: {state}\n' if event is last else ''}event: {event[0]}\ndata: {event[1]}\n\n"
        for event in events
    )
