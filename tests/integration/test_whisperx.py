"""The GPU engine in its place, on a CPU: under `bucketscribe up`, and in a worker that dies and is stopped.

What it hears is real speech, by the model that comes with the package. Weights that align and that tell
speakers apart are only on the model hub, so that here the words keep Whisper's own times, with a warning.
"""

import json
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.transcript import Transcript
from bucketscribe.worker.main import make_engine
from bucketscribe.worker.plan import Plan
from bucketscribe.worker.run import Run
from bucketscribe.worker.status import Status

from tests.integration.conftest import Upload, Uploader
from tests.integration.test_transcriptions import claimed, words  # noqa: F401 -- a fixture
from tests.integration.test_up import Up, clean_environment, free_port
from tests.integration.test_windows import (  # noqa: F401 -- fixtures
    SECONDS,
    TIMES,
    document,
    lose_lease,
    plain,
    recording,
    saved,
    upload,
    wait_until,
    windowed,
    worker,
)
from tests.media import models
from tests.servers import Servers

JFK = Path(__file__).parents[1] / "media" / "jfk.wav"
START_SECONDS = 180.0
"""What torch takes to be imported from a disk that has not read it yet, and a window of work."""

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


class MoreThan:
    """Whether there are more windows than that."""

    def __init__(self, windows: int) -> None:
        self.windows = windows

    def __call__(self, files: dict[str, str]) -> bool:
        return len(files) > self.windows


def test_no_word_is_wrong_under_up(tmp_path: Path, words: str) -> None:  # noqa: F811
    port = free_port()
    with Up(tmp_path / "data", port, engine="whisperx", model="tiny.en") as up:
        up.says("Bucketscribe is ready:", START_SECONDS)
        command = [sys.executable, "-m", "bucketscribe.cli.main", "transcribe", str(JFK), "--format", "json"]
        command.append("--diarize")
        said = subprocess.check_output(
            command,
            env=clean_environment(server=up.url),
            cwd=tmp_path,
            timeout=START_SECONDS,
        )
    transcript = Transcript.model_validate_json(said)
    assert plain(transcript.text) == words
    assert transcript.engine == "whisperx"
    assert {"load", "decode", "language", "transcribe", "align"} <= set(transcript.timings)
    assert [warning.code for warning in transcript.warnings] == [
        "alignment_unavailable",
        "diarization_unavailable",
    ]
    # Each says what to do.
    assert "BUCKETSCRIBE_ALIGN_MODELS" in transcript.warnings[0].message
    assert "BUCKETSCRIBE_HF_TOKEN" in transcript.warnings[1].message
    spoken = [word for segment in transcript.segments for word in segment.words]
    assert all(one.end <= other.start for one, other in pairwise(spoken))
    assert 0 <= spoken[0].start < 1 < 10 < spoken[-1].end <= 11


def test_every_stage_leaves_its_mark_in_every_format(
    tmp_path: Path,
    uploader: Uploader,
    service: Service,
    words: str,  # noqa: F811
) -> None:
    """With models of random weights: the stages are the real ones, what they say is not."""
    models.wav2vec2(tmp_path / "align" / "en")
    models.diarization(tmp_path / "diarization")
    settings = service.settings.model_copy(update={"engine": "whisperx", "models_dir": tmp_path})
    id = uploader.send(JFK.read_bytes(), language="en", model="tiny.en", diarize="true", max_speakers=1).id
    record = claimed(service, id).record
    run = Run(settings, service.bucket, make_engine(settings), record, Status())
    transcript = run.finish().transcript
    assert plain(transcript.text) == words
    assert transcript.warnings == ()
    assert transcript.timings.keys() == {"load", "decode", "transcribe", "align", "diarize"}
    assert {segment.speaker for segment in transcript.segments} == {"SPEAKER_00"}
    assert {word.speaker for segment in transcript.segments for word in segment.words} == {"SPEAKER_00"}
    begin = transcript.segments[0].text[:10]
    for name, line in (
        ("srt", f"SPEAKER_00: {begin}"),
        ("vtt", f"<v SPEAKER_00>{begin}"),
        ("txt", f"SPEAKER_00: {begin}"),
        ("tsv", f"SPEAKER_00: {begin}"),
        ("ass", f"SPEAKER_00: {begin}"),
    ):
        assert line in document(service, id, f"transcript.{name}").decode()


def test_a_worker_that_ends_at_every_window_loses_and_doubles_no_word(
    upload: Upload,  # noqa: F811
    windowed: Service,  # noqa: F811
    servers: Servers,
    words: str,  # noqa: F811
) -> None:
    """By turns it is killed, and told to stop; the next one goes on behind the last window that was saved."""
    kept: dict[str, str] = {}
    for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        more = MoreThan(len(kept))
        with worker(servers, windowed, engine="whisperx") as process:
            wait_until(lambda: saved(windowed, upload.id), more, START_SECONDS)
            process.send_signal(ending)
            status = process.wait(30)
        assert status == (0 if ending is signal.SIGTERM else -ending)
        now = saved(windowed, upload.id)
        assert kept.items() <= now.items()
        kept = now
        if ending is signal.SIGKILL:
            lose_lease(windowed, upload.id)
        state = windowed.transcriptions.get("local", upload.id).record.state
        if state is State.COMPLETED:
            break
        assert state is State.QUEUED
    with worker(servers, windowed, engine="whisperx"):
        wait_until(upload.state, lambda state: state == "completed", START_SECONDS)
    plan = Plan.model_validate_json(document(windowed, upload.id, "plan.json"))
    now = saved(windowed, upload.id)
    assert kept.items() <= now.items()
    assert len(now) == len(plan.windows) >= 5
    record = windowed.transcriptions.get("local", upload.id).record
    assert (record.run, record.attempts) == (1, 0)
    transcript = Transcript.model_validate_json(document(windowed, upload.id, "transcript.json"))
    assert plain(transcript.text) == " ".join([words] * TIMES)
    assert all(one.end <= other.start for one, other in pairwise(transcript.segments))
    assert transcript.segments[-1].end <= transcript.duration == SECONDS
    assert json.loads(document(windowed, upload.id, "windows/0.json"))["timings"].keys() >= {"transcribe"}
