"""One run, from the recording in the bucket to the transcript beside it: plan → windows → transcript.

Every file of a run is created once (`If-None-Match: *`), and what stands there is taken as it is: so a run
can be repeated after a death at any step, and a stale worker cannot spoil what another has finished. Order:
`peaks.json`, `plan.json`, then `windows/{n}.json` one after the other, `transcript.json`, and the other
formats, made from the one that stands. A worker that dies loses the window it was at, and nothing else.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from time import monotonic

from botocore.exceptions import ClientError
from pydantic import BaseModel, ConfigDict, ValidationError

from ..bucket import Bucket, Conflict, error_code
from ..errors import FAILURES
from ..records import Failure, Record, Warning
from ..settings import Settings
from ..transcript import FORMATS, Segment, Transcript, Word, render
from ..transcriptions import Facts
from .ahead import windows
from .cues import cues
from .decode import VERSION, Decoder, NoAudio, Track, Undecodable
from .engines.base import SAMPLE_RATE, Engine, EngineFailed, ModelUnavailable, Request, Samples
from .guards import Loop, without_loops
from .plan import Language, Plan, Stretch, Survey, TooLong, survey
from .recording import RecordingFile
from .status import Status

LOOPS_TOLD = 20
"""Warnings about repeated phrases in a transcript at most: one that has more is bad as a whole."""


class PlanDiffers(Exception):
    """The run was planned for another engine, model or decoder, or by another version of us."""


class FilesGone(Exception):
    """A file of the run that stood there is gone."""


class RunFailed(Exception):
    """The run ends without any transcript; `failure` says why."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Finished:
    """What a run came to. With a `failure`, the transcript ends where the recording could not be decoded."""

    transcript: Transcript
    failure: Failure | None

    @property
    def facts(self) -> Facts:
        """What the record tells of it."""
        made = self.transcript
        return Facts(made.language, made.duration, made.timings, made.warnings)


class Window(BaseModel):
    """What was heard in a window. `start` and `end`, and all times, in seconds of the recording."""

    model_config = ConfigDict(extra="allow")

    start: float
    end: float
    text: str
    segments: tuple[Segment, ...]
    timings: dict[str, float] = {}
    warnings: tuple[Warning, ...] = ()


class Run:
    """One attempt at a run."""

    def __init__(
        self, settings: Settings, bucket: Bucket, engine: Engine, record: Record, status: Status
    ) -> None:
        self.bucket = bucket
        self.engine = engine
        self.record = record
        self.status = status
        self.model = record.options.model or settings.model
        self.window_seconds = settings.window_seconds
        self.most_hours = settings.max_recording_hours

    def finish(self) -> Finished:
        """Carry the run out; the transcript stands in the bucket in every format when this returns.

        Raises RunFailed, PlanDiffers, FilesGone, Stopped, and botocore's errors where the bucket fails.
        """
        plan = self._standing_plan()
        standing = None if plan is None else self._standing("transcript.json")
        first: list[Samples] = []  # who takes the window out of it is the only one to hold it
        if plan is None:
            plan = self._make_plan(first)
        if standing is not None:
            transcript = _read(Transcript, standing)
        else:
            self._save_missing_windows(plan, first)
            transcript = self._assemble(plan)
        self._save_formats(transcript)
        return Finished(transcript, plan.failure)

    # The plan

    def _standing_plan(self) -> Plan | None:
        standing = self._standing("plan.json")
        if standing is None:
            return None
        plan = _read(Plan, standing)
        if (plan.engine, plan.model, plan.decoder) != (self.engine.name, self.model, VERSION):
            raise PlanDiffers
        return plan

    def _make_plan(self, first: list[Samples]) -> Plan:
        """Look through the recording; the plan that stands then. If it is ours, `first` gets a window."""
        timings: dict[str, float] = {}
        with _timed(timings, "load"):
            self._load()
        with _hearing("decoding"), _decoding(), _timed(timings, "decode"), self._recording() as decoder:
            listen = lambda samples: self._listen(samples, timings)  # noqa: E731
            report = self.status.reporter("decoding")
            found = survey(decoder, self.window_seconds, listen, report, self.most_hours)
            warnings = self._warnings(decoder.track, decoder.skipped, found)
        timings["decode"] = round(timings["decode"] - timings.get("language", 0), 3)
        language, probability = found.language or (None, None)
        plan = Plan(
            id=self.record.id,
            run=self.record.run,
            etag=self.record.etag,
            engine=self.engine.name,
            model=self.model,
            decoder=VERSION,
            options=self.record.options.model_dump(mode="json", exclude_none=True),
            duration=round(found.samples / SAMPLE_RATE, 3),
            language=language,
            language_probability=probability,
            windows=found.stretches if language is not None else (),
            warnings=warnings,
            failure=None if found.failure is None else _undecodable(found.failure),
            timings=timings,
        )
        self._create("peaks.json", found.peaks)
        if self._create("plan.json", plan.model_dump_json(by_alias=True).encode()):
            first.append(found.first)
            return plan
        # Somebody else was faster, and may be of another version: theirs is the one that counts.
        standing = self._standing_plan()
        if standing is None:
            raise FilesGone("plan.json")
        return standing

    def _load(self) -> None:
        self.status.reporter("loading")
        with _hearing("loading"):
            self.engine.load(self.model)

    def _listen(self, samples: Samples, timings: dict[str, float]) -> Language | None:
        language = self.record.options.language
        if language is not None and self.engine.speaks(self.model, language):
            return language, None
        with _timed(timings, "language"):
            return self.engine.language(samples, self.model)

    def _warnings(self, track: Track, skipped: int, found: Survey) -> tuple[Warning, ...]:
        warnings = []
        if track.of > 1:
            tag = f" ({track.language})" if track.language else ""
            text = f"The recording has {track.of} sound tracks; number {track.number}{tag} was transcribed."
            warnings.append(Warning(code="several_tracks", message=text))
        if skipped:
            text = f"{skipped} damaged pieces of the recording were left out."
            warnings.append(Warning(code="damaged", message=text))
        if found.failure is not None:
            warnings.append(Warning(code=found.failure.code, message=_undecodable(found.failure).message))
        language = self.record.options.language
        if language is not None and not self.engine.speaks(self.model, language):
            text = f"The model {self.model} does not know the language {language!r}; another was looked for."
            warnings.append(Warning(code="language_unsupported", message=text))
        if self.record.options.diarize:
            text = f"The engine {self.engine.name} cannot tell speakers apart; the transcript has none."
            warnings.append(Warning(code="no_speakers", message=text))
        return tuple(warnings)

    # Windows

    def _save_missing_windows(self, plan: Plan, first: list[Samples]) -> None:
        """Transcribe what is not saved yet. `first` holds the first window where it was just decoded."""
        prefix = f"{self.record.results_prefix}windows/"
        saved = set() if first else {entry.key for entry in self.bucket.listing(prefix)}
        missing = [number for number in range(len(plan.windows)) if f"{prefix}{number}.json" not in saved]
        if not missing:
            return
        stretches = [plan.windows[number] for number in missing]
        known = first.pop() if first else None
        if known is None:
            # Another worker's plan: nothing is loaded yet, and the recording is decoded from its beginning.
            self._load()
            self.status.reporter("decoding")
        with closing(windows(self._recording, stretches, self.status.check, known)) as decoded:
            del known
            for number, stretch in zip(missing, stretches, strict=True):
                with _decoding():
                    samples = [next(decoded)]
                if number == missing[0]:
                    # What comes before, such as a long recording's beginning, says nothing of the pace.
                    self.status.transcribing(
                        sum(window.seconds for window in plan.windows),
                        sum(window.seconds for window in stretches),
                    )
                self._save_window(plan, number, stretch, samples.pop())

    def _save_window(self, plan: Plan, number: int, stretch: Stretch, samples: Samples) -> None:
        options = self.record.options
        request = Request(
            model=self.model,
            language=plan.language,
            task=options.task,
            initial_prompt=options.initial_prompt,
            hotwords=options.hotwords,
        )
        timings: dict[str, float] = {}
        with _hearing("transcribing"), _timed(timings, "transcribe"):
            heard = self.engine.transcribe(samples, request, self.status.window_reporter(stretch.seconds))
        words, loops = without_loops(heard.words, heard.speech)
        window = Window(
            start=stretch.offset,
            end=stretch.offset + stretch.seconds,
            text="".join(word.word for word in words),
            segments=_segments(words, stretch, with_words=options.word_timestamps),
            timings=timings,
            warnings=tuple(_loop_warning(loop, stretch.offset) for loop in loops),
        )
        self._create(f"windows/{number}.json", window.model_dump_json().encode())
        self.status.window_saved()

    # The transcript

    def _assemble(self, plan: Plan) -> Transcript:
        """The transcript of the windows that stand; saved, or the one that stands already."""
        text = ""
        segments: list[Segment] = []
        timings = Counter(plan.timings)
        warnings: list[Warning] = []
        for number in range(len(plan.windows)):
            saved = self._standing(f"windows/{number}.json")
            if saved is None:
                raise FilesGone(f"windows/{number}.json")
            window = _read(Window, saved)
            self.status.check()
            text += window.text
            first = len(segments)
            segments += (replace(segment, id=first + segment.id) for segment in window.segments)
            timings.update(window.timings)
            warnings += window.warnings
        left_out = len(warnings) - LOOPS_TOLD
        if left_out > 0:
            more = f"{left_out} more passages were made of repeated phrases and cut."
            warnings[LOOPS_TOLD:] = [Warning(code="repetition", message=more)]
        transcript = Transcript(
            id=self.record.id,
            text=text.strip(),
            language=plan.language,
            language_probability=plan.language_probability,
            duration=plan.duration,
            segments=tuple(segments),
            engine=plan.engine,
            model=plan.model,
            options=plan.options,
            timings={stage: round(seconds, 3) for stage, seconds in timings.items()},
            warnings=(*plan.warnings, *warnings),
        )
        if self._create("transcript.json", render(transcript, "json")):
            return transcript
        standing = self._standing("transcript.json")
        if standing is None:
            raise FilesGone("transcript.json")
        return _read(Transcript, standing)

    def _save_formats(self, transcript: Transcript) -> None:
        report = self.status.reporter("saving")
        formats = [format for format in FORMATS if format != "json"]

        def save(format: str) -> None:
            self._create(f"transcript.{format}", render(transcript, format), FORMATS[format])

        with ThreadPoolExecutor(len(formats)) as threads:
            for done, _ in enumerate(threads.map(save, formats), start=1):
                report(done / len(formats))

    # The bucket

    @contextmanager
    def _recording(self) -> Iterator[Decoder]:
        key, etag, size = self.record.key, self.record.etag or "", self.record.size or 0

        def fetch(start: int, end: int) -> bytes:
            try:
                return self.bucket.read(key, start, end, etag)
            except Conflict:
                raise _failed("recording_changed", "decoding") from None
            except KeyError:
                raise _failed("recording_lost", "decoding") from None
            except ClientError as error:
                if error_code(error)[0] in (401, 403):
                    raise _failed("recording_unreadable", "decoding") from error
                raise

        with RecordingFile(fetch, size) as file, Decoder(file) as decoder:
            yield decoder

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


def _segments(words: Sequence[Word], stretch: Stretch, *, with_words: bool) -> tuple[Segment, ...]:
    """Captions of a window's words, in the recording's time."""
    segments: list[Segment] = []
    for cue in cues(words):
        moved = tuple(
            replace(word, start=word.start + stretch.offset, end=word.end + stretch.offset) for word in cue
        )
        segments.append(
            Segment(
                id=len(segments),
                start=moved[0].start,
                end=moved[-1].end,
                text="".join(word.word for word in moved).strip(),
                words=moved if with_words else (),
            )
        )
    return tuple(segments)


def _loop_warning(loop: Loop, offset: float) -> Warning:
    text = (
        f"At {loop.at_seconds + offset:.1f} s {loop.phrase!r} was heard {loop.times_heard} times in a row; "
        f"{loop.times_kept} fit into the time somebody speaks there, and the others were cut."
    )
    return Warning(code="repetition", message=text)


def _undecodable(error: Undecodable) -> Failure:
    return Failure(code=error.code, message=str(error), stage="decoding", at_seconds=error.at_seconds)


def _failed(code: str, stage: str) -> RunFailed:
    return RunFailed(Failure(code=code, message=FAILURES[code], stage=stage))


@contextmanager
def _decoding() -> Iterator[None]:
    """What can go wrong with a recording, as the end of the run."""
    try:
        yield
    except (NoAudio, TooLong) as error:
        raise RunFailed(Failure(code=error.code, message=str(error), stage="decoding")) from error
    except Undecodable as error:
        raise RunFailed(_undecodable(error)) from error


@contextmanager
def _hearing(stage: str) -> Iterator[None]:
    """What can go wrong with an engine, as the end of the run."""
    try:
        yield
    except (ModelUnavailable, EngineFailed) as error:
        raise RunFailed(Failure(code=error.code, message=str(error), stage=stage)) from error


def _read[M: BaseModel](model: type[M], document: bytes) -> M:
    """A file of the run. Raises PlanDiffers where another version of us has written it."""
    try:
        return model.model_validate_json(document)
    except ValidationError:
        raise PlanDiffers from None


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    begun = monotonic()
    yield
    timings[stage] = round(timings.get(stage, 0) + monotonic() - begun, 3)
