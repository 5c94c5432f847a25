"""How the functions take the messages of a batch. Under Lambda's own runtime: tests/deploy."""

import asyncio
import gc
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import MagicMock

import pytest
from botocore.exceptions import EndpointConnectionError
from bucketscribe.api import completions
from bucketscribe.auth import Principal, SignIn
from bucketscribe.authentication import Authentication
from bucketscribe.errors import Problem
from bucketscribe.keys import REMEMBERED_SECONDS
from bucketscribe.lambdas.batches import messages_of, take_each
from bucketscribe.lambdas.invocation import first_half, invocation
from bucketscribe.records import Record, State
from bucketscribe.settings import Settings
from hypothesis import given
from hypothesis import strategies as st
from structlog.contextvars import get_contextvars


@dataclass
class StandInContext:
    """Lambda's context, of an invocation that is so many milliseconds before its end."""

    left: list[int] = field(default_factory=lambda: [30_000])
    aws_request_id: str = "8f507cfc-example"

    def get_remaining_time_in_millis(self) -> int:
        return self.left.pop(0) if len(self.left) > 1 else self.left[0]


def message(id: str, body: str = "") -> dict[str, Any]:
    return {"messageId": id, "body": body, "eventSource": "aws:sqs"}


def record(state: State) -> Record:
    now = datetime.now(UTC)
    return Record(
        id="id", owner="local", state=state, created=now, updated=now, key="k", name="n", content_type="c"
    )


def failed(answer: dict[str, list[dict[str, str]]]) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


@pytest.mark.parametrize(
    "error", [EndpointConnectionError(endpoint_url="x"), Problem("busy", "Later."), LookupError("a mistake")]
)
def test_only_the_message_that_failed_comes_again(error: Exception) -> None:
    taken: list[str] = []

    def take(body: str) -> None:
        if body == "bad":
            raise error
        taken.append(body)

    messages = [message("1", "a"), message("2", "bad"), message("3", "b")]
    assert failed(take_each(messages, StandInContext(), take)) == ["2"]
    assert taken == ["a", "b"]


def test_a_message_for_which_half_the_time_is_not_left_comes_again() -> None:
    taken: list[str] = []
    context = StandInContext([30_000, 29_000, 15_001, 14_999])
    messages = [message(id, id) for id in "1234"]
    assert failed(take_each(messages, context, taken.append)) == ["3", "4"]
    assert taken == ["1", "2"]


def test_time_is_told_from_where_an_invocation_was() -> None:
    context = StandInContext([100, 51, 50])
    time_left = first_half(context)
    assert (time_left(), time_left()) == (True, False)


def test_an_invocation_is_named_in_the_log_as_long_as_it_lasts() -> None:
    with invocation(StandInContext(), request="r-1"):
        assert get_contextvars() == {"invocation": "8f507cfc-example", "request": "r-1"}
    assert get_contextvars() == {}


def test_garbage_is_looked_for_from_the_first_invocation_on() -> None:
    gc.disable()
    try:
        with invocation(StandInContext()):
            assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.enable()


def test_a_completion_that_was_frozen_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Lambda no loop runs between two requests, and threads that were begun come to their end late."""
    monkeypatch.setattr(completions, "WAIT_SECONDS", 0.01)
    thawed, over = threading.Event(), threading.Event()

    def slow() -> Record:
        thawed.wait(10)
        over.set()
        return record(State.QUEUED)

    environment = asyncio.new_event_loop()
    running = completions.Completions()
    answer = running.run("id", slow, lambda: record(State.COMPLETING))
    assert environment.run_until_complete(answer).state is State.COMPLETING
    thawed.set()
    assert over.wait(10)
    answer = running.run("id", lambda: record(State.RUNNING), lambda: record(State.COMPLETING))
    assert environment.run_until_complete(answer).state is State.RUNNING
    environment.close()


def test_what_is_remembered_of_a_key_ends_by_the_date_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an environment that is frozen, the other clock may stand still."""
    authentication = Authentication(Settings(secret="a secret for tests only"), MagicMock())
    found = Principal("local", frozenset(), SignIn.KEYS)
    authentication._remember("digest", found, time.monotonic(), 3600)
    assert authentication._recall("digest") is not None
    later = time.time() + REMEMBERED_SECONDS + 1
    monkeypatch.setattr(time, "time", lambda: later)
    assert authentication._recall("digest") is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just("aws:sqs"),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["Records", "messageId", "body", "eventSource"]), inner)
        ),
    )
)
def test_an_event_is_a_batch_or_none_whatever_it_holds(event: object) -> None:
    for read in messages_of(event) or []:
        assert isinstance(read["messageId"], str)
        assert isinstance(read["body"], str)


def test_a_notification_of_s3_is_no_batch_of_a_queue() -> None:
    assert messages_of({"Records": [{"eventSource": "aws:s3", "s3": {}}]}) is None
    assert messages_of({"Records": []}) is None
    assert messages_of({"Records": [message("1")]}) == [message("1")]
