"""The commands that run something of ours until told to stop: up, api, worker, sweep."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from .output import FAILED, fail, note

if TYPE_CHECKING:
    from ..settings import Settings

STOP_SECONDS = 1
"""A request that is cut off can be sent again: all of them can be repeated."""

MANY_FILES = 65_536


def up() -> None:
    """Run everything on this machine until Ctrl-C."""
    settings = read_settings()
    with extra("local"):
        from ..up.supervisor import run
    raise typer.Exit(run(settings))


def api() -> None:
    """Serve the API at BUCKETSCRIBE_HOST and BUCKETSCRIBE_PORT, until told to stop."""
    settings = read_settings()
    with extra("server"):
        import uvicorn

        from ..api.app import create_app
        from ..api.http_protocol import HttpProtocol
    from ..auth import OpenToOthers

    try:
        app = create_app()
    except (OpenToOthers, ValueError) as problem:
        fail(f"{problem} [cannot_serve]")
    _allow_connections()
    # What is there by now stays: to look for garbage in all of it would hold requests up for 70 ms at a time.
    gc.collect()
    gc.freeze()
    uvicorn.run(
        app,
        host=settings.host,
        port=settings.port,
        http=HttpProtocol,
        # Paths may carry tokens; our own line a request has the route.
        access_log=False,
        # Its lines go where ours go, and secrets are taken out of them, too.
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )


def _allow_connections() -> None:
    """Each connection is a file, and what a shell allows of them is few; as many as the system lets us."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if hard == resource.RLIM_INFINITY else min(MANY_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # Some systems let nobody have what they call the limit.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def worker() -> None:
    """Transcribe what is queued, until told to stop."""
    settings = _service_settings()
    with extra("worker"):
        from ..worker.main import run
    with extra("whisperx" if settings.engine == "whisperx" else "worker"):
        status = run(settings)
    raise typer.Exit(status)


def sweep(once: Annotated[bool, typer.Option("--once", help="One look, instead of a loop.")] = False) -> None:
    """Find what was left unfinished, and put it right."""
    settings = _service_settings()
    from ..sweep import run_forever, run_once

    raise typer.Exit(run_once(settings) if once else run_forever(settings))


def _service_settings() -> "Settings":
    """The settings, with which bucket and queue can be named; or a line, and the end."""
    settings = read_settings()
    from ..service import Service

    try:
        Service.connect(settings)
    except ValueError as problem:
        fail(f"{problem} [cannot_serve]")
    return settings


def read_settings() -> "Settings":
    """The settings; or one line for each that makes no sense, and the end."""
    from pydantic import ValidationError

    from ..settings import Settings
    from ..up.checks import explain

    try:
        return Settings()
    except ValidationError as error:
        for line in explain(error):
            note(line)
        raise typer.Exit(FAILED) from None


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Say which extra is missing, should an import fail."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("bucketscribe"):
            raise
        fail(f"{missing.name} is not installed: install bucketscribe[{name}]. [missing_extra]")
