"""Stands in for the Hugging Face hub: the routes that its client uses to fetch a model, with its own headers.

A repository is a folder. One may be gated, and a file may break off in its middle.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.unit.standins import Handler

COMMIT = "0123456789abcdef0123456789abcdef01234567"
GOOD_TOKEN = "hf_one_that_has_accepted_the_licence"


@dataclass
class Hub:
    """Its repositories by name, and what is wrong with it."""

    url: str
    repositories: dict[str, Path] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)
    """Files by name, and after how many bytes they break off."""
    served: list[str] = field(default_factory=list)


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that runs until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.state = Hub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.state  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


class _Hub(Handler):
    def do_HEAD(self) -> None:  # noqa: N802
        self._serve()

    def do_GET(self) -> None:  # noqa: N802
        self._serve()

    def _serve(self) -> None:
        state: Hub = self.server.state  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        if re.fullmatch(r"/api/models/.+/tree/.+", path):
            return self.answer(404, X_Error_Code="EntryNotFound")
        if about := re.fullmatch(r"/api/models/(.+?)(/revision/[^/]+)?", path):
            return self._about(state, about[1])
        if file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            return self._file(state, file[1], file[2])
        return self.answer(404)

    def _about(self, state: Hub, repository: str) -> None:
        folder = state.repositories.get(repository)
        if folder is None:
            return self.answer(401, b"", X_Error_Code="RepoNotFound")
        files = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
        body = {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in sorted(files)]}
        return self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

    def _file(self, state: Hub, repository: str, name: str) -> None:
        folder = state.repositories.get(repository)
        if folder is None:
            return self.answer(401, X_Error_Code="RepoNotFound")
        if repository in state.gated and self.headers.get("Authorization") != f"Bearer {GOOD_TOKEN}":
            return self.answer(401, X_Error_Code="GatedRepo")
        if not (folder / name).is_file():
            return self.answer(404, X_Error_Code="EntryNotFound")
        body = (folder / name).read_bytes()
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        first = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        self.send_response(206 if "Range" in self.headers else 200)
        for header, value in {
            "ETag": etag,
            "X-Repo-Commit": COMMIT,
            "Content-Length": str(len(body) - first),
            "Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        state.served.append(f"{name}@{first}")
        if name in state.breaks:
            self.wfile.write(body[first : first + state.breaks[name]])
            self.wfile.flush()
            self.reset()
        self.wfile.write(body[first:])
        return None
