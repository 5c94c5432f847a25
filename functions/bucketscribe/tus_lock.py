"""One writer at a time: a small lock object with a lease, for many processes that share nothing else.

It is created by `If-None-Match` and changed by compare-and-swap. Its holder renews it every few seconds; what
was not renewed for a lease, by the bucket's clock, is taken over. A holder that died leaves a lock that is
over in seconds; one that was frozen and goes on looks, before each part, when it renewed it last.

Who finds it held leaves a note in it: a holder that sees the note and gets no bytes lets go, so that a client
that lost its connection gets in. Besides, it holds what must outlive a writer:

- `accepted`: a PATCH with a checksum has sent parts, and up to this offset all is good. Parts behind it do
  not count: its writer has died, or has not seen the sum yet.
- `void`: parts, by number and ETag, of bytes whose checksum was wrong. Some servers list them still when they
  were written anew.
- `doubtful`: up to this number, one who was taken over before its sum was known may have parts on their way.
  `sure` are those that were sent since, by number and ETag: no other of the same number counts.
"""

import os
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock as Mutex

from pydantic import BaseModel

from .bucket import Bucket, Conflict

LEASE = timedelta(seconds=6)
"""What tus-js-client and Uppy retry by themselves is over after nine seconds."""

RENEW_SECONDS = 2.0

FRESH_SECONDS = 4.5
"""So long after its last renewal a holder may begin to write: less than the lease, as a write takes time."""

TRIES = 4


class Locked(Exception):
    """Somebody else holds it."""


class LockLost(Exception):
    """It was taken over, or removed with all the rest; or it was not renewed in time."""


Parts = tuple[tuple[int, str], ...]


class Content(BaseModel):
    """What stands in the object. Without `token` nobody holds it; `renewed` is the bucket's time."""

    token: str | None = None
    renewed: datetime
    wanted: bool = False
    accepted: int | None = None
    void: Parts = ()
    doubtful: int = 0
    sure: Parts = ()
    # No two versions may be equal: an ETag is the MD5 of the body.
    write: str = ""

    @property
    def outlives(self) -> bool:
        """Whether it must stay when its holder lets go."""
        return bool(self.void or self.doubtful) or self.accepted is not None

    def over(self, now: datetime) -> bool:
        """Whether it can be taken: nobody holds it, or the lease is over, by a whole second more."""
        return self.token is None or now - self.renewed > LEASE + timedelta(seconds=1)

    def body(self) -> bytes:
        """A new version of the object."""
        return self.model_copy(update={"write": os.urandom(6).hex()}).model_dump_json().encode()


def read_lock(bucket: Bucket, key: str) -> Content | None:
    """What stands in a lock, held or not; None where there is none."""
    document = bucket.get(key)
    return None if document is None else Content.model_validate_json(document.body)


def knock(bucket: Bucket, key: str) -> None:
    """Raises Locked, having left a note, if somebody holds it."""
    for _ in range(TRIES):
        document = bucket.get(key)
        if document is None:
            return
        found = Content.model_validate_json(document.body)
        if found.over(document.at):
            return
        try:
            _leave_note(bucket, key, found, document.etag)
        except Conflict:
            continue
        break
    raise Locked


def _leave_note(bucket: Bucket, key: str, found: Content, etag: str) -> None:
    """Say that somebody waits, if nobody has. Raises Conflict if it is another version by now."""
    if not found.wanted:
        bucket.replace(key, found.model_copy(update={"wanted": True}).body(), etag)


@dataclass(slots=True)
class Lock:
    """A lock that is held, until it is released or lost. For any number of threads."""

    bucket: Bucket
    key: str
    content: Content
    _etag: str
    _at: datetime
    _renewed: tuple[float, float]
    _mutex: Mutex = field(default_factory=Mutex)

    @classmethod
    def take(cls, bucket: Bucket, key: str, now: datetime) -> "Lock":
        """Hold it; `now` is the bucket's time. Raises Locked, having left a note."""
        content = Content(token=os.urandom(8).hex(), renewed=now)
        asked = _clocks()
        try:
            written = bucket.create(key, content.body())
        except Conflict:
            pass
        else:
            return cls(bucket, key, content, written.etag, written.at, asked)
        for _ in range(TRIES):
            asked = _clocks()
            document = bucket.get(key)
            try:
                if document is None:
                    written = bucket.create(key, content.body())
                    return cls(bucket, key, content, written.etag, written.at, asked)
                found = Content.model_validate_json(document.body)
                if found.token == content.token:
                    # Our own, of which the answer was lost.
                    return cls(bucket, key, found, document.etag, document.at, asked)
                if not found.over(document.at):
                    _leave_note(bucket, key, found, document.etag)
                    raise Locked
                ours = {"token": content.token, "renewed": document.at, "wanted": False}
                taken = found.model_copy(update=ours)
                written = bucket.replace(key, taken.body(), document.etag)
                return cls(bucket, key, taken, written.etag, written.at, asked)
            except Conflict:
                continue
        raise Locked

    @property
    def at(self) -> datetime:
        """The bucket's time when it was renewed last."""
        return self._at

    def check(self) -> None:
        """Raises LockLost if others may hold it by now."""
        # A machine that was frozen need not count that time on both of its clocks.
        passed = max(now - then for now, then in zip(_clocks(), self._renewed, strict=True))
        if passed > FRESH_SECONDS:
            raise LockLost

    def renew(self) -> bool:
        """Say that the holder lives; returns whether somebody waits for it. Raises LockLost."""
        return self._change({}).wanted

    def accept(self, offset: int | None) -> None:
        """Write down up to where all is good, before parts are sent that may be wrong. Raises LockLost."""
        self._change({"accepted": offset})

    def settle(self, void: Parts, doubtful: int = 0, sure: Parts = ()) -> None:
        """Write down which parts count for nothing, and that all others do. Raises LockLost."""
        self._change({"accepted": None, "void": void, "doubtful": doubtful, "sure": sure})

    def _change(self, changes: dict[str, object]) -> Content:
        with self._mutex:
            for _ in range(TRIES):
                clocks = _clocks()
                now = self._at + timedelta(seconds=int(clocks[0] - self._renewed[0]))
                content = self.content.model_copy(update={**changes, "renewed": now})
                try:
                    written = self.bucket.replace(self.key, content.body(), self._etag)
                except Conflict:
                    self._read_again()
                    continue
                self.content, self._etag, self._at = content, written.etag, written.at
                self._renewed = clocks
                return content
            raise LockLost

    def _read_again(self) -> None:
        """A note was left, or the answer to our own write was lost. Raises LockLost if it is neither."""
        document = self.bucket.get(self.key)
        content = None if document is None else Content.model_validate_json(document.body)
        if document is None or content is None or content.token != self.content.token:
            raise LockLost
        self.content, self._etag = content, document.etag

    def release(self) -> bool:
        """Let go; False if it was lost before. What must outlive its holder stays."""
        try:
            self.check()
        except LockLost:
            # Perhaps only late.
            try:
                self.renew()
            except LockLost:
                return False
        with self._mutex:
            for _ in range(TRIES):
                try:
                    if self._let_go():
                        return True
                    self._read_again()
                except LockLost:
                    break
        return False

    def _let_go(self) -> bool:
        if not self.content.outlives:
            return self.bucket.delete_if(self.key, self._etag)
        free = self.content.model_copy(update={"token": None, "wanted": False})
        try:
            self.bucket.replace(self.key, free.body(), self._etag)
        except Conflict:
            return False
        return True


def _clocks() -> tuple[float, float]:
    return time.monotonic(), time.time()
