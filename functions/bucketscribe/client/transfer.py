"""A recording's parts on their way into the bucket: a few at a time, each read as it is sent.

Memory is one block a thread for a file, whatever the size of its parts, and one part a thread for a stream.
A part is tried again after a broken connection, or what `is_passing` tells of, always with a newly signed
URL: a bucket that refuses an expired one may close the connection before its 403 is read. Where there is no
connection at all, `Line` waits for one. Fails with `Unreachable`, `BucketRefused` or `UploadFailed`, or as
signing does; then, and on Ctrl-C, no thread sends another block. S3's rules are those of UploadPart's API
reference.
"""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from queue import Empty, SimpleQueue
from typing import cast
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from ..capacity import says_full
from .api import CONNECT_SECONDS, reason
from .backoff import Backoff
from .climb import Climb
from .errors import BucketRefused, Unreachable
from .offline import Line, is_offline
from .recording import MAX_PARTS, File, Part, Stream, md5

BATCH = 100
"""URLs signed with one request."""

ANSWER_SECONDS = 120
"""How long the bucket may think about a part it has received."""

REFUSALS = 3
"""A part refused with 403 this often in a row was not refused for the age of its URL."""

MISTAKES = 2
"""A part whose ETag is this often not its MD5 has not been damaged on its way."""

TELL_SECONDS = 0.1
STOP_SECONDS = 2.0

Sign = Callable[[int, int, Line], Mapping[int, str]]
"""Signs the parts from a number to another, both included; the line says how long to wait for it."""


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How far an upload has come, in bytes.

    `sent` includes what is `resumed`: what an earlier try had sent and the bucket still held. It falls back
    when a part has to be sent again. `size` is None for a stream. `waiting` says what for, in a few words, if
    nothing can be sent at the moment. `parallel` is how many parts are on their way at once. Interrupted,
    it can go on within `kept_seconds`; None where it cannot.
    """

    sent: int
    size: int | None
    resumed: int = 0
    waiting: str | None = None
    parallel: int = 0
    kept_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A part as the bucket lists it. `size` in bytes."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class _There:
    """A part that is in the bucket."""

    number: int
    etag: str


@dataclass(frozen=True, slots=True)
class _Left:
    """A thread that has ended, by its place."""

    place: int


class _Stopped(Exception):
    """The transfer has ended; nobody waits for this part."""


class SignedUrls:
    """URLs of parts, signed in batches as they are needed. Threads share it; one signs, the others wait."""

    def __init__(self, sign: Sign, last: int, line: Line, stop: threading.Event) -> None:
        self._sign = sign
        self._line = line
        self._stop = stop
        self._last = last
        self._urls: dict[int, str] = {}
        self._lock = threading.Lock()

    def get(self, number: int, failed: str | None) -> str:
        """A part's URL, another than the one that `failed`."""
        with self._lock:
            if self._stop.is_set():
                raise _Stopped
            # Another thread's failure may have renewed the batch already.
            if self._urls.get(number) in (None, failed):
                first = (number - 1) // BATCH * BATCH + 1
                self._urls.update(self._sign(first, min(first + BATCH - 1, self._last), self._line))
            return self._urls[number]


class Transfer:
    """One pass over a recording's parts, but for those `held` already. Used once.

    A part has arrived if its ETag is its MD5. If it is not, twice, the bucket's ETags are `opaque`: then
    `sent` tells by ETag and MD5 what was sent, and of what is held only that counts. `climb` says how many
    threads send; the first of them have the lowest places, and one whose place is too high leaves when its
    part has been sent. In the end the `line` is closed.
    """

    def __init__(
        self,
        pool: PoolManager,
        recording: File | Stream,
        part_size: int,
        held: Mapping[int, Held],
        sent: Mapping[int, tuple[str, str]],
        sign: Sign,
        climb: Climb,
        backoff: Backoff,
        line: Line,
    ) -> None:
        self._pool = pool
        self._size = recording.size
        last = MAX_PARTS if recording.size is None else -(-recording.size // part_size)
        self._parts: Iterator[Part] = recording.parts(part_size)
        self._taking = threading.Lock()
        self._all_taken = threading.Event()
        self._held = held
        self.sent = dict(sent)
        self.opaque = bool(sent)
        self._stop = threading.Event()
        self._line = line
        self._urls = SignedUrls(sign, last, self._line, self._stop)
        self._climb = climb
        self._backoff = backoff
        self._news: SimpleQueue[_There | _Left | BaseException] = SimpleQueue()
        # Written by the threads, under the lock, or each in its own place.
        self._counting = threading.Lock()
        self._finished = self._resumed = self._failures = 0
        self._part_sent = [0] * climb.ceiling
        self._all_sent = [0] * climb.ceiling

    def run(self, on_progress: Callable[[UploadProgress], None]) -> dict[int, str]:
        """See all parts into the bucket; returns their ETags by number.

        `on_progress` is called in the caller's thread.
        """
        threads: dict[int, threading.Thread] = {}
        try:
            return self._collect(threads, on_progress)
        finally:
            self._stop.set()
            self._line.close()
            for thread in threads.values():
                thread.join(STOP_SECONDS / len(threads))

    def _collect(
        self, threads: dict[int, threading.Thread], on_progress: Callable[[UploadProgress], None]
    ) -> dict[int, str]:
        etags: dict[int, str] = {}
        while True:
            for place in range(self._climb.limit):
                if place not in threads and not self._all_taken.is_set():
                    # Daemons: whoever gives up does not wait for a bucket that has stopped answering.
                    threads[place] = threading.Thread(target=self._work, args=(place,), daemon=True)
                    threads[place].start()
            if not threads:
                return dict(sorted(etags.items()))
            try:
                news = self._news.get(timeout=TELL_SECONDS)
            except Empty:
                pass
            else:
                match news:
                    case BaseException():
                        raise news
                    case _There(number, etag):
                        etags[number] = etag
                    case _Left(place):
                        del threads[place]
            self._climb.feed(time.monotonic(), sum(self._all_sent), self._failures)
            on_progress(self._progress(len(threads)))

    def _progress(self, parallel: int) -> UploadProgress:
        with self._counting:
            sent = self._finished + sum(self._part_sent)
            return UploadProgress(sent, self._size, self._resumed, self._line.waiting, parallel)

    def _work(self, place: int) -> None:
        try:
            while place < self._climb.limit and (part := self._take()) is not None:
                etag = self._in_place(part)
                resumed = etag is not None
                if etag is None:
                    etag = self._send(place, part)
                with self._counting:
                    self._part_sent[place] = 0
                    self._finished += part.length
                    self._resumed += part.length if resumed else 0
                self._news.put(_There(part.number, etag))
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self._news.put(error)
        finally:
            self._news.put(_Left(place))

    def _take(self) -> Part | None:
        """The next part, or None after the last."""
        with self._taking:
            if self._stop.is_set():
                raise _Stopped
            part = next(self._parts, None)
            if part is None:
                self._all_taken.set()
            return part

    def _in_place(self, part: Part) -> str | None:
        """The ETag of a held part that is the one that would be sent."""
        held = self._held.get(part.number)
        if held is None or held.size != part.length:
            return None
        etag, digest = _bare(held.etag), md5(part)
        return held.etag if etag == digest or self.sent.get(part.number) == (etag, digest) else None

    def _send(self, place: int, part: Part) -> str:
        """One part, as often as it takes; its ETag."""
        pauses = self._backoff.pauses()
        refusals = mistaken = 0
        url: str | None = None
        while True:
            url = self._urls.get(part.number, failed=url)
            error: BucketRefused | Unreachable
            try:
                digest = hashlib.md5(usedforsecurity=False)
                response = self._put(place, part, url, digest.update)
            except HTTPError as lost:
                error = Unreachable(_origin(url), reason(lost))
                if is_offline(lost):
                    self._failed()
                    # Where others get through it is this part's own trouble, which does not last for ever.
                    if self._line.lost(error) and next(pauses, None) is None:
                        raise error from lost
                    continue
            else:
                self._line.found(_origin(url))
                if response.status == HTTPStatus.OK:
                    etag = _etag(response, part.number)
                    if _bare(etag) == digest.hexdigest():
                        return etag
                    mistaken += 1
                    self.opaque = self.opaque or mistaken == MISTAKES
                    if self.opaque:
                        self.sent[part.number] = _bare(etag), digest.hexdigest()
                        return etag
                    continue
                error = refusal(response, f"part {part.number}")
                if response.status == HTTPStatus.FORBIDDEN and not error.full:
                    refusals += 1
                    if refusals == REFUSALS:
                        raise error
                    continue
                if not is_passing(error):
                    raise error
            self._failed()
            pause = next(pauses, None)
            if pause is None:
                raise error
            if self._stop.wait(pause):
                raise _Stopped

    def _failed(self) -> None:
        with self._counting:
            self._failures += 1

    def _put(
        self, place: int, part: Part, url: str, digest: Callable[[memoryview], None]
    ) -> BaseHTTPResponse:
        self._part_sent[place] = 0
        return self._pool.request(
            "PUT",
            url,
            # urllib3 passes on whatever a socket takes.
            body=cast("Iterator[bytes]", self._blocks(place, part, digest)),
            headers={"Content-Length": str(part.length)},  # signed, so exact
            retries=False,
            redirect=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
        )

    def _blocks(self, place: int, part: Part, digest: Callable[[memoryview], None]) -> Iterator[memoryview]:
        for block in part.blocks():
            if self._stop.is_set():
                raise _Stopped
            digest(block)
            yield block
            self._part_sent[place] += len(block)
            self._all_sent[place] += len(block)


def refusal(response: BaseHTTPResponse, what: str) -> BucketRefused:
    """What the bucket says in its XML error, by S3's code."""
    found = re.search(rb"<Code>([^<]{1,100})</Code>", response.data)
    code = found[1].decode(errors="replace") if found else str(response.reason or "")
    full = says_full(response.status, code, response.data.decode(errors="replace"))
    return BucketRefused(response.status, code, what, full=full)


def is_passing(error: BucketRefused) -> bool:
    """Whether the bucket may think otherwise the next time."""
    return not error.full and (
        error.status >= 500
        or error.status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        or error.reason == "RequestTimeout"  # S3's, with a 400: the body came too slowly
    )


def _bare(etag: str) -> str:
    return etag.strip('"').lower()


def _etag(response: BaseHTTPResponse, number: int) -> str:
    etag = response.headers.get("ETag")
    if not etag:
        raise BucketRefused(response.status, "without an ETag", f"to vouch for part {number}")
    return etag


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
