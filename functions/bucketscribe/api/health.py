"""Health: is this process alive, and can it do its work?"""

import urllib.request
from typing import Literal

import structlog
from fastapi import APIRouter, Response
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
def ready(response: Response, service: TheService) -> Readiness:
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
        worker = _ask_worker(service.settings.worker_health_url)
    fine = bucket == queue == "ok" and worker in (None, "ok")
    response.status_code = 200 if fine else 503
    return Readiness(status="ok" if fine else "unavailable", bucket=bucket, queue=queue, worker=worker)


def _reason(service: Service, error: Exception) -> str:
    """Why something does not answer; to strangers only that, as the reason names addresses."""
    log.warning("not ready", code="storage_unavailable", reason=str(error))
    return str(error) if service.settings.open_mode else "does not answer"


def _ask_worker(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=WORKER_ANSWER_SECONDS):  # noqa: S310 -- from the settings
            return "ok"
    except OSError as error:
        return str(error)
