"""What an object store tells is read as it is meant, and what makes no sense is no event, never a crash."""

from typing import Any

import pytest
from bucketscribe.arrivals import Arrival, NotAnEvent, read
from bucketscribe.inbox import owner_of
from hypothesis import example, given
from hypothesis import strategies as st

SOMETHING: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(
                (
                    "Records",
                    "s3",
                    "eventName",
                    "Event",
                    "source",
                    "detail-type",
                    "detail",
                    "bucket",
                    "object",
                ),
                inner,
            ),
        )
    ),
)


def record(key: str, event: str = "ObjectCreated:Put", bucket: str = "media") -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": event,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": bucket}, "object": {"key": key, "size": 1}},
    }


def eventbridge(key: str, kind: str = "Object Created") -> dict[str, Any]:
    detail = {"version": "0", "bucket": {"name": "media"}, "object": {"key": key, "size": 1}}
    return {"version": "0", "source": "aws.s3", "detail-type": kind, "detail": detail}


def test_keys_are_decoded_as_a_form_s_but_for_eventbridge_s() -> None:
    encoded, key = "inbox/local/a+b%2Bc%25+%C3%BC.wav", "inbox/local/a b+c% ü.wav"
    expected = [Arrival("media", key)]
    assert read({"Records": [record(encoded)]}) == expected
    assert read([record(encoded)]) == read(record(encoded)) == expected
    assert read(eventbridge(key)) == expected


@pytest.mark.parametrize(
    "event",
    [
        "ObjectCreated:CompleteMultipartUpload",
        "ObjectCreated:Copy",
        "s3:ObjectCreated:Put",
        "ObjectCreated:Post",
    ],
)
def test_whatever_creates_an_object_is_an_arrival(event: str) -> None:
    assert len(read({"Records": [record("a", event), record("b", event)]})) == 2


@pytest.mark.parametrize(
    "document",
    [
        {"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "media"},
        {"Records": [record("a", "ObjectRemoved:Delete")]},
        # MinIO tells of looks, too.
        {
            "EventName": "s3:ObjectAccessed:Head",
            "Key": "m/a",
            "Records": [record("a", "s3:ObjectAccessed:Head")],
        },
        eventbridge("a", "Object Deleted"),
        {"Records": []},
        [],
    ],
)
def test_what_is_no_news_is_passed_over(document: object) -> None:
    assert read(document) == []


@pytest.mark.parametrize(
    "document",
    [
        None,
        "s3:TestEvent",
        {},
        {"Records": None},
        {"Records": [None]},
        {"Records": [{"eventName": "ObjectCreated:Put"}]},
        {"Records": [{"s3": record("a")["s3"]}]},
        {"Records": [record("a") | {"s3": {"bucket": {"name": "media"}}}]},
        {"Records": [record("a") | {"s3": {"bucket": {"name": "media"}, "object": {"key": 5}}}]},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        [[record("a")]],
    ],
)
def test_what_makes_no_sense_is_no_event(document: object) -> None:
    with pytest.raises(NotAnEvent):
        read(document)


@given(SOMETHING)
@example({"Records": [record("\ud800")]})
def test_anything_is_arrivals_or_no_event(document: object) -> None:
    try:
        arrivals = read(document)
    except NotAnEvent:
        return
    assert all(isinstance(arrival, Arrival) for arrival in arrivals)


@given(st.text(st.characters(), max_size=50))
def test_a_key_that_is_read_is_the_key_that_was_told(key: str) -> None:
    assert read(eventbridge(key)) == [Arrival("media", key)]


@given(st.text(st.characters(exclude_categories=()), max_size=60).map(lambda path: f"inbox/local/{path}"))
@example("inbox/local/\ud800.wav")
@example("inbox/local/")
@example("inbox/local/\n")
@example("inbox/local//a")
@example("inbox/local/a\\b")
@example("inbox/local/a/..")
@example("inbox/local/" + "x" * 2000)
def test_a_key_in_an_inbox_is_one_a_bucket_can_have(key: str) -> None:
    if owner_of(key) is not None:
        assert len(key.encode()) <= 1024
        assert "\\" not in key
        assert {"", ".", ".."}.isdisjoint(key.split("/"))
