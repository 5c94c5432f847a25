"""The monitoring port of a process that serves nothing else: whether it is alive, and its metrics.

`/metrics` is answered with what this process has counted, any other GET with 200 as long as it lives. The
port is the loopback's: nobody is asked who they are.
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import metrics

_ALIVE = metrics.Exposition(b'{"status":"ok"}', "application/json")


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked_for_metrics = self.path.partition("?")[0] == "/metrics"
        answer = metrics.exposition() if asked_for_metrics else _ALIVE
        if answer is None:
            self.send_error(404, "No metrics are collected: prometheus-client is not installed")
            return
        self.send_response(200)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Somebody who looks is no news."""


def serve_monitoring(port: int) -> None:
    """Answer on this port of the loopback interface, in a thread. Raises OSError if it is taken."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    threading.Thread(target=server.serve_forever, name="monitoring", daemon=True).start()
