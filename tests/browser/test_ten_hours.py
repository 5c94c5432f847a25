"""Ten hours of speech, 100,000 words, on one screen. What is counted is what must not grow with them."""

import random
import re
import string
from collections.abc import Iterator

import pytest
from bucketscribe.transcript import Segment, Word
from playwright.sync_api import Page, expect

from tests.browser.seeds import SEED, Garden, tone
from tests.browser.stack import Stack
from tests.browser.test_transcription import expect_highlight, position, text

HOURS = 10
WORDS = 100_000
SECONDS = HOURS * 3600
WORDS_A_SEGMENT = 12
MOST_NODES = 20_000
"""Elements and texts on the screen at most: one for every word would be five times as many."""


def speech() -> Iterator[Segment]:
    chance = random.Random(SEED)
    vocabulary = [
        "".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 9))) for _ in range(4000)
    ]
    each = SECONDS / WORDS
    for number in range(0, WORDS, WORDS_A_SEGMENT):
        said = [chance.choice(vocabulary) for _ in range(min(WORDS_A_SEGMENT, WORDS - number))]
        if number + len(said) == WORDS:
            said[-1] = "farewell"
        speaker = f"SPEAKER_0{number // 600 % 3}"
        words = tuple(
            Word(
                start=(number + n) * each,
                end=(number + n + 0.8) * each,
                word=f" {word}",
                probability=0.9,
                speaker=speaker,
            )
            for n, word in enumerate(said)
        )
        yield Segment(
            id=number // WORDS_A_SEGMENT,
            start=words[0].start,
            end=words[-1].end,
            text=" ".join(said),
            words=words,
            speaker=speaker,
        )


@pytest.fixture
def marathon(clean: Stack, page: Page) -> Page:
    # The lowest rate a browser plays: ten hours of it are 100 MB.
    id = Garden(clean.s3).completed("marathon.wav", speech(), media=tone(SECONDS, 3000), duration=SECONDS)
    page.goto(f"/t/{id}")
    expect(text(page)).to_contain_text(re.compile("[a-z]{2,9} [a-z]{2,9}"))
    return page


def nodes(page: Page) -> int:
    return int(
        page.evaluate("""() => {
          const walker = document.createTreeWalker(document, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
          let count = 0;
          while (walker.nextNode()) count += 1;
          return count;
        }""")
    )


def test_ten_hours_are_read_searched_and_heard_to_the_end(marathon: Page) -> None:
    assert nodes(marathon) < MOST_NODES

    search = marathon.get_by_role("searchbox", name="Search in the transcript")
    search.fill("farewell")
    expect(marathon.get_by_role("search")).to_contain_text(re.compile(r"1\s*(of|/)\s*1"))
    expect_highlight(marathon, "current", "farewell")
    marathon.wait_for_function("""() => {
      const [marked] = CSS.highlights.get("current");
      const range = document.createRange();
      range.setStart(marked.startContainer, marked.startOffset);
      range.setEnd(marked.endContainer, marked.endOffset);
      const { top, bottom } = range.getBoundingClientRect();
      return top >= 0 && bottom <= innerHeight;
    }""")
    assert nodes(marathon) < MOST_NODES

    last = SECONDS - 0.2
    marathon.goto(f"{marathon.url.partition('?')[0]}?t={last}")
    expect_highlight(marathon, "playing", "farewell")
    assert position(marathon) == int(last)
    assert nodes(marathon) < MOST_NODES
