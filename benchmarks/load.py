"""A load generator that costs little: it shares the machine's two cores with what it measures.

Each connection sends one request after another, keep-alive, from bytes made beforehand, and looks of an
answer only at its status and its length (HTTP/1.1, RFC 9112; `Content-Length` only). `drive` is meant to be
called in a process of its own.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import uvloop


@dataclass(frozen=True, slots=True)
class Drive:
    """What came of it: how many requests were answered with 200 in how many seconds."""

    requests: int
    seconds: float


class LoadFailed(Exception):
    """An answer was not a 200; the message is its beginning."""


def drive(port: int, requests: Sequence[bytes], connections: int, seconds: float | None = None) -> Drive:
    """Send the requests to a port of this machine: each once, or again and again for so many seconds.

    Raises LoadFailed.
    """
    return uvloop.run(_drive(port, requests, connections, seconds))


async def _drive(port: int, requests: Sequence[bytes], connections: int, seconds: float | None) -> Drive:
    loop = asyncio.get_running_loop()
    queue = iter(requests) if seconds is None else cycle(requests)
    opened = [
        await loop.create_connection(lambda: _Connection(queue), "127.0.0.1", port)
        for _ in range(connections)
    ]
    start = time.perf_counter()
    deadline = float("inf") if seconds is None else start + seconds
    for transport, connection in opened:
        connection.begin(transport, deadline)
    await asyncio.gather(*(connection.done for _, connection in opened))
    took = time.perf_counter() - start
    for transport, _ in opened:
        transport.close()
    return Drive(sum(connection.answered for _, connection in opened), took)


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.answered = 0
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._deadline = 0.0
        self._head = bytearray()
        self._left = 0

    def begin(self, transport: asyncio.Transport, deadline: float) -> None:
        """Send the first request; after the deadline (of `time.perf_counter`) none is begun."""
        self._transport = transport
        self._deadline = deadline
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None) if time.perf_counter() < self._deadline else None
        if request is None:
            self.done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._head[:end]).lower()
            if not head.startswith(b"http/1.1 200 "):
                self.done.set_exception(LoadFailed(bytes(self._head[:2000]).decode(errors="replace")))
                return
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            self._left = length + end + 4 - len(self._head)
            self._head.clear()
        else:
            self._left -= len(data)
        if not self._left:
            self.answered += 1
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(LoadFailed("the server hung up"))
