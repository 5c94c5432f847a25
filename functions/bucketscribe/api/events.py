"""Notifications of an object store: MinIO's webhook, and whatever else sends S3's form.

MinIO sends an event until it is answered 2xx, every three seconds, and none after it meanwhile; so what
makes no sense is answered 200, and logged. Only a bucket that does not answer us is worth another try.
Whether we are there it asks by HEAD, and any answer will do. What takes long goes on when the store was
answered; where it dies, the sweep finds it. Source: MinIO's `internal/event/target/webhook.go`, `store.go`.
"""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any

import structlog
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, Field

from .. import arrivals
from ..arrivals import Arrival, NotAnEvent
from ..bucket import StorageError
from ..errors import Problem
from ..inbox import PREFIX as INBOX
from .context import TheService
from .guard import PUBLIC, GuardedRoute
from .problems import problems

log = structlog.get_logger()

ANSWER_SECONDS = 5.0
THREADS = 8


class EventsRoute(GuardedRoute):
    """A route that is asked with the token of the settings, which is looked at before the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind the token."""
        handle = super().get_route_handler()

        async def with_token(request: Request) -> Response:
            _check_token(request)
            return await handle(request)

        return with_token


router = APIRouter(prefix="/events", tags=["events"], route_class=EventsRoute)


class Taken(BaseModel):
    """How many objects the notification told of."""

    arrivals: int = Field(description="0 where it was passed over.")


class UnderWay:
    """What goes on after its notification was answered; for one event loop."""

    def __init__(self) -> None:
        self.threads = CapacityLimiter(THREADS)
        # What is copied out of the inbox takes minutes: never the threads that finish uploads.
        self.copies = CapacityLimiter(THREADS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, take: Callable[[], None], threads: CapacityLimiter) -> None:
        """Take an arrival, and wait no longer than the store should. Raises what `take` raises by then."""
        task = asyncio.create_task(to_thread.run_sync(take, limiter=threads))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait({task}, timeout=ANSWER_SECONDS)
        finally:
            # By then nobody waits for it who would tell.
            if not task.done():
                task.add_done_callback(_tell)
        if task.done():
            task.result()


def _tell(task: asyncio.Task[None]) -> None:
    if task.cancelled():
        return
    match task.exception():
        case None:
            return
        case Problem() as problem:
            log.warning("arrival not taken", code=problem.code, reason=problem.detail)
        case error if isinstance(error, StorageError):
            log.warning("arrival not taken", code="storage_unavailable", reason=str(error))
        case error:
            log.error("arrival not taken", code="internal", exc_info=error)


@router.post(
    "/s3",
    summary="Tell of objects that have arrived",
    description="For an object store: MinIO's webhook, with `BUCKETSCRIBE_EVENTS_TOKEN` as its auth token. "
    "The body is an S3 event notification, or one or some of its records, or EventBridge's event. Any other "
    "is passed over.",
    openapi_extra=PUBLIC,
    responses=problems("sign_in_required", "bad_credentials", "busy", "storage_unavailable"),
)
async def s3(
    document: Annotated[
        Any,
        Body(
            examples=[
                {
                    "Records": [
                        {
                            "eventName": "s3:ObjectCreated:Put",
                            "s3": {
                                "bucket": {"name": "bucketscribe"},
                                "object": {"key": "inbox%2Falice-3f1c9a0b7d2e4856%2Ftalk.mp3"},
                            },
                        }
                    ]
                }
            ]
        ),
    ],
    request: Request,
    service: TheService,
) -> Taken:
    try:
        arrived = arrivals.read(document)
    except NotAnEvent as error:
        log.warning("not an event", code="not_an_event", reason=str(error))
        return Taken(arrivals=0)
    under_way: UnderWay = request.app.state.events

    dropped = [arrival for arrival in arrived if arrival.key.startswith(INBOX)]
    uploaded = [arrival for arrival in arrived if arrival not in dropped]

    def take(some: list[Arrival]) -> None:
        for arrival in some:
            service.arrivals.arrived(arrival)

    if uploaded:
        await under_way.run(partial(take, uploaded), under_way.threads)
    if dropped:
        await under_way.run(partial(take, dropped), under_way.copies)
    return Taken(arrivals=len(arrived))


def _check_token(request: Request) -> None:
    """See that the token is sent, after `Bearer` or alone. Raises `sign_in_required`, `bad_credentials`."""
    headers = request.headers.getlist("authorization")
    if not headers:
        raise Problem("sign_in_required", "Send the events token, as in `Authorization: Bearer …`.")
    token = request.app.state.service.settings.events_token.get_secret_value()
    sent = headers[0].strip()
    scheme, _, rest = sent.partition(" ")
    given = rest.strip() if scheme.lower() == "bearer" else sent
    if len(headers) > 1 or not secrets.compare_digest(given.encode(), token.encode()):
        raise Problem("bad_credentials", "This is not the events token.")
