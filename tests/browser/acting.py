"""What a person does on the page, and where they look; in words of roles and names, never of markup."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bucketscribe.records import State
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.stack import Stack

MIB = 1024**2
PART_BYTES = 8 * MIB
JFK = Path(__file__).parents[1] / "media" / "jfk.wav"

TRANSCRIBED_SECONDS = 60


@contextmanager
def visiting(page: Page, stack: Stack, **settings: str) -> Iterator[str]:
    """Open the page of another API on the same bucket, and leave it before the API ends; gives its URL."""
    with stack.api(**settings) as url:
        page.goto(url)
        yield url
        page.goto("about:blank")


def choose(page: Page, *files: Path) -> None:
    """Choose recordings to upload, as in the dialog of the browser."""
    _chooser(page).set_input_files(files)


def choose_payload(page: Page, name: str, content: bytes, content_type: str) -> None:
    """Choose a file that exists only here."""
    _chooser(page).set_input_files(FilePayload(name=name, mimeType=content_type, buffer=content))


def _chooser(page: Page) -> Locator:
    return page.get_by_role("region", name="Upload recordings").locator("input[type=file]").first


def row(page: Page, name: str) -> Locator:
    """A recording's row of the list."""
    link = page.get_by_role("link", name=name)
    return page.get_by_role("list", name="Transcriptions").get_by_role("listitem").filter(has=link)


def expect_state(page: Page, name: str, *states: State, seconds: float = 30) -> None:
    """Wait until a row of the list shows one of these states."""
    any_of = "|".join(states)
    expect(row(page, name)).to_have_attribute("data-state", _whole(any_of), timeout=seconds * 1000)


def id_of(page: Page, name: str) -> str:
    """The id of the transcription in a row."""
    id = row(page, name).get_attribute("data-id")
    assert id is not None
    return id


def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(f"^({pattern})$")
