"""The worker on recordings that are damaged, changed or gone, and as a real process that is told to stop."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from fractions import Fraction
from io import BytesIO
from typing import Any

import av
import numpy as np
import pytest
from botocore.exceptions import ClientError
from bucketscribe.bucket import Document, Written
from bucketscribe.queue import Message, Queue
from bucketscribe.records import Failure, Progress, State, record_key
from bucketscribe.service import Service
from bucketscribe.transcript import Word
from bucketscribe.worker import models
from bucketscribe.worker.engines.base import Heard, Passage, Report, Request, Samples
from bucketscribe.worker.main import Worker, make_engine
from bucketscribe.worker.run import FilesGone, PlanDiffers, Run, RunFailed
from bucketscribe.worker.status import Status, Stopped
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH
from tests.media.make import encode, speech
from tests.media.odd import tracks
from tests.servers import Servers


def silent_film() -> bytes:
    """A video without a sound track."""
    file = BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


OTHER_PLAN = (
    b'{"schema": 1, "id": "", "run": 1, "etag": null, "engine": "faster-whisper", "model": "enormous", '
    b'"decoder": "", "options": {}, '
    b'"duration": 0, "language": null, "language_probability": null, "windows": []}'
)


def run_of(service: Service, id: str, status: Status | None = None) -> Run:
    record = claimed(service, id).record
    return Run(service.settings, service.bucket, make_engine(service.settings), record, status or Status())


def download(api: TestClient, path: str) -> bytes:
    """A file of the bucket, by the redirect the API answers with."""
    answer = api.get(path)
    assert answer.status_code == 307
    with urllib.request.urlopen(answer.headers["location"]) as response:
        body: bytes = response.read()
        return body


def work_off(service: Service) -> None:
    """Be the worker for one job."""
    worker = Worker(service, make_engine(service.settings))
    claim = worker._next()
    assert claim is not None
    worker._work(claim)


def failure(service: Service, id: str) -> Failure:
    with pytest.raises(RunFailed) as failed:
        run_of(service, id).finish()
    return failed.value.failure


def test_a_film_without_sound_fails_with_no_audio(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(silent_film(), "film.mp4", "video/mp4")
    assert failure(service, upload.id).code == "no_audio"


def test_of_a_truncated_recording_all_that_is_there_is_transcribed(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    whole = encode("wav", *speech())
    upload = uploader.send(whole[: len(whole) * 7 // 10])
    work_off(service)
    shown = api.get(f"/transcriptions/{upload.id}").json()
    assert (shown["state"], shown["partial"], shown["error"]["code"]) == ("failed", True, "undecodable")
    assert shown["error"]["at_seconds"] == pytest.approx(7.7, abs=0.2)
    assert shown["duration"] == shown["error"]["at_seconds"]
    assert [warning["code"] for warning in shown["warnings"]] == ["undecodable"]
    text = download(api, f"/transcriptions/{upload.id}/transcript.txt").decode()
    assert "ask not what your country can do for you" in text.replace("\n", " ")


def test_a_partial_transcript_is_gone_when_it_is_tried_again(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(encode("wav", *speech())[:100_000])
    work_off(service)
    shown = api.post(f"/transcriptions/{upload.id}/retry").json()
    assert (shown["state"], shown["partial"]) == ("queued", False)
    assert api.get(f"/transcriptions/{upload.id}/transcript.txt").json()["code"] == "not_ready"


def test_garbage_behind_a_valid_header_is_undecodable(uploader: Uploader, service: Service) -> None:
    whole = encode("mp4", *speech())
    garbage = whole[:64] + np.random.default_rng(1).bytes(len(whole))
    upload = uploader.send(garbage, "talk.mp4", "video/mp4")
    assert failure(service, upload.id).code == "undecodable"


def test_a_recording_that_was_replaced_is_not_transcribed(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    service.bucket.put(upload.key, SPEECH + b"\0")
    assert failure(service, upload.id).code == "recording_changed"


def test_a_recording_that_is_gone_is_lost(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    service.bucket.delete(upload.key)
    assert failure(service, upload.id).code == "recording_lost"


def test_silence_gives_an_empty_transcript(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(encode("wav", np.zeros((1, 16000 * 3), np.float32), 16000))
    finished = run_of(service, upload.id).finish()
    assert (finished.transcript.text, finished.transcript.segments) == ("", ())
    assert (finished.transcript.language, finished.failure) == (None, None)


def test_a_run_told_to_stop_leaves_no_transcript(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    status = Status()
    status.stop.set()
    run = run_of(service, upload.id, status)
    with pytest.raises(Stopped):
        run.finish()
    assert list(service.bucket.listing("results/")) == []


@pytest.mark.parametrize(
    "plan", [OTHER_PLAN, b'{"schema": 1, "of": "another version"}'], ids=["model", "version"]
)
def test_a_run_planned_for_something_else_becomes_the_next_run(
    uploader: Uploader, service: Service, plan: bytes
) -> None:
    upload = uploader.send(SPEECH)
    claim = claimed(service, upload.id)
    service.bucket.create(f"{claim.record.results_prefix}plan.json", plan)
    run = Run(service.settings, service.bucket, make_engine(service.settings), claim.record, Status())
    with pytest.raises(PlanDiffers):
        run.finish()
    service.transcriptions.restart(claim)
    record = service.transcriptions.get("local", upload.id).record
    assert (record.state, record.run) == (State.QUEUED, 2)


def test_what_an_engine_cannot_do_is_a_warning(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH, diarize=True)
    transcript = run_of(service, upload.id).finish().transcript
    assert [warning.code for warning in transcript.warnings] == ["no_speakers"]


def test_which_of_several_sound_tracks_was_transcribed_is_said(uploader: Uploader, service: Service) -> None:
    film = tracks("matroska", *speech(), [(64_000, False, "fra"), (48_000, True, "eng")])
    transcript = run_of(service, uploader.send(film, "film.mkv").id).finish().transcript
    (warning,) = transcript.warnings
    assert warning.code == "several_tracks"
    assert "2 sound tracks; number 2 (eng)" in warning.message
    assert "for your country" in transcript.text


def test_a_language_the_model_does_not_know_is_a_warning_and_not_a_fact(
    uploader: Uploader, service: Service
) -> None:
    upload = uploader.send(SPEECH, language="de")
    transcript = run_of(service, upload.id).finish().transcript
    assert [warning.code for warning in transcript.warnings] == ["language_unsupported"]
    assert transcript.language == "en"


def test_a_bucket_that_does_not_let_us_read_fails_the_run_with_the_reason(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    claim = claimed(service, upload.id)
    engine = make_engine(service.settings)
    denied = FailingReads(bucket.client, bucket.name)
    denied.status, denied.code = 403, "AccessDenied"
    with pytest.raises(RunFailed) as failed:
        Run(service.settings, denied, engine, claim.record, Status()).finish()
    assert failed.value.failure.code == "recording_unreadable"


def test_words_of_a_script_without_spaces_get_none(uploader: Uploader, service: Service) -> None:
    class Chinese(type(make_engine(service.settings))):  # type: ignore[misc]
        """A stand-in: no speech in that language is at hand."""

        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            words = [Word(start=n, end=n + 0.5, word="你好吗", probability=1) for n in range(10)]
            return Heard((Passage(0.0, 10.0, tuple(words)),), ((0.0, 10.0),))

    record = claimed(service, uploader.send(SPEECH).id).record
    engine = Chinese(lambda model: models.resolve(model, service.settings.data_dir / "models"))
    transcript = Run(service.settings, service.bucket, engine, record, Status()).finish().transcript
    assert transcript.text == "你好吗" * 10
    assert len(transcript.segments) > 1


def test_a_file_of_the_run_that_vanishes_is_left_to_the_lease(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    run = run_of(service, upload.id)
    run.finish()
    prefix = run.record.results_prefix
    service.bucket.delete(f"{prefix}transcript.json")

    class Vanishing(LaterBucket):
        """The real bucket, but it lists what it cannot give."""

        def get(self, key: str) -> Document | None:
            return None if key.endswith("windows/0.json") else super().get(key)

    bucket = Vanishing(service.bucket.client, service.bucket.name)
    with pytest.raises(FilesGone):
        Run(service.settings, bucket, run.engine, run.record, Status()).finish()


@contextmanager
def worker_process(servers: Servers, service: Service) -> Iterator[subprocess.Popen[bytes]]:
    environment = servers.environment | {
        "BUCKETSCRIBE_QUEUE_URL": service.queue.url,
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_HEARTBEAT_SECONDS": "0.5",
        "BUCKETSCRIBE_STOP_SECONDS": "0",
    }
    command = [sys.executable, "-m", "bucketscribe.cli.main", "worker"]
    process = subprocess.Popen(command, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def follow(api: TestClient, id: str, until: Callable[[str], bool]) -> list[str]:
    """The lines of an event stream, as far as the first that fits."""
    lines = []
    with api.stream("GET", f"/transcriptions/{id}/events?wait=60") as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if until(line):
                return lines
    raise AssertionError(lines)


def test_a_canceled_transcription_is_stopped_within_seconds_and_the_worker_goes_on(
    uploader: Uploader, api: TestClient, service: Service, servers: Servers
) -> None:
    samples, rate = speech()
    long = uploader.send(encode("flac", np.tile(samples, (1, 60)), rate), "long.flac", "audio/flac")
    short = uploader.send(SPEECH)
    with worker_process(servers, service) as process:
        follow(api, long.id, lambda line: '"transcribing"' in line)
        api.post(f"/transcriptions/{long.id}/cancel")
        follow(api, short.id, lambda line: '"state":"completed"' in line)
        assert long.state() == "canceled"
        # Nothing to do: told to stop, it stops at once, and not at the end of a long poll.
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_a_worker_with_no_time_to_stop_gives_its_run_back_at_once(
    uploader: Uploader, api: TestClient, service: Service, servers: Servers
) -> None:
    samples, rate = speech()
    upload = uploader.send(encode("flac", np.tile(samples, (1, 60)), rate), "long.flac", "audio/flac")
    with worker_process(servers, service) as process:
        follow(api, upload.id, lambda line: '"transcribing"' in line)
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(5) == 0
    record = service.transcriptions.get("local", upload.id).record
    assert (record.state, record.attempts, record.lease) == (State.QUEUED, 0, None)
    assert service.queue.count() == 1
    assert record.progress is None or isinstance(record.progress, Progress)


def test_a_record_nobody_can_read_does_not_stop_the_worker(
    uploader: Uploader, api: TestClient, service: Service, servers: Servers
) -> None:
    bad, good = uploader.send(SPEECH), uploader.send(SPEECH)
    service.bucket.put(record_key("local", bad.id), b'{"schema": 99}')
    with worker_process(servers, service) as process:
        follow(api, good.id, lambda line: '"state":"completed"' in line)
        assert process.poll() is None


def test_a_message_that_cannot_be_deleted_costs_no_job(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)

    class LostReceipt(Queue):
        def delete(self, message: Message) -> None:
            super().delete(Message(message.job, "a receipt from before a restart"))

    queue = LostReceipt(service.queue.client, service.queue.url)
    worker = Worker(Service.of(service.settings, service.bucket, queue), make_engine(service.settings))
    claim = worker._next()
    assert claim is not None
    assert claim.record.id == upload.id


class FailingReads(LaterBucket):
    """The real bucket, but it gives no recording: an object that a server cannot read cannot be had here."""

    status, code = 500, "InternalError"

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        answer: Any = {"Error": {"Code": self.code}, "ResponseMetadata": {"HTTPStatusCode": self.status}}
        raise ClientError(answer, "GetObject")


def test_a_recording_the_bucket_cannot_give_is_left_to_its_lease(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    failing = Service.of(service.settings, FailingReads(bucket.client, bucket.name), service.queue)
    worker = Worker(failing, make_engine(service.settings))
    claim = claimed(service, upload.id)
    worker._work(claim)
    record = service.transcriptions.get("local", upload.id).record
    assert (record.state, record.attempts) == (State.RUNNING, 0)
    assert service.transcriptions.claim(claim.job, "another") is None
    bucket.later = timedelta(seconds=service.settings.lease_seconds + 2)
    again = claimed(service, upload.id)
    # It was the bucket's fault: no number of such leases fails the run.
    assert again.record.attempts == 0


class Crammed(FailingReads):
    """Stands in for a bucket that is full for a while: it takes no document, this often."""

    refusals = 4

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Written:
        if self.refusals > 0:
            self.refusals -= 1
            answer: Any = {
                "Error": {"Code": "XMinioStorageFull"},
                "ResponseMetadata": {"HTTPStatusCode": 507},
            }
            raise ClientError(answer, "PutObject")
        return super().replace(key, body, etag, content_type)


def test_a_run_that_a_full_bucket_ends_is_given_back_when_there_is_room_and_loses_no_attempt(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    upload = uploader.send(SPEECH)
    settings = service.settings.model_copy(update={"heartbeat_seconds": 0.05})
    crammed = Crammed(bucket.client, bucket.name)
    worker = Worker(Service.of(settings, crammed, service.queue), make_engine(service.settings))
    worker._work(claimed(service, upload.id))
    assert crammed.refusals == 0
    record = service.transcriptions.get("local", upload.id).record
    assert (record.state, record.attempts, record.run) == (State.QUEUED, 0, 1)


def test_a_saved_window_of_another_model_is_not_taken_for_ours(uploader: Uploader, service: Service) -> None:
    upload = uploader.send(SPEECH)
    run = run_of(service, upload.id)
    run.finish()
    service.bucket.delete(f"{run.record.results_prefix}transcript.json")
    settings = service.settings.model_copy(update={"model": "base"})
    other = Run(settings, service.bucket, run.engine, run.record, Status())
    with pytest.raises(PlanDiffers):
        other.finish()


def test_a_run_that_goes_on_from_a_saved_window_keeps_its_warnings_and_timings(
    uploader: Uploader, service: Service
) -> None:
    upload = uploader.send(SPEECH, diarize=True)
    run = run_of(service, upload.id)
    whole = run.finish()
    for file in list(service.bucket.listing(f"{run.record.results_prefix}transcript.")):
        service.bucket.delete(file.key)
    again = Run(service.settings, service.bucket, run.engine, run.record, Status()).finish()
    assert again == whole
    assert again.facts.warnings
    assert again.facts.timings
