"""HTTP/1.1 as uvicorn speaks it, with an end to headers.

uvicorn's parser takes a header of any length, and copies all of it for each piece that comes: before anybody
has signed in, a hundred MiB of it held the event loop up for seconds. And it hands on what stands behind a
body, trailers, as if it had come before: with a header of that name among them, a request that was let in
would have other credentials, or another checksum, than it was let in with.
"""

from typing import Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MOST_HEAD_BYTES: Final = 64 * 1024
"""Of a request's address and headers, and of what stands between or behind the chunks of its body."""

_TOO_LONG: Final = b"The headers have more than %d bytes; send less.\n" % MOST_HEAD_BYTES
_REFUSAL: Final = b"".join(
    [
        STATUS_LINE[431],
        b"content-type: text/plain; charset=utf-8\r\n",
        b"content-length: %d\r\n" % len(_TOO_LONG),
        b"connection: close\r\n\r\n",
        _TOO_LONG,
    ]
)


class _TooLong(Exception):
    """The parser is to stop."""


class HttpProtocol(HttpToolsProtocol):
    """A connection. Of a request with too many bytes of headers it answers 431, and ends."""

    _in_head = False
    _head = 0
    """Bytes of the address and the headers that are complete."""

    _waiting = 0
    """Bytes that came since there was last something to hand on."""

    def data_received(self, data: bytes) -> None:
        """Take what came, of which uvicorn's parser keeps what is not complete."""
        self._waiting += len(data)
        super().data_received(data)
        if self._waiting > MOST_HEAD_BYTES:
            self._refuse()

    def send_400_response(self, msg: str) -> None:
        """End the connection: its client does not speak HTTP, or says too much."""
        if self._head > MOST_HEAD_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def _refuse(self) -> None:
        if self.transport.is_closing():
            return
        # An answer that has begun must not get another one into its middle.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_REFUSAL)
        self.transport.close()

    # What the parser calls

    def on_message_begin(self) -> None:
        self._in_head, self._head, self._waiting = True, 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:
            self._count(len(name) + len(value) + len(b": \r\n"))
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._waiting = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._waiting = 0
        super().on_body(body)

    def _count(self, more: int) -> None:
        self._head += more
        if self._head > MOST_HEAD_BYTES:
            raise _TooLong
