"""The seam between the worker and what turns audio into words.

An engine is anything with `Engine`'s two methods. It is used by one thread at a time, and keeps nothing of
one recording for the next but its model. It fails with `ModelUnavailable` or `EngineFailed`, whose `code` is
one of `errors.FAILURES`; whatever `report` raises passes through unchanged, and is how a run is canceled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from bucketscribe.transcript import Segment

SAMPLE_RATE = 16_000
"""Samples a second of all audio that engines are given."""

type Samples = npt.NDArray[np.float32]
"""One channel, −1 to 1, at `SAMPLE_RATE`."""

type Report = Callable[[float], None]
"""Takes the fraction done, 0 to 1, often; may raise to stop the work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to do with a recording. A `language` of None is found out."""

    model: str
    language: str | None = None
    task: Literal["transcribe", "translate"] = "transcribe"
    initial_prompt: str | None = None
    hotwords: str | None = None
    word_timestamps: bool = True


@dataclass(frozen=True, slots=True)
class Result:
    """What was heard. Where nobody speaks there are no segments, and no language unless one was asked for."""

    language: str | None
    language_probability: float | None
    segments: tuple[Segment, ...]


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

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Result:
        """Turn audio into words. Raises `ModelUnavailable`, `EngineFailed`, and what `report` raises."""
