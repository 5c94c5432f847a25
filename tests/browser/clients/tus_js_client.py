"""tus-js-client as the tests hold it: in Node, and on a page of another origin."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

from playwright.sync_api import Page

SCRIPT = Path(__file__).parent / "tus" / "node.js"

PATIENCE_SECONDS = 60.0

type Event = tuple[str, dict[str, Any]]
"""A name and what came with it: see said.js."""


def anything(_: dict[str, Any]) -> bool:
    """Every event will do."""
    return True


class TusJsClient(Protocol):
    """One upload. `options` are the library's own."""

    def open(self, file: Path, endpoint: str, **options: object) -> None:
        """Choose a file and be told options; nothing is sent yet."""

    def reopen(self) -> None:
        """Be ended in the middle, and begin anew with the same file; only what is on disk is remembered."""

    def close(self) -> None:
        """Be ended in the middle."""

    def do(self, command: str) -> None:
        """One of start, resume, abort and terminate."""

    def said(self) -> list[Event]:
        """Every event since it was opened."""

    def heard(self, event: str, that: Callable[[dict[str, Any]], bool] = anything) -> dict[str, Any]:
        """The first such event, waited for."""


def succeeded(client: TusJsClient) -> str:
    """The transcription's id, as the answer to the last request has it."""
    success = client.heard("success")
    id = success["transcription"]
    assert id is not None
    assert success["url"].endswith(f"/uploads/files/{id}")
    return str(id)


def answers(client: TusJsClient, method: str) -> list[dict[str, Any]]:
    """What was answered to such requests."""
    return [said for event, said in client.said() if event == "answer" and said["method"] == method]


class Node:
    """In a process of its own, which remembers uploads in a file."""

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._asked: dict[str, Any] = {}
        self._said: list[Event] = []
        self._more = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def open(self, file: Path, endpoint: str, **options: object) -> None:
        self._open({"file": str(file), "storage": str(self._memory)}, endpoint, options)

    def open_piped(self, file: Path, endpoint: str, **options: object) -> None:
        """The same by a pipe: its length is not known before its end, and it cannot be read again."""
        self._open({"file": str(file), "piped": True}, endpoint, options)

    def _open(self, asked: dict[str, Any], endpoint: str, options: dict[str, object]) -> None:
        self._asked = asked | {"options": {"endpoint": endpoint} | options}
        self.reopen()

    def reopen(self) -> None:
        self.close()
        node = shutil.which("node")
        assert node is not None
        self._said = []
        self._process = subprocess.Popen(
            [node, str(SCRIPT), json.dumps(self._asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()

    def close(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None and self._reader is not None:
            self._process.kill()
            self._process.wait()
            self._reader.join()

    def do(self, command: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def said(self) -> list[Event]:
        with self._more:
            return list(self._said)

    def heard(self, event: str, that: Callable[[dict[str, Any]], bool] = anything) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            return next((said for name, said in self._said if name == event and that(said)), None)

        with self._more:
            self._more.wait_for(lambda: found() is not None or self._over(), PATIENCE_SECONDS)
            said = found()
        assert said is not None, f"no {event!r}: {self._said[-5:]}"
        return said

    def _over(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event, said = json.loads(line)
            with self._more:
                self._said.append((event, said))
                self._more.notify_all()
        with self._more:
            self._more.notify_all()


class Tab:
    """In Chromium, on a page of another origin; uploads are remembered in its localStorage."""

    def __init__(self, page: Page, site: str) -> None:
        self.page = page
        self._site = site
        self._file = Path()

    def open(self, file: Path, endpoint: str, **options: object) -> None:
        query = {"options": json.dumps({"endpoint": endpoint, **options})}
        self._file = file
        self.page.goto(f"{self._site}/tus/index.html?{urlencode(query)}")
        self._choose()

    def reopen(self) -> None:
        self.page.reload()
        self._choose()

    def close(self) -> None:
        self.page.goto("about:blank")

    def _choose(self) -> None:
        self.page.get_by_label("Recordings").set_input_files(self._file)

    def do(self, command: str) -> None:
        self.page.evaluate("(command) => window.tus(command)", command)

    def said(self) -> list[Event]:
        return [(event, said) for event, said in self.page.evaluate("() => window.said")]

    def heard(self, event: str, that: Callable[[dict[str, Any]], bool] = anything) -> dict[str, Any]:
        seen = 0
        while True:
            self.page.wait_for_function("(seen) => window.said.length > seen", arg=seen)
            said = self.said()
            for name, details in said[seen:]:
                if name == event and that(details):
                    return details
            seen = len(said)
