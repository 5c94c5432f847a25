"""Recordings sent by a form, through the API: what is kept, what is refused and when, and what is left."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from botocore.exceptions import EndpointConnectionError
from bucketscribe.api import completions, form_uploads
from bucketscribe.api.app import create_app
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import MIB, calling
from tests.integration.test_sign_in import listening
from tests.integration.test_story import GIB, api_process, memory, up
from tests.integration.test_uploading import SPEECH, refused
from tests.sizes import LARGE_BYTES, LARGE_MIB
from tests.unit.test_forms import BOUNDARY, FILE, TYPE, field, form, part

WAITS_SECONDS = 20


def send(api: TestClient, body: bytes, path: str = "/upload/stream", **query: str) -> httpx2.Response:
    return api.post(path, content=body, headers={"Content-Type": TYPE}, params=query)


def kept(bucket: LaterBucket) -> list[str]:
    """All that lies in the bucket of recordings: objects, parts and markers."""
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    listed = [entry.key for entry in bucket.listing("")]
    return [key for key in listed if not key.startswith("records/")] + [upload["Key"] for upload in uploads]


def test_a_form_becomes_one_queued_transcription(
    api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    answer = api.post(
        "/upload/stream",
        files={"file": ("Gespräch 東京.wav", SPEECH, "application/octet-stream")},
        data={"language": "en", "x-case": "7"},
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    record = service.transcriptions.get(OWNER, told["upload_id"]).record
    assert (record.state, record.size, record.content_type) == (State.QUEUED, len(SPEECH), "audio/wav")
    assert (record.options.language, record.metadata) == ("en", {"x-case": "7"})
    assert told == {
        "upload_id": record.id,
        "filename": "Gespräch 東京.wav",
        "size": len(SPEECH),
        "size_bytes": len(SPEECH),
        "path": record.key,
        "id": record.id,
        "state": "queued",
    }
    document = bucket.get(record.key)
    assert document is not None
    assert document.body == SPEECH


def test_a_form_of_several_parts_is_put_together_byte_by_byte(
    api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    content = SPEECH + os.urandom(12 * MIB)
    told = send(api, form(part(content, FILE))).json()
    document = bucket.get(told["path"])
    assert document is not None
    assert sha256(document.body).digest() == sha256(content).digest()


def test_fields_may_come_after_the_file(api: TestClient, service: Service) -> None:
    body = form(
        field("language", b"de"), part(SPEECH, FILE), field("diarize", b"true"), field("device", b"cuda")
    )
    record = service.transcriptions.get(OWNER, send(api, body).json()["id"]).record
    assert (record.options.language, record.options.diarize, record.ignored) == ("de", True, ("device",))


def test_what_comes_in_the_query_counts_unless_the_form_says_otherwise(
    api: TestClient, service: Service
) -> None:
    body = form(field("language", b"de"), part(SPEECH, FILE))
    record = service.transcriptions.get(
        OWNER, send(api, body, language="fr", task="translate", model="base").json()["id"]
    ).record
    assert (record.options.language, record.options.task) == ("de", "translate")


def test_a_file_without_a_name_has_that_of_the_field_before_it(api: TestClient, service: Service) -> None:
    body = form(field("filename", b"talk.wav"), part(SPEECH, 'form-data; name="file"'))
    told = send(api, body).json()
    assert told["filename"] == service.transcriptions.get(OWNER, told["id"]).record.name == "talk.wav"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (form(part(SPEECH, 'form-data; name="file"; filename="talk.txt"')), 400, "unsupported_extension"),
        (form(part(SPEECH, 'form-data; name="file"')), 400, "unsupported_extension"),
        (form(part(b"", FILE)), 415, "unsupported_media"),
        (form(part(b"no recording at all " * 100, FILE)), 415, "unsupported_media"),
        (form(part(SPEECH, FILE), part(SPEECH, FILE)), 400, "invalid_form"),
        (form(field("language")), 400, "invalid_form"),
        (part(SPEECH + bytes(6 * MIB), FILE), 400, "invalid_form"),
        (part(SPEECH, FILE)[:-9], 400, "invalid_form"),
        (form(field("language", b"klingon"), part(SPEECH, FILE)), 422, "invalid_option"),
        (form(part(SPEECH, FILE), field("language", b"klingon")), 422, "invalid_option"),
        (form(part(bytes(6 * MIB), FILE), part(b"", "broken")), 400, "invalid_form"),
        (form(part(SPEECH, FILE.replace("talk", "t" * 4097))), 400, "invalid_form"),
        (form(field("task", b"translate"), part(SPEECH, FILE)), 422, "invalid_option"),
    ],
)
def test_what_is_refused_leaves_nothing(
    api: TestClient, bucket: LaterBucket, body: bytes, status: int, code: str
) -> None:
    refused(send(api, body), status, code)
    assert kept(bucket) == []


def test_what_is_no_form_is_refused(api: TestClient) -> None:
    refused(api.post("/upload/stream", json={"file": "talk.wav"}), 400, "invalid_form")


@pytest.fixture
def small(service: Service) -> Iterator[TestClient]:
    """An API that takes 6 MiB at most."""
    settings = service.settings.model_copy(update={"max_upload_bytes": 6 * MIB})
    with calling(Service.of(settings, service.bucket, service.queue)) as client:
        yield client


def test_a_file_of_as_many_bytes_as_are_accepted_is_taken(small: TestClient) -> None:
    assert send(small, form(part(SPEECH + bytes(6 * MIB - len(SPEECH)), FILE))).status_code == 200


def test_one_byte_more_is_too_large_and_leaves_nothing(small: TestClient, bucket: LaterBucket) -> None:
    body = form(part(SPEECH + bytes(6 * MIB - len(SPEECH) + 1), FILE))
    assert refused(send(small, body), 413, "too_large")["maxBytes"] == 6 * MIB
    assert kept(bucket) == []


class Slow:
    """A client that sends a request in pieces, and may stop."""

    def __init__(self, port: int, path: str = "/upload/stream", length: int = 64 * MIB) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=WAITS_SECONDS)
        self.send(
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {TYPE}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )

    def send(self, piece: bytes) -> None:
        self.connection.sendall(piece)

    def answer(self) -> int:
        """The status of what is answered while nothing more is sent."""
        return int(self.connection.recv(65536).split()[1])


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with listening(create_app(service)) as port:
        yield port


def test_what_is_declared_to_be_too_large_is_refused_before_it_is_sent(
    port: int, bucket: LaterBucket
) -> None:
    assert Slow(port, length=6 * GIB).answer() == 413
    assert kept(bucket) == []


def test_a_wrong_extension_is_refused_before_the_bytes_are_sent(port: int, bucket: LaterBucket) -> None:
    client = Slow(port)
    client.send(part(b"", 'form-data; name="file"; filename="talk.txt"')[:-2])
    assert client.answer() == 400
    assert kept(bucket) == []


def test_a_file_that_grows_too_large_is_refused_before_its_end(service: Service, bucket: LaterBucket) -> None:
    settings = service.settings.model_copy(update={"max_upload_bytes": 6 * MIB})
    with listening(create_app(Service.of(settings, bucket, service.queue))) as port:
        client = Slow(port, length=8 * MIB)
        client.send(part(SPEECH + bytes(6 * MIB), FILE)[:-2])
        assert client.answer() == 413
    assert kept(bucket) == []


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process or thread is about to do."""
    deadline = time.monotonic() + WAITS_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def states(service: Service) -> list[State]:
    return [record.state for record in service.transcriptions.page(OWNER, None, None, 10)[0]]


def test_a_client_that_goes_away_leaves_nothing(port: int, service: Service, bucket: LaterBucket) -> None:
    client = Slow(port)
    client.send(part(SPEECH + bytes(11 * MIB), FILE)[:-2])
    until(lambda: states(service) == [State.UPLOADING])
    client.connection.close()
    until(lambda: states(service) == [State.CANCELED])
    until(lambda: kept(bucket) == [])


def test_a_client_that_sends_nothing_more_is_not_waited_for(
    port: int, service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Slow(port)
    client.send(part(SPEECH + bytes(6 * MIB), FILE)[:-2])
    until(lambda: states(service) == [State.UPLOADING])
    monkeypatch.setattr(form_uploads, "STALLED_SECONDS", 0.2)
    client.send(b"one byte more")
    assert client.answer() == 503
    assert kept(bucket) == []


class Failing(LaterBucket):
    """A bucket that does not list parts, and says so at once or only when it is asked to."""

    failing = False
    listed: threading.Event | None = None

    def list_parts(self, key: str, upload_id: str) -> Any:
        if self.listed is not None:
            self.listed.wait(WAITS_SECONDS)
        if self.failing:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return super().list_parts(key, upload_id)


@pytest.fixture
def failing(bucket: LaterBucket) -> Failing:
    return Failing(bucket.client, bucket.name)


def test_a_form_that_cannot_be_finished_now_leaves_nothing(
    service: Service, bucket: LaterBucket, failing: Failing
) -> None:
    failing.failing = True
    with calling(Service.of(service.settings, failing, service.queue)) as api:
        refused(send(api, form(part(SPEECH, FILE))), 503, "storage_unavailable")
    assert states(service) == [State.CANCELED]
    assert kept(bucket) == []


def test_a_form_is_answered_when_it_is_promised_however_long_that_takes(
    service: Service, bucket: LaterBucket, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its client could do nothing with "try again in a moment" but send it all again.
    monkeypatch.setattr(completions, "WAIT_SECONDS", 0.1)
    monkeypatch.setattr(completions, "PROMISE_SECONDS", 0.1)
    failing.listed = threading.Event()
    with calling(Service.of(service.settings, failing, service.queue)) as api, ThreadPoolExecutor(1) as other:
        answer = other.submit(send, api, form(part(SPEECH, FILE)))
        until(lambda: states(service) == [State.UPLOADING])
        with pytest.raises(TimeoutError):
            answer.result(1)
        failing.listed.set()
        told = answer.result(WAITS_SECONDS)
    assert told.status_code == 200, told.text
    assert told.json()["state"] in ("completing", "queued")
    until(lambda: states(service) == [State.QUEUED])


def test_an_upload_canceled_by_its_owner_meanwhile_is_no_more(
    port: int, service: Service, bucket: LaterBucket
) -> None:
    client = Slow(port)
    client.send(part(SPEECH, FILE)[:-2])
    until(lambda: states(service) == [State.UPLOADING])
    record = service.transcriptions.page(OWNER, None, None, 1)[0][0]
    service.transcriptions.cancel(OWNER, record.id)
    client.send(bytes(30 * MIB))
    assert client.answer() == 404
    assert kept(bucket) == []


def test_a_form_nobody_finishes_is_ended_by_the_sweep(
    port: int, service: Service, bucket: LaterBucket, sweep: Sweep
) -> None:
    client = Slow(port)
    client.send(part(SPEECH, FILE)[:-2])
    until(lambda: states(service) == [State.UPLOADING])
    # As of a process that died: nobody gives it up.
    bucket.later = timedelta(minutes=20)
    sweep.run()
    assert states(service) == [State.EXPIRED]
    assert kept(bucket) == []


def test_what_counts_for_the_daily_limit_is_the_form_s_length(service: Service) -> None:
    settings = service.settings.model_copy(update={"max_daily_bytes": 7 * MIB})
    with calling(Service.of(settings, service.bucket, service.queue)) as api:
        body = form(part(SPEECH + bytes(5 * MIB), FILE))
        assert send(api, body).status_code == 200
        refused(send(api, body), 429, "daily_limit_reached")


@pytest.mark.long
def test_a_large_recording_goes_through_in_constant_memory(tmp_path: Path) -> None:
    block = os.urandom(MIB)

    def body() -> Iterator[bytes]:
        yield part(SPEECH, FILE)[:-2]
        for _ in range(LARGE_MIB):
            yield block
        yield f"\r\n--{BOUNDARY}--\r\n".encode()

    with up(tmp_path / "data") as server:
        api = api_process(server)
        first = httpx2.post(f"{server}/upload/stream", files={"file": ("talk.wav", SPEECH)}, timeout=60)
        assert first.status_code == 200, first.text
        before = memory(api, "VmRSS")
        answer = httpx2.post(
            f"{server}/upload/stream", content=body(), headers={"Content-Type": TYPE}, timeout=300
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["size"] == len(SPEECH) + LARGE_BYTES
        assert memory(api, "VmHWM") - before < 50 * MIB
        httpx2.delete(f"{server}/transcriptions/{answer.json()['id']}")
