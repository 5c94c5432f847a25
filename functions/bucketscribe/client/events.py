"""Following a transcription: server-sent events, resumed where they stopped, and polling where they fail.

A stream may end at any time; the next one begins after the last event's id. One that brought nothing is
followed by a plain GET, so that a proxy that cuts or buffers streams only makes following slower. The format
is that of the HTML standard, "Server-sent events". Fails as `Api.call` does.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from pydantic import ValidationError
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from .api import Api
from .backoff import Backoff
from .errors import ServerProblem
from .model import Transcription
from .offline import Line

STREAM_SECONDS = 20
"""How long a stream is asked to last; behind a Lambda it cannot be more."""

SILENCE_SECONDS = STREAM_SECONDS + 15
"""A stream silent for longer than it was to last is dead."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. `id` is the last one the stream has named."""

    id: str | None
    name: str
    data: str


class NoStream(Exception):
    """This server, or what stands before it, has no event stream for us."""


def follow(api: Api, id: str, pace_seconds: float, backoff: Backoff, line: Line) -> Iterator[Transcription]:
    """Each version of a transcription that is news, the final one last."""
    seen: Transcription | None = None
    last_id: str | None = None
    streaming = True
    while True:
        began = time.monotonic()
        arrived = False
        if streaming:
            try:
                for event_id, current in _versions(api, id, last_id, backoff, line):
                    arrived = True
                    last_id = event_id
                    if current != seen:
                        seen = current
                        yield current
                    if current.final:
                        return
            except NoStream:
                streaming = False
            # The first stream begins with the present state: one that brings nothing never will.
            streaming = streaming and (arrived or last_id is not None)
        if not arrived:
            current = api.document(Transcription, api.call("GET", path(id), backoff=backoff, line=line))
            if current != seen:
                seen = current
                yield current
            if current.final:
                return
        time.sleep(max(0.0, pace_seconds - (time.monotonic() - began)))


def path(id: str) -> str:
    """The address of a transcription on its server. Raises ServerProblem for what would be another's."""
    if id in ("", ".", ".."):
        raise ServerProblem(
            HTTPStatus.NOT_FOUND, "no_such_transcription", f"There is no transcription {id!r}.", {}
        )
    return f"/transcriptions/{quote(id, safe='')}"


def parse(blocks: Iterable[bytes]) -> Iterator[Event]:
    """Events from the bytes of a stream. An event cut off in its middle is dropped, as the standard says."""
    last_id: str | None = None
    name = ""
    data: list[str] = []
    for line in _lines(blocks):
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case "id" if "\0" not in value:
                    last_id = value
                case _:
                    pass  # comments have an empty field; `retry` is for browsers
        else:
            if data:
                yield Event(last_id, name or "message", "\n".join(data))
            name, data = "", []


def _lines(blocks: Iterable[bytes]) -> Iterator[str]:
    """Lines that end in LF, CR LF or CR."""
    rest = b""
    first = True
    for block in blocks:
        rest += block
        # A CR at the end may be half of a CR LF: it waits for what follows.
        held = b"\r" if rest.endswith(b"\r") else b""
        *whole, rest = rest.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        rest += held
        for line in whole:
            text = line.decode(errors="replace")
            yield text.removeprefix("\ufeff") if first else text
            first = False


def _versions(
    api: Api, id: str, last_id: str | None, backoff: Backoff, line: Line
) -> Iterator[tuple[str | None, Transcription]]:
    """What one stream brings, however it ends. Raises NoStream."""
    headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    try:
        response = api.call(
            "GET",
            f"{path(id)}/events",
            query={"wait": STREAM_SECONDS},
            headers=headers,
            backoff=backoff,
            stream_seconds=SILENCE_SECONDS,
            line=line,
        )
    except ServerProblem as problem:
        if problem.code in ("no_such_route", "http_404") or problem.status in (
            HTTPStatus.METHOD_NOT_ALLOWED,
            HTTPStatus.NOT_ACCEPTABLE,
            HTTPStatus.NOT_IMPLEMENTED,
        ):
            raise NoStream from None
        raise
    try:
        if response.status == HTTPStatus.NO_CONTENT:
            return
        if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
            raise NoStream
        for event in parse(_blocks(response)):
            if event.name == "transcription":
                yield event.id or last_id, Transcription.model_validate_json(event.data)
    except ValidationError:
        raise NoStream from None
    finally:
        # It may not have been read to its end, so the connection is of no more use.
        response.close()


def _blocks(response: BaseHTTPResponse) -> Iterator[bytes]:
    """A response's bytes as they arrive, until it ends or breaks."""
    try:
        while block := response.read1():
            yield block
    except HTTPError:
        return
