"""Transcriptions as their owner meets them: list, read, follow, download, cancel, retry, delete."""

import json
from collections.abc import Callable

import httpx2
import pytest
from bucketscribe.queue import Job
from bucketscribe.records import Failure, Progress
from bucketscribe.service import Service
from bucketscribe.transcriptions import Claim, LeaseLost
from bucketscribe.worker.main import make_engine
from bucketscribe.worker.run import Run
from bucketscribe.worker.status import Status
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
from tests.integration.test_uploading import SPEECH, leftovers, refused

Transcribe = Callable[[str], None]


def claimed(service: Service, id: str, run: int = 1) -> Claim:
    claim = service.transcriptions.claim(Job("local", id, run), "a test")
    assert claim is not None
    return claim


@pytest.fixture(scope="session")
def words() -> str:
    return (
        "and so my fellow americans ask not what your country can do for you "
        "ask what you can do for your country"
    )


@pytest.fixture
def transcribe(service: Service) -> Transcribe:
    """Do a worker's work here and now, with the real engine."""
    engine = make_engine(service.settings)

    def work(id: str) -> None:
        claim = claimed(service, id)
        finished = Run(service.settings, service.bucket, engine, claim.record, Status()).finish()
        service.transcriptions.complete(claim, finished.facts)

    return work


def test_every_format_is_downloaded_from_the_bucket_under_a_sensible_name(
    uploader: Uploader, api: TestClient, transcribe: Transcribe, words: str
) -> None:
    upload = uploader.send(SPEECH, "Ask not.wav")
    refused(api.get(f"/transcriptions/{upload.id}/transcript.srt"), 409, "not_ready")
    transcribe(upload.id)
    texts = {}
    for format in ("json", "srt", "vtt", "txt", "tsv", "ass"):
        redirect = api.get(f"/transcriptions/{upload.id}/transcript.{format}")
        assert redirect.status_code == 307
        file = httpx2.get(redirect.headers["location"])
        assert file.status_code == 200, file.text
        assert f'"Ask not.{format}"' in file.headers["content-disposition"]
        texts[format] = file.text
    heard = "".join(c for c in texts["txt"].lower() if c.isalpha() or c.isspace())
    assert " ".join(heard.split()) == words
    transcript = json.loads(texts["json"])
    assert (transcript["language"], transcript["model"]) == ("en", "tiny.en")
    spoken = [word for segment in transcript["segments"] for word in segment["words"]]
    assert len(spoken) == len(words.split())
    assert 0 <= spoken[0]["start"] < spoken[-1]["end"] <= transcript["duration"] == 11.0
    assert texts["srt"].startswith("1\n00:00:0")
    assert texts["vtt"].startswith("WEBVTT\n\n1\n00:00:0")


def test_a_transcription_is_read_by_etag(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin()
    path = f"/transcriptions/{upload.id}"
    first = api.get(path)
    same = api.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    upload.complete([upload.put(1, SPEECH)])
    changed = api.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert changed.json()["state"] == "queued"
    assert (first.json()["accepted"], changed.json()["accepted"]) == (False, True)


def test_the_list_is_newest_first_and_goes_on_by_cursor(uploader: Uploader, api: TestClient) -> None:
    ids = [uploader.begin().id for _ in range(7)]
    done = uploader.send(SPEECH).id
    listed: list[str] = []
    cursor = None
    while True:
        page = api.get("/transcriptions", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        listed += [entry["id"] for entry in page["transcriptions"]]
        assert len(page["transcriptions"]) <= 3
        cursor = page["cursor"]
        if cursor is None:
            break
    assert listed == [done, *reversed(ids)]
    queued = api.get("/transcriptions", params={"state": "queued"}).json()
    assert [entry["id"] for entry in queued["transcriptions"]] == [done]


def test_events_tell_each_change_and_go_on_after_the_last_seen(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(SPEECH)
    claim = claimed(service, upload.id)
    service.transcriptions.renew(claim, Progress(stage="transcribing", percent=40))
    path = f"/transcriptions/{upload.id}/events?wait=0"
    first = api.get(path).text.splitlines()
    version = int(first[0].removeprefix("id: "))
    assert first[1] == "event: transcription"
    data = json.loads(first[2].removeprefix("data: "))
    assert data["progress"] == {"stage": "transcribing", "percent": 40, "seconds_left": None}
    assert api.get(path, headers={"Last-Event-ID": str(version)}).text == ""
    service.transcriptions.fail(claim, Failure(code="no_audio", message="Silent film."))
    again = api.get(f"/transcriptions/{upload.id}/events", headers={"Last-Event-ID": str(version)}).text
    assert json.loads(again.splitlines()[2].removeprefix("data: "))["state"] == "failed"


def test_the_recording_is_played_from_the_bucket(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin()
    refused(api.get(f"/transcriptions/{upload.id}/media"), 409, "not_ready")
    upload.complete([upload.put(1, SPEECH)])
    redirect = api.get(f"/transcriptions/{upload.id}/media")
    media = httpx2.get(redirect.headers["location"], headers={"Range": "bytes=0-3"})
    assert (media.status_code, media.content) == (206, b"RIFF")
    assert media.headers["content-disposition"].startswith("inline")


def test_a_recording_that_was_replaced_is_not_played(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(SPEECH)
    service.bucket.put(upload.key, b"another")
    refused(api.get(f"/transcriptions/{upload.id}/media"), 409, "recording_changed")


def test_canceling_keeps_the_recording_and_retry_queues_a_new_run(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(SPEECH)
    path = f"/transcriptions/{upload.id}"
    refused(api.post(f"{path}/retry"), 409, "not_possible")
    claim = claimed(service, upload.id)
    assert api.post(f"{path}/cancel").json()["state"] == "canceled"
    assert api.post(f"{path}/cancel").json()["state"] == "canceled"
    with pytest.raises(LeaseLost):
        service.transcriptions.renew(claim, Progress(stage="transcribing", percent=50))
    assert leftovers(service.bucket, upload.id) == [upload.key]
    retried = api.post(f"{path}/retry").json()
    assert (retried["state"], retried["run"]) == ("queued", 2)
    assert service.transcriptions.claim(Job("local", upload.id, 1), "a test") is None
    claimed(service, upload.id, run=2)


def test_an_upload_that_is_canceled_leaves_nothing_and_cannot_be_retried(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.begin()
    upload.put(1, SPEECH)
    canceled = api.post(f"/transcriptions/{upload.id}/cancel").json()
    assert (canceled["state"], canceled["accepted"]) == ("canceled", False)
    assert leftovers(service.bucket, upload.id) == []
    refused(api.post(f"/transcriptions/{upload.id}/retry"), 409, "not_possible")


def test_a_deleted_transcription_is_gone_at_once_and_leaves_nothing(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(SPEECH)
    path = f"/transcriptions/{upload.id}"
    assert api.delete(path).status_code == 202
    for answer in (api.get(path), api.delete(path), api.post(f"{path}/cancel"), api.get(f"{path}/media")):
        refused(answer, 404, "no_such_transcription")
    assert [entry.key for entry in service.bucket.listing("")] == []


def test_deleting_what_a_worker_holds_waits_for_the_last_lease(
    uploader: Uploader, api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    claim = claimed(service, upload.id)
    assert api.delete(f"/transcriptions/{upload.id}").status_code == 202
    bucket.create(f"{claim.record.results_prefix}transcript.json", b"{}")
    assert not service.transcriptions.purge("local", upload.id)
    bucket.later += service.transcriptions.settings.upload_idle_seconds * (type(bucket.later)(seconds=2))
    assert service.transcriptions.purge("local", upload.id)
    assert [entry.key for entry in bucket.listing("")] == []


@pytest.mark.parametrize("id", ["019aa5b2-7c1e-7d3a-9f00-0242ac120002", "x", "..%2F..", "%00", "019AA5B2"])
def test_an_unknown_id_is_not_found(api: TestClient, id: str) -> None:
    for answer in (
        api.get(f"/transcriptions/{id}"),
        api.get(f"/transcriptions/{id}/events"),
        api.get(f"/transcriptions/{id}/transcript.json"),
        api.post(f"/transcriptions/{id}/retry"),
        api.delete(f"/transcriptions/{id}"),
    ):
        assert answer.status_code in (404, 405), answer.text
        assert answer.json()["code"] in ("no_such_transcription", "no_such_route", "method_not_allowed")


def test_health_tells_what_does_not_answer(api: TestClient, service: Service) -> None:
    assert api.get("/health").json() == api.get("/health/live").json() == {"status": "ok"}
    assert api.get("/health/ready").json()["status"] == "ok"
    service.queue.url = service.queue.url + "-gone"
    answer = api.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["bucket"] == "ok"
    assert "NonExistentQueue" in answer.json()["queue"] or "does not exist" in answer.json()["queue"]
