"""Bytes that are appended to an upload: how far the bucket is, and one PATCH from its lock to its end.

Part n is always the bytes (n−1)·S…n·S. What is short of a part is the tail, `tail-{start}`, which counts only
if `start` is where the parts end. So the offset is what the bucket holds, and stands nowhere.

What may die between two requests of a PATCH, and who goes on: nobody has to.

- *before a part, or after it*: the parts that stand in an unbroken run count; where there is one more than
  before, the old tail counts no longer, as all of it is in that part.
- *before the tail*: what came since the last part is lost, and was never acknowledged.
- *after the tail, before the old one is removed*: the old one counts no longer; it goes with the upload.
- *before the lock is released*: it is over in seconds.

With a checksum, what parts are sent before the sum is known do not count until it is: see `tus_lock`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from .bucket import Bucket, Conflict, UploadGone
from .bucket import Part as HeldPart
from .part_writer import PartWriter
from .records import Part
from .tus_lock import Content, Lock, LockLost, read_lock


@dataclass(frozen=True, slots=True)
class Place:
    """Where an upload's bytes go: parts of S3's upload to `key`, and small objects under `prefix`.

    Sizes in bytes; `length` is the whole, None while nobody has told it, and `most` what it may be at most.
    """

    prefix: str
    key: str
    upload_id: str
    part_bytes: int
    length: int | None
    most: int

    @property
    def lock(self) -> str:
        """The lock's key."""
        return f"{self.prefix}lock"

    @property
    def is_partial(self) -> bool:
        """Whether it is to be put together with others: then its bytes lie under the prefix, too."""
        return self.key.startswith(self.prefix)

    def tail(self, start: int | Literal[""]) -> str:
        """The key of the bytes behind the parts that end at `start`; without one, the prefix of all."""
        return f"{self.prefix}tail-{start}"


@dataclass(frozen=True, slots=True)
class Held:
    """What the bucket holds: the parts that count, in order, and how many bytes stand behind them.

    `late` are parts that stand and do not count, and `listed` when the bucket told them.
    """

    parts: tuple[HeldPart, ...]
    start: int
    tail: int
    late: tuple[HeldPart, ...]
    listed: datetime

    @property
    def offset(self) -> int:
        """How many bytes are held."""
        return self.start + self.tail

    @property
    def named(self) -> list[Part]:
        """The parts as completing wants them."""
        return [Part(number=part.number, etag=part.etag) for part in self.parts]


def look(bucket: Bucket, place: Place, lock: Content | None) -> Held | None:
    """How far an upload is; None if S3 does not know it any more."""
    told = bucket.list_parts(place.key, place.upload_id)
    if told is None:
        return None
    listed, at = told
    void = set() if lock is None else {(number, _bare(etag)) for number, etag in lock.void}
    counted = {part.number: part for part in listed if (part.number, _bare(part.etag)) not in void}
    accepted = None if lock is None else lock.accepted
    size = place.part_bytes
    last = len(counted) if accepted is None else accepted // size
    full = 0
    while full < last and (part := counted.get(full + 1)) is not None and part.size == size:
        full += 1
    start, count = full * size, full
    if accepted is None and place.length is not None and start < place.length:
        # The last part is as short as it must be.
        short = counted.get(full + 1)
        if short is not None and start + short.size == place.length:
            start, count = place.length, full + 1
    found = bucket.find(place.tail(start)) if start != place.length else None
    parts = tuple(counted[number] for number in range(1, count + 1))
    late = tuple(part for part in listed if part.number > count or part.etag != counted[part.number].etag)
    return Held(parts, start, 0 if found is None else found.size, late, at)


def with_last_part(bucket: Bucket, place: Place, held: Held) -> Held:
    """Of an upload all of whose bytes are in: what is held once the tail is the last part, too.

    So it is where the length was told later, and whoever told it died.
    """
    document = bucket.get(place.tail(held.start)) if held.tail else None
    if document is None:
        return held
    try:
        bucket.put_part(place.key, place.upload_id, len(held.parts) + 1, document.body)
    except UploadGone:
        return held
    return held_now(bucket, place) or held


class Gone(Exception):
    """S3 does not know the upload any more: it was completed, canceled or ended."""


class WrongOffset(Exception):
    """The upload is not where the caller takes it to be."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"at {offset}")
        self.offset = offset


class Appending:
    """One PATCH: made with its lock held; then bytes are written to `writer`; `save` or `drop` ends it.

    Making, saving and dropping block. Raises WrongOffset, Gone and StorageError; then the lock is free again.
    """

    def __init__(
        self, bucket: Bucket, place: Place, lock: Lock, offset: int, *, summed: bool = False
    ) -> None:
        self.bucket = bucket
        self.place = place
        self.lock = lock
        self._summed = summed
        self._unsure = False
        try:
            held = self._look()
            if held.offset != offset:
                raise WrongOffset(held.offset)
            self._start = held.start
            self._tail, self._etag = b"", ""
            if held.tail:
                document = bucket.get(place.tail(held.start))
                if document is None or len(document.body) != held.tail:
                    raise LockLost
                self._tail, self._etag = document.body, document.etag
        except BaseException:
            lock.release()
            raise
        self._offset = offset
        self.writer = PartWriter(
            bucket,
            place.key,
            place.upload_id,
            part_bytes=place.part_bytes,
            held=held.start // place.part_bytes,
            head=self._tail,
            most=place.most if place.length is None else place.length,
            before_part=self._before_part,
        )

    def _look(self) -> Held:
        held = look(self.bucket, self.place, self.lock.content)
        if held is None:
            raise Gone
        if self.lock.content.accepted is not None:
            # Whoever sent what is behind that has died before its sum was known.
            # First its tail, which would count once the parts before it are there again.
            self._remove_tails_but(held.start)
            void = (*self.lock.content.void, *_named(held.late))
            self.lock.avoid(tuple(dict.fromkeys(void)))
        return held

    def _remove_tails_but(self, start: int) -> None:
        for entry in list(self.bucket.listing(self.place.tail(""))):
            if entry.key != self.place.tail(start):
                self.bucket.delete(entry.key)

    def _before_part(self) -> None:
        self.lock.check()
        if self._summed and not self._unsure:
            # More than one part's thread may come here at once: then it is written twice.
            self.lock.accept(self._offset)
            self._unsure = True

    @property
    def whole(self) -> bool:
        """Whether the last byte is in."""
        return self.writer.size == self.place.length

    def save(self) -> int:
        """Keep all that came, and let the next writer in; returns the offset. Safe to die anywhere.

        Raises Gone, LockLost, and StorageError: then what the bucket holds is what counts.
        """
        try:
            rest = self.writer.flush()
            self._summed = False
            if self.whole:
                self.writer.end()
            else:
                self._save_tail(rest)
            self._settle()
            start = self.writer.size - len(rest)
            if self._tail and (start != self._start or self.whole):
                self.bucket.delete(self.place.tail(self._start))
        except UploadGone:
            raise Gone from None
        finally:
            self._end()
        return self.writer.size

    def _save_tail(self, rest: bytes) -> None:
        start = self.writer.size - len(rest)
        if not rest or (start == self._start and rest == self._tail):
            return
        key = self.place.tail(start)
        self.lock.check()
        try:
            if start == self._start and self._tail:
                self.bucket.replace(key, rest, self._etag, "application/octet-stream")
            else:
                self.bucket.create(key, rest, "application/octet-stream")
        except Conflict:
            # The answer to our own write may have been lost.
            document = self.bucket.get(key)
            if document is None or document.body != rest:
                raise LockLost from None

    def _settle(self) -> None:
        """All that was sent counts from now on, and what others have sent behind it does not."""
        content = self.lock.content
        if not self._unsure and not content.void:
            return
        told = self.bucket.list_parts(self.place.key, self.place.upload_id)
        if told is None:
            raise Gone
        ours = {(part.number, _bare(part.etag)) for part in self.writer.sent}
        standing = {(part.number, _bare(part.etag)) for part in told[0]}
        known = {(number, _bare(etag)) for number, etag in content.void}
        self.lock.avoid(tuple(sorted((known & standing) - ours)))

    def drop(self) -> None:
        """Keep nothing of what came, and let the next writer in. Raises LockLost, Gone, and StorageError."""
        try:
            self.writer.cancel()
            if self._unsure:
                self._look()
        finally:
            self._end()

    def _end(self) -> None:
        # Writer and appending name each other, and may stay until the next collection: not with their bytes.
        self.writer.cancel()
        self._tail = b""
        self.lock.release()


def _named(parts: Iterable[HeldPart]) -> tuple[tuple[int, str], ...]:
    return tuple((part.number, _bare(part.etag)) for part in parts)


def _bare(etag: str) -> str:
    return etag.strip('"')


def held_now(bucket: Bucket, place: Place) -> Held | None:
    """How far an upload is that perhaps somebody appends to; None if S3 does not know it any more."""
    return look(bucket, place, read_lock(bucket, place.lock))
