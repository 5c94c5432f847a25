"""The command line: `bucketscribe`, also `python -m bucketscribe.cli.main`.

Exit statuses: 0 done; 1 something went wrong; 2 the command line makes no sense; 3 the transcription failed,
was canceled or has expired; 130 interrupted. What is asked for goes to standard output, all else to standard
error. Imports stand inside the commands, so that each starts fast and needs only its own extra.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import FAILED, NO_TRANSCRIPT, clean, connected, explained, fail, failure, note, standing, write

if TYPE_CHECKING:
    from ..client import Client, ServerProblem, Transcription
    from ..settings import Settings

app = typer.Typer(
    name="bucketscribe",
    help="Upload a recording straight into a bucket; get a transcript.",
    epilog="Example: bucketscribe transcribe talk.mp4 > talk.txt",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


class Format(StrEnum):
    """The files a transcript comes in."""

    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    JSON = "json"
    TSV = "tsv"
    ASS = "ass"


class Task(StrEnum):
    """What the engine is asked for."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class State(StrEnum):
    """States one can list by."""

    UPLOADING = "uploading"
    COMPLETING = "completing"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


Server = Annotated[
    str, typer.Option("--server", envvar="BUCKETSCRIBE_SERVER", metavar="URL", help="The server to ask.")
]
DEFAULT_SERVER = "http://127.0.0.1:8000"
PAGE = 100
"""As many as the API gives at once."""

Id = Annotated[str, typer.Argument(metavar="ID", help="The transcription.")]
Ids = Annotated[list[str], typer.Argument(metavar="ID…", help="The transcriptions.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
As = Annotated[
    Format | None, typer.Option("--format", "-f", help="By default that of OUTPUT's name, or else txt.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", dir_okay=False, help="File to write instead of standard output."),
]


@app.command(epilog="Example: bucketscribe transcribe talk.mp4 --language en --output talk.srt")
def transcribe(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="The recording."),
    ],
    language: Annotated[
        str | None, typer.Option(help="Language code such as en; found out if unset.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="One of the server's models.")] = None,
    task: Annotated[Task | None, typer.Option(help="`translate` is into English.")] = None,
    format: As = None,
    output: Output = None,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Print the id as soon as the recording is uploaded.")
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Upload a recording, wait for its transcript and print it.

    Ctrl-C while uploading aborts the upload; later, the transcription goes on without you.
    """
    from .display import display

    _check_output(output)
    options = {"language": language, "model": model, "task": task}
    with connected(server) as client, display(file.name) as shown:
        transcription = client.upload(file, options, shown.sent)
        if no_wait:
            shown.stop()
            typer.echo(transcription.id)
            return
        try:
            transcription = client.wait(transcription.id, shown.changed)
        except KeyboardInterrupt:
            shown.stop()
            note(f"The transcription goes on: bucketscribe get {transcription.id}")
            raise
        shown.stop()
        for warning in transcription.warnings:
            note(f"Warning: {warning.message} [{warning.code}]")
        if transcription.state != "completed":
            fail(f"{failure(transcription)} See: bucketscribe show {transcription.id}", NO_TRANSCRIPT)
        _deliver(client, transcription.id, format, output)


@app.command(epilog="Example: bucketscribe ls --state failed")
def ls(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many; all if unset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one transcription a line.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List transcriptions, newest first."""
    with connected(server) as client:
        for found in _listed(client, state, limit):
            if as_json:
                typer.echo(found.model_dump_json())
            else:
                created = f"{found.created.astimezone():%Y-%m-%d %H:%M}"
                typer.echo(f"{found.id}  {created}  {standing(found):<10}  {clean(found.name)}")


@app.command(epilog="Example: bucketscribe show 0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a --json")
def show(id: Id, as_json: AsJson = False, server: Server = DEFAULT_SERVER) -> None:
    """Show all that is known of a transcription."""
    with connected(server) as client:
        found = client.get(id)
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    for name, value in _described(found).items():
        if value:
            typer.echo(f"{name:<9} {clean(value)}")


@app.command(epilog="Example: bucketscribe get 0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a --format srt > talk.srt")
def get(id: Id, format: As = None, output: Output = None, server: Server = DEFAULT_SERVER) -> None:
    """Print a finished transcript."""
    from ..client import ServerProblem

    _check_output(output)
    with connected(server) as client:
        try:
            _deliver(client, id, format, output)
        except ServerProblem as problem:
            fail(explained(problem), _status(problem))


@app.command(epilog="Example: bucketscribe cancel 0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a")
def cancel(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Stop transcriptions, or their uploads."""
    _each(server, ids, lambda client, id: client.cancel(id).state)


@app.command(epilog="Example: bucketscribe retry 0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a")
def retry(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Begin again those that failed or were canceled."""
    _each(server, ids, lambda client, id: client.retry(id).state)


@app.command(epilog="Example: bucketscribe rm 0199b8f0-7c1e-7d3a-9a52-3f6e8d1c2b4a")
def rm(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Delete transcriptions with their recordings. This cannot be undone."""

    def delete(client: "Client", id: str) -> str:
        client.delete(id)
        return "deleted"

    _each(server, ids, delete)


@app.command(epilog="Example: BUCKETSCRIBE_PORT=9000 bucketscribe up")
def up() -> None:
    """Run everything on this machine, in this terminal, until Ctrl-C."""
    settings = _settings()
    with _extra("local"):
        from ..up.supervisor import run
    raise typer.Exit(run(settings))


@app.command(epilog="Example: BUCKETSCRIBE_MODEL=tiny.en bucketscribe worker")
def worker() -> None:
    """Transcribe what is queued, until told to stop."""
    settings = _settings()
    with _extra("worker"):
        from ..worker.main import run
    raise typer.Exit(run(settings))


@app.command(epilog="Example: bucketscribe sweep --once")
def sweep(once: Annotated[bool, typer.Option("--once", help="One look, instead of a loop.")] = False) -> None:
    """Find what was left unfinished, and put it right."""
    settings = _settings()
    from ..sweep import run_forever, run_once

    raise typer.Exit(run_once(settings) if once else run_forever(settings))


def _settings() -> "Settings":
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
def _extra(name: str) -> Iterator[None]:
    """Say which extra is missing, should an import fail."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("bucketscribe"):
            raise
        fail(f"{missing.name} is not installed: install bucketscribe[{name}]. [missing_extra]")


def _check_output(output: Path | None) -> None:
    """Find out now, not after hours of transcribing, that there is no such folder."""
    if output is not None and not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {output.parent}", param_hint="--output")


def _deliver(client: "Client", id: str, format: Format | None, output: Path | None) -> None:
    suffix = output.suffix.removeprefix(".").lower() if output else ""
    chosen = format or (Format(suffix) if suffix in Format else Format.TXT)
    data = client.transcript(id, chosen)
    if output is None:
        write(data)
        return
    try:
        output.write_bytes(data)
    except OSError as error:
        fail(f"{output}: {error.strerror}. The transcript stays: bucketscribe get {id} [not_written]")


def _listed(client: "Client", state: State | None, limit: int | None) -> Iterator["Transcription"]:
    """Page by page, as they come."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        page = client.list(state, cursor, PAGE if left is None else min(left, PAGE))
        yield from page.transcriptions[:left]
        cursor = page.cursor
        left = None if left is None else left - len(page.transcriptions)
        if cursor is None:
            return


def _each(server: str, ids: list[str], act: Callable[["Client", str], str]) -> None:
    """Do it to each; one that cannot be helped does not stop the others."""
    from ..client import ServerProblem

    with connected(server) as client:
        failed = False
        for id in ids:
            try:
                typer.echo(f"{id}  {act(client, id)}")
            except ServerProblem as problem:
                failed = True
                note(f"Error: {id}: {explained(problem)}")
    if failed:
        raise typer.Exit(FAILED)


def _described(found: "Transcription") -> dict[str, str]:
    options = {name: value for name, value in found.options.items() if value is not None}
    return {
        "id": found.id,
        "name": found.name,
        "state": standing(found),
        "error": failure(found) if found.error else "",
        "warnings": "; ".join(f"{warning.message} [{warning.code}]" for warning in found.warnings),
        "type": found.type or "",
        "size": "" if found.size is None else f"{found.size} bytes",
        "duration": "" if found.duration is None else f"{found.duration:g} s",
        "language": found.language or "",
        "options": json.dumps(options, ensure_ascii=False) if options else "",
        "run": f"{found.run}, lost attempts: {found.attempts}" if found.attempts else str(found.run),
        "timings": ", ".join(f"{stage} {seconds:g} s" for stage, seconds in (found.timings or {}).items()),
        "created": f"{found.created.astimezone():%Y-%m-%d %H:%M:%S %Z}",
        "updated": f"{found.updated.astimezone():%Y-%m-%d %H:%M:%S %Z}",
    }


def _status(problem: "ServerProblem") -> int:
    """A transcript that will never be ready is another matter than one that is not ready yet."""
    hopeless = problem.document.get("state") in (State.FAILED, State.CANCELED, State.EXPIRED)
    return NO_TRANSCRIPT if problem.code == "not_ready" and hopeless else FAILED


if __name__ == "__main__":
    app(prog_name="bucketscribe")
