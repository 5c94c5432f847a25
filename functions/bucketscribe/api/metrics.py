"""Metrics for Prometheus: what this process has counted, and how bucket and queue stand when it is asked."""

import asyncio
from collections import Counter
from collections.abc import Callable

import structlog
from anyio import move_on_after, to_thread
from fastapi import APIRouter, Response

from .. import metrics
from ..auth import Scope
from ..bucket import StorageError
from ..errors import Problem
from ..markers import Kind
from ..service import Service
from .context import TheService
from .guard import GuardedRoute, needs
from .problems import problems

log = structlog.get_logger()

router = APIRouter(tags=["health"], route_class=GuardedRoute)

ANSWER_SECONDS = 5.0
"""How long bucket and queue are waited for: less than the 10 s that a scrape may take."""


@router.get(
    "/metrics",
    summary="What is counted and measured, for Prometheus",
    description="Of this process, and of bucket and queue as they are now. There are none of a Lambda: its "
    "metrics are in CloudWatch.",
    response_class=Response,
    openapi_extra=needs(Scope.ADMIN),
    responses=problems("no_such_route", everywhere=False)
    | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def read(service: TheService) -> Response:
    parts = await asyncio.gather(
        _asked("bucket", lambda: _open_markers(service)), _asked("queue", lambda: _queue_messages(service))
    )
    exposition = metrics.exposition(reading for part in parts for reading in part)
    if exposition is None:
        raise Problem("no_such_route", "No metrics can be read here.")
    return Response(exposition.body, headers={"Content-Type": exposition.content_type})


async def _asked(part: str, ask: Callable[[], list[metrics.Reading]]) -> list[metrics.Reading]:
    """What a part says, and that it answers; of one that does not, only that."""
    with move_on_after(ANSWER_SECONDS):
        try:
            readings = await to_thread.run_sync(ask, abandon_on_cancel=True)
        except StorageError as error:
            log.warning("a part does not answer", part=part, code="storage_unavailable", reason=str(error))
        else:
            return [metrics.Reading("up", 1, {"part": part}), *readings]
    return [metrics.Reading("up", 0, {"part": part})]


def _open_markers(service: Service) -> list[metrics.Reading]:
    standing = Counter(marker.kind for marker in service.markers.listing())
    return [metrics.Reading("open_markers", standing[kind], {"kind": kind}) for kind in Kind]


def _queue_messages(service: Service) -> list[metrics.Reading]:
    return [metrics.Reading("queue_messages", service.queue.count(), {})]
