"""When something the API needs is slow, gone or broken: what a client is told, and that nothing is lost."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from bucketscribe.api import completions
from bucketscribe.bucket import Written
from bucketscribe.queue import Queue
from bucketscribe.records import record_key
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_uploading import SPEECH, refused


class SlowBucket(LaterBucket):
    """The real bucket, but completing waits to be let go: S3 may take minutes for a large upload."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.go = threading.Event()

    def complete_upload(self, *args: object) -> None:
        assert self.go.wait(30)
        super().complete_upload(*args)  # type: ignore[arg-type]


def test_a_completion_that_takes_long_is_answered_and_happens_without_the_caller(
    settings: Settings, bucket: LaterBucket, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowBucket(bucket.client, bucket.name)
    monkeypatch.setattr(completions, "WAIT_SECONDS", 0.2)
    with calling(Service.of(settings, slow, queue)) as api:
        upload = Uploader(api).begin()
        parts = [upload.put(1, SPEECH)]
        answer = upload.complete(parts)
        assert (answer.status_code, answer.json()["state"], answer.json()["id"]) == (
            200,
            "completing",
            upload.id,
        )
        slow.go.set()
        with api.stream("GET", f"/transcriptions/{upload.id}/events?wait=30") as stream:
            assert any('"state":"queued"' in line for line in stream.iter_lines())
        assert upload.complete(parts).json()["state"] == "queued"
    assert queue.count() == 1


def test_a_completion_that_waits_for_others_is_promised_and_carried_out(
    settings: Settings, bucket: LaterBucket, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowBucket(bucket.client, bucket.name)
    monkeypatch.setattr(completions, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(completions, "THREADS", 1)
    with calling(Service.of(settings, slow, queue)) as api:
        first, second = Uploader(api).begin(), Uploader(api).begin()
        parts = [first.put(1, SPEECH)], [second.put(1, SPEECH)]
        assert first.complete(parts[0]).json()["state"] == "completing"
        # The only thread is taken by the first, so of the second nothing was begun.
        assert second.complete(parts[1]).json()["state"] == "completing"
        slow.go.set()
        with api.stream("GET", f"/transcriptions/{second.id}/events?wait=30") as stream:
            assert any('"state":"queued"' in line for line in stream.iter_lines())
        assert second.complete(parts[1]).json()["state"] == "queued"


class SlowListing(LaterBucket):
    """The real bucket, but listing parts waits to be let go."""

    go = threading.Event()

    def list_parts(self, *args: str) -> Any:
        assert self.go.wait(30)
        return super().list_parts(*args)


def test_nothing_is_promised_that_is_not_written_down(
    settings: Settings, bucket: LaterBucket, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = SlowListing(bucket.client, bucket.name)
    monkeypatch.setattr(completions, "WAIT_SECONDS", 0.2)
    monkeypatch.setattr(completions, "PROMISE_SECONDS", 0.2)
    with calling(Service.of(settings, slow, queue)) as api:
        upload = Uploader(api).begin()
        parts = [upload.put(1, SPEECH)]
        refused(upload.complete(parts), 503, "busy")
        slow.go.set()
        with api.stream("GET", f"/transcriptions/{upload.id}/events?wait=30") as stream:
            assert any('"state":"queued"' in line for line in stream.iter_lines())
        assert upload.complete(parts).json()["state"] == "queued"


def test_a_queue_that_does_not_answer_fails_no_upload(
    settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    queue.url += "-gone"
    with calling(Service.of(settings, bucket, queue)) as api:
        assert Uploader(api).send(SPEECH).state() == "queued"


def test_a_bucket_that_does_not_answer_is_a_503_that_says_to_try_again(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with calling(Service.connect(nowhere)) as api:
        answer = api.post("/s3/multipart", json={"filename": "talk.wav"})
        refused(answer, 503, "storage_unavailable")
        assert answer.headers["retry-after"] == "5"
        assert api.get("/health").status_code == 200
        assert api.get("/health/ready").status_code == 503


@pytest.fixture
def broken(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a mistake of ours, with secrets in it")

    monkeypatch.setattr(service.transcriptions, "page", fail)
    with calling(service) as client:
        yield client


def test_a_mistake_of_ours_is_a_problem_too_and_tells_no_secrets(broken: TestClient) -> None:
    answer = broken.get("/transcriptions", headers={"Origin": "http://localhost:5173"})
    refused(answer, 500, "internal")
    assert "secrets" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"


class FullBucket(LaterBucket):
    """The real bucket, but it takes no more writes: a full disk cannot be had here."""

    writes = 0

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Written:
        type(self).writes += 1
        answer: Any = {"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
        raise ClientError(answer, "PutObject")


def test_a_bucket_that_takes_no_writes_is_told_from_one_that_is_busy(
    uploader: Uploader, settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    upload = uploader.send(SPEECH)
    full = FullBucket(bucket.client, bucket.name)
    with calling(Service.of(settings, full, queue)) as api:
        refused(api.post(f"/transcriptions/{upload.id}/cancel"), 503, "storage_unavailable")
    assert FullBucket.writes <= 2
    assert upload.state() == "queued"


@pytest.mark.parametrize("seen", ["9" * 5000, "-1", "x", "\u00b2"])
def test_an_event_id_that_is_none_of_ours_begins_anew(uploader: Uploader, api: TestClient, seen: str) -> None:
    upload = uploader.begin()
    path = f"/transcriptions/{upload.id}/events?wait=0"
    answer = api.get(path, headers={b"Last-Event-ID": seen.encode()})
    assert answer.status_code == 200
    assert "event: transcription" in answer.text


def test_a_list_of_numbers_cannot_be_made_to_take_long(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin()
    numbers = ",".join(["1-10000"] * 5000)
    answer = api.get(f"{upload.path}/batch", params={"key": upload.key, "partNumbers": numbers})
    refused(answer, 422, "invalid_part_number")


def test_a_page_whose_one_record_nobody_can_read_shows_the_others(
    uploader: Uploader, api: TestClient, bucket: LaterBucket
) -> None:
    bad, good = uploader.begin(), uploader.begin()
    bucket.put(record_key("local", bad.id), b'{"schema": 99}')
    page = api.get("/transcriptions").json()
    assert [entry["id"] for entry in page["transcriptions"]] == [good.id]
