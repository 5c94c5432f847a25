"""How a run can end: with a transcript, without one, or left to another attempt.

What the decoder and the engine raise becomes `RunFailed` here, with the stage it came from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from traceback import clear_frames

from ..errors import FAILURES
from ..records import Failure, Record
from ..transcript import Transcript
from ..transcriptions import Facts
from .decode import NoAudio, Undecodable
from .engines.base import EngineFailed, ModelUnavailable
from .plan import TooLong
from .status import Status


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


def costs_the_run(record: Record, status: Status, max_attempts: int) -> bool:
    """Whether the run would end if the process died now."""
    return record.attempts + 1 >= max_attempts and not status.windows


def let_go(error: BaseException | None) -> None:
    """Free what a failure holds on to: whatever was at hand where it was raised, a model among it."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def failed(code: str, stage: str) -> RunFailed:
    """The end of a run for a reason that has no text of its own."""
    return RunFailed(Failure(code=code, message=FAILURES[code], stage=stage))


def undecodable(error: Undecodable) -> Failure:
    """Why, and from where on, a recording cannot be decoded."""
    return Failure(code=error.code, message=str(error), stage="decoding", at_seconds=error.at_seconds)


@contextmanager
def decoding() -> Iterator[None]:
    """What can go wrong with a recording, as the end of the run."""
    try:
        yield
    except (NoAudio, TooLong) as error:
        raise RunFailed(Failure(code=error.code, message=str(error), stage="decoding")) from error
    except Undecodable as error:
        raise RunFailed(undecodable(error)) from error


@contextmanager
def using_engine(stage: str) -> Iterator[None]:
    """What can go wrong with an engine, as the end of the run."""
    try:
        yield
    except (ModelUnavailable, EngineFailed) as error:
        raise RunFailed(Failure(code=error.code, message=str(error), stage=stage)) from error
