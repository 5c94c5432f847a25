"""Files that are no recordings, or too much of one: told in words, before anything is sent if possible."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucketscribe.records import State
from playwright.sync_api import Page, expect

from tests.browser.acting import JFK, MIB, choose, choose_payload, expect_state, row, visiting
from tests.browser.conftest import Watch
from tests.browser.line import Line
from tests.browser.stack import Stack


@pytest.fixture
def small(page: Page, clean: Stack) -> Iterator[Page]:
    """The page of a server that takes 1 MiB at most."""
    with visiting(page, clean, max_upload_bytes=str(MIB)):
        yield page


def expect_refusal(page: Page, name: str, *words: str) -> None:
    """An alert names the file and the reason, and nothing has been begun."""
    alert = page.get_by_role("alert").filter(has_text=name)
    for word in words:
        expect(alert.first).to_contain_text(re.compile(word, re.IGNORECASE))
    expect(row(page, name)).to_have_count(0)


def test_a_file_of_another_type_is_refused_by_name(home: Page, line: Line) -> None:
    choose_payload(home, "minutes.pdf", b"%PDF-1.7 text", "application/pdf")
    expect_refusal(home, "minutes.pdf", "audio|recording")
    assert line.requests == []


def test_an_empty_file_is_refused(home: Page, line: Line) -> None:
    choose_payload(home, "nothing.wav", b"", "audio/wav")
    expect_refusal(home, "nothing.wav", "empty")
    assert line.requests == []


def test_a_file_that_is_too_large_is_told_how_large_it_may_be(
    small: Page, recording: Callable[[str, int], Path], line: Line
) -> None:
    choose(small, recording("long.wav", 3 * MIB))
    expect_refusal(small, "long.wav", "larger than 1 MB")
    assert line.requests == []


def test_a_refused_file_does_not_keep_others_from_going(home: Page, tmp_path: Path) -> None:
    minutes = tmp_path / "minutes.pdf"
    minutes.write_bytes(b"%PDF-1.7 text")
    choose(home, minutes, JFK)
    expect_state(home, JFK.name, State.QUEUED, State.RUNNING, State.COMPLETED)
    expect_refusal(home, "minutes.pdf", "audio|recording")


def test_a_text_with_the_name_of_a_recording_fails_with_the_reason_in_the_list(
    clean: Stack, home: Page, watch: Watch
) -> None:
    watch.expect("415", "It looks like text")
    choose_payload(home, "diary.wav", b"Dear diary, nobody spoke today.\n" * 40, "audio/wav")
    expect_state(home, "diary.wav", State.FAILED)
    expect(row(home, "diary.wav")).to_contain_text("It looks like text")
    assert [key for key in clean.objects() if key.startswith("uploads/")] == []
