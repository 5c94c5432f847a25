"""What a run will do, decided once by looking through the whole recording: `plan.json`.

The look gives the cuts, the language (heard where somebody speaks), the waveform's peaks, how long the
recording is, and whether it can be decoded to its end. It needs memory for one window. Whoever goes on with
the run follows the plan that stands, and so comes to the same transcript.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..records import Failure, Warning
from .cuts import Cuts
from .decode import Decoder, Undecodable
from .engines.base import SAMPLE_RATE, Report, Samples
from .peaks import Peaks

type Language = tuple[str, float | None]
"""A language's code, and how sure the engine is of it; None where it was asked for."""

_SURE = 0.5
"""Below that another window is listened to as well: a cough has a language, too."""

type Listen = Callable[[Samples], Language | None]
"""Tells the language of the first speech in a window, or None where nobody speaks."""


class TooLong(Exception):
    """The recording is longer than is transcribed."""

    code: ClassVar[str] = "too_long"


class Stretch(BaseModel):
    """A window of the recording: samples from `first` up to, but without, `end`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    first: int
    end: int

    @property
    def offset(self) -> float:
        """Where it begins, in seconds."""
        return self.first / SAMPLE_RATE

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.first) / SAMPLE_RATE


class Plan(BaseModel):
    """What a run will do. There are no windows where nobody speaks."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_: Literal[1] = Field(1, alias="schema")
    id: str
    run: int
    etag: str | None = Field(description="Of the recording.")
    engine: str
    model: str
    decoder: str = Field(description="What decodes: the same samples can be had of the same one only.")
    options: dict[str, Any]
    duration: float = Field(description="Seconds that can be decoded.")
    language: str | None
    language_probability: float | None
    windows: tuple[Stretch, ...]
    warnings: tuple[Warning, ...] = ()
    failure: Failure | None = Field(None, description="Why the recording cannot be decoded to its end.")
    timings: dict[str, float] = Field({}, description="Seconds each stage took.")


@dataclass(frozen=True, slots=True)
class Survey:
    """What the look through a recording has found. `first` are the first window's samples."""

    samples: int
    stretches: tuple[Stretch, ...]
    language: Language | None
    first: Samples
    peaks: bytes
    failure: Undecodable | None


def survey(
    decoder: Decoder, window_seconds: int, listen: Listen, report: Report, most_hours: float = math.inf
) -> Survey:
    """Look through a recording.

    Raises Undecodable where there is no sound at all in it, TooLong as soon as more than `most_hours` came.
    """
    cuts, peaks = Cuts(window_seconds), Peaks()
    opening = _Opening(listen, cuts.longest_seconds)
    borders = [0]
    failure: Undecodable | None = None
    samples = 0
    report(0.0)
    try:
        for block in decoder.blocks():
            report(decoder.fraction)
            samples += len(block)
            if samples > most_hours * 3600 * SAMPLE_RATE:
                # Not what the container says of its length: only what comes counts.
                raise TooLong(
                    f"The recording is longer than {most_hours:g} hours, the most that is transcribed here. "
                    "Cut it into pieces and upload each of them."
                )
            peaks.add(block)
            opening.add(block)
            for cut in cuts.add(block):
                opening.end_window(cut - borders[-1])
                borders.append(cut)
    except Undecodable as error:
        if not samples:
            raise
        failure = error
    if not samples:
        raise Undecodable("There is no sound in the recording.", 0.0)
    opening.end_window(samples - borders[-1])
    borders.append(samples)
    stretches = (Stretch(first=begin, end=end) for begin, end in pairwise(borders))
    return Survey(samples, tuple(stretches), opening.language, opening.first, peaks.document(), failure)


class _Opening:
    """The windows as far as they must be listened to: until it is known which language is spoken."""

    def __init__(self, listen: Listen, longest_seconds: float) -> None:
        self._listen = listen
        self._gathered: _Gathered | None = _Gathered(longest_seconds)
        self.first: Samples = np.empty(0, np.float32)
        self.language: Language | None = None

    def add(self, block: Samples) -> None:
        if self._gathered is not None:
            self._gathered.add(block)

    def end_window(self, count: int) -> None:
        """A window of so many samples has ended."""
        if self._gathered is None:
            return
        window = self._gathered.take(count)
        if not len(self.first):
            self.first = window
        self.language = _surer(self.language, self._listen(window))
        if _certainty(self.language) >= _SURE:
            self._gathered = None


def _surer(one: Language | None, other: Language | None) -> Language | None:
    return other if _certainty(other) > _certainty(one) else one


def _certainty(language: Language | None) -> float:
    if language is None:
        return 0.0
    return 1.0 if language[1] is None else language[1]


class _Gathered:
    """The samples since the last cut."""

    def __init__(self, seconds: float) -> None:
        # A block more than that can come before a cut is certain. Memory is taken only as it is filled.
        self._samples = np.empty(round((seconds + 2) * SAMPLE_RATE), np.float32)
        self._count = 0

    def add(self, block: Samples) -> None:
        self._samples[self._count : self._count + len(block)] = block
        self._count += len(block)

    def take(self, count: int) -> Samples:
        """The first `count` of them, which are not kept any longer."""
        taken, left = self._samples[:count], self._samples[count : self._count]
        self._samples = np.empty_like(self._samples)
        self._samples[: len(left)] = left
        self._count = len(left)
        return taken
