"""Health: is this process alive, and can it do its work?"""

import asyncio
import urllib.request
from http.client import HTTPException
from typing import Literal

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from ..bucket import StorageError
from ..service import Service
from .context import TheService
from .guard import PUBLIC, GuardedRoute

log = structlog.get_logger()

router = APIRouter(prefix="/health", tags=["health"], route_class=GuardedRoute)

WORKER_ANSWER_SECONDS = 2


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What this process needs, and whether it answers: `ok`, or why not."""

    status: Literal["ok", "unavailable"]
    bucket: str
    queue: str
    worker: str | None


class Looks:
    """One look at a time: nobody need sign in to ask, and each look costs requests. For one event loop."""

    def __init__(self) -> None:
        self._under_way: asyncio.Task[Readiness] | None = None

    async def join(self, service: Service) -> Readiness:
        """What the look under way finds, or one that begins now."""
        if self._under_way is None or self._under_way.done():
            self._under_way = asyncio.create_task(run_in_threadpool(_look, service))
        # Who goes away must not end it for the others.
        return await asyncio.shield(self._under_way)


@router.get("", summary="Is the process alive?", openapi_extra=PUBLIC)
@router.get("/live", summary="Is the process alive?", openapi_extra=PUBLIC)
async def live() -> Alive:
    return Alive()


@router.get(
    "/ready",
    summary="Do bucket, queue and, on a laptop, the worker answer?",
    openapi_extra=PUBLIC,
    responses={503: {"model": Readiness, "description": "Something does not answer."}},
)
async def ready(request: Request, response: Response, service: TheService) -> Readiness:
    looks: Looks = request.app.state.looks
    found = await looks.join(service)
    response.status_code = 200 if found.status == "ok" else 503
    return found


def _look(service: Service) -> Readiness:
    bucket = queue = "ok"
    worker = None
    try:
        service.bucket.now()
    except StorageError as error:
        bucket = _reason(service, error)
    try:
        service.queue.count()
    except StorageError as error:
        queue = _reason(service, error)
    if service.settings.worker_health_url is not None:
        worker = _ask_worker(service, service.settings.worker_health_url)
    fine = bucket == queue == "ok" and worker in (None, "ok")
    return Readiness(status="ok" if fine else "unavailable", bucket=bucket, queue=queue, worker=worker)


def _reason(service: Service, error: Exception) -> str:
    """Why something does not answer; to strangers only that, as the reason names addresses."""
    if service.settings.open_mode:
        return str(error)
    log.warning("not ready", code="storage_unavailable", reason=str(error))
    return "does not answer"


def _ask_worker(service: Service, url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=WORKER_ANSWER_SECONDS):  # noqa: S310 -- from the settings
            return "ok"
    except (OSError, HTTPException) as error:
        return _reason(service, error)
