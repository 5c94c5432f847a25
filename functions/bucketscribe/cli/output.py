"""What the terminal is told: results on standard output, all else on standard error, errors in one line.

Names and messages come from others, so what could steer a terminal is taken out. Also the one place that
turns a `ClientError` into an exit status.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import typer

from .credentials import ADVICE, VARIABLE, api_key

if TYPE_CHECKING:
    from ..client import Client, ClientError, Transcription
    from .places import NotWritten

FAILED = 1
"""Something went wrong."""

NO_TRANSCRIPT = 3
"""The transcription failed, was canceled or has expired."""

NOBODY_READS = 141
"""Whoever read standard output has gone, as `head` does; a shell's number for SIGPIPE."""


@contextmanager
def connected(server: str) -> Iterator["Client"]:
    """A client of the server. Ends the command with status 1 and one line if something goes wrong."""
    from ..client import ClientError

    try:
        with client_of(server) as client:
            yield client
    except ClientError as error:
        fail(explained(error, server))


def client_of(server: str) -> "Client":
    """A client of the server, for the user whose key is in the environment. Raises typer.BadParameter."""
    from ..client import Client
    from ..client.api import BadApiKey

    try:
        return Client(server, api_key=api_key())
    except BadApiKey as error:
        raise typer.BadParameter(str(error), param_hint=VARIABLE) from None
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from None


def fail(message: str, status: int = FAILED) -> NoReturn:
    """Say what is wrong and end the command."""
    note(f"Error: {message}")
    raise typer.Exit(status)


def note(message: str) -> None:
    """One line on standard error."""
    typer.echo(clean(message), err=True)


def senseless(message: str, what: str) -> typer.BadParameter:
    """What makes no sense in the command line, at which of its words."""
    return typer.BadParameter(clean(message), param_hint=what)


def say(line: str) -> None:
    """One line on standard output, its tabs as they are."""
    write(f"{_visible(line)}\n".encode())


def write(data: bytes) -> None:
    """Bytes to standard output, as they are. Ends the command where that takes no more, but for a pipe."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"standard output: {error.strerror}. [not_written]")


def explained(error: "ClientError | NotWritten", server: str | None = None) -> str:
    """An error with its code; if the server does not answer, or not to us, with what to do."""
    from ..client import Unreachable

    hint = ADVICE.get(error.code, "")
    if server is not None and isinstance(error, Unreachable) and error.server == server.rstrip("/"):
        hint = "Start one with `bucketscribe up`, or name another with --server."
    return " ".join(filter(None, (error.detail, hint, f"[{error.code}]")))


def failure(transcription: "Transcription") -> str:
    """Why there is no transcript."""
    error = transcription.error
    if error is None:
        return f"The transcription is {transcription.state}."
    where = f" in stage {error.stage}" if error.stage else ""
    when = f" at {error.at_seconds:g} s of the recording" if error.at_seconds is not None else ""
    return f"The transcription failed{where}{when}: {error.message} [{error.code}]"


def standing(transcription: "Transcription") -> str:
    """State and progress in a few words."""
    progress = transcription.progress
    if progress is None or transcription.final:
        return transcription.state
    left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
    return f"{transcription.state} ({progress.stage} {progress.percent:.0f} %{left})"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as a clock shows them: 0:11, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def clean(text: str) -> str:
    """The text on one line, with nothing invisible in it."""
    return _visible(" ".join(text.split()))


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\t\n" else "\ufffd" for c in text)
