"""The list of transcriptions: what it tells, what can be done in it, and that it never needs a reload."""

import re
import wave
from datetime import timedelta
from pathlib import Path

import pytest
from bucketscribe.records import Failure, State
from playwright.sync_api import Page, expect

from tests.browser.acting import JFK, choose, expect_state, id_of, row
from tests.browser.seeds import Garden, Line, spoken
from tests.browser.stack import Stack
from tests.integration.test_up import wait_until

TALK = (Line("This is what was said."),)


@pytest.fixture
def garden(clean: Stack) -> Garden:
    return Garden(clean.s3)


def press(page: Page, what: str, name: str) -> None:
    row(page, name).get_by_role("button", name=f"{what} {name}").click()


def test_the_newest_comes_first_with_length_and_language(garden: Garden, page: Page) -> None:
    garden.completed("older.wav", spoken(TALK), age=timedelta(days=1), duration=65, language="de")
    garden.completed("newer.wav", spoken(TALK), duration=3725)
    page.goto("/")
    items = page.get_by_role("list", name="Transcriptions").get_by_role("listitem")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("newer.wav")
    expect(items.nth(0)).to_contain_text("1:02:05")
    expect(items.nth(1)).to_contain_text("1:05")
    expect(items.nth(1)).to_contain_text("German")


def test_an_empty_list_says_so(home: Page) -> None:
    expect(home.get_by_text("No transcriptions yet")).to_be_visible()


class TestDeleting:
    def test_a_deleted_one_comes_back_by_undo(self, garden: Garden, page: Page, clean: Stack) -> None:
        id = garden.completed("kept.wav", spoken(TALK))
        page.goto("/")
        press(page, "Delete", "kept.wav")
        expect(row(page, "kept.wav")).to_have_count(0)
        page.get_by_role("button", name="Undo").click()
        expect(row(page, "kept.wav")).to_be_visible()
        page.reload()
        expect(row(page, "kept.wav")).to_be_visible()
        assert clean.client.get(id).state == "completed"

    def test_one_that_nobody_takes_back_leaves_nothing_in_the_bucket(
        self, garden: Garden, page: Page, clean: Stack
    ) -> None:
        id = garden.completed("gone.wav", spoken(TALK))
        page.goto("/")
        press(page, "Delete", "gone.wav")
        expect(row(page, "gone.wav")).to_have_count(0)
        wait_until("nothing of it is left", lambda: not [key for key in clean.objects() if id in key], 25)
        page.reload()
        expect(page.get_by_text("No transcriptions yet")).to_be_visible()

    def test_who_leaves_before_the_undo_has_ended_has_deleted(
        self, garden: Garden, page: Page, clean: Stack
    ) -> None:
        id = garden.completed("left.wav", spoken(TALK))
        page.goto("/")
        press(page, "Delete", "left.wav")
        expect(row(page, "left.wav")).to_have_count(0)
        page.goto("about:blank")
        wait_until("nothing of it is left", lambda: not [key for key in clean.objects() if id in key], 25)


def test_a_failed_one_says_why_and_can_be_tried_again(garden: Garden, page: Page) -> None:
    why = Failure(code="attempts_exhausted", message="It was tried three times.")
    garden.failed("again.wav", why)
    page.goto("/")
    expect(row(page, "again.wav")).to_contain_text(why.message)
    press(page, "Retry", "again.wav")
    expect_state(page, "again.wav", State.QUEUED, State.RUNNING, State.COMPLETED)
    expect_state(page, "again.wav", State.COMPLETED, seconds=60)


def test_one_that_is_at_work_can_be_canceled_and_tried_again(home: Page, tmp_path: Path) -> None:
    # Seconds of work, so that there is something to cancel.
    speech = tmp_path / "speech.wav"
    with wave.open(str(JFK)) as once, wave.open(str(speech), "wb") as many:
        many.setparams(once.getparams())
        many.writeframes(once.readframes(once.getnframes()) * 20)
    choose(home, speech)
    expect_state(home, "speech.wav", State.RUNNING, seconds=30)
    expect(row(home, "speech.wav")).to_contain_text(re.compile(r"\d+\s*%"))
    press(home, "Cancel", "speech.wav")
    expect_state(home, "speech.wav", State.CANCELED)
    press(home, "Retry", "speech.wav")
    expect_state(home, "speech.wav", State.QUEUED, State.RUNNING, seconds=30)
    press(home, "Cancel", "speech.wav")
    expect_state(home, "speech.wav", State.CANCELED)


def test_what_others_do_shows_by_itself(home: Page, clean: Stack) -> None:
    expect(home.get_by_text("No transcriptions yet")).to_be_visible()
    uploaded = clean.client.upload(JFK)
    expect(row(home, JFK.name)).to_be_visible()
    assert id_of(home, JFK.name) == uploaded.id
    expect_state(home, JFK.name, State.COMPLETED, seconds=60)
    clean.client.delete(uploaded.id)
    expect(row(home, JFK.name)).to_have_count(0)


def test_a_name_that_looks_like_markup_is_a_name(garden: Garden, page: Page) -> None:
    name = "<img src=x onerror=alert(1)>.wav"
    garden.completed(name, spoken(TALK))
    page.goto("/")
    expect(row(page, name)).to_be_visible()
    row(page, name).get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
