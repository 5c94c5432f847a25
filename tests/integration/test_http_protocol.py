"""HTTP beneath the API, as uvicorn is told to speak it: bytes on a socket, answered by a real server."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from bucketscribe.api.http_protocol import MOST_HEAD_BYTES
from fastapi import FastAPI, Request

from tests.integration.test_sign_in import listening

KIB = 1024
MIB = 1024**2

app = FastAPI()


@app.api_route("/{path:path}", methods=["GET", "POST"])
async def echo(request: Request, path: str) -> dict[str, object]:
    """What came: but for "unread", all of it."""
    size = 0 if path == "unread" else len(await request.body())
    return {"path": path, "names": [name for name, _ in request.headers.items()], "size": size}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(app) as port:
        yield port


class Wire:
    """One connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._left = b""

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.sendall(piece)

    def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        while b"\r\n\r\n" not in self._left:
            self._more()
        head, _, self._left = self._left.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self._left) < length:
            self._more()
        body, self._left = self._left[:length], self._left[length:]
        return int(head.split()[1]), body

    def echoed(self) -> dict[str, object]:
        status, body = self.answer()
        assert status == 200, body
        return dict(json.loads(body))

    def ended(self) -> bool:
        """Whether the server has closed the connection, and said nothing more."""
        try:
            return self._left == b"" and self.connection.recv(1) == b""
        except ConnectionError:
            return True

    def _more(self) -> None:
        more = self.connection.recv(64 * KIB)
        assert more, self._left
        self._left += more


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        yield Wire(connection)


def request(start: str, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([f"{start} HTTP/1.1".encode(), b"Host: here", *headers, b"", body])


LONG = b"A: " + b"x" * (MOST_HEAD_BYTES - KIB)
TOO_LONG = b"A: " + b"x" * MOST_HEAD_BYTES
CHUNKED = b"Transfer-Encoding: chunked"


@pytest.mark.parametrize(
    "sent",
    [
        request("GET /", TOO_LONG),
        request("GET /", *[b"A: b"] * (MOST_HEAD_BYTES // 4)),
        request("GET /" + "x" * MOST_HEAD_BYTES),
        request("GET /socket", TOO_LONG, b"Upgrade: websocket", b"Connection: upgrade"),
    ],
    ids=["one", "many", "address", "web socket"],
)
def test_more_headers_than_anybody_needs_are_refused(port: int, sent: bytes) -> None:
    with wire_to(port) as wire:
        wire.send(sent)
        status, body = wire.answer()
        assert (status, body) == (431, b"The headers have more than 65536 bytes; send less.\n")
        assert wire.ended()


def test_each_request_of_a_connection_has_headers_of_its_own(port: int) -> None:
    with wire_to(port) as wire:
        body = bytes(300 * KIB)
        for _ in range(3):
            wire.send(request("POST /a", LONG, b"Content-Length: %d" % len(body), body=body))
            assert wire.echoed()["size"] == len(body)
        # What follows a body may come together with it.
        post = request("POST /a", b"Content-Length: %d" % len(body), body=body)
        wire.send(post + request("GET /b", LONG))
        assert [wire.echoed()["path"] for _ in range(2)] == ["a", "b"]
        wire.send(request("GET /", TOO_LONG))
        assert wire.answer()[0] == 431


ENDLESS = {
    "header": (request("GET /")[:-2] + b"A: ", [431]),
    "header, slowly": (request("GET /")[:-2] + b"A: ", [431]),
    "address": (b"GET /", [431]),
    "trailer": (request("POST /", CHUNKED, body=b"0\r\nA: "), []),
    "trailer of one that was answered": (request("POST /unread", CHUNKED, body=b"0\r\nA: "), [200, 431]),
    "words about a chunk": (request("POST /", CHUNKED, body=b"5;a="), []),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_nobody_can_send_headers_without_end(port: int, what: str) -> None:
    begin, statuses = ENDLESS[what]
    size = KIB if what == "header, slowly" else 256 * KIB
    begun, sent = time.monotonic(), 0
    with wire_to(port) as wire:
        wire.send(begin)
        if 200 in statuses:
            assert wire.answer()[0] == statuses[0]
        with suppress(ConnectionError):
            while sent < 100 * MIB:
                wire.send(b"x" * size)
                sent += size
                if size == KIB:
                    time.sleep(0.001)
        # What lies in the buffers of both sides.
        assert sent < 32 * MIB
        assert time.monotonic() - begun < 5
        if statuses:
            assert wire.answer()[0] == statuses[-1]


def test_trailers_are_no_headers(port: int) -> None:
    with wire_to(port) as wire:
        # They come before anything has looked at the headers.
        trailers = b"Authorization: Bearer bks_x\r\nUpload-Checksum: md5 x\r\n\r\n"
        wire.send(request("POST /", CHUNKED, body=b"3\r\nabc\r\n0\r\n" + trailers))
        echoed = wire.echoed()
        assert (echoed["names"], echoed["size"]) == (["host", "transfer-encoding"], 3)
        # Nor are they those of the next request.
        wire.send(request("GET /"))
        assert wire.echoed()["names"] == ["host"]


def test_a_body_that_nobody_reads_has_no_such_limit(port: int) -> None:
    with wire_to(port) as wire:
        wire.send(request("POST /unread", b"Content-Length: %d" % (4 * MIB)))
        assert wire.echoed()["size"] == 0
        wire.send(bytes(4 * MIB), request("GET /next"))
        assert wire.echoed()["path"] == "next"


def test_a_body_may_come_in_the_smallest_of_chunks(port: int) -> None:
    with wire_to(port) as wire:
        count = 2 * MOST_HEAD_BYTES // 6
        wire.send(request("POST /", CHUNKED, body=b"1\r\na\r\n" * count + b"0\r\n\r\n"))
        assert wire.echoed()["size"] == count
