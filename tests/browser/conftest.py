"""Fixtures: a real Chromium, on the page that `bucketscribe up` serves.

Whatever a browser complains about fails the test: errors on the console, exceptions nobody caught, and what
the Content-Security-Policy forbade, unless the test has said that it will come.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucketscribe.client import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Playwright,
    expect,
    sync_playwright,
)

from tests.browser.line import Line, drawn
from tests.browser.stack import Stack, in_ci, page_is_built
from tests.integration.test_up import Up, free_port
from tests.media.odd import silent_recording

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

PATIENCE_MS = 20_000
"""How long anything may take that takes no time: machines of tests are slow, and this costs only those."""

expect.set_options(PATIENCE_MS)

WATCH_CSP = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`Content-Security-Policy: ${event.violatedDirective} forbade ${event.blockedURI}`));
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


def find_chromium() -> str | None:
    """The program, if there is one on PATH."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name)) is not None), None)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The program. Without one there is nothing to test, and in CI that is a failure."""
    if (found := find_chromium()) is not None:
        return found
    reason = "No Chromium on PATH: nothing was tested of the page in a browser. Install chromium."
    if in_ci():
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Stack]:
    """`bucketscribe up` and the line to its bucket, for all tests."""
    if not page_is_built():
        pytest.fail("The page is not built: run `make page`.")
    data = tmp_path_factory.mktemp("browser") / "data"

    def bucket_port() -> int:
        return int(json.loads((data / "ports.json").read_text())["s3"])

    settings = {"model": "tiny.en", "sweep_interval_seconds": "1"}
    with (
        drawn(bucket_port) as line,
        Up(data, free_port(), s3_public_endpoint=line.url, **settings) as up,
        Client(up.url) as client,
    ):
        up.ready()
        yield Stack(up, line, up.s3(), client)


@pytest.fixture
def clean(stack: Stack) -> Iterator[Stack]:
    """The stack with nothing in its list, and a line as fast as it goes."""
    stack.line.start_over()
    stack.empty()
    yield stack
    stack.line.start_over()


@pytest.fixture
def line(clean: Stack) -> Line:
    return clean.line


# Of a module, not of the session: as long as it runs, no other test could run an event loop.
@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


def chromium_options(program: str) -> dict[str, object]:
    """How it is started. As root it has no sandbox to put its pages into."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    # Sound without a sound card, and playing without somebody who has clicked.
    flags += ["--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    return {"executable_path": program, "args": flags, "headless": True}


@pytest.fixture(scope="module")
def browser(playwright: Playwright, chromium: str) -> Iterator[Browser]:
    with playwright.chromium.launch(**chromium_options(chromium)) as browser:  # type: ignore[arg-type]
        yield browser


class Watch:
    """Everything the browser complained about, on all pages it watches."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self._expected: list[re.Pattern[str]] = []

    def expect(self, *patterns: str) -> None:
        """Complaints with these in them will come: the test itself makes that happen."""
        self._expected += [re.compile(pattern) for pattern in patterns]

    def over(self, context: BrowserContext) -> BrowserContext:
        """Watch every page of a context, from its first script on."""
        context.add_init_script(WATCH_CSP)
        context.on("console", self._console)
        context.on("weberror", lambda error: self.complaints.append(f"not caught: {error.error}"))
        return context

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            where = message.location.get("url", "")
            self.complaints.append(f"{message.text} ({where})")

    def unexpected(self) -> list[str]:
        """What was complained about, but for what was expected."""
        return [
            complaint
            for complaint in self.complaints
            if not any(pattern.search(complaint) for pattern in self._expected)
        ]


@pytest.fixture
def watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    assert watch.unexpected() == [], "\n".join(watch.unexpected())


@pytest.fixture
def context(browser: Browser, clean: Stack, watch: Watch) -> Iterator[BrowserContext]:
    """A browser's profile that nobody has used yet."""
    with browser.new_context(base_url=clean.url, viewport=DESKTOP, locale="en-GB") as context:  # type: ignore[arg-type]
        context.set_default_timeout(PATIENCE_MS)
        yield watch.over(context)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab that has shown nothing yet."""
    return context.new_page()


@pytest.fixture
def home(page: Page) -> Page:
    """The page, at its start."""
    page.goto("/")
    page.get_by_role("heading", name="Bucketscribe").first.wait_for()
    return page


@pytest.fixture(scope="session")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """Makes recordings of any size, by name."""
    folder = tmp_path_factory.mktemp("recordings")
    return lambda name, size: silent_recording(folder / name, size)
