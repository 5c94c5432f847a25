"""Clients of the older service, as they are: the requests they send, and what they read in the answers."""

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from bucketscribe import tasks
from bucketscribe.api import task_socket
from bucketscribe.api.app import create_app
from bucketscribe.auth import Scope
from bucketscribe.errors import Problem
from bucketscribe.keys import Keys, digest_of
from bucketscribe.records import Failure, Progress, new_id
from bucketscribe.service import Service
from bucketscribe.task_parameters import IGNORED
from fastapi.testclient import TestClient
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_access import ANN, BOB
from tests.integration.test_sign_in import listening
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, refused
from tests.integration.test_working import work_off

UNKNOWN = "0d7a1f5e-3b0e-4c55-9a53-3f8e1a3f1f10"
EVERYTHING = {
    "language": "en",
    "task": "transcribe",
    "model": "large-v3",
    "min_speakers": "1",
    "max_speakers": "3",
    "initial_prompt": "A speech.",
    "hotwords": "fellow",
} | dict.fromkeys(IGNORED, "1")


def speech_to_text(api: TestClient, **parameters: str) -> str:
    """Send the recording as a client of the older service does; the task's identifier."""
    answer = api.post("/speech-to-text", params=parameters, files={"file": ("jfk.wav", SPEECH)})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told == {"identifier": told["identifier"], "message": "Task queued"}
    return str(told["identifier"])


def task(api: TestClient, identifier: str) -> dict[str, Any]:
    answer = api.get(f"/task/{identifier}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def sent_by_tus(api: TestClient, name: str) -> str:
    """Send the recording as a task of this name; the transcription's id."""
    told = {"filename": "jfk.wav", "filetype": "audio/wav", "language": "en", "taskId": name}
    metadata = ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in told.items())
    created = api.post(
        "/uploads/files/",
        headers={
            "Tus-Resumable": "1.0.0",
            "Upload-Length": str(len(SPEECH)),
            "Upload-Metadata": metadata,
            "Content-Type": "application/offset+octet-stream",
        },
        content=SPEECH,
    )
    assert created.status_code == 201, created.text
    return created.headers["location"].rpartition("/")[2]


def test_a_recording_sent_by_tus_is_asked_for_by_the_name_its_client_gave_it(api: TestClient) -> None:
    sent_by_tus(api, UNKNOWN)
    asked = task(api, UNKNOWN)
    assert (asked["status"], asked["metadata"]["file_name"]) == ("queued", "jfk.wav")


def test_a_name_of_the_task_s_own_counts_for_the_limits_like_any_other(service: Service) -> None:
    settings = service.settings.model_copy(update={"max_open_uploads": 1})
    tus = Service.of(settings, service.bucket, service.queue).tus
    metadata = f"filename {b64encode(b'talk.wav').decode()},taskId {b64encode(b'meeting').decode()}"
    tus.create(OWNER, 1000, metadata)
    with pytest.raises(Problem) as told:
        tus.create(OWNER, 1000, metadata)
    assert told.value.code == "too_many_uploads"


def test_a_recording_sent_as_there_becomes_a_transcript_as_there(api: TestClient, service: Service) -> None:
    identifier = speech_to_text(api, device="cpu", compute_type="int8")
    waiting = task(api, identifier)
    assert (waiting["status"], waiting["result"], waiting["error"]) == ("queued", None, None)
    work_off(service)
    done = task(api, identifier)
    assert set(done) == {"status", "result", "metadata", "error"}
    assert (done["status"], done["error"]) == ("completed", None)
    first, *_ = done["result"]["segments"]
    assert set(first) == {"start", "end", "text", "words", "speaker"}
    text = " ".join(segment["text"] for segment in done["result"]["segments"]).lower()
    assert "ask not what your country can do for you" in text
    words = done["result"]["word_segments"]
    assert words == [word for segment in done["result"]["segments"] for word in segment["words"]]
    assert set(words[0]) == {"word", "start", "end", "score"}
    assert [word["word"].strip(".,").lower() for word in words][:5] == "and so my fellow americans".split()
    assert all(0 <= word["start"] <= word["end"] <= 11 and 0 <= word["score"] <= 1 for word in words)
    about = done["metadata"]
    assert (about["task_type"], about["file_name"], about["language"]) == ("full_process", "jfk.wav", "en")
    assert (about["url"], about["callback_url"]) == (None, None)
    assert about["audio_duration"] == pytest.approx(11, abs=0.1)
    assert about["duration"] > 0
    assert datetime.fromisoformat(about["start_time"]) < datetime.fromisoformat(about["end_time"])


def test_english_and_speakers_are_meant_where_nothing_is_said(api: TestClient, service: Service) -> None:
    said = service.transcriptions.get(OWNER, speech_to_text(api)).record.options
    assert (said.language, said.diarize) == ("en", True)
    other = speech_to_text(api, language="auto")
    assert service.transcriptions.get(OWNER, other).record.options.language is None


def test_everything_that_could_be_said_there_may_be_said_here(api: TestClient, service: Service) -> None:
    record = service.transcriptions.get(OWNER, speech_to_text(api, **EVERYTHING)).record
    options = record.options
    assert (options.language, options.task, options.model) == ("en", "transcribe", None)
    assert (options.min_speakers, options.max_speakers) == (1, 3)
    assert (options.initial_prompt, options.hotwords) == ("A speech.", "fellow")
    used = {"language", "task", "min_speakers", "max_speakers", "initial_prompt", "hotwords"}
    assert set(record.ignored) == {"model", *IGNORED} == set(EVERYTHING) - used


def test_a_model_that_is_here_is_used(api: TestClient, service: Service) -> None:
    model = service.settings.allowed_models[0]
    record = service.transcriptions.get(OWNER, speech_to_text(api, model=model)).record
    assert (record.options.model, record.ignored) == (model, ())


@pytest.mark.parametrize(
    "parameters", [{"language": "klingon"}, {"min_speakers": "3", "max_speakers": "2"}, {"task": "sing"}]
)
def test_a_bad_value_is_refused_and_nothing_is_kept(
    api: TestClient, bucket: LaterBucket, parameters: dict[str, str]
) -> None:
    answer = api.post("/speech-to-text", params=parameters, files={"file": ("jfk.wav", SPEECH)})
    refused(answer, 422, "invalid_option")
    assert [entry.key for entry in bucket.listing("")] == []


def test_a_url_becomes_a_task(api: TestClient, service: Service) -> None:
    url = "https://example.com/talks/jfk.wav"
    answer = api.post("/speech-to-text-url", params={"language": "de", "device": "cuda"}, data={"url": url})
    assert answer.status_code == 200, answer.text
    identifier = answer.json()["identifier"]
    about = task(api, identifier)["metadata"]
    assert (about["url"], about["file_name"], about["language"]) == (url, "jfk.wav", "de")
    assert service.transcriptions.get(OWNER, identifier).record.ignored == ("device",)
    refused(api.post("/speech-to-text-url", data={"url": "file:///etc/passwd"}), 422, "invalid_option")
    refused(api.post("/speech-to-text-url", data={}), 422, "invalid_request")


# Tasks


def test_every_task_is_listed_newest_first(api: TestClient, uploader: Uploader, service: Service) -> None:
    first, second = uploader.send(SPEECH, "one.wav"), uploader.send(SPEECH, "two.wav", language="de")
    running = uploader.send(SPEECH, "three.wav")
    service.transcriptions.cancel(OWNER, first.id)
    claimed(service, running.id)
    answer = api.get("/task/all").json()
    assert (answer["total"], answer["page"]) == (3, 1)
    told = {one["identifier"]: one for one in answer["tasks"]}
    assert list(told) == [running.id, second.id, first.id]
    assert [one["status"] for one in told.values()] == ["processing", "queued", "failed"]
    assert told[second.id] | {"start_time": None} == {
        "identifier": second.id,
        "status": "queued",
        "task_type": "full_process",
        "file_name": "two.wav",
        "url": None,
        "callback_url": None,
        "audio_duration": None,
        "language": "de",
        "error": None,
        "duration": None,
        "start_time": None,
        "end_time": None,
    }
    assert told[first.id]["error"] == "It was canceled by its owner."


def test_the_list_is_searched_and_divided_into_pages(api: TestClient, uploader: Uploader) -> None:
    names = [f"Talk {number}.wav" for number in range(5)] + ["speech.wav"]
    for name in names:
        uploader.begin(name)

    def listed(**query: Any) -> tuple[list[str], int]:
        answer = api.get("/task/all", params=query).json()
        return [one["file_name"] for one in answer["tasks"]], answer["total"]

    assert listed(q="TALK", page_size=2) == (["Talk 4.wav", "Talk 3.wav"], 5)
    assert listed(q="TALK", page_size=2, page=3) == (["Talk 0.wav"], 5)
    assert listed(q="TALK", page_size=2, page=4) == ([], 5)
    assert listed(status="completed") == ([], 0)
    assert listed(status="queued") == (names[::-1], 6)


def test_more_than_a_page_of_records_is_listed(
    api: TestClient, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_READ_AT_ONCE", 2)
    monkeypatch.setattr(tasks, "NEWEST", 4)
    ids = [uploader.begin().id for _ in range(5)]
    assert [one["identifier"] for one in api.get("/task/all").json()["tasks"]] == ids[:0:-1]


def test_a_task_that_is_deleted_is_gone(api: TestClient, uploader: Uploader, bucket: LaterBucket) -> None:
    upload = uploader.send(SPEECH)
    answer = api.delete(f"/task/{upload.id}/delete")
    assert (answer.status_code, answer.json()) == (200, {"identifier": upload.id, "message": "Task deleted"})
    for gone in (
        api.get(f"/task/{upload.id}"),
        api.get(f"/tasks/{upload.id}/progress"),
        api.delete(f"/task/{upload.id}/delete"),
    ):
        # Where the older service's clients look for what went wrong.
        assert "no transcription" in refused(gone, 404, "no_such_transcription")["detail"]


def test_an_unknown_task_is_a_404(api: TestClient) -> None:
    for identifier in (UNKNOWN, "x", "019aa5b2-7c1e-7d3a-9f00-0242ac120002"):
        refused(api.get(f"/task/{identifier}"), 404, "no_such_transcription")


def test_a_task_that_failed_says_why(api: TestClient, uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    service.transcriptions.fail(claimed(service, upload.id), Failure(code="no_audio", message="No sound."))
    told = task(api, upload.id)
    assert (told["status"], told["error"], told["result"]) == ("failed", "No sound.", None)


def test_a_transcript_that_is_no_longer_kept_is_a_410(
    api: TestClient, uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    work_off(service)
    bucket.delete_all(f"results/{OWNER}/{upload.id}/")
    refused(api.get(f"/task/{upload.id}"), 410, "no_longer_kept")


def test_a_task_is_found_by_the_name_its_client_gave_it(
    api: TestClient, service: Service, uploader: Uploader
) -> None:
    ids = [
        service.intake.open(OWNER, f"{name}.wav", None, {}, id=tasks.id_named(name)).record.id
        for name in (UNKNOWN, "another", UNKNOWN)
    ]
    uploader.begin()
    assert task(api, UNKNOWN)["metadata"]["file_name"] == f"{UNKNOWN}.wav"
    assert api.get(f"/tasks/{UNKNOWN}/progress").json()["identifier"] == ids[2]
    assert api.delete(f"/task/{UNKNOWN}/delete").json()["identifier"] == UNKNOWN
    refused(api.get(f"/transcriptions/{ids[2]}"), 404, "no_such_transcription")
    assert api.get("/tasks/another/progress").json()["identifier"] == ids[1]


def test_a_task_that_is_deleted_hides_no_older_one_of_its_name(api: TestClient, service: Service) -> None:
    older, newer = (sent_by_tus(api, "meeting") for _ in range(2))
    # Its record stays, as deleted, as long as the worker may still write.
    claimed(service, newer)
    for identifier in (newer, older):
        assert api.get("/tasks/meeting/progress").json()["identifier"] == identifier
        assert api.delete("/task/meeting/delete").status_code == 200
    refused(api.get("/task/meeting"), 404, "no_such_transcription")


def test_a_name_may_look_like_an_id(api: TestClient, service: Service) -> None:
    name = new_id()
    stored = service.intake.open(OWNER, "talk.wav", None, {}, id=tasks.id_named(name))
    assert api.get(f"/tasks/{name}/progress").json()["identifier"] == stored.record.id


def test_progress_counts_all_stages_together(api: TestClient, uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)

    def told() -> tuple[str, int, str | None]:
        answer = api.get(f"/tasks/{upload.id}/progress").json()
        assert (answer["identifier"], answer["error"]) == (upload.id, None)
        return answer["status"], answer["progress_percentage"], answer["progress_stage"]

    assert told() == ("queued", 0, "queued")
    claim = claimed(service, upload.id)
    seen = [told()]
    for stage, percent in (
        *(("decoding", 50), ("transcribing", 0), ("transcribing", 40), ("aligning", 50)),
        *(("diarizing", 0), ("diarizing", 100), ("saving", 100)),
    ):
        service.transcriptions.renew(claim, Progress(stage=stage, percent=percent))
        seen.append(told())
    assert seen == [
        ("processing", 0, "transcribing"),
        ("processing", 5, "transcribing"),
        ("processing", 10, "transcribing"),
        ("processing", 30, "transcribing"),
        ("processing", 35, "aligning"),
        ("processing", 60, "diarizing"),
        ("processing", 95, "diarizing"),
        ("processing", 99, "diarizing"),
    ]


# WebSockets


@pytest.fixture
def port(service: Service) -> Iterator[int]:
    with listening(create_app(service)) as port:
        yield port


def said(socket: ClientConnection) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(socket.recv(timeout=20))
    assert datetime.fromisoformat(message.pop("timestamp"))
    return message


def progress(id: str, stage: str, percentage: int) -> dict[str, Any]:
    return {"type": "progress", "task_id": id, "stage": stage, "percentage": percentage, "message": ""}


def closed(socket: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed):
        socket.recv(timeout=20)
    assert socket.close_code is not None
    return socket.close_code


def test_a_task_is_followed_to_its_end(port: int, uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    with connect(f"ws://127.0.0.1:{port}/ws/tasks/{upload.id}") as socket:
        assert said(socket) == progress(upload.id, "queued", 0)
        socket.send('{"type": "ping"}')
        assert json.loads(socket.recv(timeout=20)) == {"type": "pong"}
        for nonsense in ("no json", "[]", "7", b"\xff", "[" * 100_000):
            socket.send(nonsense)
        worker = threading.Thread(target=work_off, args=(service,))
        worker.start()
        seen = [said(socket)]
        while seen[-1]["stage"] != "complete":
            seen.append(said(socket))
        worker.join()
        assert seen[-1] == progress(upload.id, "complete", 100)
        percentages = [message["percentage"] for message in seen]
        assert percentages == sorted(percentages)
        assert closed(socket) == 1000


def test_what_failed_is_told_as_an_error(port: int, uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    with connect(f"ws://127.0.0.1:{port}/ws/tasks/{upload.id}") as socket:
        said(socket)
        service.transcriptions.fail(
            claimed(service, upload.id), Failure(code="no_audio", message="No sound.")
        )
        told = said(socket)
        while told["type"] == "progress":
            told = said(socket)
        assert told == {
            "type": "error",
            "task_id": upload.id,
            "error_code": "PROCESSING_FAILED",
            "user_message": "No sound.",
            "technical_detail": "no_audio",
        }
        assert closed(socket) == 1000


def test_a_socket_is_kept_alive(port: int, uploader: Uploader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_socket, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(task_socket, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(task_socket, "LASTS_SECONDS", 0.5)
    upload = uploader.send(SPEECH)
    with connect(f"ws://127.0.0.1:{port}/ws/tasks/{upload.id}") as socket:
        assert said(socket) == progress(upload.id, "queued", 0)
        told = {"type": "heartbeat"}
        with suppress(ConnectionClosed):
            while told == {"type": "heartbeat"}:
                told = said(socket)
        assert (told, socket.close_code) == ({"type": "heartbeat"}, 1012)


def turned_away(url: str, **headers: str) -> bool:
    with pytest.raises(InvalidStatus) as answer, connect(url, additional_headers=headers):
        pass
    return answer.value.response.status_code == 403


def test_an_unknown_task_is_not_followed(port: int) -> None:
    assert turned_away(f"ws://127.0.0.1:{port}/ws/tasks/{UNKNOWN}")


def test_in_open_mode_a_page_of_another_site_hears_nothing(port: int, uploader: Uploader) -> None:
    url = f"ws://127.0.0.1:{port}/ws/tasks/{uploader.send(SPEECH).id}"
    assert turned_away(url, Origin="https://example.com")
    assert turned_away(f"{url}?ticket=bkt_anything", Origin="https://example.com")
    assert turned_away(url, **{"X-Forwarded-For": "203.0.113.7"})
    with connect(url, additional_headers={"Origin": f"http://127.0.0.1:{port}"}) as socket:
        assert said(socket)["type"] == "progress"


def test_a_socket_needs_a_key_or_a_ticket(service: Service, bucket: LaterBucket) -> None:
    keys = Keys(bucket)
    settings = service.settings.model_copy(update={"auth": ("keys",)})
    guarded = Service.of(settings, bucket, service.queue)
    reader, stranger = (
        keys.new("a test's", ANN, (Scope.READ,), None),
        keys.new("a test's", BOB, (Scope.READ,), None),
    )
    uploader = keys.new("a test's", ANN, (Scope.UPLOAD,), None)
    id = guarded.intake.open(ANN, "talk.wav", None, {}).record.id
    app = create_app(guarded)
    with listening(app) as port, calling(guarded) as api:
        url = f"ws://127.0.0.1:{port}/ws/tasks/{id}"

        def ticket(key: str, task_id: str = id) -> httpx2.Response:
            return api.post(
                "/api/ws/ticket", json={"task_id": task_id}, headers={"Authorization": f"Bearer {key}"}
            )

        made = ticket(reader)
        assert made.status_code == 201
        ends = datetime.fromisoformat(made.json()["expires_at"])
        assert timedelta(0) < ends - bucket.now() <= timedelta(seconds=62)
        refused(ticket(uploader), 403, "scope_missing")
        refused(ticket(stranger), 404, "no_such_transcription")
        assert turned_away(url)
        assert turned_away(url, Authorization=f"Bearer {uploader}")
        assert turned_away(url, Authorization=f"Bearer {stranger}")
        assert turned_away(f"{url}?ticket=bkt_x")
        with connect(url, additional_headers={"Authorization": f"Bearer {reader}"}) as socket:
            assert said(socket)["stage"] == "queued"
        with connect(f"{url}?ticket={made.json()['ticket']}") as socket:
            assert said(socket)["stage"] == "queued"
            # A ticket is no key of its own: it ends with the one it was made by.
            keys.revoke(digest_of(reader) or "")
            app.state.guard.authentication._remembered.clear()
            assert closed(socket) == 1008
