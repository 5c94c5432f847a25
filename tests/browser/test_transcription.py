"""A transcription on the screen: it is heard, read, searched, named and taken away."""

import re
from pathlib import Path

import pytest
from bucketscribe.records import Warning
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import Watch
from tests.browser.seeds import Garden, Line, spoken
from tests.browser.stack import Stack
from tests.integration.test_up import wait_until

TALK = (
    Line("Good morning, the harbour is open again.", "SPEAKER_00"),
    Line("That is good news, and the ferries?", "SPEAKER_01"),
    Line("The first ferry left at six, full of people and bicycles.", "SPEAKER_00"),
    Line("Then let us go down to the harbour and see it ourselves.", "SPEAKER_01"),
    Line("Bring a coat, it is windy down there today.", "SPEAKER_00"),
)
SEGMENTS = tuple(spoken(TALK))
WORDS = [word for segment in SEGMENTS for word in segment.words]
WARNING = "The language was guessed from little speech."
DOWNLOADS = {
    "JSON": "json",
    "SubRip (srt)": "srt",
    "WebVTT (vtt)": "vtt",
    "Text (txt)": "txt",
    "TSV (tsv)": "tsv",
    "SubStation (ass)": "ass",
}


@pytest.fixture
def talk(clean: Stack) -> str:
    """Id of a short talk of two people, in the bucket."""
    note = (Warning(code="language_uncertain", message=WARNING),)
    return Garden(clean.s3).completed("harbour.wav", SEGMENTS, warnings=note)


@pytest.fixture
def opened(page: Page, talk: str) -> Page:
    page.goto(f"/t/{talk}")
    expect(text(page)).to_contain_text("the harbour is open again")
    return page


def text(page: Page) -> Locator:
    return page.get_by_role("region", name="Transcript")


MARKED = """name => [...(CSS.highlights.get(name) ?? [])].map((marked) => {
  const range = document.createRange();
  range.setStart(marked.startContainer, marked.startOffset);
  range.setEnd(marked.endContainer, marked.endOffset);
  return range.toString().replace(/[.,?]/g, "").trim();
})"""
"""The words that the CSS Custom Highlight API marks under a name."""


def highlighted(page: Page, name: str) -> list[str]:
    found = page.evaluate(MARKED, name)
    assert isinstance(found, list)
    return found


def expect_highlight(page: Page, name: str, *words: str) -> None:
    """Wait until these words, and no others, are marked under a name."""
    expected = f"([name, words]) => JSON.stringify(({MARKED})(name)) === JSON.stringify(words)"
    page.wait_for_function(expected, arg=[name, list(words)])


def position(page: Page) -> int:
    """Where the recording stands, in whole seconds, as a screen reader is told."""
    return int(page.get_by_role("slider", name="Position").get_attribute("aria-valuenow") or -1)


def click_word(page: Page, word: str, nth: int = 0) -> None:
    """Click into the middle of a word of the text, as a reader does."""
    box = text(page).evaluate(
        """(region, [word, nth]) => {
          const walker = document.createTreeWalker(region, NodeFilter.SHOW_TEXT);
          for (let node = walker.nextNode(); node; node = walker.nextNode()) {
            for (let at = node.data.indexOf(word); at >= 0; at = node.data.indexOf(word, at + 1)) {
              if (nth-- > 0) continue;
              const range = document.createRange();
              range.setStart(node, at);
              range.setEnd(node, at + word.length);
              const { x, y, width, height } = range.getBoundingClientRect();
              return { x: x + width / 2, y: y + height / 2 };
            }
          }
        }""",
        [word, nth],
    )
    page.mouse.click(box["x"], box["y"])


def start_of(word: str, nth: int = 0) -> float:
    return [w.start for w in WORDS if w.word.strip(" .,?") == word][nth]


class TestHearing:
    def test_a_click_on_a_word_goes_there(self, opened: Page) -> None:
        click_word(opened, "bicycles")
        expect_highlight(opened, "playing", "bicycles")
        assert position(opened) == int(start_of("bicycles"))

    def test_the_words_follow_the_sound(self, opened: Page) -> None:
        opened.get_by_role("button", name="Play", exact=True).click()
        expect(opened.get_by_role("button", name="Pause", exact=True)).to_be_visible()
        expect_highlight(opened, "playing", "Good")
        expect_highlight(opened, "playing", "harbour")
        opened.get_by_role("button", name="Pause", exact=True).click()
        expect(opened.get_by_role("button", name="Play", exact=True)).to_be_visible()

    def test_a_link_to_a_moment_opens_there(self, opened: Page, talk: str) -> None:
        moment = start_of("windy") + 0.01
        opened.goto(f"/t/{talk}?t={moment:.2f}")
        expect_highlight(opened, "playing", "windy")
        assert position(opened) == int(moment)

    def test_the_link_that_is_copied_leads_to_the_moment(self, opened: Page, context: BrowserContext) -> None:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        click_word(opened, "bicycles")
        expect_highlight(opened, "playing", "bicycles")
        opened.get_by_role("button", name="Copy link to this moment").click()
        link = copied(opened)
        assert float(re.findall(r"\?t=([\d.]+)$", link)[0]) == pytest.approx(start_of("bicycles"), abs=0.1)


def copied(page: Page) -> str:
    """What lies on the clipboard, once there is something."""
    return str(page.wait_for_function("navigator.clipboard.readText()").json_value())


class TestSearching:
    def test_matches_are_marked_counted_and_gone_through(self, opened: Page) -> None:
        search = opened.get_by_role("searchbox", name="Search in the transcript")
        search.fill("harbour")
        expect(opened.get_by_role("search")).to_contain_text(re.compile(r"1\s*(of|/)\s*2"))
        marked = highlighted(opened, "found") + highlighted(opened, "current")
        assert set(marked) == {"harbour"}
        opened.get_by_role("button", name="Next match").click()
        expect(opened.get_by_role("search")).to_contain_text(re.compile(r"2\s*(of|/)\s*2"))
        opened.get_by_role("button", name="Next match").click()
        expect(opened.get_by_role("search")).to_contain_text(re.compile(r"1\s*(of|/)\s*2"))
        opened.get_by_role("button", name="Previous match").click()
        expect(opened.get_by_role("search")).to_contain_text(re.compile(r"2\s*(of|/)\s*2"))

    def test_what_was_not_said_is_said_not_to_be_there(self, opened: Page) -> None:
        opened.get_by_role("searchbox", name="Search in the transcript").fill("submarine")
        expect(opened.get_by_role("search")).to_contain_text(
            re.compile("no match|not found|0", re.IGNORECASE)
        )
        assert highlighted(opened, "found") == []


class TestSpeakers:
    def test_a_speaker_gets_a_name_everywhere_and_for_good(
        self, opened: Page, clean: Stack, talk: str
    ) -> None:
        opened.get_by_role("button", name=re.compile("Speaker 1|SPEAKER_00")).first.click()
        field = opened.get_by_role("textbox", name=re.compile("name", re.IGNORECASE))
        field.fill("Amara")
        field.press("Enter")
        expect(text(opened).get_by_text("Amara", exact=True).first).to_be_visible()
        opened.reload()
        expect(text(opened).get_by_text("Amara", exact=True).first).to_be_visible()
        assert b"Amara: Good morning" in clean.client.transcript(talk, "txt")


class TestTakingAway:
    def test_the_text_is_copied(self, opened: Page, context: BrowserContext) -> None:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        opened.get_by_role("button", name="Copy", exact=True).click()
        said = copied(opened)
        for line in TALK:
            assert line.text in said

    def test_every_format_is_downloaded(self, opened: Page, clean: Stack, talk: str, tmp_path: Path) -> None:
        for item, format in DOWNLOADS.items():
            opened.get_by_role("button", name="Download", exact=True).click()
            with opened.expect_download() as coming:
                opened.get_by_role("menuitem", name=item).click()
            assert coming.value.suggested_filename == f"harbour.{format}"
            coming.value.save_as(tmp_path / "file")
            assert (tmp_path / "file").read_bytes() == clean.client.transcript(talk, format)


def test_warnings_are_shown(opened: Page) -> None:
    expect(opened.get_by_role("list", name="Warnings")).to_contain_text(WARNING)


def test_everything_can_be_done_by_keyboard(opened: Page) -> None:
    opened.keyboard.press("Space")
    expect(opened.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    opened.keyboard.press("Space")
    expect(opened.get_by_role("button", name="Play", exact=True)).to_be_visible()
    before = position(opened)
    opened.keyboard.press("ArrowRight")
    wait_until("it went forward", lambda: position(opened) > before + 1, 5)
    opened.keyboard.press("ArrowLeft")
    wait_until("it went back", lambda: position(opened) < before + 1, 5)
    opened.keyboard.press("/")
    expect(opened.get_by_role("searchbox", name="Search in the transcript")).to_be_focused()
    opened.keyboard.type("harbour")
    opened.keyboard.press("Enter")
    expect_highlight(opened, "current", "harbour")
    opened.keyboard.press("Escape")
    expect_highlight(opened, "current")
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("searchbox", name="Search in the transcript")).not_to_be_focused()
    opened.keyboard.press("?")
    expect(opened.get_by_role("dialog")).to_be_visible()
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("dialog")).to_have_count(0)


def test_tab_reaches_every_control(opened: Page) -> None:
    """By the keyboard alone one comes to each control, and sees where one is."""
    wanted = {"Play", "Copy", "Download", "Copy link to this moment", "Search in the transcript"}
    opened.locator("body").press("Home")
    for _ in range(60):
        opened.keyboard.press("Tab")
        name = opened.evaluate("""() => {
          const at = document.activeElement;
          const label = at.ariaLabel ?? at.labels?.[0]?.textContent ?? at.textContent;
          return `${label}`.trim();
        }""")
        wanted.discard(name)
        if not wanted:
            return
    assert wanted == set()


def test_an_id_that_is_not_known_is_told_in_words(page: Page, clean: Stack, watch: Watch) -> None:
    watch.expect("404")
    page.goto("/t/019aa5b2-7c1e-7d3a-9f00-0242ac120002")
    expect(page.get_by_role("main")).to_contain_text(re.compile("no such transcription", re.IGNORECASE))
