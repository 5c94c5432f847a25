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
from typing import Literal, NoReturn, cast

from .bucket import Bucket, Conflict, Listed, UploadGone
from .bucket import Part as HeldPart
from .part_writer import AT_ONCE, PartWriter
from .records import Part
from .tus_lock import Content, Lock, LockLost, read_lock

LOOKS = 3
"""At an upload to which somebody appends meanwhile."""


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
    sure = {} if lock is None else {number: _bare(etag) for number, etag in lock.sure}
    counted = {
        part.number: part
        for part in listed
        if (part.number, _bare(part.etag)) not in void
        and sure.get(part.number, _bare(part.etag)) == _bare(part.etag)
    }
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
        self.declares: int | None = None
        """The upload's length, where this PATCH tells it and it is not written down yet."""
        try:
            held = self._look(others=True)
            if held.offset != offset:
                raise WrongOffset(held.offset)
            self._start = held.start
            tail, self._etag = b"", ""
            if held.tail:
                document = bucket.get(place.tail(held.start))
                if document is None or len(document.body) != held.tail:
                    raise LockLost
                tail, self._etag = document.body, document.etag
        except BaseException:
            lock.release()
            raise
        # The writer has its bytes, and may come to have twice as many more.
        self._tail = len(tail)
        self._offset = offset
        self.writer = PartWriter(
            bucket,
            place.key,
            place.upload_id,
            part_bytes=place.part_bytes,
            held=held.start // place.part_bytes,
            head=tail,
            most=place.most if place.length is None else place.length,
            before_part=self._before_part,
        )

    def _look(self, *, others: bool) -> Held:
        """What is held; of bytes whose sum is not known, and were sent by `others` or by us, none."""
        unsure = self.lock.content.accepted is not None
        tails = list(self.bucket.listing(self.place.tail(""))) if unsure else []
        held = look(self.bucket, self.place, self.lock.content)
        if held is None:
            raise Gone
        if unsure:
            # Whoever sent what is behind that has died before its sum was known.
            # First its tail, which would count once the parts before it are there again.
            self._remove(entry for entry in tails if entry.key != self.place.tail(held.start))
            content = self.lock.content
            void = (*content.void, *_named(held.late))
            doubtful = content.doubtful
            if others:
                # So many may still be on their way.
                last = max((part.number for part in (*held.parts, *held.late)), default=0)
                doubtful = max(doubtful, last + AT_ONCE)
            self.lock.settle(tuple(dict.fromkeys(void)), doubtful, content.sure)
        return held

    def _remove(self, tails: Iterable[Listed]) -> None:
        """Remove tails; none where another is the writer by now, who may have acknowledged them."""
        for entry in tails:
            self.lock.renew()
            self.bucket.delete_if(entry.key, entry.etag)

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
            # The bucket takes whatever is like bytes; of many at once copies would add up.
            rest = cast("bytes", self.writer.flush())
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
            self.end()
            raise Gone from None
        except BaseException:
            self.end()
            raise
        if not self.end():
            self._came_late(start)
        return self.writer.size

    def _came_late(self, start: int) -> NoReturn:
        """The lock was gone: to another writer, who counts what is there, or with the whole upload."""
        if self.bucket.list_parts(self.place.key, self.place.upload_id) is None:
            # Perhaps it had been emptied before this came.
            self.bucket.delete(self.place.tail(start))
            raise Gone
        raise LockLost

    def _save_tail(self, rest: bytes) -> None:
        start = self.writer.size - len(rest)
        if not rest or (start == self._start and len(rest) == self._tail):
            return
        key = self.place.tail(start)
        self.lock.check()
        try:
            if start == self._start and self._tail:
                self.bucket.replace(key, rest, self._etag, "application/octet-stream")
            else:
                self.bucket.create(key, rest, "application/octet-stream")
        except Conflict:
            document = self.bucket.get(key)
            if document is None:
                raise LockLost from None
            if document.body == rest:
                # The answer to our own write was lost.
                return
            # If it is still ours to write, one who was frozen has come late, and was told nothing.
            self.lock.renew()
            try:
                self.bucket.replace(key, rest, document.etag, "application/octet-stream")
            except Conflict:
                raise LockLost from None

    def _settle(self) -> None:
        """All that was sent counts from now on, and what others have sent behind it does not."""
        content = self.lock.content
        if not self._unsure and not content.void and not content.doubtful:
            return
        told = self.bucket.list_parts(self.place.key, self.place.upload_id)
        if told is None:
            raise Gone
        ours = {(part.number, _bare(part.etag)) for part in self.writer.sent}
        standing = {(part.number, _bare(part.etag)) for part in told[0]}
        known = {(number, _bare(etag)) for number, etag in content.void}
        sure = dict(content.sure) | {number: etag for number, etag in ours if number <= content.doubtful}
        self.lock.settle(
            tuple(sorted((known & standing) - ours)), content.doubtful, tuple(sorted(sure.items()))
        )

    def drop(self) -> None:
        """Keep nothing of what came, and let the next writer in. Raises LockLost, Gone, and StorageError."""
        try:
            self.writer.cancel()
            if self._unsure:
                self._look(others=False)
        finally:
            self.end()

    def end(self) -> bool:
        """Let the next writer in; False if one was in already."""
        # Writer and appending name each other, and may stay until the next collection: not with their bytes.
        self.writer.cancel()
        return self.lock.release()


def _named(parts: Iterable[HeldPart]) -> tuple[tuple[int, str], ...]:
    return tuple((part.number, _bare(part.etag)) for part in parts)


def _bare(etag: str) -> str:
    return etag.strip('"')


def held_now(bucket: Bucket, place: Place) -> Held | None:
    """How far an upload is that perhaps somebody appends to; None if S3 does not know it any more."""
    held = None
    for _ in range(LOOKS):
        before, held = held, look(bucket, place, read_lock(bucket, place.lock))
        # Where there is no tail, it may have become a part since the parts were listed.
        if held is None or held.tail or held.start == place.length or (before and before.start == held.start):
            break
    return held
