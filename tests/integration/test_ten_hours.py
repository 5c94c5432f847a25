"""Ten hours of speech on this machine, with a kill -9 in the middle, and the memory that takes."""

import json
import os
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.worker.ahead import windows
from bucketscribe.worker.cues import cues
from bucketscribe.worker.decode import Decoder
from bucketscribe.worker.engines.base import Request
from bucketscribe.worker.guards import without_loops
from bucketscribe.worker.main import make_engine
from bucketscribe.worker.plan import Plan

from tests.integration.conftest import Upload, Uploader
from tests.integration.test_windows import document, lose_lease, plain, saved, wait_until, worker
from tests.media.make import encode, speech
from tests.servers import Servers

HOURS = float(os.environ.get("BUCKETSCRIBE_TEST_HOURS", "10"))
PASSAGE = "ask what you can do for your country"
WINDOW_SECONDS = 600
PART_BYTES = 8 * 1024**2
SECONDS = 1800.0
PAUSE = 1.0
MEMORY_SLACK = 1.10
"""What an allocator makes of the same work on two days."""


def recording(hours: float) -> bytes:
    """The speech of `jfk.wav` and a second of silence, again and again: AAC frames can be put together."""
    samples, rate = speech()
    once = encode("aac", np.concatenate((samples.reshape(1, -1), np.zeros((1, rate), np.float32)), 1), rate)
    return once * round(hours * 3600 / 12)


def send(uploader: Uploader, hours: float) -> Upload:
    """An upload of such a recording."""
    body = recording(hours)
    upload = uploader.begin("long.aac", "audio/aac")
    parts = [body[at : at + PART_BYTES] for at in range(0, len(body), PART_BYTES)]
    upload.complete([upload.put(number, part) for number, part in enumerate(parts, start=1)])
    return upload


def wait_completed(service: Service, id: str) -> None:
    """Wait for the transcript."""
    state = lambda: service.transcriptions.get("local", id).record.state  # noqa: E731
    wait_until(state, lambda state: state is State.COMPLETED, SECONDS, PAUSE)


def words_of(service: Service, id: str, number: int) -> list[str]:
    """The words of a window that is saved."""
    window = json.loads(document(service, id, f"windows/{number}.json"))
    return [word["word"] for segment in window["segments"] for word in segment["words"]]


def heard(service: Service, plan: Plan, numbers: range) -> list[list[str]]:
    """The words of these windows as they are heard here and now."""
    engine = make_engine(service.settings)
    file = recording(HOURS)
    request = Request(model=plan.model, language=plan.language)
    found = []
    for samples in windows(
        lambda: Decoder(BytesIO(file)), [plan.windows[number] for number in numbers], lambda: None
    ):
        result = engine.transcribe(samples, request, lambda _share: None)
        words, _ = without_loops(result.words, result.speech)
        found.append([word.word for cue in cues(words) for word in cue])
    return found


def peak_bytes(process_id: int) -> int:
    """The most memory a process has had so far."""
    status = Path(f"/proc/{process_id}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_ten_hours_go_through_with_a_kill_in_the_middle_in_the_memory_of_one(
    uploader: Uploader, service: Service, servers: Servers, capsys: pytest.CaptureFixture[str]
) -> None:
    one = send(uploader, min(HOURS, 1))
    with worker(servers, service, window_seconds=WINDOW_SECONDS, lease_seconds=10) as process:
        wait_completed(service, one.id)
        memory_of_one = peak_bytes(process.pid)
    ten = send(uploader, HOURS)
    with worker(servers, service, window_seconds=WINDOW_SECONDS, lease_seconds=10) as process:
        half = int(HOURS * 3600 / WINDOW_SECONDS / 2)
        before = wait_until(lambda: saved(service, ten.id), lambda files: len(files) >= half, SECONDS, PAUSE)
        memory_before = peak_bytes(process.pid)
        process.kill()
        process.wait()
    lose_lease(service, ten.id)
    with worker(servers, service, window_seconds=WINDOW_SECONDS, lease_seconds=10) as process:
        wait_completed(service, ten.id)
        memory_after = peak_bytes(process.pid)

    assert before.items() <= saved(service, ten.id).items()
    plan = Plan.model_validate_json(document(service, ten.id, "plan.json"))
    assert len(saved(service, ten.id)) == len(plan.windows)
    transcript = json.loads(document(service, ten.id, "transcript.json"))
    assert transcript["duration"] == plan.duration == pytest.approx(HOURS * 3600, rel=0.01)
    assert all(one["end"] <= other["start"] for one, other in pairwise(transcript["segments"]))
    # This small a model says a sentence twice now and then, where it is all there is; none may be lost.
    assert plain(transcript["text"]).count(PASSAGE) >= round(HOURS * 3600 / 12) * 0.99
    # Before and after the kill, the words are those that one hears who is not disturbed.
    around = range(len(before) - 1, len(before) + 1)
    assert [words_of(service, ten.id, number) for number in around] == heard(service, plan, around)
    with capsys.disabled():
        print(f"peak memory: {memory_of_one >> 20} MiB for 1 h", end=", ")
        print(f"{memory_before >> 20} and {memory_after >> 20} MiB for {HOURS:g} h")
    assert max(memory_before, memory_after) <= memory_of_one * MEMORY_SLACK
