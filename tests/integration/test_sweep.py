"""What the sweep finds and puts right, on a real bucket whose clock is put forward."""

from datetime import timedelta

import httpx2
from bucketscribe.markers import Kind
from bucketscribe.queue import Job
from bucketscribe.records import Part, State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, leftovers, refused

IDLE = timedelta(seconds=600)


def test_an_idle_upload_is_ended_and_says_so(uploader: Uploader, sweep: Sweep, bucket: LaterBucket) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    bucket.later = IDLE + timedelta(seconds=5)
    sweep.run()
    assert upload.state() == "expired"
    assert leftovers(bucket, upload.id) == []
    for answer in (upload.parts(), upload.complete([part]), upload.abort()):
        problem = refused(answer, 410, "upload_expired")
        assert "expired" in problem


def test_an_upload_whose_parts_are_young_is_left_alone(
    uploader: Uploader, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = uploader.begin()
    bucket.later = IDLE - timedelta(seconds=5)
    sweep.run()
    assert upload.state() == "uploading"
    assert upload.put(1, SPEECH)


def test_listing_the_parts_is_a_sign_of_life(uploader: Uploader, sweep: Sweep, bucket: LaterBucket) -> None:
    upload = uploader.begin()
    bucket.later = IDLE - timedelta(seconds=60)
    assert upload.parts().status_code == 200
    bucket.later = IDLE + timedelta(seconds=60)
    sweep.run()
    assert upload.state() == "uploading"
    bucket.later = IDLE * 2
    sweep.run()
    assert upload.state() == "expired"


def test_an_upload_completed_behind_our_back_is_finished_not_expired(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    record = service.transcriptions.get("local", upload.id).record
    bucket.complete_upload(record.key, record.upload_id or "", [(1, part["ETag"])])
    bucket.later = IDLE * 2
    sweep.run()
    assert upload.state() == "queued"


def test_a_promised_completion_is_carried_out(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    service.records.change(
        "local",
        upload.id,
        lambda record, now: record.to(State.COMPLETING, parts=(Part(number=1, etag=part["ETag"]),)),
    )
    bucket.later = IDLE / 2
    sweep.run()
    assert upload.state() == "queued"
    assert upload.complete([part]).json()["state"] == "queued"


def test_a_completion_whose_upload_and_object_are_gone_fails_after_an_hour(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    service.records.change(
        "local",
        upload.id,
        lambda record, now: record.to(State.COMPLETING, parts=(Part(number=1, etag=part["ETag"]),)),
    )
    bucket.abort_uploads(upload.key)
    bucket.later = IDLE
    sweep.run()
    assert upload.state() == "completing"
    bucket.later = IDLE + timedelta(minutes=61)
    sweep.run()
    assert service.transcriptions.get("local", upload.id).record.error
    assert upload.state() == "failed"
    assert leftovers(bucket, upload.id) == []
    refused(upload.complete([part]), 404, "no_such_upload")


def test_a_lost_begin_is_ended(sweep: Sweep, service: Service, bucket: LaterBucket) -> None:
    from bucketscribe.records import new_id

    id = new_id()
    key = f"uploads/local/{id}/talk.wav"
    service.markers.put(Kind.UPLOADS, "local", id, key=key)
    bucket.begin_upload(key, "audio/wav")
    sweep.run()
    assert service.records.read("local", id) is None
    bucket.later = IDLE
    sweep.run()
    assert leftovers(bucket, id) == []
    assert service.transcriptions.get("local", id).record.state is State.EXPIRED


def test_a_lost_job_message_is_sent_again_only_when_the_queue_is_short(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    bucket.later = timedelta(minutes=6)
    sweep.run()
    assert service.queue.count() == 1
    message = service.queue.receive(1)
    assert message is not None
    service.queue.delete(message)
    bucket.later = timedelta(minutes=12)
    sweep.run()
    assert service.queue.count() == 1
    assert upload.state() == "queued"


def test_a_lease_that_is_over_is_queued_again_until_attempts_are_used_up(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    for attempt in (1, 2):
        claimed(service, upload.id)
        bucket.later += timedelta(minutes=6)
        sweep.run()
        record = service.transcriptions.get("local", upload.id).record
        assert (record.state, record.attempts) == (State.QUEUED, attempt)
    claimed(service, upload.id)
    bucket.later += timedelta(minutes=6)
    sweep.run()
    record = service.transcriptions.get("local", upload.id).record
    assert record.state is State.FAILED
    assert record.error is not None
    assert record.error.code == "attempts_exhausted"
    assert leftovers(bucket, upload.id) == [upload.key]


def test_a_worker_takes_over_a_lease_that_is_over(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    first = claimed(service, upload.id)
    assert service.transcriptions.claim(Job("local", upload.id, 1), "another") is None
    bucket.later = timedelta(seconds=service.settings.lease_seconds + 2)
    second = claimed(service, upload.id)
    assert second.token != first.token
    assert second.record.attempts == 1


def test_a_form_is_found_by_the_sweep(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    form = api.get("/s3/params", params={"filename": "talk.wav", "type": "audio/wav"}).json()
    sweep.run()
    assert service.transcriptions.get("local", form["id"]).record.state is State.UPLOADING
    httpx2.post(form["url"], data=form["fields"], files={"file": SPEECH})
    sweep.run()
    assert service.transcriptions.get("local", form["id"]).record.state is State.QUEUED


def test_a_form_nobody_used_ends_an_hour_after_its_policy(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    form = api.get("/s3/params", params={"filename": "talk.wav", "type": "audio/wav"}).json()
    bucket.later = timedelta(seconds=service.settings.url_expires_seconds) + timedelta(minutes=59)
    sweep.run()
    assert service.transcriptions.get("local", form["id"]).record.state is State.UPLOADING
    bucket.later += timedelta(minutes=2)
    sweep.run()
    assert service.transcriptions.get("local", form["id"]).record.state is State.EXPIRED
    assert leftovers(bucket, form["id"]) == []


def test_a_refused_form_that_is_used_again_is_emptied_again(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    form = api.get("/s3/params", params={"filename": "talk.wav", "type": "audio/wav"}).json()
    for _ in range(2):
        httpx2.post(form["url"], data=form["fields"], files={"file": b"just text " * 100})
        sweep.run()
        assert service.transcriptions.get("local", form["id"]).record.state is State.FAILED
        assert bucket.find(form["key"]) is None
    bucket.later = timedelta(hours=3)
    sweep.run()
    assert leftovers(bucket, form["id"]) == []


def test_markers_that_mean_nothing_are_passed_over_or_removed(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    bucket.put("open/stray", b"")
    bucket.put("open/jobs/local/not-an-id.1", b"")
    service.markers.put(Kind.UPLOADS, "local", upload.id, key=upload.key)
    service.markers.put(Kind.JOBS, "local", upload.id, 7)
    bucket.later = IDLE * 2
    sweep.run()
    assert f"open/jobs/local/{upload.id}.7" not in [entry.key for entry in bucket.listing("open/")]
    assert leftovers(bucket, upload.id) == [f"open/jobs/local/{upload.id}.1", upload.key]


def test_the_sweep_goes_on_when_one_look_fails(
    uploader: Uploader, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    first, second = uploader.begin(), uploader.begin()
    stored = service.records.read("local", first.id)
    assert stored is not None
    from bucketscribe.records import record_key

    bucket.put(record_key("local", first.id), b"not a record")
    bucket.later = IDLE * 2
    sweep.run()
    assert second.state() == "expired"
