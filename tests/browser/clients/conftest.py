"""Fixtures: pages with clients nobody here wrote, on an origin of their own."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from tests.browser.clients.uppy import PART, Uppy
from tests.browser.line import Line, drawn
from tests.browser.stack import Stack
from tests.media.odd import with_unknown_chunk

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
JFK = ROOT / "tests/media/jfk.wav"
VITE = ROOT / "web/node_modules/vite/bin/vite.js"


class _Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody asks."""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The pages, built and served; gives their origin."""
    built = tmp_path_factory.mktemp("clients")
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").is_dir() or not VITE.is_file():
        pytest.fail("The clients are not installed: run `make test-browser`.")
    command = [node, str(VITE), "build", "--outDir", str(built), "--emptyOutDir", "--logLevel", "warn"]
    subprocess.run(command, cwd=HERE, check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Site, directory=str(built))) as server:
        thread = threading.Thread(target=server.serve_forever, name="site", daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def line_to_api(stack: Stack) -> Iterator[Line]:
    with drawn(lambda: int(stack.url.rpartition(":")[2])) as line:
        yield line


@pytest.fixture
def api_line(line_to_api: Line, clean: Stack) -> Iterator[Line]:
    """A line to the API, as fast as it goes: by tus, that is the way of all bytes."""
    line_to_api.start_over()
    yield line_to_api
    line_to_api.start_over()


@pytest.fixture(params=[5, 6], ids=["uppy5", "uppy6"])
def uppy(request: pytest.FixtureRequest, context: BrowserContext, site: str) -> Uppy:
    """A tab for each version of Uppy."""
    page = context.new_page()
    # Large files and a worker beside them: a busy machine takes its time.
    page.set_default_timeout(60_000)
    return Uppy(page, site, request.param)


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV of five parts and some, with its speech at the very end: nothing of it may be lost or moved."""
    file = tmp_path_factory.mktemp("talk") / "talk.wav"
    file.write_bytes(with_unknown_chunk(JFK.read_bytes(), os.urandom(5 * PART)))
    return file
