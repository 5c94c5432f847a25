"""The seam between the worker and what turns audio into words.

An engine is anything with `Engine`'s three methods. It is used by one thread at a time, and keeps nothing of
one recording for the next but its model. It fails with `ModelUnavailable` or `EngineFailed`, whose `code` is
one of `errors.FAILURES`; whatever `report` raises passes through unchanged, and is how a run is canceled.
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
class Heard:
    """What was heard: words, and the stretches in which somebody speaks, as (start, end).

    Both in order and in seconds from the start of the audio. No word begins before the one before has ended.
    """

    words: tuple[Word, ...]
    speech: tuple[tuple[float, float], ...]


class ModelUnavailable(Exception):
    """The model is not installed, cannot be fetched or cannot be loaded."""

    code: ClassVar[str] = "model_unavailable"


class EngineFailed(Exception):
    """The engine broke while transcribing."""

    code: ClassVar[str] = "engine_failed"


class Engine(Protocol):
    """What the worker needs of an engine."""

    name: str

    def load(self, model: str) -> None:
        """Have a model ready ahead of time. Raises `ModelUnavailable`."""

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
