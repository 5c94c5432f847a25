"""Webhooks: a real receiver is told, that checks what it is told as any receiver would."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from bucketscribe import webhooks
from bucketscribe.markers import Kind
from bucketscribe.queue import Job
from bucketscribe.records import Failure, State, Webhook
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.transcriptions import Facts
from bucketscribe.up.home import Credentials
from fastapi.testclient import TestClient
from pydantic import SecretStr
from standardwebhooks import WebhookVerificationError

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import Upload, Uploader, calling
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, leftovers, refused
from tests.integration.test_working import work_off
from tests.receiver import Receiver, receiving

ROOT = Path(__file__).parents[2]
SECRET = Credentials.new().webhook_secret
FAILURE = Failure(code="undecodable", message="It cannot be decoded.")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings of a server that may tell this machine."""
    ours = {"webhook_secret": SecretStr(SECRET), "private_hosts": ("127.0.0.1",)}
    return settings.model_copy(update=ours)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving(SECRET) as started:
        yield started


@pytest.fixture
def hook(receiver: Receiver) -> str:
    return f"{receiver.url}/hook?token=abc"


def webhook_of(service: Service, id: str) -> Webhook:
    webhook = service.transcriptions.get(OWNER, id).record.webhook
    assert webhook is not None
    return webhook


def fail(service: Service, id: str, run: int = 1) -> None:
    service.transcriptions.fail(claimed(service, id, run), FAILURE)


def complete(service: Service, id: str) -> None:
    service.transcriptions.complete(claimed(service, id), Facts("en", 11.0, {"load": 0.1}, ()))


def failed(uploader: Uploader, service: Service, hook: str, **metadata: Any) -> Upload:
    """A transcription that has failed under a worker that told nobody."""
    upload = uploader.send(SPEECH, webhook_url=hook, **metadata)
    fail(service, upload.id)
    return upload


def go_on(bucket: LaterBucket, sweep: Sweep, **time: float) -> None:
    bucket.later += timedelta(**time)
    sweep.run()


def nothing_came(receiver: Receiver) -> bool:
    """To be asked only when whoever would have sent something has returned."""
    return receiver.got.empty()


# What is told


def test_a_worker_tells_of_a_transcript_at_once(
    uploader: Uploader, service: Service, api: TestClient, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    upload = uploader.send(SPEECH, webhook_url=hook)
    work_off(service)
    got = receiver.next()
    told = receiver.verified(got)
    assert got.path == "/hook?token=abc"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"] == "bucketscribe"
    assert got.headers["webhook-id"] == f"msg_{upload.id}_1"
    assert told["type"] == "transcription.completed"
    assert told["timestamp"].endswith("Z")
    assert datetime.fromisoformat(told["timestamp"]) == datetime.fromisoformat(told["data"]["updated"])
    # By then the worker may have written that it was delivered, or not yet.
    shown = api.get(f"/transcriptions/{upload.id}").json()
    changing = ("webhook", "updated")
    assert {**told["data"], **dict.fromkeys(changing)} == {**shown, **dict.fromkeys(changing)}
    assert shown["options"]["webhook_url"] == hook
    sweep.run()
    assert nothing_came(receiver)


def test_the_record_says_when_it_was_delivered_and_no_marker_is_left(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH, webhook_url=hook)
    complete(service, upload.id)
    sweep.run()
    assert receiver.verified(receiver.next())["data"]["language"] == "en"
    told = webhook_of(service, upload.id)
    assert (told.attempts, told.given_up, told.error) == (1, None, None)
    assert told.delivered is not None
    assert [key for key in leftovers(bucket, upload.id) if key.startswith("open/")] == []


def test_a_failure_is_told_with_its_code(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    failed(uploader, service, hook)
    sweep.run()
    told = receiver.verified(receiver.next())
    assert (told["type"], told["data"]["error"]["code"]) == ("transcription.failed", "undecodable")


def test_what_is_refused_for_its_bytes_is_told(
    uploader: Uploader, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    uploader.send(b"no sound at all\n" * 100, "talk.mp3", "audio/mpeg", webhook_url=hook)
    sweep.run()
    told = receiver.verified(receiver.next())
    assert (told["type"], told["data"]["error"]["code"]) == ("transcription.failed", "unsupported_media")


def test_what_no_worker_could_take_is_told(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    upload = uploader.send(SPEECH, webhook_url=hook)
    assert service.transcriptions.bury(Job(OWNER, upload.id, 1))
    sweep.run()
    assert receiver.verified(receiver.next())["data"]["error"]["code"] == "never_started"


def test_what_workers_died_of_is_told(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH, webhook_url=hook)
    for _ in range(service.settings.max_attempts):
        claimed(service, upload.id)
        bucket.later += timedelta(hours=1)
        service.transcriptions.requeue_lost(Job(OWNER, upload.id, 1))
    # One sweep removes the job's marker, the next one tells.
    sweep.run()
    sweep.run()
    assert receiver.verified(receiver.next(0))["data"]["error"]["code"] == "attempts_exhausted"


def test_an_object_of_the_inbox_can_have_a_webhook(
    api: TestClient, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    key = f"inbox/{OWNER}/talk.wav"
    service.bucket.put(key, SPEECH)
    found_by_the_sweep = service.inbox.take(key)
    assert found_by_the_sweep is not None
    answer = api.post("/transcriptions", json={"key": key, "options": {"webhook_url": hook}})
    assert answer.json()["options"]["webhook_url"] == hook
    fail(service, answer.json()["id"])
    sweep.run()
    assert receiver.verified(receiver.next())["data"]["id"] == answer.json()["id"]


def test_a_form_can_have_a_webhook(
    api: TestClient, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    asked = {"filename": "talk.wav", "type": "audio/wav", "metadata[webhook_url]": hook}
    form = api.get("/s3/params", params=asked).json()
    service.bucket.put(form["fields"]["key"], b"no sound at all\n" * 100, "audio/wav")
    sweep.run()
    sweep.run()
    assert receiver.verified(receiver.next())["data"]["error"]["code"] == "unsupported_media"


@pytest.mark.long
def test_the_older_name_gets_the_older_document(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str
) -> None:
    uploader.send(SPEECH, callback_url=hook, language="en")
    work_off(service)
    told = receiver.verified(receiver.next())
    assert told["status"] == "completed"
    assert told["metadata"]["file_name"] == "talk.wav"
    heard = " ".join(segment["text"].strip() for segment in told["result"]["segments"])
    assert "what your country can do for you" in heard


# What must not be believed


def test_a_body_that_was_tampered_with_is_not_believed(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    failed(uploader, service, hook)
    sweep.run()
    got = receiver.next()
    receiver.verified(got)
    forged = replace(got, body=got.body.replace(b"failed", b"completed"))
    with pytest.raises(WebhookVerificationError):
        receiver.verified(forged)
    other = replace(got, headers=got.headers | {"webhook-id": "msg_another"})
    with pytest.raises(WebhookVerificationError):
        receiver.verified(other)
    receiver.secret = Credentials.new().webhook_secret
    with pytest.raises(WebhookVerificationError):
        receiver.verified(got)


# Tries


def test_what_is_not_taken_is_sent_again_later_and_later(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    receiver.answers = [500, 503, 429]
    upload = failed(uploader, service, hook)
    sweep.run()
    first = receiver.next()
    go_on(bucket, sweep, seconds=5)
    assert nothing_came(receiver)
    go_on(bucket, sweep, seconds=6)
    second = receiver.next()
    go_on(bucket, sweep, seconds=25)
    assert nothing_came(receiver)
    go_on(bucket, sweep, seconds=6)
    receiver.next()
    go_on(bucket, sweep, seconds=55)
    assert nothing_came(receiver)
    go_on(bucket, sweep, seconds=6)
    last = receiver.next()
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == last.headers["webhook-id"]
    receiver.verified(last)
    assert webhook_of(service, upload.id).attempts == 4
    assert webhook_of(service, upload.id).delivered is not None


def test_it_is_given_up_after_an_hour(
    uploader: Uploader,
    service: Service,
    receiver: Receiver,
    hook: str,
    sweep: Sweep,
    bucket: LaterBucket,
    api: TestClient,
) -> None:
    receiver.always = 500
    upload = failed(uploader, service, hook)
    sweep.run()
    begun, minutes = bucket.now(), 0
    while webhook_of(service, upload.id).given_up is None and minutes < 90:
        go_on(bucket, sweep, minutes=1)
        minutes += 1
    told = webhook_of(service, upload.id)
    assert told.given_up is not None
    assert timedelta(minutes=30) < told.given_up - begun <= timedelta(hours=1, minutes=1)
    assert receiver.got.qsize() == told.attempts >= 8
    assert (told.delivered, told.error) == (None, "it was answered with 500")
    assert api.get(f"/transcriptions/{upload.id}").json()["webhook"]["error"] == told.error
    assert list(service.markers.listing(Kind.WEBHOOKS)) == []


def test_a_receiver_that_is_gone_for_good_is_told_once(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    receiver.always = 410
    upload = failed(uploader, service, hook)
    sweep.run()
    assert webhook_of(service, upload.id).given_up is not None
    assert list(service.markers.listing(Kind.WEBHOOKS)) == []


def test_a_redirect_is_not_followed(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    receiver.always = 307
    upload = failed(uploader, service, hook)
    sweep.run()
    assert receiver.next().path.startswith("/hook")
    assert nothing_came(receiver)
    assert webhook_of(service, upload.id).delivered is None
    assert len(list(service.markers.listing(Kind.WEBHOOKS))) == 1


def test_a_url_that_does_not_answer_costs_a_look_one_try_and_not_one_for_each_notice(
    uploader: Uploader, service: Service, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, bucket: LaterBucket
) -> None:
    monkeypatch.setattr(webhooks, "AT_ONCE", 1)
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1)) as silent:
        hook = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(service.webhooks._web, "_answer_seconds", 0.5)
        uploads = [failed(uploader, service, hook) for _ in range(5)]
        sweep.run()
        silent.setblocking(False)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    bodies = [service.markers.read(Kind.WEBHOOKS, OWNER, upload.id, 1) for upload in uploads]
    assert [body[0]["tries"] for body in bodies if body is not None] == [1] * 5


def test_a_url_that_does_not_answer_keeps_nobody_else_of_its_host_waiting(
    uploader: Uploader, service: Service, receiver: Receiver, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "AT_ONCE", 1)
    monkeypatch.setattr(service.webhooks._web, "_answer_seconds", 0.2)
    for path in ("one", "another"):
        failed(uploader, service, f"{receiver.url}/{path}")
    over = threading.Event()
    receiver.held = lambda: over.wait(20)
    sweep.run()
    over.set()
    assert {receiver.next(0).path, receiver.next(0).path} == {"/one", "/another"}


def test_who_was_tried_last_is_tried_after_the_others(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "AT_ONCE", 1)
    for _ in range(2):
        failed(uploader, service, hook)
    first, second = service.markers.listing(Kind.WEBHOOKS)
    tried = replace(first, modified=first.modified + timedelta(minutes=1))
    left = iter([True])
    looked = service.webhooks.look([tried, second], service.bucket.now(), lambda: next(left, False))
    assert looked == 1
    assert receiver.verified(receiver.next(0))["data"]["id"] == second.id


def test_long_transcripts_are_told_one_at_a_time(
    uploader: Uploader,
    service: Service,
    receiver: Receiver,
    hook: str,
    sweep: Sweep,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webhooks, "LONG_SECONDS", 10.0)
    for _ in range(2):
        complete(service, uploader.send(SPEECH, callback_url=hook).id)
    released = threading.Event()
    receiver.held = lambda: released.wait(20)
    first = threading.Thread(target=sweep.run)
    first.start()
    told = [receiver.next().headers["webhook-id"]]
    Sweep(service).run()
    assert nothing_came(receiver)
    released.set()
    first.join()
    Sweep(service).run()
    told.append(receiver.next(0).headers["webhook-id"])
    assert len(set(told)) == 2
    assert nothing_came(receiver)
    assert list(service.markers.listing(Kind.WEBHOOKS)) == []


def test_two_sweeps_at_once_send_it_once(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    upload = failed(uploader, service, hook)
    both_came = threading.Event()
    receiver.held = lambda: both_came.wait(20)
    first = threading.Thread(target=sweep.run)
    first.start()
    receiver.next()
    # The first one has claimed the try, and waits for its answer.
    Sweep(service).run()
    both_came.set()
    first.join()
    assert nothing_came(receiver)
    assert webhook_of(service, upload.id).attempts == 1


# What becomes of it otherwise


def test_a_rename_is_told_nobody(
    uploader: Uploader,
    service: Service,
    receiver: Receiver,
    hook: str,
    sweep: Sweep,
    bucket: LaterBucket,
    api: TestClient,
) -> None:
    upload = failed(uploader, service, hook)
    sweep.run()
    receiver.next()
    assert api.patch(f"/transcriptions/{upload.id}", json={"name": "Minutes"}).status_code == 200
    go_on(bucket, sweep, minutes=30)
    assert nothing_came(receiver)


def test_a_retry_owes_another_notice(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, api: TestClient
) -> None:
    upload = failed(uploader, service, hook)
    sweep.run()
    assert receiver.next().headers["webhook-id"] == f"msg_{upload.id}_1"
    shown = api.post(f"/transcriptions/{upload.id}/retry").json()
    assert shown["webhook"]["delivered"] is None
    fail(service, upload.id, run=2)
    sweep.run()
    assert receiver.next().headers["webhook-id"] == f"msg_{upload.id}_2"
    assert list(service.markers.listing(Kind.WEBHOOKS)) == []


def test_a_retry_before_it_was_told_replaces_what_was_owed(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    upload = failed(uploader, service, hook)
    service.transcriptions.retry(OWNER, upload.id)
    fail(service, upload.id, run=2)
    sweep.run()
    assert receiver.next().headers["webhook-id"] == f"msg_{upload.id}_2"
    assert nothing_came(receiver)
    assert list(service.markers.listing(Kind.WEBHOOKS)) == []


def test_the_marker_of_a_retry_that_has_not_come_to_its_record_is_left(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = failed(uploader, service, hook)
    sweep.run()
    receiver.next()
    # As a retry does, before the record says so.
    service.markers.put(Kind.JOBS, OWNER, upload.id, 2)
    service.markers.put(Kind.WEBHOOKS, OWNER, upload.id, 2)
    sweep.run()
    assert [marker.run for marker in service.markers.listing(Kind.WEBHOOKS)] == [2]
    # It has died.
    for _ in range(2):
        go_on(bucket, sweep, minutes=10)
    assert list(service.markers.listing()) == []
    assert nothing_came(receiver)


def test_what_is_canceled_deleted_or_idle_is_told_nobody(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    canceled, deleted = (uploader.send(SPEECH, webhook_url=hook) for _ in range(2))
    idle = uploader.begin(webhook_url=hook)
    service.transcriptions.cancel(OWNER, canceled.id)
    service.transcriptions.delete(OWNER, deleted.id)
    for _ in range(3):
        go_on(bucket, sweep, minutes=30)
    assert idle.state() == "expired"
    assert list(service.markers.listing()) == []
    assert nothing_came(receiver)


def test_an_expired_upload_that_turns_up_is_told_of(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = uploader.begin(webhook_url=hook)
    for _ in range(2):
        go_on(bucket, sweep, minutes=30)
    assert list(service.markers.listing()) == []
    bucket.put(upload.key, SPEECH)
    assert service.uploads.finish(OWNER, upload.id).record.state is State.QUEUED
    fail(service, upload.id)
    sweep.run()
    assert receiver.next().headers["webhook-id"] == f"msg_{upload.id}_1"


def test_a_marker_without_a_record_goes_after_an_hour_and_not_before(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    service.markers.put(Kind.WEBHOOKS, OWNER, "019aa5b2-7c1e-7d3a-9f00-0242ac120002", 1)
    go_on(bucket, sweep, minutes=59)
    assert len(list(service.markers.listing())) == 1
    go_on(bucket, sweep, minutes=2)
    assert list(service.markers.listing()) == []


def test_what_runs_costs_a_sweep_no_request(
    uploader: Uploader, service: Service, hook: str, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploader.send(SPEECH, webhook_url=hook)
    looked_at: list[Any] = []
    monkeypatch.setattr(service.webhooks, "_look", lambda marker, *_: looked_at.append(marker))
    sweep.run()
    assert looked_at == []


# What may be asked for


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "//example.com/hook",
        "https://",
        "https://user:word@example.com/",
        "https://example.com:0/",
        "https://exa mple.com/",
        "https://example.com/" + "a" * 2000,
        "http://10.0.0.1/hook",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]/hook",
        "http://[::ffff:10.0.0.1]/hook",
        "https://0.0.0.0/",
        5,
    ],
)
def test_a_url_that_cannot_be_told_is_refused_at_once(api: TestClient, service: Service, url: object) -> None:
    for name in ("webhook_url", "callback_url"):
        body = {"filename": "talk.wav", "metadata": {name: url}}
        problem = refused(api.post("/s3/multipart", json=body), 422, "invalid_option")
        assert problem["option"] == name
        assert problem["detail"].startswith(name)
    assert list(service.bucket.listing("")) == []


def test_what_turns_out_to_be_private_is_not_asked(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str
) -> None:
    upload = failed(uploader, service, hook.replace("127.0.0.1", "localhost"))
    public_only = service.settings.model_copy(update={"private_hosts": ()})
    Sweep(Service.of(public_only, service.bucket, service.queue)).run()
    assert nothing_came(receiver)
    body = service.markers.read(Kind.WEBHOOKS, OWNER, upload.id, 1)
    assert body is not None
    assert body[0]["tries"] == 1


def test_where_no_secret_is_set_a_webhook_is_refused_with_what_to_set(service: Service) -> None:
    unsigned = service.settings.model_copy(update={"webhook_secret": None})
    with calling(Service.of(unsigned, service.bucket, service.queue)) as api:
        for name in ("webhook_url", "callback_url"):
            body = {"filename": "talk.wav", "metadata": {name: "https://example.com/hook"}}
            problem = refused(api.post("/s3/multipart", json=body), 422, "invalid_option")
            assert problem["option"] == name
            assert problem["detail"].startswith(name)
            assert "BUCKETSCRIBE_WEBHOOK_SECRET" in problem["detail"]


def test_a_worker_without_the_secret_leaves_it_to_the_sweep(
    uploader: Uploader, service: Service, receiver: Receiver, hook: str, sweep: Sweep
) -> None:
    upload = failed(uploader, service, hook)
    unsigned = service.settings.model_copy(update={"webhook_secret": None})
    Service.of(unsigned, service.bucket, service.queue).webhooks.try_soon(Job(OWNER, upload.id, 1))
    assert [thread.name for thread in threading.enumerate() if upload.id in thread.name] == []
    sweep.run()
    assert receiver.verified(receiver.next())["type"] == "transcription.failed"


def test_the_receiver_of_the_docs_believes_what_we_sign_and_nothing_else(
    uploader: Uploader, service: Service, sweep: Sweep, tmp_path: Path
) -> None:
    marked = "<!-- run by tests/integration/test_webhooks.py -->\n```python\n"
    program = (ROOT / "docs" / "webhooks.md").read_text().split(marked)[1].split("```")[0]
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    (tmp_path / "receiver.py").write_text(program.replace("9000", str(port)))
    command = [sys.executable, "receiver.py"]
    environment = os.environ | {"WEBHOOK_SECRET": SECRET}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as docs:
        try:
            hook = f"http://127.0.0.1:{port}/"
            upload = failed(uploader, service, hook)
            forged = {"webhook-id": "msg_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
            answered(lambda: httpx2.post(hook, content=b"{}", headers=forged), 401)
            sweep.run()
            assert docs.stdout is not None
            assert docs.stdout.readline() == f"transcription.failed {upload.id}\n"
        finally:
            docs.kill()
    assert webhook_of(service, upload.id).delivered is not None


def answered(ask: Callable[[], httpx2.Response], status: int) -> None:
    """Ask until somebody listens."""
    deadline = time.monotonic() + 20
    while True:
        try:
            answer = ask()
        except httpx2.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # nobody tells when a port is listened at
        else:
            assert answer.status_code == status
            return
