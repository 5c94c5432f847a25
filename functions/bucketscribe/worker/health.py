"""The worker's health endpoint: any GET is answered 200 as long as the process lives."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, format: str, *args: Any) -> None:
        """A health check is no news."""


def serve_health(port: int) -> None:
    """Answer on this port of the loopback interface, in a thread. Raises OSError if it is taken."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
