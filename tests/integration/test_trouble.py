"""When something the API needs is slow, gone or broken: what a client is told, and that nothing is lost."""

import threading
from collections.abc import Iterator

import pytest
from bucketscribe.api import uploads as upload_routes
from bucketscribe.api.app import create_app
from bucketscribe.queue import Queue
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
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
    monkeypatch.setattr(upload_routes, "COMPLETE_WAIT_SECONDS", 0.2)
    with TestClient(create_app(Service.of(settings, slow, queue))) as api:
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


def test_a_queue_that_does_not_answer_fails_no_upload(
    settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    queue.url += "-gone"
    with TestClient(create_app(Service.of(settings, bucket, queue))) as api:
        assert Uploader(api).send(SPEECH).state() == "queued"


def test_a_bucket_that_does_not_answer_is_a_503_that_says_to_try_again(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with TestClient(create_app(Service.connect(nowhere))) as api:
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
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        yield client


def test_a_mistake_of_ours_is_a_problem_too_and_tells_no_secrets(broken: TestClient) -> None:
    answer = broken.get("/transcriptions", headers={"Origin": "http://localhost:5173"})
    refused(answer, 500, "internal")
    assert "secrets" not in answer.text
    assert answer.headers["access-control-allow-origin"] == "http://localhost:5173"
