"""Long recordings: window by window, with workers that die and workers that are told to stop.

Windows of about 20 seconds here, so that two minutes have several. The worker is a real process with a real
model; what it hears is the speech of `jfk.wav`, over and over.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from bucketscribe.queue import Job
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.transcript import Transcript
from bucketscribe.worker.engines.base import Engine, Samples
from bucketscribe.worker.main import make_engine
from bucketscribe.worker.plan import Plan
from bucketscribe.worker.run import Run
from bucketscribe.worker.status import Status, Stopped
from fastapi.testclient import TestClient

from tests.integration.conftest import Upload, Uploader
from tests.integration.test_transcriptions import claimed, words  # noqa: F401 -- a fixture
from tests.media.make import encode, speech
from tests.servers import Servers

WINDOW_SECONDS = 20
TIMES = 8
SECONDS = 12.0 * TIMES
"""The speech takes 11 seconds, and there is one of silence behind it."""
POLL_SECONDS = 0.02
WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def recording() -> bytes:
    samples, rate = speech()
    once = np.concatenate((samples.reshape(1, -1), np.zeros((1, rate), np.float32)), axis=1)
    return encode("flac", np.tile(once, (1, TIMES)), rate)


@pytest.fixture
def upload(uploader: Uploader, recording: bytes) -> Upload:
    return uploader.send(recording, "long.flac", "audio/flac")


@pytest.fixture
def windowed(service: Service) -> Service:
    """The service with short windows."""
    settings = service.settings.model_copy(update={"window_seconds": WINDOW_SECONDS})
    return Service.of(settings, service.bucket, service.queue)


@contextmanager
def worker(servers: Servers, service: Service, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process with short windows and a short lease."""
    given = {
        "queue_url": service.queue.url,
        "model": "tiny.en",
        "window_seconds": WINDOW_SECONDS,
        "heartbeat_seconds": 0.5,
        "lease_seconds": 2,
        **settings,
    }
    environment = servers.environment | {
        f"BUCKETSCRIBE_{name.upper()}": str(value) for name, value in given.items()
    }
    process = subprocess.Popen([sys.executable, "-m", "bucketscribe.cli.main", "worker"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_until[T](
    look: Callable[[], T],
    fits: Callable[[T], bool],
    seconds: float = WAIT_SECONDS,
    pause: float = POLL_SECONDS,
) -> T:
    """Look at the bucket until what is there fits: nobody tells us when a file is made."""
    deadline = time.monotonic() + seconds
    while not fits(seen := look()):
        assert time.monotonic() < deadline, seen
        time.sleep(pause)
    return seen


def saved(service: Service, id: str) -> dict[str, str]:
    """The windows that are saved: name and ETag."""
    listing = service.bucket.listing(f"results/local/{id}/1/windows/")
    return {entry.key.rpartition("/")[2]: entry.etag for entry in listing}


def lose_lease(service: Service, id: str) -> None:
    """Do what the sweep does once the dead worker's lease is over."""
    job = Job("local", id, 1)
    wait_until(lambda: service.transcriptions.requeue_lost(job).state, lambda state: state is State.QUEUED)
    service.transcriptions.send(service.transcriptions.get("local", id).record)


def document(service: Service, id: str, name: str) -> bytes:
    found = service.bucket.get(f"results/local/{id}/1/{name}")
    assert found is not None
    return found.body


def told(transcript: Transcript) -> object:
    """What must be the same whoever has transcribed: all but the time it took."""
    return transcript.model_dump(exclude={"id", "timings"})


def plain(text: str) -> str:
    return " ".join(re.sub(r"[^a-z ]", "", text.lower()).split())


@pytest.fixture
def uninterrupted(uploader: Uploader, windowed: Service, recording: bytes) -> Transcript:
    """What comes out if nothing happens."""
    id = uploader.send(recording, "long.flac", "audio/flac").id
    engine = make_engine(windowed.settings)
    record = claimed(windowed, id).record
    return Run(windowed.settings, windowed.bucket, engine, record, Status()).finish().transcript


@pytest.mark.long
def test_a_worker_that_dies_costs_a_window_and_changes_no_word(
    upload: Upload,
    uninterrupted: Transcript,
    windowed: Service,
    servers: Servers,
    words: str,  # noqa: F811
) -> None:
    with worker(servers, windowed) as first:
        before = wait_until(lambda: saved(windowed, upload.id), lambda files: len(files) >= 2)
        first.kill()
        first.wait()
    before |= saved(windowed, upload.id)
    plan = Plan.model_validate_json(document(windowed, upload.id, "plan.json"))
    assert len(before) < len(plan.windows)
    lose_lease(windowed, upload.id)
    with worker(servers, windowed):
        wait_until(upload.state, lambda state: state == "completed")
    after = saved(windowed, upload.id)
    assert before.items() <= after.items()
    assert len(after) == len(plan.windows)
    record = windowed.transcriptions.get("local", upload.id).record
    assert (record.run, record.attempts) == (1, 0)
    transcript = Transcript.model_validate_json(document(windowed, upload.id, "transcript.json"))
    assert told(transcript) == told(uninterrupted)
    # No word is lost or doubled at a joint.
    assert plain(transcript.text) == " ".join([words] * TIMES)
    assert [segment.id for segment in transcript.segments] == list(range(len(transcript.segments)))
    assert all(one.end <= other.start for one, other in pairwise(transcript.segments))
    assert transcript.segments[-1].end <= transcript.duration == SECONDS


def test_windows_are_cut_where_nobody_speaks(uninterrupted: Transcript, windowed: Service) -> None:
    plan = Plan.model_validate_json(document(windowed, uninterrupted.id, "plan.json"))
    assert len(plan.windows) >= 5
    spoken = [word for segment in uninterrupted.segments for word in segment.words]
    for window in plan.windows[1:]:
        assert not any(word.start < window.offset < word.end for word in spoken)


def test_a_worker_told_to_stop_saves_its_window_first(
    upload: Upload, windowed: Service, servers: Servers
) -> None:
    with worker(servers, windowed, window_seconds=40) as process:
        # By the second window it knows how long one takes.
        wait_until(lambda: saved(windowed, upload.id), lambda files: len(files) >= 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
    record = windowed.transcriptions.get("local", upload.id).record
    assert (record.state, record.attempts, record.lease) == (State.QUEUED, 0, None)
    assert len(saved(windowed, upload.id)) == 2


@pytest.mark.long
def test_a_worker_told_twice_does_not_finish_its_window(
    upload: Upload, windowed: Service, servers: Servers
) -> None:
    with worker(servers, windowed, window_seconds=60) as process:
        wait_until(lambda: saved(windowed, upload.id), lambda files: len(files) >= 1)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(5) == 0
    assert windowed.transcriptions.get("local", upload.id).record.state is State.QUEUED
    assert len(saved(windowed, upload.id)) == 1


@pytest.mark.long
def test_progress_goes_over_all_windows_and_tells_the_time_left(
    uploader: Uploader, api: TestClient, windowed: Service, servers: Servers
) -> None:
    samples, rate = speech()
    upload = uploader.send(encode("flac", np.tile(samples, (1, 40)), rate), "long.flac", "audio/flac")
    with (
        worker(servers, windowed),
        api.stream("GET", f"/transcriptions/{upload.id}/events?wait=60") as stream,
    ):
        seen = [
            json.loads(line.removeprefix("data: "))["progress"]
            for line in stream.iter_lines()
            if line.startswith("data: ")
        ]
    working = [progress for progress in seen if progress and progress["stage"] == "transcribing"]
    percents = [progress["percent"] for progress in working]
    assert percents == sorted(percents)
    assert len(set(percents)) >= 4
    left = [progress["seconds_left"] for progress in working if progress["seconds_left"] is not None]
    assert left
    assert all(0 <= seconds < 60 for seconds in left)


class Overtaken:
    """The engine of a worker that is overtaken by a rival while it looks through the recording."""

    def __init__(self, engine: Engine, rival: Callable[[], object]) -> None:
        self.name = engine.name
        self.aligner = engine.aligner
        self.diarizer = engine.diarizer
        self.load = engine.load
        self.works = engine.works
        self.speaks = engine.speaks
        self.transcribe = engine.transcribe
        self._engine = engine
        self._rival = rival

    def language(self, audio: Samples, model: str) -> tuple[str, float] | None:
        self._rival()
        return self._engine.language(audio, model)


@pytest.mark.long
def test_whose_plan_comes_second_follows_the_first(upload: Upload, windowed: Service) -> None:
    record = claimed(windowed, upload.id).record
    engine = make_engine(windowed.settings)
    settings = windowed.settings.model_copy(update={"window_seconds": 30})
    status = Status()
    status.stop_after_window.set()

    def rival() -> None:
        with pytest.raises(Stopped):
            Run(settings, windowed.bucket, engine, record, status).finish()

    run = Run(windowed.settings, windowed.bucket, Overtaken(engine, rival), record, Status())
    finished = run.finish()
    plan = Plan.model_validate_json(document(windowed, upload.id, "plan.json"))
    assert plan.windows[0].seconds > 25
    assert len(saved(windowed, upload.id)) == len(plan.windows)
    windows = [
        json.loads(document(windowed, upload.id, f"windows/{number}.json"))
        for number in range(len(plan.windows))
    ]
    heard = [segment["text"] for window in windows for segment in window["segments"]]
    assert [segment.text for segment in finished.transcript.segments] == heard


def test_peaks_are_there_while_the_transcript_is_not(
    upload: Upload, api: TestClient, windowed: Service
) -> None:
    path = f"/transcriptions/{upload.id}/peaks"
    assert api.get(path).json()["code"] == "not_ready"
    claim = claimed(windowed, upload.id)
    status = Status()
    status.stop_after_window.set()
    with pytest.raises(Stopped):
        Run(windowed.settings, windowed.bucket, make_engine(windowed.settings), claim.record, status).finish()
    answer = api.get(path)
    assert answer.status_code == 307
    assert json.loads(document(windowed, upload.id, "peaks.json"))["length"] > 2000
    assert answer.headers["location"].partition("?")[0].endswith("/peaks.json")
