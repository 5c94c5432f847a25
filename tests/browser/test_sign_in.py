"""A server that asks who one is."""

from collections.abc import Iterator

import pytest
from bucketscribe.records import State
from playwright.sync_api import Page, expect

from tests.browser.acting import JFK, choose, expect_state, row, visiting
from tests.browser.conftest import Watch
from tests.browser.stack import Stack


@pytest.fixture
def door(page: Page, clean: Stack) -> Iterator[Page]:
    """The page of a server that asks for a key."""
    with visiting(page, clean, auth="keys"):
        yield page


def sign_in(page: Page, key: str) -> None:
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_one_signs_in_with_a_key_works_and_signs_out(door: Page, clean: Stack, watch: Watch) -> None:
    watch.expect("401")
    sign_in(door, clean.new_key("Ann"))
    choose(door, JFK)
    expect_state(door, JFK.name, State.QUEUED, State.RUNNING, State.COMPLETED)
    assert [key for key in clean.objects() if key.startswith("uploads/ann-")] != []
    door.reload()
    expect(row(door, JFK.name)).to_be_visible()
    assert "bks_" not in door.evaluate("JSON.stringify([localStorage, sessionStorage])")

    door.get_by_role("button", name="Sign out").click()
    expect(door.get_by_role("button", name="Sign in")).to_be_visible()
    expect(row(door, JFK.name)).to_have_count(0)
    door.reload()
    expect(door.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_wrong_key_is_told_in_words_and_can_be_put_right(door: Page, clean: Stack, watch: Watch) -> None:
    watch.expect("401")
    sign_in(door, "bks_" + "0" * 40)
    expect(door.get_by_role("alert")).to_contain_text("key")
    sign_in(door, clean.new_key("Ben"))
    expect(door.get_by_text("No transcriptions yet")).to_be_visible()


def test_a_link_to_a_transcription_asks_for_the_key_first(door: Page, clean: Stack, watch: Watch) -> None:
    watch.expect("401", "404")
    door.goto(f"{door.url.rstrip('/')}/t/019aa5b2-7c1e-7d3a-9f00-0242ac120002")
    sign_in(door, clean.new_key("Cleo"))
    expect(door.get_by_role("main")).to_contain_text("no such transcription", ignore_case=True)


def test_nobody_signs_in_on_a_laptop(home: Page) -> None:
    expect(home.get_by_text("No transcriptions yet")).to_be_visible()
    expect(home.get_by_role("button", name="Sign in")).to_have_count(0)
    expect(home.get_by_role("button", name="Sign out")).to_have_count(0)
