"""One run, from the recording in the bucket to the transcript beside it: decode → engine → save.

Every file of a run is created once (`If-None-Match: *`), and what stands there is taken as it is: so a run
can be repeated after a death at any step, and a stale worker cannot spoil what another has finished. Order:
`plan.json`, `windows/0.json`, `transcript.json`, then the other formats, made from the one that stands.
"""

import json
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from ..bucket import Bucket, Conflict
from ..errors import FAILURES
from ..records import Failure, Progress, Record, Warning
from ..transcript import FORMATS, Segment, Transcript, render
from .decode import Audio, NoAudio, Undecodable, decode
from .engines.base import Engine, EngineFailed, ModelUnavailable, Request
from .recording import RecordingFile


class Stopped(Exception):
    """The work was told to stop: canceled, or the lease is lost."""


class PlanDiffers(Exception):
    """The run was planned for another engine or model; it cannot be gone on with."""


class RunFailed(Exception):
    """The run ends without a transcript; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Window(BaseModel):
    """A stretch of the recording, and what was heard in it. `start` and `end` in seconds."""

    model_config = ConfigDict(extra="allow")

    start: float
    end: float
    language: str | None
    language_probability: float | None
    segments: tuple[Segment, ...]
    timings: dict[str, float] = {}
    warnings: tuple[Warning, ...] = ()


@dataclass(slots=True)
class Status:
    """What the worker's loop and the work tell each other: progress out, `stop` in."""

    progress: Progress = field(default_factory=lambda: Progress(stage="starting", percent=0))
    windows: int = 0
    stop: threading.Event = field(default_factory=threading.Event)

    def reporter(self, stage: str) -> Callable[[float], None]:
        """A callback for the share of a stage that is done. It raises Stopped once `stop` is set."""

        def report(share: float) -> None:
            if self.stop.is_set():
                raise Stopped
            self.progress = Progress(stage=stage, percent=min(100, max(0, int(share * 100))))

        report(0)
        return report


class Run:
    """One attempt at a run."""

    def __init__(self, bucket: Bucket, engine: Engine, record: Record, model: str, status: Status) -> None:
        self.bucket = bucket
        self.engine = engine
        self.record = record
        self.status = status
        self.model = record.options.model or model
        self.timings: dict[str, float] = {}
        self.warnings: list[Warning] = []

    def transcript(self) -> Transcript:
        """The transcript, which stands in the bucket in every format when this returns.

        Raises RunFailed, PlanDiffers, Stopped, and botocore's errors where the bucket fails.
        """
        standing = self._standing("transcript.json")
        if standing is None:
            self._make_transcript()
            standing = self._standing("transcript.json")
            if standing is None:
                raise Stopped("the transcript was deleted")
        transcript = Transcript.model_validate_json(standing)
        report = self.status.reporter("saving")
        for done, (format, content_type) in enumerate(FORMATS.items()):
            report(done / len(FORMATS))
            self._create(f"transcript.{format}", render(transcript, format), content_type)
        return transcript

    def _make_transcript(self) -> None:
        self._check_plan()
        saved = self._standing("windows/0.json")
        window = Window.model_validate_json(saved) if saved is not None else self._hear()
        transcript = Transcript(
            id=self.record.id,
            text=" ".join(segment.text.strip() for segment in window.segments),
            language=window.language,
            language_probability=window.language_probability,
            duration=window.end,
            segments=window.segments,
            engine=self.engine.name,
            model=self.model,
            options=self.record.options.model_dump(mode="json", exclude_none=True),
            timings=window.timings,
            warnings=window.warnings,
        )
        self._create("transcript.json", render(transcript, "json"))

    def _hear(self) -> Window:
        options = self.record.options
        audio = self._decode()
        self._plan(audio.duration)
        if audio.skipped:
            text = f"{audio.skipped} damaged pieces of the recording were left out."
            self.warnings.append(Warning(code="damaged", message=text))
        if options.diarize:
            text = f"The engine {self.engine.name} cannot tell speakers apart; the transcript has none."
            self.warnings.append(Warning(code="no_speakers", message=text))
        request = Request(
            model=self.model,
            language=options.language,
            task=options.task,
            initial_prompt=options.initial_prompt,
            hotwords=options.hotwords,
            word_timestamps=options.word_timestamps,
        )
        try:
            with self._timed("load"):
                self.status.reporter("loading")
                self.engine.load(self.model)
            with self._timed("transcribe"):
                result = self.engine.transcribe(audio.samples, request, self.status.reporter("transcribing"))
        except (ModelUnavailable, EngineFailed) as error:
            raise RunFailed(Failure(code=error.code, message=str(error), stage="transcribing")) from error
        window = Window(
            start=0,
            end=round(audio.duration, 3),
            language=result.language,
            language_probability=result.language_probability,
            segments=result.segments,
            timings=self.timings,
            warnings=tuple(self.warnings),
        )
        self._create("windows/0.json", window.model_dump_json().encode())
        self.status.windows += 1
        return window

    def _decode(self) -> Audio:
        key, etag, size = self.record.key, self.record.etag or "", self.record.size or 0
        report = self.status.reporter("decoding")
        try:
            fetch = lambda start, end: self.bucket.read(key, start, end, etag)  # noqa: E731
            with self._timed("decode"), RecordingFile(fetch, size) as file:
                return decode(file, report)
        except Conflict:
            raise _failed("recording_changed", "decoding") from None
        except KeyError:
            raise _failed("recording_lost", "decoding") from None
        except NoAudio as error:
            raise RunFailed(Failure(code=error.code, message=str(error), stage="decoding")) from error
        except Undecodable as error:
            failure = Failure(
                code=error.code, message=str(error), stage="decoding", at_seconds=error.at_seconds
            )
            raise RunFailed(failure) from error

    def _check_plan(self) -> None:
        """See that what was planned, if anything was, is what this worker would do."""
        plan = json.loads(self._standing("plan.json") or b"null")
        if plan is not None and (plan["engine"], plan["model"]) != (self.engine.name, self.model):
            raise PlanDiffers

    def _plan(self, duration: float) -> None:
        """Write down what this run is; if somebody else was faster, see that it is the same."""
        plan: dict[str, Any] = {
            "schema": 1,
            "id": self.record.id,
            "run": self.record.run,
            "etag": self.record.etag,
            "engine": self.engine.name,
            "model": self.model,
            "options": self.record.options.model_dump(mode="json", exclude_none=True),
            "windows": [{"start": 0, "end": round(duration, 3)}],
        }
        if not self._create("plan.json", json.dumps(plan).encode()):
            self._check_plan()

    def _standing(self, name: str) -> bytes | None:
        document = self.bucket.get(self.record.results_prefix + name)
        return None if document is None else document.body

    def _create(self, name: str, body: bytes, content_type: str = "application/json") -> bool:
        """Create a file of the run; False if it stands already, which is as good."""
        try:
            self.bucket.create(self.record.results_prefix + name, body, content_type)
        except Conflict:
            return False
        return True

    @contextmanager
    def _timed(self, stage: str) -> Any:
        begun = time.monotonic()
        yield
        self.timings[stage] = round(time.monotonic() - begun, 3)


def _failed(code: str, stage: str) -> RunFailed:
    return RunFailed(Failure(code=code, message=FAILURES[code], stage=stage))
