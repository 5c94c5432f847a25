"""From a file on one's disk to the words in it: the way everybody goes first."""

import re

from bucketscribe.records import State
from playwright.sync_api import Page, expect

from tests.browser.acting import JFK, TRANSCRIBED_SECONDS, choose, expect_state, id_of, row

WORDS = re.compile("ask not what your country can do for you", re.IGNORECASE)


def test_a_recording_is_uploaded_transcribed_and_read(home: Page) -> None:
    states: list[str] = []
    home.expose_function("stateSeen", lambda state: states.append(state))
    home.evaluate("""() => new MutationObserver(() => {
      for (const row of document.querySelectorAll("[data-id][data-state]")) stateSeen(row.dataset.state);
    }).observe(document.body, { subtree: true, childList: true, attributes: true })""")
    choose(home, JFK)
    expect_state(home, JFK.name, State.COMPLETED, seconds=TRANSCRIBED_SECONDS)
    seen = list(dict.fromkeys(states))
    order = [*State]
    assert seen == sorted(seen, key=lambda state: order.index(State(state)))
    assert len(seen) > 1, "the list went through the states by itself"

    id = id_of(home, JFK.name)
    row(home, JFK.name).get_by_role("link", name=JFK.name).click()
    expect(home).to_have_url(re.compile(f"/t/{id}$"))
    expect(home.get_by_role("heading", level=1, name=JFK.name)).to_be_visible()
    expect(home.get_by_role("region", name="Transcript")).to_contain_text(WORDS)

    permalink = home.url
    second = home.context.new_page()
    second.goto(permalink)
    expect(second.get_by_role("region", name="Transcript")).to_contain_text(WORDS)
    second.go_back()
    home.go_back()
    expect(row(home, JFK.name)).to_be_visible()


def test_a_page_that_is_loaded_again_shows_the_same_list(home: Page) -> None:
    choose(home, JFK)
    expect_state(home, JFK.name, State.QUEUED, State.RUNNING, State.COMPLETED)
    home.reload()
    expect(row(home, JFK.name)).to_have_count(1)
