"""A proxy between a process under test and its servers, which strikes at a chosen request.

It runs in a process of its own, hands every byte on unchanged (the `Host` header too, which S3's signatures
cover) and counts the requests that come in. A `Trap` says at which of them to strike, before the server gets
to see it or after the server has done it, and how: kill -9 a process, or cut the connection so that the SDK
repeats the request. HTTP/1.1 with lengths and with chunks; one request at a time on a connection, as boto3
sends them. A server that hangs up takes the client's connection with it.

The one thing it can be told to change is the `Date` of answers, by which our processes tell the time.
"""

import asyncio
import multiprocessing
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum
from functools import partial
from multiprocessing.connection import Connection
from urllib.parse import unquote, urlsplit

from bucketscribe.settings import Settings

LINE_BYTES = 1024**2
ANSWER_SECONDS = 30.0

# Not from a server of threads: the proxy is forked before there are any, and children are forked beside it.
FORK = multiprocessing.get_context("fork")


class Moment(StrEnum):
    """On which side of the server's work to strike."""

    BEFORE = "before"
    """The request has been sent, and never arrives."""
    AFTER = "after"
    """The server has done what was asked, and its answer never arrives."""


@dataclass(frozen=True, slots=True)
class Trap:
    """Strike once, at the request with this number (from 0): kill a process, or only cut the connection.

    Counted are those in whose name, as in `Seen`, the pattern `among` is found.
    """

    step: int
    moment: Moment
    kill: int | None = None
    among: str = ""


def changes(request: str) -> bool:
    """Whether a request, as `Seen` names it, changes something on its server."""
    return request.startswith(("PUT ", "POST ", "DELETE "))


@dataclass(frozen=True, slots=True)
class Seen:
    """The requests since the trap was set, as method and path, and whether it was sprung."""

    requests: tuple[str, ...]
    sprung: bool

    def describe(self, step: int) -> str:
        """The request with this number, for a message."""
        return self.requests[step] if step < len(self.requests) else "never came"


class Proxy:
    """A running proxy, as the tests hold it."""

    def __init__(self, connection: Connection, ports: list[int]) -> None:
        self._connection = connection
        self._ports = ports

    def before(self, settings: Settings) -> Settings:
        """The settings of a process that goes through the proxy. Presigned URLs lead past it."""
        s3, sqs = (f"http://127.0.0.1:{port}" for port in self._ports)
        queue = urlsplit(settings.queue_url or "").path
        return settings.model_copy(
            update={
                "s3_endpoint": s3,
                "s3_public_endpoint": settings.public_endpoint,
                "sqs_endpoint": sqs,
                "queue_url": sqs + queue,
            }
        )

    def set(self, trap: Trap | None) -> None:
        """Forget the requests seen so far, and strike as the trap says, or not at all."""
        self._connection.send(trap)
        self._connection.recv()

    def put_forward(self, later: timedelta) -> None:
        """Tell the servers' time so much later than it is."""
        self._connection.send(later)
        self._connection.recv()

    def seen(self) -> Seen:
        """What came since `set`."""
        self._connection.send("seen")
        answer = self._connection.recv()
        assert isinstance(answer, Seen)
        return answer


@contextmanager
def proxying(settings: Settings) -> Iterator[Proxy]:
    """A proxy in front of the servers the settings name, until the end of the block."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=_main, args=(theirs, [settings.s3_endpoint, settings.sqs_endpoint]))
    process.start()
    theirs.close()
    try:
        yield Proxy(ours, ours.recv())
    finally:
        process.kill()
        process.join()
        ours.close()


def _main(control: Connection, servers: list[str]) -> None:
    # Ctrl-C is for the tests; they end the proxy when they are done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(_Wire(control).serve(servers))


class _Wire:
    """The proxy's own side."""

    def __init__(self, control: Connection) -> None:
        self.control = control
        self.trap: Trap | None = None
        self.sprung = False
        self.requests: list[str] = []
        self.later = timedelta()

    async def serve(self, servers: list[str]) -> None:
        ports = []
        for url in servers:
            parts = urlsplit(url)
            server = await asyncio.start_server(
                partial(self._converse, parts.hostname or "", parts.port or 80), "127.0.0.1", 0,
                limit=LINE_BYTES,
            )  # fmt: skip
            ports.append(server.sockets[0].getsockname()[1])
        self.control.send(ports)
        asyncio.get_running_loop().add_reader(self.control.fileno(), self._command)
        await asyncio.Event().wait()

    def _command(self) -> None:
        try:
            command = self.control.recv()
        except EOFError:
            os._exit(0)
        if command == "seen":
            self.control.send(Seen(tuple(self.requests), self.sprung))
        elif isinstance(command, timedelta):
            self.later = command
            self.control.send(None)
        else:
            self.trap, self.sprung, self.requests = command, False, []
            self.control.send(None)

    async def _converse(
        self, host: str, port: int, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        to_server: asyncio.StreamWriter | None = None
        try:
            server, to_server = await asyncio.open_connection(host, port, limit=LINE_BYTES)
            while await self._exchange(client, to_client, server, to_server):
                pass
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            pass
        finally:
            for writer in (to_client, to_server):
                if writer is not None:
                    # Closed with RST, and also where a forked child still holds the socket.
                    writer.transport.abort()

    async def _exchange(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; False when the conversation is over."""
        head = await client.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        method, path, _ = head.decode("latin-1").split(" ", 2)
        if headers.get("expect", "").lower() == "100-continue":
            to_client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await to_client.drain()
        body = await _body(client, headers)
        name = f"{method} {unquote(path)}"
        step = self._step(name)
        self.requests.append(name)
        if self._strikes(step, Moment.BEFORE):
            return False
        to_server.write(head + body)
        await to_server.drain()
        async with asyncio.timeout(ANSWER_SECONDS):
            status, head, headers = await _answer_head(server)
            empty = method == "HEAD" or status in (204, 304)
            body = b"" if empty else await _body(server, headers, until_end=True)
        if self._strikes(step, Moment.AFTER):
            return False
        to_client.write(self._put_forward(head, headers) + body)
        await to_client.drain()
        return headers.get("connection", "").lower() != "close"

    def _step(self, name: str) -> int | None:
        """Which one of the counted requests this is; None if it is not counted."""
        among = re.compile(self.trap.among if self.trap else "")
        return sum(map(bool, map(among.search, self.requests))) if among.search(name) else None

    def _put_forward(self, head: bytes, headers: dict[str, str]) -> bytes:
        if not self.later or "date" not in headers:
            return head
        date = format_datetime(parsedate_to_datetime(headers["date"]) + self.later, usegmt=True)
        return re.sub(rb"(?im)^date:[^\r]*", f"Date: {date}".encode(), head, count=1)

    def _strikes(self, step: int | None, moment: Moment) -> bool:
        if self.trap is None or self.sprung or (self.trap.step, self.trap.moment) != (step, moment):
            return False
        self.sprung = True
        if self.trap.kill is not None:
            with suppress(ProcessLookupError):
                os.kill(self.trap.kill, signal.SIGKILL)
        return True


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


async def _answer_head(server: asyncio.StreamReader) -> tuple[int, bytes, dict[str, str]]:
    while True:
        head = await server.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status >= 200:
            return status, head, _headers(head)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str], *, until_end: bool = False) -> bytes:
    """A message's body as it comes over the wire, chunks and all."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces = []
        while True:
            line = await reader.readuntil(b"\r\n")
            size = int(line.split(b";")[0], 16)
            pieces.append(line)
            if size == 0:
                break
            pieces.append(await reader.readexactly(size + 2))
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            pieces.append(line)
        return b"".join([*pieces, line])
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    return await reader.read() if until_end else b""
