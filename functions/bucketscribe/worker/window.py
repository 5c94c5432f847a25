"""A window of a recording, heard: words, aligned where the engine can, without loops, and cut into captions.

Alignment only betters a transcript. Where it cannot be had, or fails, the words keep the times they were
heard with, and a warning says why. Raises `RunFailed` where the engine fails at the words themselves, and
what the status raises once the work is to stop.
"""

import structlog
from pydantic import BaseModel, ConfigDict, Field

from ..records import Record, Warning
from ..transcript import Segment
from .cues import segments
from .endings import using_engine
from .engines.base import Aligner, Engine, Heard, Request, Samples, StageSkipped
from .guards import Loop, without_loops
from .plan import Plan, Stretch
from .status import Status, Stopped
from .timings import Timings

log = structlog.get_logger()

_ALIGNING_SHARE = 0.2  # of a window's time, where words are aligned; roughly


class Window(BaseModel):
    """What was heard in a window. `start` and `end`, and all times, in seconds of the recording."""

    model_config = ConfigDict(extra="allow")

    start: float
    end: float
    text: str
    segments: tuple[Segment, ...]
    passages: int = Field(0, description="Pieces of up to 30 s whose words were to be aligned.")
    unaligned: int = Field(0, description="Those of them that could not be.")
    timings: dict[str, float] = {}
    warnings: tuple[Warning, ...] = ()


class Listener:
    """Hears one window after another, for one attempt at a run."""

    def __init__(self, engine: Engine, record: Record, plan: Plan, status: Status, max_attempts: int) -> None:
        self._engine = engine
        self._record = record
        self._plan = plan
        self._status = status
        self._aligner = None if record.options.task == "translate" else engine.aligner
        self._unavailable: Warning | None = None
        if record.attempts and record.attempts + 1 >= max_attempts:
            text = "Words have the times Whisper gave them: workers may have died of aligning them."
            self._unavailable = Warning(code="alignment_failed", message=text)
        self._told = False  # in the log, once

    def hear(self, samples: Samples, stretch: Stretch) -> Window:
        """What is said in a window."""
        options, timings = self._record.options, Timings()
        request = Request(
            model=self._plan.model,
            language=self._plan.language,
            task=options.task,
            initial_prompt=options.initial_prompt,
            hotwords=options.hotwords,
        )
        share = 1.0 if self._aligner is None else 1 - _ALIGNING_SHARE
        report = self._status.window_reporter(stretch.seconds, share)
        with using_engine("transcribing"), timings.stage("transcribe"):
            heard = self._engine.transcribe(samples, request, report)
        warnings: list[Warning] = []
        passages: list[bool] = []
        if self._aligner is not None and heard.words:
            with timings.stage("align"):
                aligned = self._align(self._aligner, samples, heard, timings)
            if isinstance(aligned, Warning):
                warnings.append(aligned)
            else:
                heard = aligned
                passages = [passage.aligned for passage in heard.passages if passage.words]
        words, loops = without_loops(heard.words, heard.speech)
        warnings += (_loop_warning(loop, stretch.offset) for loop in loops)
        return Window(
            start=stretch.offset,
            end=stretch.offset + stretch.seconds,
            text="".join(word.word for word in words),
            # Speakers are told by words.
            segments=segments(words, stretch.offset, with_words=options.word_timestamps or options.diarize),
            passages=len(passages),
            unaligned=passages.count(False),
            timings=timings.seconds,
            warnings=tuple(warnings),
        )

    def _align(self, aligner: Aligner, samples: Samples, heard: Heard, timings: Timings) -> Heard | Warning:
        """The same with better times, or why there are none."""
        if self._unavailable is not None:
            return self._unavailable
        language = self._plan.language or ""
        try:
            report = self._status.aligning_reporter()
            with timings.stage("load"), self._status.loading():
                aligner.load(language)
            aligned = aligner.align(samples, heard, language, report)
            if [word.word for word in aligned.words] != [word.word for word in heard.words]:
                raise ValueError("other words came back")
        except Stopped:
            raise
        except StageSkipped as skipped:
            warning = Warning(code=skipped.code, message=str(skipped))
            if skipped.code == "alignment_unavailable":
                self._unavailable = warning
        except Exception as error:  # whatever it is, the words are there
            code, record = "alignment_failed", self._record
            text = (
                f"Words have the times Whisper gave them: aligning failed ({type(error).__name__}: {error})."
            )
            if not self._told:
                self._told = True
                log.exception("words not aligned", id=record.id, owner=record.owner, code=code)
            warning = Warning(code=code, message=text)
        else:
            return aligned
        return warning


def _loop_warning(loop: Loop, offset: float) -> Warning:
    text = (
        f"At {loop.at_seconds + offset:.1f} s {loop.phrase!r} was heard {loop.times_heard} times in a row; "
        f"{loop.times_kept} fit into the time somebody speaks there, and the others were cut."
    )
    return Warning(code="repetition", message=text)
