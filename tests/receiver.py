"""A receiver of webhooks: a real HTTP server that answers as it is told, and keeps what it got."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from threading import Thread
from typing import Any, override

from standardwebhooks import Webhook


@dataclass(frozen=True, slots=True)
class Got:
    """One request. Names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Answers each request with the first of `answers` that is left, and then with `always`.

    `held`, if it is set, is asked before each answer, and may wait.
    """

    url: str
    secret: str
    answers: list[int] = field(default_factory=list)
    always: int = 204
    got: Queue[Got] = field(default_factory=Queue)
    held: Any = None

    def next(self, seconds: float = 20.0) -> Got:
        """The next request, as soon as there is one."""
        return self.got.get(timeout=seconds)

    def verified(self, got: Got) -> dict[str, Any]:
        """The body as a receiver takes it. Raises WebhookVerificationError."""
        document: dict[str, Any] = Webhook(self.secret).verify(got.body, got.headers)
        return document


@contextmanager
def receiving(secret: str) -> Iterator[Receiver]:
    """A receiver on a free port, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.got.put(Got(self.path, headers, body))
            if receiver.held is not None:
                receiver.held()
            status = receiver.answers.pop(0) if receiver.answers else receiver.always
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{receiver.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_POST  # noqa: N815 -- as above

        @override
        def log_message(self, format: str, *values: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver = Receiver(f"http://127.0.0.1:{server.server_port}", secret)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
