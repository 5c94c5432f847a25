"""Parts of a multipart upload, cut from a stream and sent as they fill, some at once, in bounded memory.

Part n is always the bytes (n−1)·S…n·S of the object, S being the part size, so that whoever repeats a part
writes the same bytes. A writer holds the part that is being filled, and one that waits for a thread; what is
sent at the same moment, by all writers of the process together, is what the threads are: `AT_ONCE` parts. One
that has got little holds little, as most of many at once are slow.

Nothing here is written down. A process that dies leaves whole parts in the bucket, or none: what they are,
ListParts tells whoever goes on.
"""

import asyncio
import mmap
from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial

from .bucket import Bucket
from .parts import MIN_PART_BYTES
from .records import Part

PART_BYTES = MIN_PART_BYTES
"""As small as S3 allows, for all that comes through us: what waits in memory is whole parts."""

AT_ONCE = 4
"""Parts that are sent at the same moment, in one process: 20 MiB."""

SMALL_BYTES = 256 * 1024
"""What a writer begins with, which is copied once if more comes."""

_threads = ThreadPoolExecutor(AT_ONCE, "parts")

_spare = deque[mmap.mmap](maxlen=AT_ONCE + 2)
"""Buffers of parts that were sent: as many as one writer uses, for the next ones. The system clears others
first, which takes 18 % more CPU."""


class TooMuch(Exception):
    """More bytes came than there may be; none of that piece was taken."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most} bytes")
        self.most = most


class PartWriter:
    """Cuts and sends the parts of one upload. For one caller at a time, on an event loop or in a thread.

    `held` full parts stand already, and `head` are the bytes after them that come before the first ones
    written. With `most`, the object's bytes in all, what would be more raises TooMuch. `before_part` is
    called before each part is sent, in that part's thread; what it raises keeps the part from being sent.
    """

    def __init__(
        self,
        bucket: Bucket,
        key: str,
        upload_id: str,
        *,
        part_bytes: int = PART_BYTES,
        held: int = 0,
        head: bytes | memoryview = b"",
        most: int | None = None,
        before_part: Callable[[], None] | None = None,
    ) -> None:
        if len(head) >= part_bytes:
            raise ValueError(f"{len(head)} bytes are a part already, of {part_bytes}")
        self.size = held * part_bytes + len(head)
        """Bytes taken so far, from the object's start."""
        self._bucket = bucket
        self._key = key
        self._upload_id = upload_id
        self._part_bytes = part_bytes
        self._most = most
        self._before_part = before_part
        self._number = held + 1
        self._sent: list[Future[Part]] = []
        self._filling: bytearray | mmap.mmap = bytearray()
        self._filled = 0
        self._fill(memoryview(head))
        # Set by whoever sees it first, also in a part's thread: what comes after would leave a gap.
        self._failed: BaseException | None = None

    def write(self, data: bytes | memoryview) -> Future[None] | None:
        """Take bytes; never blocks. A future says: wait for it before the next write.

        It is done once no full part waits for a thread. Raises TooMuch, and what a part's PUT raised.
        """
        if self._failed is not None:
            raise self._failed
        if self._most is not None and self.size + len(data) > self._most:
            raise TooMuch(self._most)
        self.size += len(data)
        started: Future[None] | None = None
        view = memoryview(data)
        while len(view) >= (room := self._part_bytes - self._filled):
            self._fill(view[:room])
            view = view[room:]
            started = self._send()
        self._fill(view)
        return started

    async def awrite(self, data: bytes | memoryview) -> None:
        """Write, and wait until the next write may come, on an event loop."""
        if (started := self.write(data)) is not None:
            # One who waits no longer must not have it canceled.
            await asyncio.shield(asyncio.wrap_future(started))

    def bwrite(self, data: bytes | memoryview) -> None:
        """Write, and wait until the next write may come, in a thread."""
        if (started := self.write(data)) is not None:
            started.result()

    def flush(self) -> memoryview:
        """Wait for all parts under way; return the rest that fills no part, in the writer's own memory.

        Raises what a part's PUT raised: UploadGone, StorageError, or what `before_part` raised.
        """
        wait(self._sent)
        if self._failed is not None:
            raise self._failed
        return memoryview(self._filling)[: self._filled]

    def end(self) -> list[Part]:
        """Send the rest as the last part; return the parts sent by this writer, in order.

        Blocks, and raises what `flush` does. Nothing may be written afterwards.
        """
        if self._filled:
            self._send()
        self.flush()
        return self.sent

    @property
    def sent(self) -> list[Part]:
        """The parts that were sent, in order; of one that was flushed."""
        return [future.result() for future in self._sent]

    def cancel(self) -> None:
        """Send nothing more, and wait for what is under way. Raises nothing."""
        self._failed = self._failed or CancelledError()
        for future in self._sent:
            future.cancel()
        wait(self._sent)
        _spare_for_others(self._filling)
        self._filling, self._filled = bytearray(), 0

    def _fill(self, data: memoryview) -> None:
        end = self._filled + len(data)
        if end > len(self._filling):
            # In one step: one that grows is moved again and again. Whoever has filled a part fills another.
            is_small = end <= SMALL_BYTES < self._part_bytes and not self._sent
            grown = bytearray(SMALL_BYTES) if is_small else _buffer(self._part_bytes)
            memoryview(grown)[: self._filled] = memoryview(self._filling)[: self._filled]
            self._filling = grown
        # By views: a bytearray would make a copy of what it is assigned first.
        memoryview(self._filling)[self._filled : end] = data
        self._filled = end

    def _send(self) -> Future[None]:
        """Have a part sent as soon as there is a thread; the future is done when there is."""
        number, started = self._number, Future[None]()
        self._number += 1
        self._sent.append(_threads.submit(self._put, number, self._filling, self._filled, started))
        self._filling, self._filled = bytearray(), 0
        # One that is canceled before its thread comes keeps nobody waiting.
        self._sent[-1].add_done_callback(partial(_give_way, started))
        return started

    def _put(self, number: int, buffer: bytearray | mmap.mmap, filled: int, started: Future[None]) -> Part:
        _give_way(started)
        try:
            if self._failed is not None:
                raise self._failed
            if self._before_part is not None:
                self._before_part()
            body = memoryview(buffer)[:filled]
            etag = self._bucket.put_part(self._key, self._upload_id, number, body)
        except BaseException as error:
            self._failed = self._failed or error
            raise
        finally:
            _spare_for_others(buffer)
        return Part(number=number, etag=etag)


def _buffer(size: int) -> mmap.mmap:
    """Memory for a part, which goes back to the system where it does not go to the next one."""
    with suppress(IndexError):
        spare = _spare.pop()
        if len(spare) == size:
            return spare
    # Not of malloc's, which keeps what a crowd took: 300 MiB were seen to stay.
    return mmap.mmap(-1, size, mmap.MAP_PRIVATE)


def _spare_for_others(buffer: bytearray | mmap.mmap) -> None:
    if isinstance(buffer, mmap.mmap):
        _spare.append(buffer)


def _give_way(started: Future[None], ended: Future[Part] | None = None) -> None:
    # Who waits for it may have canceled it, or be doing so.
    with suppress(InvalidStateError):
        started.set_result(None)
