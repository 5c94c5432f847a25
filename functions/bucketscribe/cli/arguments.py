"""What several commands take: their arguments, the choices, and how a help text shows examples.

Exit statuses, the same for every command, are told at the end of `bucketscribe --help`.
"""

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from . import complete
from .output import senseless


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


DEFAULT_SERVER = "http://127.0.0.1:8000"

STANDARD = "-"
"""Standard input, as an argument."""

Server = Annotated[
    str, typer.Option("--server", envvar="BUCKETSCRIBE_SERVER", metavar="URL", help="The server to ask.")
]
Id = Annotated[
    str, typer.Argument(metavar="ID", help="The transcription.", autocompletion=complete.transcriptions)
]
Ids = Annotated[
    list[str],
    typer.Argument(
        metavar="ID",
        help="The transcriptions; - reads them from standard input, a line each, also as `ls` prints them.",
        autocompletion=complete.transcriptions,
    ),
]
As = Annotated[
    Format | None, typer.Option("--format", "-f", help="By default that of OUTPUT's name, or else txt.")
]
Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|FOLDER",
        help="Where to write instead of standard output. A folder, one that exists or ends in a slash, gets "
        "a file for each transcript, named as its recording.",
        callback=lambda output: None if output == STANDARD else output,
    ),
]


def examples(*lines: str) -> str:
    """The end of a help text; the backspace has its lines kept as they are."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def chosen(ids: list[str]) -> list[str]:
    """The ids given, each once, with those from standard input in the place of `-`."""
    found: dict[str, None] = {}
    for id in ids:
        if id == STANDARD:
            found |= dict.fromkeys(_piped())
        else:
            found[id] = None
    return list(found)


def _piped() -> list[str]:
    """The first word of each line, or the id in a line of JSON."""
    if sys.stdin.isatty():
        raise senseless("standard input is a terminal: pipe ids into it", "-")
    found = []
    for line in sys.stdin:
        if line.startswith("{"):
            try:
                id = json.loads(line)["id"]
            except (ValueError, KeyError):
                id = None
            if not isinstance(id, str):
                raise senseless(f"no id in this line: {line[:60]!r}", "-")
            found.append(id)
        elif words := line.split():
            found.append(words[0])
    return found
