"""Who speaks when in a recording: one stage over the whole of it, after its last window.

A transcript is never lost for want of speakers. Whatever goes wrong (no model, no memory, no disk, a
recording that is gone meanwhile) becomes a warning, and is what `speakers.json` says from then on. As it may
kill the process, it is not tried where that would end the run. Raises only what the status raises once the
work is to stop, and botocore's errors, after which the run is tried again.
"""

import math
from contextlib import nullcontext

import structlog
from pydantic import BaseModel, ConfigDict, field_validator

from ..bucket import StorageError
from ..records import Record, Warning
from .endings import RunFailed
from .engines.base import Diarizer, Samples, StageSkipped, Turn
from .files import Files
from .plan import Plan
from .soundtrack import soundtrack
from .status import Status, Stopped
from .timings import Timings
from .turns import Turn as EngineTurn

log = structlog.get_logger()

_FAILED = "diarization_failed"


class Speakers(BaseModel):
    """Who speaks when; without turns, the warnings say why."""

    model_config = ConfigDict(extra="allow")

    turns: tuple[Turn, ...] = ()
    timings: dict[str, float] = {}
    warnings: tuple[Warning, ...] = ()

    @field_validator("turns")
    @classmethod
    def _check(cls, turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
        # JSON has no others: what is written here must be read again.
        if not all(math.isfinite(turn.start) and math.isfinite(turn.end) for turn in turns):
            raise ValueError("a turn begins or ends at no time")
        return turns


def find_speakers(
    diarizer: Diarizer,
    files: Files,
    record: Record,
    plan: Plan,
    status: Status,
    turn: EngineTurn,
    whole: Samples | None,
) -> Speakers:
    """Who speaks when in the recording, or why nobody can say. `whole`: its samples, if they are at hand."""
    options, timings = record.options, Timings()
    count = plan.windows[-1].end
    status.speakers_begin()
    try:
        report = status.reporter("decoding")
        heard = soundtrack(files.recording, count, report) if whole is None else nullcontext(whole)
        with timings.stage("decode"), heard as samples:
            with timings.pause():
                turn.take(status.waiting)
            with timings.stage("load"), status.loading():
                diarizer.load()
            with timings.stage("diarize"):
                fewest, most = options.min_speakers, options.max_speakers
                turns = diarizer.diarize(samples, fewest, most, status.diarizing_reporter())
        found = Speakers(turns=turns, timings=timings.seconds)
    except (Stopped, *StorageError):
        raise
    except StageSkipped as skipped:
        return without_speakers(skipped.code, str(skipped))
    except RunFailed as failed:
        return without_speakers(_FAILED, f"Speakers were not told apart. {failed}")
    except Exception as error:  # whatever it is, the words are there
        log.exception("speakers not told apart", id=record.id, owner=record.owner, code=_FAILED)
        text = f"Speakers were not told apart: that failed ({type(error).__name__}: {error})."
        return without_speakers(_FAILED, text)
    if not turns:
        warning = Warning(code="no_speakers", message="No speakers were found in the recording.")
        return found.model_copy(update={"warnings": (warning,)})
    return found


def left_out() -> Speakers:
    """None, so as not to lose the transcript."""
    return without_speakers(
        _FAILED,
        "Speakers were not told apart: workers may have died of that, and another death would have cost the "
        "transcript. Transcribe the recording again on a worker with more memory.",
    )


def without_speakers(code: str, message: str) -> Speakers:
    """None, and why."""
    return Speakers(warnings=(Warning(code=code, message=message),))
