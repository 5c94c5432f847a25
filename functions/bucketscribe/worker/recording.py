"""A recording in the bucket as a file: seekable, read-only, over ranged GETs, with nothing on disk.

Blocks of 4 MiB are fetched as they are read, the one behind them ahead of time by a thread once reading runs
forward. At most four blocks are kept and one is under way: 20 MiB, whatever the recording's size.

Fails with whatever `fetch` raises (one that failed ahead of time raises when its block is read, and is asked
for again on the next read), and with `OSError` where `fetch` gives fewer bytes than asked for. Closing waits
for the fetch under way, so none runs afterwards. Used by one thread at a time.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Buffer, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import override

BLOCK_BYTES = 4 * 1024**2
_KEPT_BLOCKS = 4


class RecordingFile(io.RawIOBase):
    """`size` bytes, of which `fetch(start, end_exclusive)` gives any stretch."""

    def __init__(
        self, fetch: Callable[[int, int], bytes], size: int, *, block_bytes: int = BLOCK_BYTES
    ) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._block_bytes = block_bytes
        self._position = 0
        self._last = -1  # the block read last
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._ahead: tuple[int, Future[bytes]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        self._check_open()
        return self._position

    @override
    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"There is no position {base + offset}.")
        self._position = base + offset
        return self._position

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        """Fill the buffer up to the end of a block: like any raw file, it may give less than asked for."""
        self._check_open()
        target = memoryview(buffer).cast("B")
        if self._position >= self._size or not target:
            return 0
        number, offset = divmod(self._position, self._block_bytes)
        block = self._block(number)
        count = min(len(target), len(block) - offset)
        target[:count] = memoryview(block)[offset : offset + count]
        self._position += count
        return count

    @override
    def close(self) -> None:
        if not self.closed:
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._kept.clear()
            self._ahead = None
        super().close()

    def _block(self, number: int) -> bytes:
        if number in self._kept:
            self._kept.move_to_end(number)
        else:
            block = self._awaited(number)
            while len(self._kept) >= _KEPT_BLOCKS:
                self._kept.popitem(last=False)
            self._kept[number] = block
        if number == self._last + 1:
            self._read_ahead(number + 1)
        self._last = number
        return self._kept[number]

    def _awaited(self, number: int) -> bytes:
        """A block not kept: the one under way if it is that, else fetched now."""
        if self._ahead is not None:
            ahead, future = self._ahead
            if ahead == number:
                self._ahead = None
                return future.result()
        return self._load(number)

    def _read_ahead(self, number: int) -> None:
        if number in self._kept or number * self._block_bytes >= self._size:
            return
        if self._ahead is not None:
            ahead, future = self._ahead
            if ahead == number or not (future.done() or future.cancel()):
                return  # one at a time, or memory would have no bound
        self._ahead = (number, self._thread.submit(self._load, number))

    def _load(self, number: int) -> bytes:
        start = number * self._block_bytes
        end = min(start + self._block_bytes, self._size)
        block = self._fetch(start, end)
        if len(block) != end - start:
            raise OSError(f"Asked for bytes {start} to {end}, got {len(block)} of them.")
        return block

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("The recording is closed.")
