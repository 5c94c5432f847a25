"""`ls` and `show`: what the server knows, for a person's eyes, for `cut` and `grep`, or as JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import DEFAULT_SERVER, Id, Server, State
from .output import clean, connected, duration, failure, say, standing

if TYPE_CHECKING:
    from ..client import Client, Transcription

PAGE = 100
"""As many as the API gives at once."""


def ls(
    state: Annotated[State | None, typer.Option(help="Only those in this state.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many; all if unset.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one transcription a line.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """List transcriptions, newest first.

    In a pipe, a line each with tabs between id, time of creation, state, seconds of sound and name.
    """
    with connected(server) as client:
        pages = _pages(client, state, limit)
        if as_json:
            for page in pages:
                for found in page:
                    say(json.dumps(found.model_dump(mode="json")))
        elif sys.stdout.isatty():
            _tables(pages)
        else:
            for page in pages:
                for found in page:
                    say("\t".join(_fields(found)))


def show(
    id: Id,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Show all that is known of a transcription."""
    with connected(server) as client:
        found = client.get(id)
    if as_json:
        say(json.dumps(found.model_dump(mode="json"), indent=2))
        return
    for name, value in _described(found).items():
        if value:
            say(f"{name:<9} {clean(value)}")


def _pages(client: "Client", state: State | None, limit: int | None) -> Iterator[Sequence["Transcription"]]:
    """Page by page, as they come."""
    cursor: str | None = None
    left = limit
    while left is None or left > 0:
        page = client.list(state, cursor, PAGE if left is None else min(left, PAGE))
        yield page.transcriptions[:left]
        cursor = page.cursor
        left = None if left is None else left - len(page.transcriptions)
        if cursor is None:
            return


def _fields(found: "Transcription") -> tuple[str, ...]:
    seconds = "" if found.duration is None else f"{found.duration:g}"
    fields = found.id, f"{found.created:%Y-%m-%dT%H:%M:%SZ}", found.state, seconds, found.name
    return tuple(map(clean, fields))


def _tables(pages: Iterator[Sequence["Transcription"]]) -> None:
    """A table a page, in columns of the same widths, so that the first lines need not wait for the last."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    colours = {"completed": "green", "failed": "red", "running": "cyan", "queued": "cyan"}
    for number, page in enumerate(pages):
        table = Table(box=None, pad_edge=False, show_header=number == 0, header_style="bold")
        table.add_column("id", width=36, no_wrap=True)
        table.add_column("created", width=12, no_wrap=True)
        table.add_column("state", width=12, no_wrap=True)
        if console.width >= 100:
            table.add_column("length", width=8, justify="right")
        table.add_column("name", no_wrap=True, overflow="ellipsis")
        for found in page:
            cells = [
                Text(clean(found.id)),
                Text(_moment(found.created)),
                Text(clean(_state(found)), colours.get(found.state, "")),
            ]
            if console.width >= 100:
                cells.append(Text("" if found.duration is None else duration(found.duration)))
            table.add_row(*cells, Text(clean(found.name)))
        if page:
            console.print(table)


def _state(found: "Transcription") -> str:
    """The state, with percent of the present stage."""
    if found.progress is None or found.final:
        return found.state
    return f"{found.state} {found.progress.percent:.0f} %"


def _moment(time: datetime) -> str:
    """Short enough for a column, in this machine's time: today's hour, this year's day, or the date."""
    local, now = time.astimezone(), datetime.now().astimezone()
    if local.date() == now.date():
        return f"{local:%H:%M}"
    return f"{local:%d %b %H:%M}" if local.year == now.year else f"{local:%Y-%m-%d}"


def _described(found: "Transcription") -> dict[str, str]:
    options = {name: value for name, value in found.options.items() if value is not None}
    return {
        "id": found.id,
        "name": found.name,
        "state": standing(found),
        "error": failure(found) if found.error else "",
        "partial": f"the transcript up to there: bucketscribe get {found.id}" if found.partial else "",
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
