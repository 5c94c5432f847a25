"""Stand-ins for the API and the bucket, for failures that real servers do not produce on demand.

They play only their part in a client's tests: connections cut in the middle of a part, expired URLs, lost
answers, streams that break. What the real ones do is tested against the real ones.
"""

import hashlib
import json
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import parse_qs, urlsplit

from bucketscribe.client import Backoff, Client

ID = "019aa5b2-7c1e-7d3a-9f00-0242ac120002"
KEY = f"uploads/local/{ID}/täl k.wav"
PART = 64 * 1024
FAST = Backoff(tries=5, first=0.01, longest=0.02)


def document(state: str = "queued", **more: Any) -> dict[str, Any]:
    """A transcription as the API shows it."""
    times = {"created": "2026-11-03T10:00:00Z", "updated": "2026-11-03T10:00:05Z"}
    return {"id": ID, "state": state, "name": "täl k.wav", **times, **more}


class Handler(BaseHTTPRequestHandler):
    """What both stand-ins need: answers, and connections that break."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer_json(self, status: int, body: Any) -> None:
        self.answer(status, json.dumps(body).encode(), Content_Type="application/json")

    def problem(self, status: int, code: str, **more: Any) -> None:
        body = {"status": status, "code": code, "detail": f"This is {code}.", **more}
        self.answer(status, json.dumps(body).encode(), Content_Type="application/problem+json")

    def reset(self) -> NoReturn:
        """Close with RST, as a crashed server or a lost route does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        raise ConnectionAbortedError

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


class Server(ThreadingHTTPServer):
    """A server on a free port, in threads of its own."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler: type[Handler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def pause(self) -> None:
        """Take no new connection, until `resume`."""
        self.shutdown()
        self.server_close()

    def resume(self) -> None:
        """Be there again, at the same address."""
        self.socket = socket.socket(self.address_family, self.socket_type)
        self.server_bind()
        self.server_activate()
        self.__enter__()

    def handle_error(self, request: object, client_address: object) -> None:
        """Broken connections are what this is for; everything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self.shutdown()
        self.server_close()


Fault = Callable[["BucketHandler"], None]


class BucketStandIn(Server):
    """Takes parts at `/part/{number}?signed={batch}`; `faults` come first, one a try."""

    def __init__(self) -> None:
        super().__init__(BucketHandler)
        self.parts: dict[int, bytes] = {}
        self.faults: dict[int, list[Fault]] = {}
        self.tries: Counter[int] = Counter()
        self.valid_from = 0
        self.keep_bodies = True
        self.etags: dict[int, str] = {}
        self.salt = b""
        """Makes ETags that look like MD5s and are none, as of a bucket that encrypts with keys of its own."""
        self.headers_seen: list[dict[str, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()

    def hold(self, number: int, body: bytes) -> str:
        """Keep a part; its ETag."""
        etag = f'"{hashlib.md5(self.salt + body).hexdigest()}"'
        self.parts[number], self.etags[number] = body, etag
        return etag

    def arrived(self) -> bytes:
        """What the bucket holds, parts in order."""
        return b"".join(self.parts[number] for number in sorted(self.parts))


class BucketHandler(Handler):
    server: BucketStandIn

    def do_PUT(self) -> None:
        bucket = self.server
        parts = urlsplit(self.path)
        number = int(parts.path.removeprefix("/part/"))
        with bucket.lock:
            bucket.tries[number] += 1
            bucket.at_once += 1
            bucket.most_at_once = max(bucket.most_at_once, bucket.at_once)
            fault = bucket.faults[number].pop(0) if bucket.faults.get(number) else None
            bucket.headers_seen.append(dict(self.headers))
        try:
            if fault is not None:
                fault(self)
            elif int(parse_qs(parts.query)["signed"][0]) < bucket.valid_from:
                expired(self)
            else:
                self._take(number)
        finally:
            with bucket.lock:
                bucket.at_once -= 1

    def do_GET(self) -> None:
        self.server.headers_seen.append(dict(self.headers))
        self.answer(200, b"And so, my fellow Americans\n")

    def _take(self, number: int) -> None:
        left = int(self.headers["Content-Length"])
        blocks = []
        while left:
            block = self.rfile.read(min(left, 64 * 1024))
            if not block:
                self.reset()
            left -= len(block)
            if self.server.keep_bodies:
                blocks.append(block)
        self.answer(200, ETag=self.server.hold(number, b"".join(blocks)))


def cut_in_the_middle(request: BucketHandler) -> None:
    request.rfile.read(int(request.headers["Content-Length"]) // 2)
    request.reset()


def slow_down(request: BucketHandler) -> None:
    refuse(request, 503, "SlowDown")


def too_slow(request: BucketHandler) -> None:
    refuse(request, 400, "RequestTimeout")


def damaged(request: BucketHandler) -> None:
    """Keep other bytes than were sent."""
    number = int(urlsplit(request.path).path.removeprefix("/part/"))
    request.answer(200, ETag=request.server.hold(number, request.body()[:-1] + b"?"))


def expired(request: BucketHandler) -> None:
    refuse(request, 403, "AccessDenied")


def expired_and_hung_up(request: BucketHandler) -> None:
    request.reset()


def no_such_upload(request: BucketHandler) -> None:
    refuse(request, 404, "NoSuchUpload")


def refuse(request: BucketHandler, status: int, code: str) -> None:
    request.body()
    request.answer(status, f"<Error><Code>{code}</Code></Error>".encode(), Content_Type="application/xml")


class ApiStandIn(Server):
    """The routes of uploads; everything else is put into `routes` by a test, by method and path."""

    def __init__(self, bucket: BucketStandIn) -> None:
        super().__init__(ApiHandler)
        self.bucket = bucket
        self.part_size = PART
        self.expires = 600.0
        self.begun: list[dict[str, Any]] = []
        self.batches: list[str] = []
        self.completed: list[list[dict[str, Any]]] = []
        self.aborted = 0
        self.calls: Counter[str] = Counter()
        self.routes: dict[str, Callable[[ApiHandler], None]] = {
            f"GET /transcriptions/{ID}": lambda request: request.answer_json(200, document())
        }


class ApiHandler(Handler):
    server: ApiStandIn

    def handle_any(self) -> None:
        api = self.server
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        call = f"{self.command} {parts.path}"
        api.calls[call] += 1
        route = api.routes.get(call)
        if route is not None:
            route(self)
            return
        match call:
            case "POST /s3/multipart":
                api.begun.append(json.loads(self.body()))
                self.answer_json(
                    200,
                    {
                        "id": ID,
                        "key": KEY,
                        "uploadId": "sealed/id",
                        "bucket": "b",
                        "partSize": api.part_size,
                        "expires": api.expires,
                    },
                )
            case "GET /s3/multipart/sealed%2Fid/batch" if self.query["key"] == [KEY]:
                api.batches.append(self.query["partNumbers"][0])
                first, last = map(int, api.batches[-1].split("-"))
                url = f"{api.bucket.url}/part/{{}}?signed={len(api.batches)}"
                urls = {str(number): url.format(number) for number in range(first, last + 1)}
                self.answer_json(200, {"presignedUrls": urls, "expires": 3600})
            case "GET /s3/multipart/sealed%2Fid" if self.query["key"] == [KEY]:
                etags = api.bucket.etags
                held = [(number, len(body), etags[number]) for number, body in api.bucket.parts.items()]
                names = ("PartNumber", "Size", "ETag")
                self.answer_json(200, [dict(zip(names, part, strict=True)) for part in held])
            case "POST /s3/multipart/sealed%2Fid/complete" if self.query["key"] == [KEY]:
                api.completed.append(json.loads(self.body())["parts"])
                self.answer_json(200, {"id": ID, "state": "queued"})
            case "DELETE /s3/multipart/sealed%2Fid" if self.query["key"] == [KEY]:
                api.aborted += 1
                self.answer_json(200, {})
            case _:
                self.body()
                self.problem(404, "no_such_route")

    def do_GET(self) -> None:
        self.handle_any()

    def do_POST(self) -> None:
        self.handle_any()

    def do_DELETE(self) -> None:
        self.handle_any()


@dataclass(frozen=True, slots=True)
class StandIns:
    """API and bucket, and a client that soon loses patience with them."""

    client: Client
    api: ApiStandIn
    bucket: BucketStandIn


@contextmanager
def standing_in() -> Iterator[StandIns]:
    """Both stand-ins, until the end of the block."""
    with BucketStandIn() as bucket, ApiStandIn(bucket) as api:
        headers = {"Authorization": "Bearer secret"}
        with Client(api.url, headers=headers, quick=FAST, patient=FAST, pace_seconds=0.02) as client:
            yield StandIns(client, api, bucket)


def write_recording(path: Path) -> Path:
    """Six parts, the last a short one; no two parts are alike."""
    path.write_bytes(b"".join(bytes([number]) * PART for number in range(5)) + b"the end")
    return path


def stream(request: ApiHandler, *events: tuple[int, dict[str, Any]], rest: bytes = b"") -> None:
    """A stream that is closed in the end, as uvicorn closes it: chunked, without a last event's end."""
    request.send_response(200)
    request.send_header("Content-Type", "text/event-stream")
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    for version, data in events:
        chunk(request, f"id: {version}\nevent: transcription\ndata: {json.dumps(data)}\n\n".encode())
    if rest:
        chunk(request, rest)
    request.wfile.write(b"0\r\n\r\n")


def chunk(request: ApiHandler, data: bytes) -> None:
    request.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
    request.wfile.flush()
