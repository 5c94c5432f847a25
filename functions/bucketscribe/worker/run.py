"""One run, from the recording in the bucket to the transcript beside it: plan → windows → transcript.

Every file of a run is created once (`If-None-Match: *`), and what stands there is taken as it is: so a run
can be repeated after a death at any step, and a stale worker cannot spoil what another has finished. Order:
`peaks.json`, `plan.json`, then `windows/{n}.json` one after the other, `speakers.json` where speakers are
told apart, `transcript.json`, and the other formats, made from the one that stands. A worker that dies loses
the window it was at, or the speakers, and nothing else.

The engine is used in the run's turn only, which begins with the first window's samples at hand and ends
before the transcript is put together: so the next run can be fetched and decoded meanwhile.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from ..bucket import Bucket
from ..records import Record, Warning
from ..settings import Settings
from ..transcript import FORMATS, Transcript, render
from .ahead import windows
from .assemble import assemble
from .decode import VERSION, Track
from .diarize import Speakers, find_speakers, left_out
from .endings import (
    FilesGone,
    Finished,
    PlanDiffers,
    RunFailed,
    costs_the_run,
    decoding,
    let_go,
    undecodable,
    using_engine,
)
from .engines.base import SAMPLE_RATE, Diarizer, Engine, Samples
from .files import Files
from .plan import Language, Plan, Survey, survey
from .status import Status
from .timings import Timings
from .turns import Turn, Turns
from .window import Listener, Window

__all__ = ["FilesGone", "Finished", "PlanDiffers", "Run", "RunFailed"]


class Run:
    """One attempt at a run."""

    def __init__(
        self,
        settings: Settings,
        bucket: Bucket,
        engine: Engine,
        record: Record,
        status: Status,
        turn: Turn | None = None,
    ) -> None:
        self.settings = settings
        self.files = Files(bucket, record)
        self.engine = engine
        self.record = record
        self.status = status
        self.turn = turn or Turns().join()
        self.model = record.options.model or settings.model
        self._whole: Samples | None = None  # of a recording of one window, kept for telling speakers apart

    def finish(self) -> Finished:
        """Carry the run out; the transcript stands in the bucket in every format when this returns.

        Raises RunFailed, PlanDiffers, FilesGone, Stopped, and botocore's errors where the bucket fails.
        """
        try:
            return self._finish()
        except BaseException as error:
            let_go(error)
            raise
        finally:
            self.turn.end()

    def _finish(self) -> Finished:
        plan = self._standing_plan()
        transcript = None if plan is None else self.files.find("transcript.json", Transcript)
        first: list[Samples] = []  # who takes the window out of it is the only one to hold it
        if plan is None:
            plan = self._make_plan(first)
        if transcript is None:
            self._save_missing_windows(plan, first)
            speakers = self._speakers(plan)
            self.turn.end()
            transcript = self._transcript(plan, speakers)
        self.turn.end()
        self._save_formats(transcript)
        return Finished(transcript, plan.failure)

    # The engine

    def _take_engine(self, timings: Timings) -> None:
        """Have the engine to ourselves, with the model loaded. Once it is so, this takes no time."""
        with self.status.within():
            with timings.pause():
                self.turn.take(self.status.waiting)
            with using_engine("loading"), timings.stage("load"), self.status.loading():
                self.engine.load(self.model)

    @property
    def _diarizer(self) -> Diarizer | None:
        """What is to tell speakers apart, where that is wanted and possible."""
        return self.engine.diarizer if self.record.options.diarize else None

    # The plan

    def _standing_plan(self) -> Plan | None:
        plan = self.files.find("plan.json", Plan)
        if plan is None:
            return None
        if (plan.engine, plan.model, plan.decoder) != (self.engine.name, self.model, VERSION):
            raise PlanDiffers
        return plan

    def _make_plan(self, first: list[Samples]) -> Plan:
        """Look through the recording; the plan that stands then. If it is ours, `first` gets a window."""
        timings, settings = Timings(), self.settings
        with (
            using_engine("decoding"),
            decoding(),
            timings.stage("decode"),
            self.files.recording() as decoder,
        ):
            listen = lambda samples: self._listen(samples, timings)  # noqa: E731
            report = self.status.reporter("decoding")
            found = survey(decoder, settings.window_seconds, listen, report, settings.max_recording_hours)
            warnings = self._warnings(decoder.track, decoder.skipped, found)
        language, probability = found.language or (None, None)
        plan = Plan(
            id=self.record.id,
            run=self.record.run,
            etag=self.record.etag,
            engine=self.engine.name,
            model=self.model,
            decoder=VERSION,
            options=self.record.options.model_dump(mode="json", exclude_none=True, exclude={"webhook_url"}),
            duration=round(found.samples / SAMPLE_RATE, 3),
            language=language,
            language_probability=probability,
            windows=found.stretches if language is not None else (),
            warnings=warnings,
            failure=None if found.failure is None else undecodable(found.failure),
            timings=timings.seconds,
        )
        self.files.create("peaks.json", found.peaks)
        if self.files.create("plan.json", plan.model_dump_json(by_alias=True).encode()):
            first.append(found.first)
            return plan
        # Somebody else was faster, and may be of another version: theirs is the one that counts.
        standing = self._standing_plan()
        if standing is None:
            raise FilesGone("plan.json")
        return standing

    def _listen(self, samples: Samples, timings: Timings) -> Language | None:
        self._take_engine(timings)
        language = self.record.options.language
        if language is not None and self.engine.speaks(self.model, language):
            return language, None
        with timings.stage("language"):
            return self.engine.language(samples, self.model)

    def _warnings(self, track: Track, skipped: int, found: Survey) -> tuple[Warning, ...]:
        warnings = []
        if self.record.ignored:
            text = f"What was asked for and has no effect here: {', '.join(self.record.ignored)}."
            warnings.append(Warning(code="option_ignored", message=text))
        if track.of > 1:
            tag = f" ({track.language})" if track.language else ""
            text = f"The recording has {track.of} sound tracks; number {track.number}{tag} was transcribed."
            warnings.append(Warning(code="several_tracks", message=text))
        if skipped:
            text = f"{skipped} damaged pieces of the recording were left out."
            warnings.append(Warning(code="damaged", message=text))
        if found.failure is not None:
            warnings.append(Warning(code=found.failure.code, message=undecodable(found.failure).message))
        language = self.record.options.language
        if language is not None and not self.engine.speaks(self.model, language):
            text = f"The model {self.model} does not know the language {language!r}; another was looked for."
            warnings.append(Warning(code="language_unsupported", message=text))
        if self.record.options.diarize and self.engine.diarizer is None:
            text = f"The engine {self.engine.name} cannot tell speakers apart; the transcript has none."
            warnings.append(Warning(code="no_speakers", message=text))
        return tuple(warnings)

    # Windows

    def _save_missing_windows(self, plan: Plan, first: list[Samples]) -> None:
        """Transcribe what is not saved yet. `first` holds the first window where it was just decoded."""
        saved = set() if first else self.files.names("windows/")
        missing = [number for number in range(len(plan.windows)) if _name(number) not in saved]
        if not missing:
            return
        stretches = [plan.windows[number] for number in missing]
        known = first.pop() if first else None
        if known is None:
            # Another worker's plan: the recording is decoded from its beginning.
            self.status.reporter("decoding")
        listener = Listener(self.engine, self.record, plan, self.status, self.settings.max_attempts)
        with closing(windows(self.files.recording, stretches, self.status.check, known)) as decoded:
            del known
            for number, stretch in zip(missing, stretches, strict=True):
                with decoding():
                    samples = [next(decoded)]
                if number == missing[0]:
                    self._take_engine(Timings())
                    # What comes before, such as a long recording's beginning, says nothing of the pace.
                    self.status.transcribing(
                        sum(window.seconds for window in plan.windows),
                        sum(window.seconds for window in stretches),
                        last=self._diarizer is None,
                    )
                if self._diarizer is not None and len(plan.windows) == 1:
                    self._whole = samples[0]
                window = listener.hear(samples.pop(), stretch)
                self.files.create(_name(number), window.model_dump_json().encode())
                self.status.window_saved()

    # Speakers

    def _speakers(self, plan: Plan) -> Speakers | None:
        """Who speaks when, as it stands then; None where that is not asked, or nobody speaks."""
        diarizer = self._diarizer
        if diarizer is None or not plan.windows:
            return None
        speakers = self.files.find("speakers.json", Speakers)
        if speakers is not None:
            return speakers
        if costs_the_run(self.record, self.status, self.settings.max_attempts):
            speakers = left_out()
        else:
            speakers = find_speakers(
                diarizer, self.files, self.record, plan, self.status, self.turn, self._whole
            )
        if not self.files.create("speakers.json", speakers.model_dump_json().encode()):
            speakers = self.files.read("speakers.json", Speakers)
        self.status.speakers_saved()
        return speakers

    # The transcript

    def _transcript(self, plan: Plan, speakers: Speakers | None) -> Transcript:
        """The transcript of the files that stand; saved, or the one that stands already."""
        made = assemble(plan, self._windows(plan), speakers, with_words=self.record.options.word_timestamps)
        if self.files.create("transcript.json", render(made, "json")):
            return made
        return self.files.read("transcript.json", Transcript)

    def _windows(self, plan: Plan) -> Iterator[Window]:
        for number in range(len(plan.windows)):
            self.status.check()
            yield self.files.read(_name(number), Window)

    def _save_formats(self, transcript: Transcript) -> None:
        report = self.status.reporter("saving")
        formats = [format for format in FORMATS if format != "json"]

        def save(format: str) -> None:
            self.files.create(f"transcript.{format}", render(transcript, format), FORMATS[format])

        with ThreadPoolExecutor(len(formats)) as threads:
            for done, _ in enumerate(threads.map(save, formats), start=1):
                report(done / len(formats))


def _name(number: int) -> str:
    return f"windows/{number}.json"
