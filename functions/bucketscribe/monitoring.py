"""The monitoring port of a process that serves nothing else: how it is, and its metrics.

`/metrics` is answered with what this process has counted. A path that ends in `/live` is answered with 200
as long as the process is alive, and with 503 once it hangs; any other GET with 200 only while it does its
work, and with 503 while it cannot yet, or no more. The port is the loopback's: nobody is asked who they are.
"""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import metrics


@dataclass(frozen=True, slots=True)
class Health:
    """How a process is: in a word, in two answers, and in what else there is to tell."""

    status: str = "ok"
    alive: bool = True
    ready: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


class _Server(ThreadingHTTPServer):
    def __init__(self, port: int, look: Callable[[], Health]) -> None:
        self.look = look
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            exposition = metrics.exposition()
            if exposition is None:
                self.send_error(404, "No metrics are collected: prometheus-client is not installed")
            else:
                self._answer(200, "OK", exposition.body, exposition.content_type)
            return
        health = self.server.look()
        fine = health.alive if path.endswith("/live") else health.ready
        body = json.dumps({"status": health.status, **health.facts}).encode()
        self._answer(200 if fine else 503, "OK" if fine else health.status, body, "application/json")

    def _answer(self, status: int, reason: str, body: bytes, content_type: str) -> None:
        self.send_response(status, reason)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Somebody who looks is no news."""


def serve_monitoring(port: int, look: Callable[[], Health] = Health) -> None:
    """Answer on this port of the loopback interface, in a thread. Raises OSError if it is taken."""
    threading.Thread(target=_Server(port, look).serve_forever, name="monitoring", daemon=True).start()
