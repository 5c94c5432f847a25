"""A PATCH's body on its way into the bucket: read on the event loop, sent by threads.

The loop only collects bytes. Beside it, a watch renews the lock and looks whether bytes still come. However
the body ends, be it that its client goes away, what came is saved before the lock is released: in a task of
its own, which nobody who gives up waiting can stop.
"""

import asyncio
import hashlib
import zlib
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Protocol

from anyio import CapacityLimiter, to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from ..bucket import StorageError, UploadGone
from ..errors import Problem
from ..part_writer import TooMuch
from ..tus import Appended, TusUploads, locked
from ..tus_append import Appending
from ..tus_lock import RENEW_SECONDS, LockLost
from .room import Room, busy

ALGORITHMS: Final = ("sha1", "sha256", "md5", "crc32")

STALLED_SECONDS = 60.0
"""A request without a byte for this long is over."""

WANTED_SECONDS = 2.0
"""And for this long, if another one waits: its client may be the same, by a new connection."""

GIVES_WAY_SECONDS = 5.0
"""And for this long, if others wait for room: nothing is lost, and its client can go on when there is."""

LOOK_SECONDS = 0.5
THREADS = 32
RENEWING_THREADS = 8


class _Sum(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32:
    """CRC-32, the four bytes most significant first."""

    def __init__(self) -> None:
        self._sum = 0

    def update(self, data: bytes, /) -> None:
        self._sum = zlib.crc32(data, self._sum)

    def digest(self) -> bytes:
        return self._sum.to_bytes(4)


@dataclass(slots=True)
class Checksum:
    """What a body's bytes must add up to."""

    algorithm: str
    expected: bytes
    sum: _Sum

    @classmethod
    def read(cls, header: str | None) -> "Checksum | None":
        """Of `Upload-Checksum`: an algorithm, and the sum in base64.

        Raises Problem `checksum_unsupported`, `invalid_tus_request`.
        """
        if header is None:
            return None
        algorithm, _, encoded = header.strip().partition(" ")
        if algorithm not in ALGORITHMS:
            raise Problem(
                "checksum_unsupported",
                f"Upload-Checksum may be one of {', '.join(ALGORITHMS)}, and the sum in base64.",
                {"algorithms": ALGORITHMS},
            )
        made: _Sum = _Crc32() if algorithm == "crc32" else hashlib.new(algorithm, usedforsecurity=False)
        try:
            expected = b64decode(encoded.strip(), validate=True)
        except (NoBase64, ValueError):
            expected = b""
        if len(expected) != len(made.digest()):
            raise Problem("invalid_tus_request", f"Upload-Checksum is no {algorithm} in base64.")
        return cls(algorithm, expected, made)

    def check(self) -> None:
        """Raises Problem `checksum_mismatch`."""
        if self.sum.digest() != self.expected:
            raise Problem(
                "checksum_mismatch",
                f"The bytes do not have this {self.algorithm}, and were not taken; send them again.",
            )


class Bodies:
    """The bodies that come to one application; for one event loop."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.threads = CapacityLimiter(THREADS)
        # Whoever waits for a bucket must not keep others from saying that they live.
        self._renewing = CapacityLimiter(RENEWING_THREADS)
        self._tasks: set[asyncio.Task[Appended]] = set()

    async def take(
        self,
        request: Request,
        tus: TusUploads,
        owner: str,
        id: str,
        appending: Appending,
        checksum: Checksum | None,
        place: ExitStack,
    ) -> Appended:
        """Append a request's body; the lock is free afterwards, and its place in the room.

        Raises Problem `checksum_mismatch`, `body_too_large`, `too_large`, `body_stalled`, `upload_locked`,
        `busy` and what `TusUploads.save` raises.
        """
        stopped = asyncio.Event()
        body = _Body(request, appending, checksum, self._renewing, self.room)

        async def to_the_end() -> Appended:
            # Also while it is saved: the bucket may take its time.
            renewing = asyncio.create_task(body.keep_lock())
            try:
                return await taken()
            finally:
                renewing.cancel()

        async def taken() -> Appended:
            try:
                refusal = await body.read(stopped)
            except BaseException:
                await self._run(lambda: tus.drop(owner, id, appending))
                raise
            if checksum is not None and refusal is None:
                try:
                    checksum.check()
                except Problem as problem:
                    refusal = problem
            # What nobody could check, as its rest did not come, is not kept.
            if checksum is not None and refusal is not None:
                await self._run(lambda: tus.drop(owner, id, appending))
                raise refusal
            appended = await self._run(lambda: tus.save(owner, id, appending))
            if refusal is not None:
                raise refusal
            return appended

        task = asyncio.create_task(to_the_end())
        self._tasks.add(task)
        # Not when its caller gives up: what came is held until it is saved.
        kept = place.pop_all()
        task.add_done_callback(lambda _: kept.close())
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def _run[T](self, what: Callable[[], T]) -> T:
        return await to_thread.run_sync(what, limiter=self.threads)

    def _ended(self, task: asyncio.Task[Appended]) -> None:
        self._tasks.discard(task)
        # One whose caller has gone: what went wrong is nobody's to hear.
        if not task.cancelled():
            task.exception()


class _Body:
    """One body, and the watch beside it."""

    def __init__(
        self,
        request: Request,
        appending: Appending,
        checksum: Checksum | None,
        renewing: CapacityLimiter,
        room: Room,
    ) -> None:
        self._request = request
        self._writer = appending.writer
        self._lock = appending.lock
        self._too_much = appending.place.length
        self._checksum = checksum
        self._renewing = renewing
        self._room = room
        self._last = 0.0
        self._wanted = False
        self._lost = False

    async def read(self, stopped: asyncio.Event) -> Problem | None:
        """Read to the end, or until there is no sense in it; then why, unless whoever saves finds out."""
        loop = asyncio.get_running_loop()
        self._last = loop.time()
        reading = asyncio.create_task(self._read())
        watching = asyncio.create_task(self._watch())
        stopping = asyncio.create_task(stopped.wait())
        tasks = (reading, watching, stopping)
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if not reading.cancelled():
            return reading.result()
        if not watching.cancelled():
            return watching.result()
        return self._stalled()

    async def _read(self) -> Problem | None:
        update = None if self._checksum is None else self._checksum.sum.update
        writer, loop = self._writer, asyncio.get_running_loop()
        try:
            async for piece in self._request.stream():
                if not piece:
                    continue
                if update is not None:
                    update(piece)
                # Not while the bucket is waited for: that is no fault of the client's.
                self._last = float("inf")
                await writer.awrite(piece)
                self._last = loop.time()
        except ClientDisconnect:
            return self._stalled()
        except TooMuch as more:
            return self._refused(more)
        except (LockLost, UploadGone, *StorageError):
            # A part's thread has met it, and whoever saves meets it again.
            return self._stalled()
        return None

    def _refused(self, more: TooMuch) -> Problem:
        if self._too_much is None:
            return Problem(
                "too_large",
                f"The recording has more than the {more.most} bytes that are taken. Split it or compress it.",
                {"maxBytes": more.most},
            )
        return Problem("body_too_large", f"The upload has {more.most} bytes in all; more than is left came.")

    def _stalled(self) -> Problem:
        kept = "What came is kept"
        if self._checksum is not None:
            kept = "So it cannot be checked, and nothing of it is kept"
        detail = f"The rest of the body did not come. {kept}: ask for the offset (HEAD), and go on there."
        return Problem("body_stalled", detail, {"retryAfter": 1})

    async def _watch(self) -> Problem:
        """Wait until there is no sense in waiting for bytes; returns why."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            silent = loop.time() - self._last
            if self._lost or (self._wanted and silent > WANTED_SECONDS):
                return locked()
            if self._room.wanted and silent > GIVES_WAY_SECONDS:
                return busy("No bytes of this one came: ask for its offset (HEAD), and go on there.")
            if silent > STALLED_SECONDS:
                return self._stalled()

    async def keep_lock(self) -> None:
        """Renew the lock, until it is lost."""
        loop = asyncio.get_running_loop()
        while not self._lost:
            # Of one who is silent more often: somebody may wait for nothing.
            begun = loop.time()
            while loop.time() - begun < RENEW_SECONDS:
                await asyncio.sleep(LOOK_SECONDS)
                if loop.time() - max(self._last, begun) > WANTED_SECONDS:
                    break
            try:
                self._wanted = await to_thread.run_sync(self._lock.renew, limiter=self._renewing)
            except LockLost:
                self._lost = True
            except StorageError:
                # Perhaps the next time; until then its age tells.
                continue
