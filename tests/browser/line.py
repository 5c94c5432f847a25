"""The line between the browser and the bucket: a proxy that counts what passes, and makes it slow or bad.

It hands every byte on unchanged (the `Host` header too, which S3's signatures cover), so the bucket's public
address is the line's own. Each request is kept with what the bucket has really been sent of it. HTTP/1.1 with
lengths, as browsers and S3 speak it; it runs on a loop of its own, in a thread.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

BLOCK_BYTES = 64 * 1024
RECEIVE_BUFFER_BYTES = 256 * 1024
"""What the kernel takes in before we read: small, so that a browser's progress is the bucket's, nearly."""
LARGEST_HEAD_BYTES = 64 * 1024


@dataclass(slots=True)
class Seen:
    """One request on its way. Of its body's bytes, `taken` counts those that came, `sent` those handed on."""

    method: str
    path: str
    size: int
    taken: int = 0
    sent: int = 0
    status: int | None = None
    """None as long as there is no answer, and for ever where the line was cut before."""
    over: bool = False

    @property
    def part(self) -> int | None:
        """The number of the part it carries; None for everything else."""
        number = parse_qs(urlsplit(self.path).query).get("partNumber")
        return int(number[0]) if number and self.method == "PUT" else None

    @property
    def key(self) -> str:
        """The path without the query."""
        return urlsplit(self.path).path


class Line:
    """A running line, as the tests hold it. Every property may be set at any time, from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: Callable[[], int]) -> None:
        self.bytes_per_second: float | None = None
        self.requests: list[Seen] = []
        self.most_parts_in_flight = 0
        self._loop = loop
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._passing = 0
        self._free_at = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""

    def start_over(self) -> None:
        """Forget what was seen, at full speed."""
        self.requests = []
        self.most_parts_in_flight = 0
        self.bytes_per_second = None
        self._free_at = 0.0
        self.release()

    def hold(self, after: int = 0) -> None:
        """Let nothing of the parts after this one through to the bucket until `release`; they wait."""
        self._passing = after
        self._loop.call_soon_threadsafe(self._open.clear)

    def release(self) -> None:
        """Let everything through again."""
        self._loop.call_soon_threadsafe(self._open.set)

    def cut(self) -> None:
        """Break every connection there is, as a network that changes does."""
        self._loop.call_soon_threadsafe(self._cut)

    def parts(self, key: str = "") -> list[Seen]:
        """The parts that were begun, finished or not; with `key`, those of the objects it is in."""
        return [seen for seen in list(self.requests) if seen.part is not None and key in seen.key]

    def part_bytes(self, key: str = "") -> int:
        """Bytes of parts that reached the bucket, those of parts that were begun and lost included."""
        return sum(seen.sent for seen in self.parts(key))

    def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self) -> asyncio.Server:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        listener.bind(("127.0.0.1", 0))
        self.url = "http://{}:{}".format(*listener.getsockname())
        return await asyncio.start_server(self._converse, sock=listener, limit=LARGEST_HEAD_BYTES)

    async def _converse(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        to_server: asyncio.StreamWriter | None = None
        self._writers.add(to_client)
        try:
            server, to_server = await asyncio.open_connection(
                "127.0.0.1", self._server(), limit=LARGEST_HEAD_BYTES
            )
            while await self._exchange(client, to_client, server, to_server):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # either side hung up, or the line was cut
        finally:
            self._writers.discard(to_client)
            for writer in (to_client, to_server):
                if writer is not None:
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
        method, path, _ = head.decode("latin-1").split(" ", 2)
        seen = Seen(method, path, int(_headers(head).get("content-length", 0)))
        self.requests.append(seen)
        in_flight = sum(other.part is not None and not other.over for other in self.requests)
        self.most_parts_in_flight = max(self.most_parts_in_flight, in_flight)
        sending = asyncio.create_task(self._send(seen, head, client, to_server))
        try:
            answer = await server.readuntil(b"\r\n\r\n")
            seen.status = int(answer.split(b" ", 2)[1])
            to_client.write(answer)
            await self._relay(seen, _headers(answer), server, to_client)
            if not sending.done():
                await self._swallow(seen, sending, client)
                return False
            return _headers(answer).get("connection", "").lower() != "close"
        finally:
            seen.over = True
            sending.cancel()
            with suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await sending

    async def _send(
        self, seen: Seen, head: bytes, client: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        try:
            await self._passed(seen)
            to_server.write(head)
            await to_server.drain()
            while seen.sent < seen.size:
                block = await client.read(min(BLOCK_BYTES, seen.size - seen.taken))
                if not block:
                    raise ConnectionResetError
                seen.taken += len(block)
                await self._pace(len(block))
                await self._passed(seen)
                to_server.write(block)
                await to_server.drain()
                seen.sent += len(block)
        except OSError:
            # The browser gave up: the bucket must not wait for the rest, nor we for an answer.
            to_server.transport.abort()
            raise

    async def _passed(self, seen: Seen) -> None:
        if seen.part is not None and seen.part > self._passing:
            await self._open.wait()

    async def _swallow(self, seen: Seen, sending: asyncio.Task[None], client: asyncio.StreamReader) -> None:
        """Read what is still coming after an early answer: a reset now could take the answer with it.

        No more than that: a browser may have sent its next request already, which must not be lost.
        """
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending
        left = seen.size - seen.taken
        while left > 0 and (block := await client.read(BLOCK_BYTES)):
            left -= len(block)

    async def _pace(self, size: int) -> None:
        """Wait for the bytes' turn on a line that all connections share."""
        if (rate := self.bytes_per_second) is None:
            return
        now = self._loop.time()
        self._free_at = max(now, self._free_at) + size / rate
        await asyncio.sleep(self._free_at - now)

    async def _relay(
        self, seen: Seen, headers: dict[str, str], server: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        """Hand on the body of an answer."""
        if seen.method != "HEAD" and seen.status not in (204, 304):
            if "content-length" in headers:
                left = int(headers["content-length"])
                while left > 0:
                    block = await server.read(min(BLOCK_BYTES, left))
                    if not block:
                        raise ConnectionResetError
                    client.write(block)
                    await client.drain()
                    left -= len(block)
            elif "chunked" in headers.get("transfer-encoding", ""):
                while True:
                    line = await server.readuntil(b"\r\n")
                    size = int(line.split(b";")[0], 16)
                    client.write(line + await server.readexactly(size + 2))
                    await client.drain()
                    if size == 0:
                        break
        await client.drain()


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in pairs}


@contextmanager
def drawn(server: Callable[[], int]) -> Iterator[Line]:
    """A line to a server on the loopback, whose port is asked for when it is needed."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="line", daemon=True)
    thread.start()
    line = Line(loop, server)

    def wait[T](work: Coroutine[object, object, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(10)

    listening = wait(line._serve())
    try:
        yield line
    finally:
        loop.call_soon_threadsafe(listening.close)
        line.cut()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
