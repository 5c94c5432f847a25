"""What an object store tells: at `POST /events/s3`, as MinIO's webhook does, and by `Arrivals`."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote_plus

import pytest
import schemathesis
from botocore.exceptions import ClientError, EndpointConnectionError
from bucketscribe.api import events
from bucketscribe.arrivals import Arrival, Arrivals
from bucketscribe.bucket import Bucket
from bucketscribe.errors import Problem
from bucketscribe.records import State, record_key
from bucketscribe.service import Service
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import SecretStr
from schemathesis import GenerationMode
from structlog.testing import capture_logs

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_inbox import KEY, drop, only, records
from tests.integration.test_schema import CHECKS
from tests.integration.test_sign_in import listening
from tests.integration.test_uploading import SPEECH, refused
from tests.unit.test_arrivals import eventbridge, record

TOKEN = "a-token-for-tests-only"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def listener(service: Service, bucket: LaterBucket) -> Iterator[TestClient]:
    settings = service.settings.model_copy(update={"events_token": SecretStr(TOKEN)})
    with calling(Service.of(settings, bucket, service.queue)) as client:
        yield client


def told(key: str, bucket: str = "bucketscribe") -> dict[str, Any]:
    """As MinIO sends it."""
    return {
        "EventName": "s3:ObjectCreated:Put",
        "Key": f"{bucket}/{key}",
        "Records": [record(quote_plus(key), "s3:ObjectCreated:Put", bucket)],
    }


def test_an_object_in_the_inbox_is_taken_when_the_store_tells_of_it(
    listener: TestClient, service: Service, bucket: LaterBucket
) -> None:
    key = drop(bucket, "inbox/local/a b+c ü.wav")
    for _ in range(2):
        answer = listener.post("/events/s3", json=told(key), headers=BEARER)
        assert (answer.status_code, answer.json()) == (200, {"arrivals": 1})
    record = only(service)
    assert (record.state, record.inbox and record.inbox.key) == (State.QUEUED, key)
    assert service.queue.count() == 1


def test_an_upload_that_was_completed_behind_our_back_is_finished(
    listener: TestClient, service: Service, uploader: Uploader
) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    record = only(service)
    service.bucket.complete_upload(record.key, record.upload_id or "", [(1, part["ETag"])])
    assert listener.post("/events/s3", json=told(upload.key), headers=BEARER).status_code == 200
    assert upload.state() == "queued"


def test_the_token_may_be_sent_with_bearer_or_alone(listener: TestClient) -> None:
    for authorization in (f"Bearer {TOKEN}", f"bearer  {TOKEN}", TOKEN):
        answer = listener.post("/events/s3", json=[], headers={"Authorization": authorization})
        assert answer.status_code == 200


def test_without_the_token_nothing_is_listened_to(
    listener: TestClient, service: Service, bucket: LaterBucket
) -> None:
    document = told(drop(bucket))
    for authorization in ("", "Bearer", "Bearer ", "Bearer x", f"Basic {TOKEN}", TOKEN[:-1], "ü"):
        # Not even whether the body makes sense.
        for content in (json.dumps(document), "{"):
            headers = {b"Authorization": authorization.encode()}
            refused(listener.post("/events/s3", content=content, headers=headers), 401, "bad_credentials")
    twice = [("Authorization", f"Bearer {TOKEN}")] * 2
    refused(listener.post("/events/s3", json=document, headers=twice), 401, "bad_credentials")
    refused(listener.post("/events/s3", json=document), 401, "sign_in_required")
    assert records(service) == []


def test_where_no_token_is_set_there_is_no_such_route(api: TestClient) -> None:
    refused(api.post("/events/s3", json=told(KEY), headers=BEARER), 404, "no_such_route")


NO_NEWS: list[object] = [
    {},
    None,
    "text",
    {"Records": [{}]},
    told("inbox/local/gone.wav"),
    told("inbox/nobody/talk.wav"),
    told("inbox/local/../../talk.wav"),
    told("inbox/local/\x00.wav"),
    told("inbox/local/" + "x" * 3000),
    told("uploads/local/talk.wav"),
    told("uploads/"),
    told("records/local/x.json"),
    told(KEY, "another-bucket"),
    eventbridge("inbox/local/\ud800.wav"),
]


def test_what_makes_no_sense_is_answered_once_and_for_all(
    listener: TestClient, service: Service, bucket: LaterBucket
) -> None:
    drop(bucket)
    headers = BEARER | {"Content-Type": "application/json"}
    for document in NO_NEWS:
        answer = listener.post("/events/s3", content=json.dumps(document), headers=headers)
        assert answer.status_code == 200, answer.text
    assert records(service) == []


def test_what_is_no_json_is_refused(listener: TestClient) -> None:
    headers = BEARER | {"Content-Type": "application/json"}
    for content in ("", "{", '{"a": NaN', "\x00", "[" * 100_000):
        refused(listener.post("/events/s3", content=content, headers=headers), 422, "invalid_request")


def test_a_bucket_that_does_not_answer_is_worth_another_try(
    listener: TestClient, service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "find", _raising(EndpointConnectionError(endpoint_url="http://s3")))
        answer = listener.post("/events/s3", json=told(KEY), headers=BEARER)
        refused(answer, 503, "storage_unavailable")
        assert "retry-after" in answer.headers
    assert listener.post("/events/s3", json=told(KEY), headers=BEARER).status_code == 200
    assert only(service).state is State.QUEUED


def test_what_takes_long_is_answered_and_goes_on(
    listener: TestClient, service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    answered, copied = threading.Event(), threading.Event()
    copy = Bucket.copy

    def slow(self: Bucket, *arguments: str) -> None:
        assert answered.wait(30)
        copy(self, *arguments)
        copied.set()

    monkeypatch.setattr(events, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(Bucket, "copy", slow)
    assert listener.post("/events/s3", json=told(KEY), headers=BEARER).status_code == 200
    assert only(service).state is State.UPLOADING
    answered.set()
    assert copied.wait(30)
    for _ in range(200):
        if only(service).state is State.QUEUED:
            return
        time.sleep(0.05)
    pytest.fail("it was never queued")


ERRORS = [
    (EndpointConnectionError(endpoint_url="http://s3"), "storage_unavailable"),
    (Problem("busy", "Others were faster."), "busy"),
    (LookupError("a bug"), "internal"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: str(value)[:20])
def test_what_fails_after_the_answer_is_logged_as_what_it_is(
    listener: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    answered = threading.Event()

    def late(self: Arrivals, arrival: Arrival) -> None:
        assert answered.wait(30)
        raise error

    monkeypatch.setattr(events, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(Arrivals, "arrived", late)
    with capture_logs() as lines:
        assert listener.post("/events/s3", json=told(KEY), headers=BEARER).status_code == 200
        answered.set()
        deadline = time.monotonic() + 10
        while not (said := [line for line in lines if line["event"] == "arrival not taken"]):
            assert time.monotonic() < deadline, "nothing is logged"
            time.sleep(0.01)
    assert [line["code"] for line in said] == [code]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: str(value)[:20])
def test_what_fails_in_time_is_told_the_store_and_logged_once(
    listener: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    monkeypatch.setattr(Arrivals, "arrived", _raising(error))
    with capture_logs() as lines:
        answer = listener.post("/events/s3", json=told(KEY), headers=BEARER)
    refused(answer, 500 if code == "internal" else 503, code)
    assert [line for line in lines if line["event"] == "arrival not taken"] == []


def test_copies_that_take_long_hold_up_no_upload(
    listener: TestClient, service: Service, uploader: Uploader, bucket: LaterBucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    record = only(service)
    service.bucket.complete_upload(record.key, record.upload_id or "", [(1, part["ETag"])])
    goes_on = threading.Event()
    copy = Bucket.copy

    def slow(self: Bucket, *arguments: str) -> None:
        assert goes_on.wait(60)
        copy(self, *arguments)

    monkeypatch.setattr(Bucket, "copy", slow)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(events, "ANSWER_SECONDS", 0.01)
            for number in range(events.THREADS):
                key = drop(bucket, f"inbox/local/{number}.wav")
                assert listener.post("/events/s3", json=told(key), headers=BEARER).status_code == 200
        assert listener.post("/events/s3", json=told(upload.key), headers=BEARER).status_code == 200
        assert upload.state() == "queued"
    finally:
        goes_on.set()


# Arrivals


@pytest.mark.parametrize("status", [400, 403, 404, 405])
def test_what_the_bucket_refuses_is_left_to_the_sweep(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Bucket, "find", _raising(_client_error(status)))
    service.arrivals.arrived(Arrival(bucket.name, drop(bucket)))
    monkeypatch.undo()
    service.arrivals.arrived(Arrival(bucket.name, KEY))
    assert only(service).state is State.QUEUED


@pytest.mark.parametrize("status", [429, 500, 503, 507])
def test_what_may_pass_is_raised(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(Bucket, "find", _raising(_client_error(status)))
    with pytest.raises(ClientError):
        service.arrivals.arrived(Arrival(bucket.name, drop(bucket)))


def test_a_record_nobody_can_read_blocks_no_queue(service: Service, bucket: LaterBucket) -> None:
    drop(bucket)
    taken = service.inbox.take(KEY)
    assert taken is not None
    bucket.put(record_key("local", taken.id), b"not a record")
    service.arrivals.arrived(Arrival(bucket.name, KEY))
    service.arrivals.arrived(Arrival(bucket.name, taken.key))


# The document


def test_whatever_a_store_sends_is_answered_as_the_document_says(listener: TestClient) -> None:
    app: Any = listener.app
    operation = schemathesis.openapi.from_dict(app.openapi())["/events/s3"]["POST"]

    @examples(
        max_examples=25,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def check(data: st.DataObject) -> None:
        mode = data.draw(st.sampled_from(list(GenerationMode)))
        case = data.draw(operation.as_strategy(generation_mode=mode))
        response = case.call(base_url=f"http://127.0.0.1:{port}", headers=BEARER)
        case.validate_response(response, checks=CHECKS)

    with listening(app) as port:
        check()


def _client_error(status: int) -> ClientError:
    response: Any = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "HeadObject")


def _raising(error: Exception) -> Any:
    def act(*_: object) -> None:
        raise error

    return act
