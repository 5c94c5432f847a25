"""A file's parts on their way into the bucket: a few at a time, each read as it is sent.

Memory is one block a thread, whatever the size of the parts. A part is tried again after a broken connection,
a 5xx or a 429, always with a newly signed URL: a bucket that refuses an expired one may close the connection
before its 403 is read. Fails with `Unreachable`, `BucketRefused` or `UploadFailed`, or as signing does;
then, and on Ctrl-C, no thread sends another block. S3's rules are those of UploadPart's API reference.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from queue import Empty, SimpleQueue
from urllib.parse import urlsplit

from urllib3 import BaseHTTPResponse, PoolManager, Timeout
from urllib3.exceptions import HTTPError

from .api import CONNECT_SECONDS, reason
from .backoff import Backoff
from .errors import BucketRefused, Unreachable, UploadFailed

PART_BYTES = 8 * 1024**2
MAX_PARTS = 10_000
BLOCK_BYTES = 64 * 1024
BATCH = 100
"""URLs signed with one request."""

ANSWER_SECONDS = 120
"""How long the bucket may think about a part it has received."""

REFUSALS = 3
"""A part refused with 403 this often in a row was not refused for the age of its URL."""

TELL_SECONDS = 0.1
STOP_SECONDS = 2.0

Sign = Callable[[int, int], Mapping[int, str]]
"""Signs the parts from a number to another, both included."""


@dataclass(frozen=True, slots=True)
class UploadProgress:
    """How much of a file has been sent, in bytes; falls back when a part has to be sent again."""

    sent: int
    size: int


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    etag: str


class _Stopped(Exception):
    """The transfer has ended; nobody waits for this part."""


def part_bytes(size: int) -> int:
    """The size of each part but the last: 8 MiB, more only where that made too many parts."""
    smallest = -(-size // MAX_PARTS)
    return max(PART_BYTES, -(-smallest // 1024**2) * 1024**2)


class SignedUrls:
    """URLs of parts, signed in batches as they are needed. Threads share it; one signs, the others wait."""

    def __init__(self, sign: Sign, last: int, stop: threading.Event) -> None:
        self._sign = sign
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
                self._urls.update(self._sign(first, min(first + BATCH - 1, self._last)))
            return self._urls[number]


class Transfer:
    """One file's parts. Used once."""

    def __init__(
        self,
        pool: PoolManager,
        path: Path,
        size: int,
        part_size: int,
        sign: Sign,
        parallel: int,
        backoff: Backoff,
    ) -> None:
        self._pool = pool
        self._path = path
        self._size = size
        self._part_size = part_size
        self._count = -(-size // part_size)
        self._stop = threading.Event()
        self._urls = SignedUrls(sign, self._count, self._stop)
        self._parallel = min(parallel, self._count)
        self._backoff = backoff
        self._sent = [0] * self._count
        self._waiting: SimpleQueue[int] = SimpleQueue()
        self._ended: SimpleQueue[_Sent | BaseException] = SimpleQueue()

    def run(self, on_progress: Callable[[UploadProgress], None] | None) -> dict[int, str]:
        """Send all parts; returns their ETags by number. `on_progress` is called in the caller's thread."""
        for number in range(1, self._count + 1):
            self._waiting.put(number)
        # Daemons: whoever gives up does not wait for a bucket that has stopped answering.
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._parallel)]
        for thread in threads:
            thread.start()
        try:
            return self._collect(on_progress or (lambda _progress: None))
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(STOP_SECONDS / self._parallel)

    def _collect(self, on_progress: Callable[[UploadProgress], None]) -> dict[int, str]:
        etags: dict[int, str] = {}
        while len(etags) < self._count:
            try:
                ended = self._ended.get(timeout=TELL_SECONDS)
            except Empty:
                pass
            else:
                if isinstance(ended, BaseException):
                    raise ended
                etags[ended.number] = ended.etag
            on_progress(UploadProgress(sum(self._sent), self._size))
        return dict(sorted(etags.items()))

    def _work(self) -> None:
        try:
            while not self._stop.is_set():
                number = self._waiting.get_nowait()
                self._ended.put(_Sent(number, self._send(number)))
        except (Empty, _Stopped):
            pass
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self._ended.put(error)

    def _send(self, number: int) -> str:
        """One part, as often as it takes; its ETag."""
        pauses = self._backoff.pauses()
        refusals = 0
        url: str | None = None
        while True:
            url = self._urls.get(number, failed=url)
            error: BucketRefused | Unreachable
            try:
                response = self._put(number, url)
            except HTTPError as lost:
                error = Unreachable(_origin(url), reason(lost))
            else:
                if response.status == HTTPStatus.OK:
                    return _etag(response, number)
                error = refusal(response, f"part {number}")
                if response.status == HTTPStatus.FORBIDDEN:
                    refusals += 1
                    if refusals == REFUSALS:
                        raise error
                    continue
                if response.status < 500 and response.status != HTTPStatus.TOO_MANY_REQUESTS:
                    raise error
            pause = next(pauses, None)
            if pause is None:
                raise error
            if self._stop.wait(pause):
                raise _Stopped

    def _put(self, number: int, url: str) -> BaseHTTPResponse:
        offset = (number - 1) * self._part_size
        length = min(self._part_size, self._size - offset)
        self._sent[number - 1] = 0
        return self._pool.request(
            "PUT",
            url,
            body=self._blocks(number, offset, length),
            headers={"Content-Length": str(length)},  # signed, so exact
            retries=False,
            redirect=False,
            timeout=Timeout(connect=CONNECT_SECONDS, read=ANSWER_SECONDS),
        )

    def _blocks(self, number: int, offset: int, length: int) -> Iterator[bytes]:
        # An OSError of the file must not be taken for one of the connection, which is tried again.
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                while length:
                    if self._stop.is_set():
                        raise _Stopped
                    block = file.read(min(BLOCK_BYTES, length))
                    if not block:
                        raise UploadFailed("file_changed", f"{self._path} became shorter while it was sent.")
                    yield block
                    length -= len(block)
                    self._sent[number - 1] += len(block)
        except OSError as error:
            raise UploadFailed("file_unreadable", f"{self._path}: {error.strerror}.") from error


def refusal(response: BaseHTTPResponse, what: str) -> BucketRefused:
    """What the bucket says in its XML error, by S3's code."""
    code = re.search(rb"<Code>([^<]{1,100})</Code>", response.data)
    return BucketRefused(
        response.status, code[1].decode(errors="replace") if code else str(response.reason or ""), what
    )


def _etag(response: BaseHTTPResponse, number: int) -> str:
    etag = response.headers.get("ETag")
    if not etag:
        raise BucketRefused(response.status, "without an ETag", f"to vouch for part {number}")
    return etag


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
