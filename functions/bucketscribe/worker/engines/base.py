"""The seam between the worker and what turns audio into words.

An engine is anything with `Engine`'s methods. It is used by one thread at a time, and keeps nothing of one
recording for the next but its models. It fails with `ModelUnavailable` or `EngineFailed`, whose `code` is one
of `errors.FAILURES`, or with `StageSkipped` where a transcript can do without. Whatever `report` raises
passes through unchanged, and is how a run is canceled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ...transcript import Word

SAMPLE_RATE = 16_000
"""Samples a second of all audio that engines are given."""

type Samples = npt.NDArray[np.float32]
"""One channel, −1 to 1, at `SAMPLE_RATE`."""

type Report = Callable[[float], None]
"""Takes the fraction done, 0 to 1, often; may raise to stop the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do with a recording. Without a `language` it cannot be transcribed, only looked at."""

    model: str
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    initial_prompt: str | None = None
    hotwords: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """What was heard in one piece of up to 30 s; its words lie within it. In seconds of the audio."""

    start: float
    end: float
    words: tuple[Word, ...]
    aligned: bool = False
    """Whether its words have their times from an alignment model; else they have Whisper's own."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard: passages, and the stretches in which somebody speaks, as (start, end).

    Both in order and in seconds from the start of the audio. No word begins before the one before has ended.
    """

    passages: tuple[Passage, ...]
    speech: tuple[tuple[float, float], ...]

    @property
    def words(self) -> list[Word]:
        """The words of all passages."""
        return [word for passage in self.passages for word in passage.words]


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch in which one speaker speaks, in seconds from the start of the audio. They may overlap."""

    start: float
    end: float
    speaker: str


class ModelUnavailable(Exception):
    """The model is not installed, cannot be fetched or cannot be loaded."""

    code: ClassVar[str] = "model_unavailable"


class EngineFailed(Exception):
    """The engine broke while transcribing."""

    code: ClassVar[str] = "engine_failed"


class OutOfMemory(EngineFailed):
    """The device's memory is too small, even for one piece at a time."""

    code: ClassVar[str] = "out_of_memory"


class StageSkipped(Exception):
    """A stage that only betters a transcript cannot be had; its text says why, and what to do.

    `code` becomes the warning's: alignment_unavailable, alignment_failed, diarization_unavailable,
    diarization_failed.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Aligner(Protocol):
    """Finds the exact time of each word, once the words are known."""

    def load(self, language: str) -> None:
        """Have a language's model ready, which may take minutes. Raises `StageSkipped`."""

    def align(self, audio: Samples, heard: Heard, language: str, report: Report) -> Heard:
        """The same words with better times. A passage that cannot be aligned stays as it is.

        Raises `StageSkipped` where there is no model for the language or it does not work, and what `report`
        raises.
        """


class Diarizer(Protocol):
    """Tells speakers apart."""

    def load(self) -> None:
        """Have its models ready, which may take minutes. Raises `StageSkipped`."""

    def diarize(
        self, audio: Samples, fewest: int | None, most: int | None, report: Report
    ) -> tuple[Turn, ...]:
        """Who speaks when in a whole recording, with at least and at most so many speakers; in order of time.

        Raises `StageSkipped`, and what `report` raises.
        """


class Engine(Protocol):
    """What the worker needs of an engine."""

    name: str

    @property
    def aligner(self) -> Aligner | None:
        """None where words come with good times already."""

    @property
    def diarizer(self) -> Diarizer | None:
        """None where speakers cannot be told apart."""

    def load(self, model: str) -> None:
        """Have a model ready ahead of time. Raises `ModelUnavailable` and `OutOfMemory`."""

    def works(self) -> bool:
        """Whether the device still answers. One that does not will not, as long as the process lives."""

    def speaks(self, model: str, language: str) -> bool:
        """Whether a model knows a language, told by its code. Raises `ModelUnavailable`."""

    def language(self, audio: Samples, model: str) -> tuple[str, float] | None:
        """The language spoken first, as Whisper's code, and its probability; None where nobody speaks.

        Raises `ModelUnavailable` and `EngineFailed`.
        """

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        """Turn audio into words; without speech there are none.

        Raises `ModelUnavailable`, `EngineFailed`, what `report` raises, and `ValueError` for a request
        without a language.
        """
