"""Retention by `bucketscribe purge`: what ended long ago goes, all else stays, and the API says so."""

from collections.abc import Callable
from contextlib import closing
from datetime import timedelta

import pytest
from bucketscribe import retention
from bucketscribe.bucket import Bucket
from bucketscribe.cli.main import app
from bucketscribe.queue import Job
from bucketscribe.records import Records, Stored, new_id
from bucketscribe.retention import Gone, Place, Retention
from bucketscribe.service import Service
from bucketscribe.transcriptions import Facts
from bucketscribe.worker.main import Worker
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

from tests.conftest import LaterBucket
from tests.crash.world import StandInEngine
from tests.integration.conftest import Upload, Uploader
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, leftovers, refused
from tests.servers import Servers

MONTH = timedelta(days=30)
Purge = Callable[..., list[Gone]]


@pytest.fixture
def purge(service: Service, bucket: LaterBucket) -> Purge:
    """Purge a place as it will be after so many days."""

    def run(days: float, place: Place = Place.RECORDINGS, *, dry_run: bool = False) -> list[Gone]:
        before = bucket.now() + timedelta(days=days) - MONTH
        return list(Retention(bucket, service.records).purge(place, before, dry_run=dry_run))

    return run


def keys(bucket: Bucket) -> list[str]:
    return [entry.key for entry in bucket.listing("")]


def completed(uploader: Uploader, service: Service) -> Upload:
    """One that has a transcript, as far as the bucket can tell."""
    upload = uploader.send(SPEECH)
    claim = claimed(service, upload.id)
    for name in ("peaks.json", "windows/0.json", "transcript.json", "transcript.srt"):
        service.bucket.create(f"{claim.record.results_prefix}{name}", b"{}")
    service.transcriptions.complete(claim, Facts("en", 11, {}, ()))
    return upload


def test_recordings_go_a_month_after_the_end_and_nothing_else_does(
    uploader: Uploader, service: Service, bucket: LaterBucket, purge: Purge
) -> None:
    upload = completed(uploader, service)
    before = keys(bucket)
    assert purge(29) == []
    assert purge(31, dry_run=True) == [Gone(len(SPEECH))]
    assert keys(bucket) == before
    assert purge(31) == [Gone(len(SPEECH))]
    assert keys(bucket) == [key for key in before if key != upload.key]
    assert purge(31) == []


def test_what_has_not_ended_keeps_everything_however_old_it_is(
    uploader: Uploader, service: Service, api: TestClient, bucket: LaterBucket, purge: Purge
) -> None:
    uploading, queued, running, retried = (uploader.begin(), *(uploader.send(SPEECH) for _ in range(3)))
    uploading.put(1, SPEECH)
    held = claimed(service, running.id)
    bucket.create(f"{held.record.results_prefix}windows/0.json", b"{}")
    api.post(f"/transcriptions/{retried.id}/cancel")
    api.post(f"/transcriptions/{retried.id}/retry")
    completing = uploader.begin()
    part = completing.put(1, SPEECH)
    record = service.transcriptions.get("local", completing.id).record
    bucket.complete_upload(completing.key, record.upload_id or "", [(1, part["ETag"])])
    before = keys(bucket)
    assert {upload.state() for upload in (uploading, queued, running, retried)} == {
        "uploading",
        "queued",
        "running",
    }
    for place in Place:
        assert purge(10_000, place) == []
    assert keys(bucket) == before


@pytest.mark.parametrize("end", ["canceled", "failed"])
def test_what_failed_or_was_canceled_gives_up_its_recording_and_cannot_be_retried_any_more(
    uploader: Uploader, service: Service, api: TestClient, purge: Purge, end: str
) -> None:
    upload = uploader.send(SPEECH)
    if end == "canceled":
        api.post(f"/transcriptions/{upload.id}/cancel")
    else:
        service.dead_letters.bury(f'{{"owner": "local", "id": "{upload.id}", "run": 1}}')
    assert upload.state() == end
    assert purge(31) == [Gone(len(SPEECH))]
    assert leftovers(service.bucket, upload.id) == []
    said = refused(api.post(f"/transcriptions/{upload.id}/retry"), 409, "not_possible")
    assert "upload it again" in said["detail"]
    assert upload.state() == end


def test_a_retry_that_comes_while_its_recording_is_removed_fails_and_says_why(
    uploader: Uploader, service: Service, api: TestClient, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    api.post(f"/transcriptions/{upload.id}/cancel")

    class Retried(Records):
        def read(self, owner: str, id: str) -> Stored | None:
            """Whoever has looked finds everything changed."""
            stored = super().read(owner, id)
            assert api.post(f"/transcriptions/{id}/retry").status_code == 200
            return stored

    in_a_month = bucket.now() + timedelta(days=1)
    assert list(Retention(bucket, Retried(bucket)).purge(Place.RECORDINGS, in_a_month)) == [Gone(len(SPEECH))]
    assert upload.state() == "queued"
    claim = service.transcriptions.claim(Job("local", upload.id, 2), "a worker")
    assert claim is not None
    Worker(service, StandInEngine())._work(claim)
    shown = api.get(f"/transcriptions/{upload.id}").json()
    assert (shown["state"], shown["error"]["code"]) == ("failed", "recording_lost")
    refused(api.get(f"/transcriptions/{upload.id}/media"), 410, "no_longer_kept")
    refused(api.post(f"/transcriptions/{upload.id}/retry"), 409, "not_possible")


def test_results_stay_unless_they_are_named(
    uploader: Uploader, service: Service, bucket: LaterBucket, purge: Purge
) -> None:
    upload = completed(uploader, service)
    purge(31)
    assert purge(31, Place.RESULTS) == [Gone(8)]
    assert leftovers(bucket, upload.id) == []
    assert upload.state() == "completed"


def test_what_is_no_longer_kept_is_410_and_no_page_of_the_bucket(
    uploader: Uploader, service: Service, api: TestClient, purge: Purge
) -> None:
    upload = completed(uploader, service)
    path = f"/transcriptions/{upload.id}"
    purge(31)
    said = refused(api.get(f"{path}/media"), 410, "no_longer_kept")
    assert "Upload the recording again" in said["detail"]
    assert api.get(f"{path}/transcript.srt").status_code == 307
    assert api.get(f"{path}/peaks").status_code == 307
    purge(31, Place.RESULTS)
    for file in ("transcript.srt", "transcript.json", "peaks", "media"):
        refused(api.get(f"{path}/{file}"), 410, "no_longer_kept")
    assert api.get(path).json()["state"] == "completed"


def test_what_has_no_record_is_told_and_left(bucket: LaterBucket, purge: Purge) -> None:
    for key in (f"uploads/local/{new_id()}/a.wav", "uploads/stray.wav", "uploads/local/not-an-id/a.wav"):
        bucket.put(key, b"whose?")
    before = keys(bucket)
    assert purge(31) == [Gone(6, known=False)]
    assert keys(bucket) == before


def test_a_record_nobody_can_read_keeps_its_recording(
    uploader: Uploader, service: Service, bucket: LaterBucket, purge: Purge
) -> None:
    upload = completed(uploader, service)
    record_key = next(key for key in keys(bucket) if key.startswith("records/"))
    bucket.put(record_key, b'{"schema": 99}')
    assert purge(31) == []
    assert leftovers(bucket, upload.id) != []


def test_a_purge_that_dies_is_gone_on_with_by_the_next(
    uploader: Uploader,
    service: Service,
    bucket: LaterBucket,
    purge: Purge,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for _ in range(3):
        completed(uploader, service)
    monkeypatch.setattr(retention, "BATCH", 1)
    tomorrow = bucket.now() + timedelta(days=1)
    with closing(Retention(bucket, service.records).purge(Place.RECORDINGS, tomorrow)) as begun:
        next(begun)
    assert len(list(bucket.listing("uploads/"))) == 2
    assert len(purge(31)) == 2
    assert list(bucket.listing("uploads/")) == []
    assert len(list(bucket.listing("records/"))) == 3


def test_the_command_says_what_it_removes(
    uploader: Uploader, service: Service, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class InAMonth(LaterBucket):
        later = MONTH

    for name, value in servers.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("bucketscribe.bucket.Bucket", InAMonth)

    def run(*words: str) -> Result:
        return CliRunner().invoke(app, ["purge", *words])

    upload = completed(uploader, service)
    service.bucket.put(f"uploads/local/{new_id()}/talk.wav", b"whose?")
    size = len(SPEECH)
    told = run("--older-than", "29d", "--dry-run")
    assert (told.exit_code, told.stdout) == (
        0,
        f"recordings: would remove those of 1 transcriptions, {size} bytes\n",
    )
    assert "1 that have no record" in told.stderr
    assert service.bucket.find(upload.key) is not None
    assert run("--older-than", "721h").stdout == "recordings: removed those of 0 transcriptions, 0 bytes\n"
    assert run("--older-than", "29d", "--results").stdout.splitlines() == [
        f"recordings: removed those of 1 transcriptions, {size} bytes",
        "results: removed those of 1 transcriptions, 8 bytes",
    ]
    assert leftovers(service.bucket, upload.id) == []
    for senseless in ("0d", "30", "-1d", "1y", "2027-01-31"):
        assert run("--older-than", senseless).exit_code == 2
    assert run().exit_code == 2
