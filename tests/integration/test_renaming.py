"""Renaming, as an owner meets it: what things are called, and who speaks in them."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import count
from typing import Any

import httpx2
import pytest
from bucketscribe.bucket import Found, Written
from bucketscribe.errors import Problem
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Failure, State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.transcript import FORMATS, Segment, Transcript, Word, render
from bucketscribe.transcriptions import Facts
from fastapi.testclient import TestClient

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_hostile_names import harmless, told_name
from tests.integration.test_uploading import SPEECH, refused

LABELS = ("SPEAKER_00", "SPEAKER_01")
FACTS = Facts("en", 11.0, {}, ())

Spoken = Callable[..., str]


def dialogue(id: str) -> Transcript:
    """Two who speak in turn."""
    segments = []
    for number, (label, said) in enumerate(zip(LABELS, ("Ask not.", "What then?"), strict=True)):
        word = Word(start=number, end=number + 1, word=said, probability=1, speaker=label)
        segments.append(
            Segment(id=number, start=number, end=number + 1, text=said, words=(word,), speaker=label)
        )
    return Transcript(
        id=id,
        text="Ask not. What then?",
        language="en",
        language_probability=1,
        duration=11,
        segments=tuple(segments),
        engine="none",
        model="none",
    )


@pytest.fixture
def spoken(uploader: Uploader, service: Service) -> Spoken:
    """A transcription with a transcript of two speakers; with a failure, one that goes up to there."""

    def make(name: str = "talk.wav", failure: Failure | None = None) -> str:
        id = uploader.send(SPEECH, name).id
        claim = service.transcriptions.claim(Job(OWNER, id, 1), "a test")
        assert claim is not None
        for format in FORMATS:
            body = render(dialogue(id), format)
            service.bucket.create(f"{claim.record.results_prefix}transcript.{format}", body, FORMATS[format])
        if failure is None:
            service.transcriptions.complete(claim, FACTS)
        else:
            service.transcriptions.fail(claim, failure, FACTS)
        return id

    return make


def patch(api: TestClient, id: str, **changes: Any) -> dict[str, Any]:
    answer = api.patch(f"/transcriptions/{id}", json=changes)
    assert answer.status_code == 200, answer.text
    assert answer.json() == api.get(f"/transcriptions/{id}").json()
    return dict(answer.json())


def downloaded(api: TestClient, id: str, format: str) -> httpx2.Response:
    redirect = api.get(f"/transcriptions/{id}/transcript.{format}")
    assert redirect.status_code == 307, redirect.text
    file = httpx2.get(redirect.headers["location"])
    assert file.status_code == 200, file.text
    return file


def folders(bucket: LaterBucket, id: str) -> set[str]:
    """The folders of transcripts with names."""
    keys = [entry.key for entry in bucket.listing(f"results/{OWNER}/{id}/1/names-")]
    return {key.split("/")[4] for key in keys}


# Speakers


def test_a_speaker_s_name_is_in_every_format_and_the_label_still_in_the_json(
    api: TestClient, spoken: Spoken
) -> None:
    id = spoken()
    assert patch(api, id, speakers={"SPEAKER_00": " Ann <Lee> "})["speakers"] == {"SPEAKER_00": "Ann <Lee>"}
    files = {format: downloaded(api, id, format) for format in FORMATS}
    told = files["json"].json()
    assert told["speakers"] == {"SPEAKER_00": "Ann <Lee>"}
    assert [segment["speaker"] for segment in told["segments"]] == list(LABELS)
    assert [word["speaker"] for segment in told["segments"] for word in segment["words"]] == list(LABELS)
    assert files["txt"].text == "Ann <Lee>: Ask not.\nSPEAKER_01: What then?\n"
    assert "\tAnn <Lee>: Ask not.\n" in files["tsv"].text
    assert "<v Ann &lt;Lee&gt;>Ask not.\n" in files["vtt"].text
    assert "Ann <\u2060Lee>: Ask not.\n" in files["srt"].text
    assert ",,Ann <Lee>: Ask not." in files["ass"].text
    assert all("SPEAKER_00" not in files[format].text for format in FORMATS if format != "json")
    for format, content_type in FORMATS.items():
        assert files[format].headers["content-type"] == content_type
        assert f'"talk.{format}"' in files[format].headers["content-disposition"]


def test_names_are_added_changed_and_taken_away_and_old_files_go(
    api: TestClient, spoken: Spoken, bucket: LaterBucket
) -> None:
    id = spoken()
    before = {format: downloaded(api, id, format).content for format in FORMATS}
    patch(api, id, speakers={"SPEAKER_00": "Ann"})
    assert patch(api, id, speakers={"SPEAKER_01": "Bob"})["speakers"] == {
        "SPEAKER_00": "Ann",
        "SPEAKER_01": "Bob",
    }
    assert downloaded(api, id, "txt").text == "Ann: Ask not.\nBob: What then?\n"
    assert len(folders(bucket, id)) == 1
    same = api.get(f"/transcriptions/{id}").headers["etag"]
    patch(api, id, speakers={"SPEAKER_01": "Bob"})
    assert api.get(f"/transcriptions/{id}").headers["etag"] == same
    assert patch(api, id, speakers={"SPEAKER_00": "", "SPEAKER_01": "Ann"})["speakers"] == {
        "SPEAKER_01": "Ann"
    }
    assert downloaded(api, id, "txt").text == "SPEAKER_00: Ask not.\nAnn: What then?\n"
    assert patch(api, id, speakers={"SPEAKER_01": None})["speakers"] == {}
    assert {format: downloaded(api, id, format).content for format in FORMATS} == before
    assert folders(bucket, id) == set()


class Meeting(LaterBucket):
    """The real bucket, where the first two who write a transcript with names wait for each other."""

    def __init__(self, *of: Any) -> None:
        super().__init__(*of)
        self.arrivals, self.both = count(), threading.Barrier(2)

    def create(self, key: str, *args: Any) -> Written:
        if "/names-" in key and key.endswith(".json") and next(self.arrivals) < 2:
            self.both.wait(30)
        return super().create(key, *args)


def test_two_who_name_two_speakers_at_once_both_have_their_way(
    api: TestClient, spoken: Spoken, settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    id = spoken()
    meeting = Service.of(settings, Meeting(bucket.client, bucket.name), queue)
    with ThreadPoolExecutor(2) as threads:
        asked = [
            threads.submit(meeting.renaming.rename, OWNER, id, None, {label: name})
            for label, name in zip(LABELS, ("Ann", "Bob"), strict=True)
        ]
    for renamed in asked:
        renamed.result()
    assert downloaded(api, id, "json").json()["speakers"] == {"SPEAKER_00": "Ann", "SPEAKER_01": "Bob"}
    assert downloaded(api, id, "txt").text == "Ann: Ask not.\nBob: What then?\n"
    assert len(folders(bucket, id)) == 1


def test_what_a_renaming_that_died_has_written_goes_with_one_an_hour_later(
    api: TestClient, spoken: Spoken, bucket: LaterBucket
) -> None:
    id = spoken()
    bucket.create(f"results/{OWNER}/{id}/1/names-77/transcript.json", b"{}")
    patch(api, id, speakers={"SPEAKER_00": "Ann"})
    assert "names-77" in folders(bucket, id)
    bucket.later += timedelta(hours=1, seconds=2)
    patch(api, id, speakers={"SPEAKER_00": "Bob"})
    assert len(folders(bucket, id)) == 1
    assert downloaded(api, id, "txt").text.startswith("Bob: ")


class Hurried(LaterBucket):
    """The real bucket, where speakers are renamed just before somebody looks for a transcript."""

    rename_now: Callable[[], object] | None = None

    def find(self, key: str) -> Found | None:
        if "/transcript." in key and (rename := self.rename_now) is not None:
            self.rename_now = None
            rename()
        return super().find(key)


def test_a_download_in_the_middle_of_a_renaming_has_the_new_names(
    api: TestClient, spoken: Spoken, service: Service, settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    id = spoken()
    patch(api, id, speakers={"SPEAKER_00": "Ann"})
    hurried = Hurried(bucket.client, bucket.name)
    hurried.rename_now = lambda: service.renaming.rename(OWNER, id, None, {"SPEAKER_00": "Bob"})
    with calling(Service.of(settings, hurried, queue)) as asked:
        assert downloaded(asked, id, "txt").text.startswith("Bob: ")
    assert hurried.rename_now is None


class Deleting(LaterBucket):
    """The real bucket, where a transcription is deleted when the first format is written."""

    delete_now: Callable[[], None]

    def create(self, key: str, *args: Any) -> Written:
        written = super().create(key, *args)
        if "/names-" in key and key.endswith("/transcript.json"):
            self.delete_now()
        return written


def test_a_delete_in_the_middle_of_a_renaming_leaves_nothing(
    spoken: Spoken, service: Service, settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    id = spoken()
    # The last lease is long over, so that only the renaming can make the delete wait.
    bucket.later += timedelta(seconds=2 * settings.upload_idle_seconds)
    deleting = Deleting(bucket.client, bucket.name)
    deleting.later = bucket.later
    deleting.delete_now = lambda: service.transcriptions.delete(OWNER, id)
    with pytest.raises(Problem, match="no_such_transcription"):
        Service.of(settings, deleting, queue).renaming.rename(OWNER, id, None, {"SPEAKER_00": "Ann"})
    assert [entry.key for entry in bucket.listing("results/")] != []
    bucket.later += timedelta(seconds=settings.upload_idle_seconds + 3)
    assert service.transcriptions.purge(OWNER, id)
    assert [entry.key for entry in bucket.listing("")] == []


def test_a_transcript_up_to_a_failure_has_names_until_it_is_retried(
    api: TestClient, spoken: Spoken, service: Service
) -> None:
    id = spoken(failure=Failure(code="undecodable", message="It is damaged.", at_seconds=2))
    assert patch(api, id, speakers={"SPEAKER_00": "Ann"})["state"] == "failed"
    assert downloaded(api, id, "txt").text.startswith("Ann: ")
    assert api.post(f"/transcriptions/{id}/retry").json()["speakers"] == {}
    record = service.transcriptions.get(OWNER, id).record
    assert (record.state, record.run, record.names) == (State.QUEUED, 2, None)
    refused(api.patch(f"/transcriptions/{id}", json={"speakers": {"SPEAKER_00": "Ann"}}), 409, "not_ready")


def test_a_speaker_nobody_heard_cannot_be_named(
    api: TestClient, spoken: Spoken, uploader: Uploader, bucket: LaterBucket
) -> None:
    path = f"/transcriptions/{(id := spoken())}"
    for asked in ({"SPEAKER_02": "Ann"}, {"SPEAKER_00": "Ann", "": "Bob"}, {"\u202e": None}):
        problem = refused(api.patch(path, json={"speakers": asked}), 422, "invalid_option")
        assert "SPEAKER_00, SPEAKER_01" in problem["detail"]
    for name in ("a\nb", "a\x00b", "a\u2028b", "\u200b"):
        refused(api.patch(path, json={"speakers": {"SPEAKER_00": name}}), 422, "invalid_option")
    refused(api.patch(path, json={"speakers": {"SPEAKER_00": "a" * 101}}), 422, "invalid_request")
    assert folders(bucket, id) == set()
    waiting = uploader.send(SPEECH).id
    refused(
        api.patch(f"/transcriptions/{waiting}", json={"speakers": {"SPEAKER_00": "Ann"}}), 409, "not_ready"
    )
    bucket.delete(f"results/{OWNER}/{id}/1/transcript.json")
    refused(api.patch(path, json={"speakers": {"SPEAKER_00": "Ann"}}), 410, "no_longer_kept")


# The transcription itself


CALLED = {
    "Interview": "Interview",
    "Interview with Dr. Smith, 3.11.": "Interview with Dr. Smith, 3.11.",
    "Interview.mp3": "Interview",
    "../../etc/passwd": "_.._.._etc_passwd",
    "\u8a9e" * 1022: "\u8a9e" * 65,
}
"""Names, and what downloads are called then, without their extension."""


def test_a_renamed_recording_keeps_its_key_and_type_and_its_downloads_are_called_so(
    api: TestClient, spoken: Spoken
) -> None:
    id = spoken("talk.WAV")
    key = api.get(f"/transcriptions/{id}").json()["key"]
    for name, called in CALLED.items():
        told = patch(api, id, name=f" {name} ")
        assert (told["name"], told["key"], told["type"]) == (name, key, "audio/wav")
        srt = downloaded(api, id, "srt")
        assert told_name(srt.headers["content-disposition"]).startswith(called)
        assert told_name(srt.headers["content-disposition"]).endswith(".srt")
        media = httpx2.get(api.get(f"/transcriptions/{id}/media").headers["location"])
        assert media.content == SPEECH
        assert told_name(media.headers["content-disposition"]).removesuffix(".WAV") in (called, called[:-1])
        assert told_name(media.headers["content-disposition"]).endswith(".WAV")
        assert harmless(told_name(media.headers["content-disposition"]))


def test_a_recording_can_be_renamed_before_there_is_a_transcript(api: TestClient, uploader: Uploader) -> None:
    upload = uploader.begin()
    assert patch(api, upload.id, name="Monday")["state"] == "uploading"
    upload.complete([upload.put(1, SPEECH)])
    assert (patch(api, upload.id)["name"], upload.state()) == ("Monday", "queued")


def test_a_name_that_says_nothing_or_breaks_things_is_refused(api: TestClient, uploader: Uploader) -> None:
    path = f"/transcriptions/{uploader.begin().id}"
    blank: list[object] = ["", " ", "\u200b\u2060"]
    broken: list[object] = ["a\x00b", "a\r\nb", "\ud800", "a\u2029b", "a\x85b", "a" * 1025, 7, ["a"]]
    for name in blank + broken:
        body = json.dumps({"name": name})
        answer = api.patch(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["code"] in ("invalid_option", "invalid_request")
    assert api.get(path).json()["name"] == "talk.wav"
