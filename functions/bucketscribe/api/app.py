"""The API, put together: served by `bucketscribe api`, or by Mangum on a Lambda."""

import os
from functools import partial
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, FastAPI, Path
from fastapi.middleware.cors import CORSMiddleware

from .. import logs
from .. import metrics as collected
from ..auth import check_reach
from ..service import Service
from ..settings import Settings
from . import (
    choices,
    events,
    health,
    live,
    metrics,
    openai,
    page,
    problems,
    renaming,
    room,
    sessions,
    speech_to_text,
    task_socket,
    tasks,
    transcriptions,
    tus,
    tus_body,
    tus_headers,
    uploads,
)
from .completions import Completions
from .gateway import Gateway
from .guard import LOOPBACK_ORIGIN, Guard
from .openapi import TOKEN_PREFIX, document_of
from .request_log import InternalErrors, RequestLog
from .security_headers import SecurityHeaders
from .streams import Streams
from .this_machine import ThisMachineOnly

EXPOSED_HEADERS = ["ETag", "Retry-After", "WWW-Authenticate", *tus_headers.EXPOSED]
"""What pages of other sites may read. The template has the same, for its gateway."""

DESCRIPTION = """
Upload a recording of up to 5 GB straight into an object-storage bucket, and get a transcript.

The bytes go from the client to the bucket by presigned URLs, never through this API. Every refusal is an
RFC 9457 problem with a stable `code`, and says what to do next.
"""


async def _path_token(
    token: Annotated[str, Path(description="An upload token, from `POST /upload-tokens`.", max_length=1024)],
) -> None:
    """The guard has read it by now; it is told here for the document."""


def create_app(service: Service | None = None) -> FastAPI:
    """The application. Without a service, one is made from the environment's settings.

    Raises OpenToOthers where others could reach it, and nobody need sign in.
    """
    settings = Settings() if service is None else service.settings
    check_reach(settings)
    if service is None:
        logs.configure(settings)
        collected.configure()
        service = Service.connect(settings)
    app = FastAPI(
        title="Bucketscribe",
        version="0.1.0",
        description=DESCRIPTION,
        redoc_url=None,
        # Behind a proxy that ends TLS it would be to plain http, with all credentials.
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.completions = Completions()
    # What is copied out of the inbox takes minutes: never the threads that complete uploads.
    app.state.copies = Completions(threads=8)
    app.state.room = room.Room()
    app.state.bodies = tus_body.Bodies(app.state.room)
    app.state.looks = health.Looks()
    on_lambda = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
    app.state.streams = Streams(held=on_lambda)
    app.state.renamings = CapacityLimiter(renaming.THREADS)
    app.state.task_reads = CapacityLimiter(tasks.THREADS)
    app.state.events = events.UnderWay()
    app.state.guard = Guard(settings, service.bucket, on_lambda=on_lambda)
    # The last one added is the outermost.
    app.add_middleware(InternalErrors)
    if on_lambda:
        app.add_middleware(Gateway)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.allowed_origins,
        # In open mode any other page this browser visits could read and delete transcripts.
        allow_origin_regex=LOOPBACK_ORIGIN if settings.open_mode else None,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
        max_age=3600,
    )
    if settings.open_mode:
        app.add_middleware(ThisMachineOnly)
    app.add_middleware(tus_headers.TusResumable)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(RequestLog)
    problems.install(app)
    # The live list before `/transcriptions/{id}`, which its address fits, too.
    for module in (
        *(uploads, live, transcriptions, renaming, sessions, choices, openai, health, metrics),
        *(speech_to_text, tasks, task_socket, tus),
    ):
        app.include_router(module.router)
    if settings.events_token is not None:
        app.include_router(events.router)
    app.include_router(uploads.router, prefix=TOKEN_PREFIX, dependencies=[Depends(_path_token)])
    app.include_router(page.router(page.read(page.FOLDER)))
    app.openapi = partial(document_of, app)  # type: ignore[method-assign]
    return app
