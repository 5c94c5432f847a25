"""What is sent: a file, or a stream of bytes whose length nobody knows, cut into parts.

A file's parts are read as they are sent, a block at a time, and can be read again; a stream's are held in
memory, one for each part that is on its way. Fails with `UploadFailed`.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol

from .errors import UploadFailed

PART_BYTES = 8 * 1024**2
MAX_PARTS = 10_000
MAX_BYTES = 5 * 1024**3
"""The most any server takes. One that takes less refuses a stream only when it has ended."""

BLOCK_BYTES = 64 * 1024
"""A slow line must manage to send this much within the connection's timeout."""


class Part(Protocol):
    """A stretch of a recording. `number` counts from 1; `length` in bytes."""

    @property
    def number(self) -> int: ...

    @property
    def length(self) -> int: ...

    def blocks(self) -> Iterator[memoryview]:
        """Its bytes, as often as asked; each block is good until the next one is taken."""
        ...


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file."""

    path: Path
    number: int
    offset: int
    length: int

    def blocks(self) -> Iterator[memoryview]:
        """Its bytes, read into one buffer. Raises UploadFailed `file_changed`, `file_unreadable`."""
        left = self.length
        buffer = memoryview(bytearray(min(BLOCK_BYTES, left)))
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset)
                while left:
                    count = file.readinto(buffer[:left])
                    if not count:
                        raise UploadFailed("file_changed", f"{self.path} became shorter while it was sent.")
                    yield buffer[:count]
                    left -= count
        except OSError as error:
            # It must not be taken for an error of the connection, after which one tries again.
            raise _unreadable(str(self.path), error) from error


@dataclass(frozen=True, slots=True)
class StreamPart:
    """A part of a stream, in memory."""

    number: int
    data: bytearray

    @property
    def length(self) -> int:
        """In bytes."""
        return len(self.data)

    def blocks(self) -> Iterator[memoryview]:
        """Its bytes."""
        whole = memoryview(self.data)
        for start in range(0, len(whole), BLOCK_BYTES):
            yield whole[start : start + BLOCK_BYTES]


class File:
    """A file as it is now. Raises UploadFailed `file_unreadable`, `not_a_file`, `empty_file`."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = path
        # A name that is no text on this machine is made one, as JSON holds nothing else.
        self.name = name or os.fsencode(path.name).decode(errors="replace")
        facts = self._facts()
        if facts.st_size == 0:
            raise UploadFailed("empty_file", f"{path} is empty.")
        self.size: int = facts.st_size
        self.part_bytes = part_bytes(self.size)
        self.changed_ns = facts.st_mtime_ns

    def parts(self, part_size: int) -> Iterator[FilePart]:
        """All parts, in order."""
        for index, offset in enumerate(range(0, self.size, part_size), start=1):
            yield self.piece(offset, min(part_size, self.size - offset), index)

    def piece(self, offset: int, length: int, number: int = 0) -> FilePart:
        """Any stretch of it."""
        return FilePart(self.path, number, offset, length)

    def check(self) -> None:
        """See that it is still the same. Raises UploadFailed `file_changed`, `file_unreadable`."""
        now = self._facts()
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed_ns):
            raise UploadFailed("file_changed", f"{self.path} was changed while it was sent.")

    def _facts(self) -> os.stat_result:
        try:
            facts = self.path.stat()
        except OSError as error:
            raise _unreadable(str(self.path), error) from error
        if not stat.S_ISREG(facts.st_mode):
            raise UploadFailed("not_a_file", f"{self.path} is not a regular file.")
        return facts


class Stream:
    """A stream, which can be sent once. Its first byte is read at once: raises UploadFailed `empty_file`.

    It is read by the threads that send. Python cannot end while one of them waits for `sys.stdin.buffer`;
    standard input is better given as `open(0, "rb", buffering=0, closefd=False)`.
    """

    size = None
    part_bytes = PART_BYTES

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self.name = name
        self._stream = stream
        self._ahead = b""
        self._ahead = bytes(self._read(1))
        if not self._ahead:
            raise UploadFailed("empty_file", f"{name} is empty.")

    def parts(self, part_size: int) -> Iterator[StreamPart]:
        """All parts, in order. Raises UploadFailed `too_large`, `file_unreadable`."""
        total = 0
        for number in count(1):
            part = StreamPart(number, self._read(part_size))
            total += part.length
            if total > MAX_BYTES:
                raise UploadFailed("too_large", f"{self.name} has more than {MAX_BYTES} bytes.")
            if part.length:
                yield part
            if part.length < part_size:
                return

    def check(self) -> None:
        """Nothing can have changed."""

    def _read(self, length: int) -> bytearray:
        """So many bytes, fewer only at the end."""
        data, self._ahead = bytearray(self._ahead), b""
        try:
            while len(data) < length:
                block: bytes | None = self._stream.read(min(1024**2, length - len(data)))
                if block is None:
                    raise UploadFailed("file_unreadable", f"{self.name}: it is read without waiting for it.")
                if not block:
                    break
                data += block
        except OSError as error:
            raise _unreadable(self.name, error) from error
        return data


def part_bytes(size: int) -> int:
    """The size of each part but the last: 8 MiB, more only where that made too many parts."""
    smallest = -(-size // MAX_PARTS)
    return max(PART_BYTES, -(-smallest // 1024**2) * 1024**2)


def md5(part: Part) -> str:
    """The part's MD5 in hexadecimal: what a bucket's ETag is, unless it encrypts with keys of its own."""
    digest = hashlib.md5(usedforsecurity=False)
    for block in part.blocks():
        digest.update(block)
    return digest.hexdigest()


def _unreadable(name: str, error: OSError) -> UploadFailed:
    return UploadFailed("file_unreadable", f"{name}: {error.strerror or error}.")
