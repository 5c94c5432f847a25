"""What a URL points to, as a stream of bytes that goes on after a break.

Redirects are followed by hand, each to a host that is allowed, by addresses that are public. What may pass
(a name server, a time-out, a 5xx, a broken connection) is tried again, as long as a MiB comes every two
minutes. A connection that breaks is resumed where it was, if the server says of what follows that it is of
the same version; else all begins anew, and whoever reads is told. So nobody gets a mixture of two versions.

Sources: RFC 9110, 13.1.5 (If-Range) and 14 (ranges) · RFC 6266 and 8187 (the name in Content-Disposition).
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import ClassVar
from urllib.parse import unquote, urljoin

import structlog

from .public_addresses import (
    BROKEN,
    AddressRefused,
    Answer,
    Hosts,
    InvalidUrl,
    NoAnswer,
    PublicWeb,
    WebAddress,
    web_address,
)

log = structlog.get_logger()

BLOCK_BYTES = 256 * 1024
MOST_REDIRECTS = 5
MOST_BEGINNINGS = 3
PATIENCE_SECONDS = 120.0
"""It is given up when less than `LEAST_BYTES` came in this time, whatever the reason."""

LEAST_BYTES = 1024**2
LONGEST_PAUSE_SECONDS = 30.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})
_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)")
_NAME = re.compile(r"filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s\"]+)", re.IGNORECASE)


class FetchFailed(Exception):
    """There is nothing to be had at the URL; the message says why."""

    code: ClassVar[str] = "fetch_failed"


class FetchRefused(Exception):
    """The URL, or where it redirects to, may not be asked."""

    code: ClassVar[str] = "fetch_refused"


class BegunAnew(Exception):
    """What was read before does not count any more: what follows are the bytes from the first on."""


class _Passing(Exception):
    """What may be otherwise in a moment."""

    def __init__(self, reason: str, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


@dataclass(frozen=True, slots=True)
class Source:
    """What the server says of it: `size` in bytes and `name` of the file are None if it does not say."""

    size: int | None
    content_type: str
    name: str | None
    validator: str | None
    """By which a server knows whether a range would be of the same version."""


class Download:
    """One URL's bytes, for one thread.

    `check` may raise to give up; `wait` pauses so many seconds, or fewer.
    """

    def __init__(
        self,
        web: PublicWeb,
        hosts: Hosts,
        url: str,
        *,
        check: Callable[[], None],
        wait: Callable[[float], object],
    ) -> None:
        self._web = web
        self._hosts = hosts
        self._first = web_address(url)
        self._check = check
        self._wait = wait
        self.offset = 0
        """Bytes read."""
        self._source: Source | None = None
        self._connection = ExitStack()
        self._response: Answer | None = None
        self._beginnings = 1
        self._breaks = 0
        # Where the last piece of `LEAST_BYTES` was complete, and how long we waited since; the clock stands
        # still while our reader is busy.
        self._advanced_to = 0
        self._waited = 0.0
        self._entered = 0.0

    @property
    def share(self) -> float:
        """How much of it has come; 0 as long as nobody says how much there is."""
        size = None if self._source is None else self._source.size
        return self.offset / size if size else 0.0

    def close(self) -> None:
        """Let go of the connection."""
        self._response = None
        self._connection.close()

    def source(self) -> Source:
        """What the server says of it; connects where nobody did. Raises what `read` does."""
        with self._clock():
            while self._source is None:
                self._connect()
            return self._source

    def read(self) -> bytes:
        """Some bytes, at most `BLOCK_BYTES`; none at the end.

        Raises FetchFailed, FetchRefused, BegunAnew, after which it is read on from the first byte, and what
        `check` raises.
        """
        with self._clock():
            while True:
                self._check()
                if self._response is None or self._source is None:
                    self._connect()
                    continue
                try:
                    block = self._response.read(BLOCK_BYTES)
                except BROKEN as error:
                    self._pause(f"the connection broke ({type(error).__name__})")
                    continue
                size = self._source.size
                if not block and (self.offset == 0 if size is None else self.offset < size):
                    # So looks a head that was cut off, or a range that is shorter than was asked for.
                    self._pause("it ends too early")
                    continue
                self._advance(len(block))
                return block

    @contextmanager
    def _clock(self) -> Iterator[None]:
        self._entered = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - self._entered

    @property
    def _impatient(self) -> bool:
        return self._waited + time.monotonic() - self._entered > PATIENCE_SECONDS

    def _advance(self, count: int) -> None:
        self.offset += count
        if self.offset - self._advanced_to >= LEAST_BYTES:
            self._advanced_to, self._breaks = self.offset, 0
            self._waited, self._entered = 0.0, time.monotonic()
        elif count and self._impatient:
            raise FetchFailed(f"{self._first.host} sends too slowly.")

    def _pause(self, reason: str, seconds: float = 0.0) -> None:
        """Pause before the next try. Raises FetchFailed where that would be one too many."""
        self.close()
        host = self._first.host
        if self._impatient:
            raise FetchFailed(f"{host} cannot be fetched from: {reason}.")
        log.info("fetched again", host=host, offset=self.offset, reason=reason)
        self._wait(min(max(seconds, 0.5 * 2**self._breaks), LONGEST_PAUSE_SECONDS))
        self._breaks += 1
        self._check()

    def _connect(self) -> None:
        """Have an answer whose body goes on at `offset`, or pause after a failed try. Raises BegunAnew."""
        try:
            goes_on = self._take(self._ask())
        except NoAnswer as error:
            self._pause(str(error))
        except _Passing as error:
            self._pause(str(error), error.pause_seconds)
        else:
            if not goes_on:
                raise BegunAnew

    def _ask(self) -> Answer:
        """The answer of whoever is at the end of the redirects."""
        headers = {"accept": "*/*"}
        if self.offset and self._source is not None and self._source.validator is not None:
            headers |= {"range": f"bytes={self.offset}-", "if-range": self._source.validator}
        address = self._first
        for _ in range(MOST_REDIRECTS + 1):
            self._check()
            if not self._hosts.has_name(address.host):
                raise FetchRefused(f"{address.host} is none of the hosts that recordings are fetched from.")
            self.close()
            try:
                response = self._connection.enter_context(self._web.ask("GET", address, headers))
            except AddressRefused:
                raise FetchRefused(f"{address.host} has no public address.") from None
            if response.status not in _REDIRECTS or "location" not in response.headers:
                return response
            address = _redirected(address, response.headers["location"])
        raise FetchFailed(f"{self._first.host} redirects more than {MOST_REDIRECTS} times.")

    def _take(self, response: Answer) -> bool:
        """Take an answer's body for what is read next; False where that is the beginning once more."""
        status, headers = response.status, response.headers
        if status in _PASSING or status >= 500:
            told = headers.get("retry-after", "")
            raise _Passing(f"it answers {status}", float(told) if told.isdecimal() else 0.0)
        if status == 206 and self._goes_on(headers):
            self._response = response
            return True
        if status == 200:
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise FetchFailed(f"{self._first.host} sends it compressed, which it was asked not to do.")
            self._response, self._source = response, _source(headers)
        elif status in (206, 416) and self.offset:
            # A part of another version: the next request is for the whole.
            self._source = None
        else:
            raise FetchFailed(f"{self._first.host} answers {status}.")
        if not self.offset:
            return True
        self._beginnings += 1
        if self._beginnings > MOST_BEGINNINGS:
            raise FetchFailed(
                f"{self._first.host} breaks off again and again, and does not go on where it was."
            )
        self.offset = self._advanced_to = 0
        return False

    def _goes_on(self, headers: Mapping[str, str]) -> bool:
        found, known = _RANGE.fullmatch(headers.get("content-range", "")), self._source
        if found is None or known is None or not self.offset or int(found[1]) != self.offset:
            return False
        if known.size is None and found[2] != "*":
            self._source = replace(known, size=int(found[2]))
            return self.offset < int(found[2])
        return found[2] in (str(known.size), "*")


def _redirected(address: WebAddress, location: str) -> WebAddress:
    # As it stands in a header: bytes, of which most servers mean UTF-8.
    with suppress(UnicodeError):
        location = location.encode("latin-1").decode()
    try:
        return web_address(urljoin(address.url, location))
    except ValueError as error:
        reason = str(error) if isinstance(error, InvalidUrl) else "this is no URL"
        raise FetchRefused(f"{address.host} redirects to where nobody is sent: {reason}.") from None


def _source(headers: Mapping[str, str]) -> Source:
    # Where it is sent in chunks, a length does not count (RFC 9112, 6.3).
    length = "" if "transfer-encoding" in headers else headers.get("content-length", "")
    content_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    return Source(
        int(length) if length.isdecimal() and len(length) < 20 else None,
        content_type,
        told_name(headers.get("content-disposition", "")),
        _validator(headers),
    )


def _validator(headers: Mapping[str, str]) -> str | None:
    """What stands for exactly these bytes: a strong ETag, or a time that is over (RFC 9110, 8.8.2.2)."""
    etag = headers.get("etag", "")
    if etag.startswith('"'):
        return etag
    try:
        modified = parsedate_to_datetime(headers["last-modified"])
        over = parsedate_to_datetime(headers["date"]) - modified >= timedelta(seconds=1)
    except (KeyError, ValueError, TypeError):
        return None
    return headers["last-modified"] if over else None


def told_name(disposition: str) -> str | None:
    """The file's name in a Content-Disposition; `filename*` before `filename`, and nothing of a path."""
    found = _NAME.search(disposition)
    if found is not None:
        name = unquote(found[2], found[1], errors="replace")
    else:
        message = Message()
        message["content-disposition"] = disposition
        try:
            name = message.get_filename("")
        except (ValueError, LookupError):
            # Of what is in one of the odder encodings.
            return None
        with suppress(UnicodeError):
            name = name.encode("latin-1").decode()
    return name.replace("\\", "/").rpartition("/")[2].strip() or None
