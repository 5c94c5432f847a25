"""The record: its states and moves, ids and keys."""

from datetime import UTC, datetime, timedelta

import pytest
from bucketscribe.records import (
    FINAL,
    MOVES,
    IllegalMove,
    Lease,
    Record,
    State,
    is_id,
    new_id,
    record_key,
)
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


def record(state: State = State.UPLOADING) -> Record:
    return Record(
        id=new_id(),
        owner="local",
        state=state,
        created=NOW,
        updated=NOW,
        key="uploads/local/x/talk.wav",
        name="talk.wav",
        content_type="audio/wav",
    )


def test_every_state_is_in_the_table_and_nothing_leads_out_of_deleted() -> None:
    assert set(MOVES) == set(State)
    assert not MOVES[State.DELETED]
    assert all(State.DELETED in moves for state, moves in MOVES.items() if state is not State.DELETED)
    assert {State.COMPLETED, State.FAILED, State.CANCELED, State.EXPIRED, State.DELETED} == FINAL


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_a_move_is_made_or_refused_as_the_table_says(before: State, after: State) -> None:
    if after is before or after in MOVES[before]:
        assert record(before).to(after).state is after
    else:
        with pytest.raises(IllegalMove):
            record(before).to(after)


def test_fields_nobody_knows_are_kept() -> None:
    text = record().model_dump_json(by_alias=True).replace('"schema":1', '"schema":1,"from_later":{"a":[1]}')
    again = Record.model_validate_json(text).to(State.CANCELED)
    assert '"from_later":{"a":[1]}' in again.model_dump_json(by_alias=True)


@given(st.integers(0, (1 << 48) - 1))
def test_an_id_is_a_uuid_of_version_7_that_carries_its_time(milliseconds: int) -> None:
    id = new_id(milliseconds)
    assert is_id(id)
    assert int(id.replace("-", "")[:12], 16) == milliseconds


@given(st.integers(0, (1 << 48) - 2), st.integers(1, 1 << 20))
def test_a_plain_listing_is_newest_first(milliseconds: int, later: int) -> None:
    newer = min(milliseconds + later, (1 << 48) - 1)
    assert record_key("local", new_id(newer)) < record_key("local", new_id(milliseconds))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "../..",
        "019aa5b2-7c1e-4d3a-9f00-0242ac120002",
        "019AA5B2-7C1E-7D3A-9F00-0242AC120002",
        "{019aa5b2-7c1e-7d3a-9f00-0242ac120002}",
        "019aa5b27c1e7d3a9f000242ac120002",
    ],
)
def test_what_is_no_id_of_ours_is_told(text: str) -> None:
    assert not is_id(text)


def test_a_lease_is_over_only_by_a_whole_second_more() -> None:
    lease = Lease(token="t", worker="w", since=NOW, renewed=NOW, seconds=30)
    assert not lease.over(NOW + timedelta(seconds=31))
    assert lease.over(NOW + timedelta(seconds=32))


def test_what_is_wrong_with_a_record_is_told_without_what_it_holds() -> None:
    options = {"webhook_url": "gopher://example.com/?token=abc"}
    broken = record().model_dump(by_alias=True) | {"options": options}
    with pytest.raises(ValueError, match=r"options\.webhook_url") as refused:
        Record.model_validate(broken)
    assert "abc" not in str(refused.value)
