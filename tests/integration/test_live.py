"""The list of transcriptions as a page follows it: server-sent events, read as the client reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from botocore.exceptions import EndpointConnectionError
from bucketscribe import transcriptions, watching
from bucketscribe.api import live, streams
from bucketscribe.api.app import create_app
from bucketscribe.bucket import Document
from bucketscribe.client.events import Event, parse
from bucketscribe.queue import Job, Queue
from bucketscribe.records import record_key
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.watching import Watch
from fastapi.testclient import TestClient
from pydantic import TypeAdapter

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_sign_in import listening
from tests.integration.test_uploading import SPEECH, refused

EVENTS = "/transcriptions/events"


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other closely."""
    monkeypatch.setattr(live, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(live, "QUIET_SECONDS", 0.05)


@contextmanager
def following(service: Service) -> Iterator[Iterator[Event]]:
    """The events of one stream, from a real server."""
    with listening(create_app(service)) as port:
        url = f"http://127.0.0.1:{port}{EVENTS}?wait=60"
        with httpx2.stream("GET", url, timeout=20) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            yield parse(answer.iter_raw())


def now(api: TestClient, seen: str | None = None) -> list[Event]:
    """What a stream tells that ends at once."""
    headers = {} if seen is None else {"Last-Event-ID": seen}
    answer = api.get(EVENTS, params={"wait": 0}, headers=headers)
    assert answer.status_code == 200, answer.text
    return list(parse([answer.content]))


def data(event: Event) -> dict[str, Any]:
    return TypeAdapter(dict[str, Any]).validate_json(event.data)


def test_the_list_comes_first_as_its_first_page_is_byte_for_byte(api: TestClient, uploader: Uploader) -> None:
    assert [(event.name, event.data) for event in now(api)] == [
        ("list", '{"transcriptions":[],"cursor":null}')
    ]
    kept: dict[str, Any] = {"x-number": 0.1, "x-text": "\u2028</script>"}
    uploader.send(SPEECH, 'Caf\u00e9 "\U0001f399".wav', **kept)
    for _ in range(2):
        uploader.begin()
    (first,) = now(api)
    assert first.data == api.get("/transcriptions?limit=50").text
    assert len(data(first)["transcriptions"]) == 3


def test_what_is_begun_renamed_finished_and_deleted_is_told_as_it_happens(
    service: Service, api: TestClient, uploader: Uploader, often: None
) -> None:
    before = uploader.begin()
    with following(service) as events:
        assert [shown["id"] for shown in data(next(events))["transcriptions"]] == [before.id]
        begun = uploader.begin("second.wav")
        told = next(events)
        assert (told.name, data(told)) == ("transcription", api.get(f"/transcriptions/{begun.id}").json())
        api.patch(f"/transcriptions/{before.id}", json={"name": "Monday"})
        told = next(events)
        assert (told.name, data(told)["name"]) == ("transcription", "Monday")
        begun.complete([begun.put(1, SPEECH)])
        while data(told := next(events))["state"] != "queued":
            assert data(told)["id"] == begun.id
        api.delete(f"/transcriptions/{begun.id}")
        told = next(events)
        assert (told.name, data(told)) == ("deleted", {"id": begun.id})
        api.post(f"/transcriptions/{before.id}/cancel")
        told = next(events)
        assert (told.name, data(told)["state"]) == ("transcription", "canceled")
        # Who has seen it all is told nothing again, and who has not is told the list.
        assert now(api, told.id) == []
        api.patch(f"/transcriptions/{before.id}", json={"name": "Tuesday"})
        assert [event.name for event in now(api, told.id)] == ["list"]


def test_where_to_go_on_from_is_told_also_where_nothing_else_is_to_tell(
    service: Service, api: TestClient, uploader: Uploader, often: None
) -> None:
    id = uploader.send(SPEECH).id
    assert service.transcriptions.claim(Job(OWNER, id, 1), "a test") is not None
    with listening(create_app(service)) as port:
        url = f"http://127.0.0.1:{port}{EVENTS}?wait=60"
        with httpx2.stream("GET", url, timeout=20) as answer:
            lines = answer.iter_lines()
            assert "event: list" in lines
            # Its last lease makes the purge wait, so that its record is still there.
            assert api.delete(f"/transcriptions/{id}").status_code == 202
            assert "event: deleted" in lines
            service.records.remove(OWNER, id)
            told = next(line for line in lines if line.startswith("id: "))
    assert now(api, told.removeprefix("id: ")) == []


def test_only_the_last_event_of_a_look_says_that_all_of_it_was_seen() -> None:
    written = live._written([("transcription", "{}"), ("deleted", '{"id":"x"}')], "state")
    first, last = parse([written.encode()])
    assert (first.id, first.name, last.id, last.name) == (None, "transcription", "state", "deleted")


class Counting(LaterBucket):
    """The real bucket; it remembers what was read."""

    gets: list[str]

    def get(self, key: str) -> Document | None:
        self.gets.append(key)
        return super().get(key)


def test_a_look_reads_what_has_changed_and_nothing_else(
    settings: Settings, bucket: LaterBucket, queue: Queue, uploader: Uploader, service: Service
) -> None:
    ids = [uploader.begin().id for _ in range(3)]
    counting = Counting(bucket.client, bucket.name)
    counting.gets = []
    watch = Watch(Service.of(settings, counting, queue).transcriptions, OWNER)
    assert watch.begin(None, 50) is not None
    assert len(counting.gets) == 3
    assert watch.look() == ([], [])
    assert len(counting.gets) == 3
    service.transcriptions.cancel(OWNER, ids[1])
    changed, gone = watch.look()
    assert ([record.id for record in changed], gone) == ([ids[1]], [])
    assert counting.gets[3:] == [record_key(OWNER, ids[1])]
    again = Watch(Service.of(settings, counting, queue).transcriptions, OWNER)
    assert again.begin(watch.state, 50) is None
    assert len(counting.gets) == 4


def test_there_is_a_look_a_second_only_while_something_is_under_way(
    service: Service, uploader: Uploader
) -> None:
    watch = Watch(service.transcriptions, OWNER)
    watch.begin(None, 50)
    assert not watch.busy
    id = uploader.begin().id
    watch.look()
    assert watch.busy
    resumed = Watch(service.transcriptions, OWNER)
    assert resumed.begin(watch.state, 50) is None
    assert resumed.busy
    assert resumed.state == watch.state
    service.transcriptions.cancel(OWNER, id)
    for either in (watch, resumed):
        either.look()
        assert not either.busy
    assert resumed.state == watch.state
    for nonsense in (f"{watch.state}+", f"{watch.state}+x", f"{watch.state}+1000", "", "\u0661"):
        assert Watch(service.transcriptions, OWNER).begin(nonsense, 50) is not None
    assert (live.BUSY_SECONDS, live.QUIET_SECONDS) == (1, 5)


def test_what_comes_into_view_or_goes_out_of_it_is_neither_new_nor_deleted(
    service: Service, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transcriptions, watching):
        monkeypatch.setattr(module, "PAGE_READS", 3)
    ids = [uploader.begin().id for _ in range(4)]
    watch = Watch(service.transcriptions, OWNER)
    watch.begin(None, 1)
    service.transcriptions.delete(OWNER, ids[3])
    assert watch.look() == ([], [ids[3]])
    newest = uploader.begin().id
    changed, gone = watch.look()
    assert ([record.id for record in changed], gone) == ([newest], [])
    # One that the first page did not show is told of when it changes.
    service.transcriptions.cancel(OWNER, ids[1])
    assert [record.id for record in watch.look()[0]] == [ids[1]]


def test_a_record_nobody_can_read_is_not_there_and_hides_no_other(
    service: Service, bucket: LaterBucket, uploader: Uploader
) -> None:
    first, second = uploader.begin().id, uploader.begin().id
    watch = Watch(service.transcriptions, OWNER)
    watch.begin(None, 50)
    bucket.put(record_key(OWNER, first), b'{"schema": 2}')
    service.transcriptions.cancel(OWNER, second)
    changed, gone = watch.look()
    assert ([record.id for record in changed], gone) == ([second], [first])
    bucket.put(record_key(OWNER, first), b'{"schema": 3}')
    assert watch.look() == ([], [])


class Away(LaterBucket):
    """The real bucket, which is away at the second listing."""

    listings = 0

    def listing(self, *args: Any, **more: Any) -> Any:
        self.listings += 1
        if self.listings == 3:  # a page lists once more
            raise EndpointConnectionError(endpoint_url="nowhere")
        return super().listing(*args, **more)


def test_a_bucket_that_is_away_for_a_moment_ends_no_stream_and_hides_nothing(
    settings: Settings, bucket: LaterBucket, queue: Queue, uploader: Uploader, often: None
) -> None:
    away = Away(bucket.client, bucket.name)
    with following(Service.of(settings, away, queue)) as events:
        assert next(events).name == "list"
        id = uploader.begin().id
        assert data(next(events))["id"] == id
    assert away.listings > 3


def test_a_stream_that_is_held_ends_after_a_look_and_says_when_to_come_again(
    service: Service, uploader: Uploader
) -> None:
    with calling(service) as api:
        api.app.state.streams.held = True  # type: ignore[attr-defined]
        (first,) = parse([api.get(EVENTS).content])
        assert first.name == "list"
        again = {"Last-Event-ID": first.id or ""}
        assert api.get(EVENTS, headers=again).content == b"retry: 3000\n\n"
        uploader.begin()
        busy = api.get(EVENTS, headers=again).content
        assert busy.startswith(b"retry: 1000\n\n")
        (listed,) = parse([busy])
        assert listed.name == "list"
        still = {"Last-Event-ID": listed.id or ""}
        assert api.get(EVENTS, headers=still).content == b"retry: 1000\n\n"


def test_streams_of_the_list_are_counted_with_the_others(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST", 0)
    refused(api.get(EVENTS), 429, "too_many_requests")
