"""Messages nobody could take: what becomes of their jobs, on a real bucket and queues that really redrive."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from bucketscribe import deadletters, queue
from bucketscribe.bucket import Written
from bucketscribe.queue import Job, Message, Queue, body_of
from bucketscribe.records import State, record_key
from bucketscribe.service import Service
from bucketscribe.setup import DEAD_JOBS, JOBS, MAX_RECEIVES
from bucketscribe.sweep import Sweep
from bucketscribe.up.prepare import prepare_queues
from bucketscribe.worker import main
from bucketscribe.worker.attempt import Attempt
from bucketscribe.worker.engines.base import Engine
from bucketscribe.worker.main import Worker
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, leftovers
from tests.servers import Servers

NO_ENGINE = cast("Engine", None)
"""These workers never come to theirs."""

ID = "019aa5b2-7c1e-7d3a-9f00-0242ac120002"


@pytest.fixture
def redriven(settings: Any, bucket: LaterBucket, servers: Servers) -> Iterator[Service]:
    """A service whose job queue puts messages aside as under `make up`."""
    client = Queue.connect(settings).client
    prepare_queues(client)
    urls = {name: client.get_queue_url(QueueName=name)["QueueUrl"] for name in (JOBS, DEAD_JOBS)}
    there = settings.model_copy(update={"queue_url": urls[JOBS], "dead_letters_url": urls[DEAD_JOBS]})
    yield Service.of(there, bucket, Queue(client, urls[JOBS]))
    for url in urls.values():
        client.delete_queue(QueueUrl=url)
    # Others find the queues as they were: there, and empty.
    prepare_queues(client)


def letters(service: Service) -> Queue:
    assert service.dead_letters.queue is not None
    return service.dead_letters.queue


def killed_before_its_claim(service: Service) -> None:
    """What workers that die of a message leave behind: it is received, as often as it can be."""
    for _ in range(MAX_RECEIVES + 1):
        service.queue.client.receive_message(QueueUrl=service.queue.url, VisibilityTimeout=0)


def queued(service: Service) -> Job:
    """A recording that waits for a worker."""
    begun = service.intake.begin("local", "talk.wav", None, {})
    stored = service.records.read("local", begun.id)
    assert stored is not None
    part = service.bucket.client.upload_part(
        Bucket=service.bucket.name,
        Key=begun.key,
        UploadId=stored.record.upload_id or "",
        PartNumber=1,
        Body=SPEECH,
    )
    service.bucket.complete_upload(begun.key, stored.record.upload_id or "", [(1, part["ETag"])])
    assert service.uploads.finish("local", begun.id).record.state is State.QUEUED
    return Job("local", begun.id, 1)


def test_a_job_that_workers_die_of_fails_says_so_and_can_be_retried(
    redriven: Service, bucket: LaterBucket
) -> None:
    job = queued(redriven)
    killed_before_its_claim(redriven)
    assert (redriven.queue.count(), letters(redriven).count()) == (0, 1)
    Sweep(redriven).run()
    record = redriven.transcriptions.get("local", job.id).record
    assert record.state is State.FAILED
    assert record.error is not None
    assert record.error.code == "never_started"
    assert "Retry it" in record.error.message
    assert leftovers(bucket, job.id) == [record.key]
    assert letters(redriven).count() == 0
    retried = redriven.transcriptions.retry("local", job.id).record
    assert (retried.state, retried.run, retried.error) == (State.QUEUED, 2, None)
    assert redriven.transcriptions.claim(Job("local", job.id, 2), "a worker") is not None


def test_a_job_that_only_waits_for_a_worker_is_never_buried(redriven: Service, bucket: LaterBucket) -> None:
    job = queued(redriven)
    for hour in range(1, 30):
        bucket.later = timedelta(hours=hour)
        Sweep(redriven).run()
    assert redriven.transcriptions.get("local", job.id).record.state is State.QUEUED
    assert (redriven.queue.count(), letters(redriven).count()) == (1, 0)


def test_a_bucket_that_refuses_every_claim_kills_no_message(redriven: Service) -> None:
    job = queued(redriven)

    class Refusing(LaterBucket):
        """Stands in for a bucket that is full, or whose keys have changed: it takes no document."""

        def replace(self, *_: object, **__: object) -> Written:
            answer: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(answer, "PutObject")

    refusing = Service.of(redriven.settings, Refusing.connect(redriven.settings), redriven.queue)
    worker = Worker(refusing, NO_ENGINE)
    for _ in range(MAX_RECEIVES + 2):
        with pytest.raises(ClientError):
            worker._next(0)
    assert (redriven.queue.count(), letters(redriven).count()) == (1, 0)
    claim = Worker(redriven, NO_ENGINE)._next(0)
    assert claim is not None
    assert claim.job == job


def test_workers_too_old_to_read_a_record_leave_its_job_to_newer_ones(
    redriven: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "UNREADABLE_SECONDS", 0)
    job = queued(redriven)
    key = record_key("local", job.id)
    written = bucket.get(key)
    assert written is not None
    bucket.put(key, b'{"schema": 99}')
    old = Worker(redriven, NO_ENGINE)
    for _ in range(MAX_RECEIVES + 2):
        assert old._next(0) is None
    bucket.put(key, written.body)
    Sweep(redriven).run()
    assert (redriven.queue.count(), letters(redriven).count()) == (1, 0)
    claim = Worker(redriven, NO_ENGINE)._next(0)
    assert claim is not None
    assert claim.job == job


def test_what_cannot_be_read_does_not_come_back_at_once_and_is_not_sent_again(
    redriven: Service, bucket: LaterBucket
) -> None:
    job = queued(redriven)
    key = record_key("local", job.id)
    written = bucket.get(key)
    assert written is not None
    bucket.put(key, b'{"schema": 99}')
    assert Worker(redriven, NO_ENGINE)._next(0) is None
    assert redriven.queue.receive(0) is None
    bucket.put(key, written.body)
    bucket.later = timedelta(hours=1)
    Sweep(redriven).run()
    assert redriven.queue.receive(0) is None
    assert redriven.queue.count() == 1


def test_a_message_that_is_in_other_hands_again_is_not_doubled(
    redriven: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim may last longer than its message is hidden, whose receipt is worth nothing then."""
    queued(redriven)
    monkeypatch.setattr(queue, "HIDDEN_SECONDS", 1)
    slow = redriven.queue.receive(0)
    monkeypatch.undo()
    other = redriven.queue.receive(5)
    assert slow is not None
    assert other is not None
    redriven.queue.put_back(replace(slow, since=slow.since - queue.HIDDEN_SECONDS))
    redriven.queue.delete(other)
    assert redriven.queue.count() == 0


def test_who_dies_while_a_message_is_put_back_leaves_one_too_many_and_one_job(
    redriven: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queued(redriven)
    received = redriven.queue.receive(0)
    assert received is not None

    def die(self: Queue, message: Message) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Queue, "delete", die)
    with pytest.raises(KeyboardInterrupt):
        redriven.queue.put_back(received)
    monkeypatch.undo()
    assert redriven.queue.count() == 2
    assert redriven.transcriptions.claim(job, "one") is not None
    assert redriven.transcriptions.claim(job, "another") is None


def test_a_message_nobody_can_read_ends_in_the_log(
    redriven: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(queue, "HIDDEN_SECONDS", 0)
    job = queued(redriven)
    message = redriven.queue.receive(0)
    assert message is not None
    redriven.queue.delete(message)
    redriven.queue.client.send_message(QueueUrl=redriven.queue.url, MessageBody="not ours")
    worker = Worker(redriven, NO_ENGINE)
    # One that has work does not look for markers.
    worker.attempts = [cast("Attempt", None)]
    for _ in range(MAX_RECEIVES + 1):
        assert worker._next(0) is None
    Sweep(redriven).run()
    assert letters(redriven).count() == 0
    assert "not ours" in capsys.readouterr().out
    assert redriven.transcriptions.get("local", job.id).record.state is State.QUEUED


@pytest.mark.parametrize(
    "body",
    [
        "",
        "garbage",
        "null",
        "[" * 200_000,
        '"text"',
        "[1, 2]",
        '{"owner": "local"}',
        json.dumps({"owner": "local", "id": ID, "run": True}),
        json.dumps({"owner": "local", "id": ID, "run": 0}),
        json.dumps({"owner": "local", "id": ID, "run": 10**400}),
        json.dumps({"owner": "../records", "id": ID, "run": 1}),
        json.dumps({"owner": "\ud800", "id": ID, "run": 1}),
        json.dumps({"owner": "a" * 2000, "id": ID, "run": 1}),
        json.dumps({"owner": "local", "id": "../../x", "run": 1}),
        json.dumps({"owner": "local", "id": ID, "run": 1}),
        "\x00\ud800",
    ],
    ids=lambda body: repr(body)[:40],
)
def test_a_letter_of_nobody_s_changes_nothing(service: Service, body: str) -> None:
    service.dead_letters.bury(body)
    assert [entry.key for entry in service.bucket.listing("")] == []


def test_only_a_run_that_waits_is_buried(uploader: Uploader, service: Service, api: TestClient) -> None:
    upload = uploader.send(SPEECH)
    first, second = Job("local", upload.id, 1), Job("local", upload.id, 2)

    def same(job: Job) -> None:
        before = api.get(f"/transcriptions/{upload.id}").json()
        service.dead_letters.bury(body_of(job))
        assert api.get(f"/transcriptions/{upload.id}").json() == before

    same(second)
    claimed(service, upload.id)
    same(first)
    api.post(f"/transcriptions/{upload.id}/cancel")
    same(first)
    api.post(f"/transcriptions/{upload.id}/retry")
    same(first)
    service.dead_letters.bury(body_of(second))
    assert upload.state() == "failed"
    same(second)


def test_a_record_nobody_can_read_is_left_as_it_is(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    key = record_key("local", upload.id)
    service.bucket.put(key, b'{"schema": 99}')
    service.dead_letters.bury(body_of(Job("local", upload.id, 1)))
    document = service.bucket.get(key)
    assert document is not None
    assert document.body == b'{"schema": 99}'


def test_a_sweep_that_dies_between_burial_and_letter_does_no_harm(
    redriven: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queued(redriven)

    class Dying(Queue):
        def delete(self, message: Message) -> None:
            raise KeyboardInterrupt

    killed_before_its_claim(redriven)
    monkeypatch.setattr(queue, "HIDDEN_SECONDS", 0)
    dying = deadletters.DeadLetters(
        redriven.transcriptions, Dying(redriven.queue.client, letters(redriven).url)
    )
    with pytest.raises(KeyboardInterrupt):
        dying.drain()
    redriven.transcriptions.retry("local", job.id)
    Sweep(redriven).run()
    assert letters(redriven).count() == 0
    record = redriven.transcriptions.get("local", job.id).record
    assert (record.state, record.run) == (State.QUEUED, 2)


def test_a_sweep_takes_no_more_than_so_many_letters_at_once(
    redriven: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadletters, "MOST", 3)
    dead = letters(redriven)
    for _ in range(4):
        dead.client.send_message(QueueUrl=dead.url, MessageBody=str(uuid.uuid4()))
    Sweep(redriven).run()
    assert dead.count() == 1
    Sweep(redriven).run()
    assert dead.count() == 0


def test_a_dead_letter_queue_that_is_not_there_stops_no_sweep(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.begin()
    bucket.later = timedelta(minutes=20)
    lost = service.settings.model_copy(update={"dead_letters_url": f"{service.queue.url}-not"})
    Sweep(Service.of(lost, bucket, service.queue)).run()
    assert upload.state() == "expired"
