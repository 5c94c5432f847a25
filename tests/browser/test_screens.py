"""Every screen in each of its states: axe finds nothing serious, light and dark, and a phone shows all."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from bucketscribe.records import Failure, Progress, Warning
from playwright.sync_api import Page, expect

from tests.browser.acting import MIB, choose, choose_payload, row
from tests.browser.conftest import DESKTOP, PHONE, Watch
from tests.browser.line import Line as SlowLine
from tests.browser.seeds import Garden, Line, spoken
from tests.browser.stack import Stack

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
SETTLED = """() => Promise.all(document.getAnimations()
  .filter((animation) => animation instanceof CSSTransition)
  .map((transition) => transition.finished.catch(() => undefined)))"""
"""Until no colour is on its way to another one."""

LONG_NAME = "Interview with the harbour master about ferries, bicycles and the weather (second half) " * 2
TALK = (
    Line("Good morning, the harbour is open again.", "SPEAKER_00"),
    Line("That is good news, and the ferries?", "SPEAKER_01"),
)


def axe(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical: rule and element, a line each."""
    page.evaluate(SETTLED)
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate(
        "axe.run(document, { resultTypes: ['violations'], preload: false })"
    )
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def out_of_sight(page: Page) -> list[str]:
    """Controls that a reader of this width cannot get at, and whether the page must be moved sideways."""
    found = page.evaluate("""() => {
      const lost = [];
      if (document.scrollingElement.scrollWidth > innerWidth) lost.push("the page scrolls sideways");
      const controls = "a[href], button, input, select, textarea, [role=slider]";
      for (const control of document.querySelectorAll(controls)) {
        if (!control.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
        const { left, right, width, height } = control.getBoundingClientRect();
        if (width <= 1 || height <= 1) continue;
        if (left >= -1 && right <= innerWidth + 1) continue;
        const name = control.ariaLabel ?? control.textContent.trim().slice(0, 40);
        lost.push(`${control.localName} ${name}: ${left} to ${right}`);
      }
      return lost;
    }""")
    assert isinstance(found, list)
    return found


def signing_in(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    page.goto(at("keys"))
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def empty(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    page.goto("/")
    expect(page.get_by_text("No transcriptions yet")).to_be_visible()


def full(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    garden = Garden(clean.s3)
    garden.completed("harbour.wav", spoken(TALK), age=timedelta(days=3))
    garden.completed(f"{LONG_NAME}.wav", spoken(TALK), age=timedelta(days=2))
    garden.failed("broken.wav", Failure(code="attempts_exhausted", message="It was tried three times."))
    progress = Progress(stage="transcribing", percent=42, seconds_left=400)
    garden.running("lecture.wav", progress, duration=5400, size=90 * MIB)
    page.goto("/")
    expect(row(page, "lecture.wav")).to_contain_text("42")


def refused(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    page.goto("/")
    choose_payload(page, "minutes.pdf", b"%PDF-1.7 text", "application/pdf")
    expect(page.get_by_role("alert").filter(has_text="minutes.pdf").first).to_be_visible()


def read(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    note = (Warning(code="language_uncertain", message="The language was guessed from little speech."),)
    id = Garden(clean.s3).completed(f"{LONG_NAME}.wav", spoken(TALK * 30), warnings=note)
    page.goto(f"/t/{id}")
    expect(page.get_by_role("region", name="Transcript")).to_contain_text("the harbour is open again")
    page.get_by_role("searchbox", name="Search in the transcript").fill("harbour")


def not_ready(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    progress = Progress(stage="transcribing", percent=42, seconds_left=400)
    id = Garden(clean.s3).running("lecture.wav", progress, duration=5400, size=90 * MIB)
    page.goto(f"/t/{id}")
    expect(page.get_by_role("main")).to_contain_text("42")


def failed(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    why = Failure(code="attempts_exhausted", message="It was tried three times.")
    id = Garden(clean.s3).failed("broken.wav", why)
    page.goto(f"/t/{id}")
    expect(page.get_by_role("main")).to_contain_text(why.message)


def unknown(page: Page, clean: Stack, at: Callable[[str], str]) -> None:
    page.goto("/t/019aa5b2-7c1e-7d3a-9f00-0242ac120002")
    expect(page.get_by_role("main")).to_contain_text("no such transcription", ignore_case=True)


SCREENS = (signing_in, empty, full, refused, read, not_ready, failed, unknown)


@pytest.fixture
def at(clean: Stack, page: Page) -> Iterator[Callable[[str], str]]:
    """Starts an API that asks who one is in this way, until the test is over; gives its URL."""
    with ExitStack() as started:
        yield lambda way: started.enter_context(clean.api(auth=way))
        page.goto("about:blank")


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: screen.__name__)
def test_a_screen_has_nothing_serious_for_axe_and_fits_on_a_phone(
    page: Page, clean: Stack, at: Callable[[str], str], watch: Watch, screen: Callable[..., None]
) -> None:
    watch.expect("401", "404")
    screen(page, clean, at)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for size in (DESKTOP, PHONE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert out_of_sight(page) == [], size
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme)
            assert axe(page) == [], (size, scheme)


def test_an_upload_under_way_has_nothing_serious_for_axe_and_fits_on_a_phone(
    home: Page, line: SlowLine, recording: Callable[[str, int], Path]
) -> None:
    line.bytes_per_second = 4 * MIB
    file = recording("slow.wav", 64 * MIB)
    choose(home, file)
    expect(row(home, file.name)).to_be_visible()
    for size in (DESKTOP, PHONE):
        home.set_viewport_size(size)  # type: ignore[arg-type]
        assert out_of_sight(home) == [], size
        assert axe(home) == [], size
    row(home, file.name).get_by_role("button", name=f"Cancel {file.name}").click()
