"""From stretches of speech to the clips that Whisper hears, and from its words back to their times.

Stretches are put together to clips of up to 30 s, without the longer pauses, in which Whisper's aligner loses
its way: a word behind one gets it as part of its time. Shorter ones stay, for a VAD misses a word now and
then, and a pause is how Whisper knows a sentence's end. So every word lies where somebody speaks.
Positions are samples, times are seconds.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ...transcript import Word
from .base import SAMPLE_RATE, Samples

CLIP_SECONDS = 30
_PAUSE_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples in which somebody speaks."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.end - self.start) / SAMPLE_RATE


type Clip = list[Stretch]
"""What is transcribed in one piece: stretches of up to `CLIP_SECONDS` together."""


class Said(Protocol):
    """A word as an engine tells it, with its times in what the engine was given."""

    start: float
    end: float
    word: str
    probability: float


def clips_of(speech: Iterable[Stretch]) -> list[Clip]:
    """Neighbours put together, as long as they fit into one clip; a short pause between them stays."""
    put: list[Clip] = []
    for stretch in speech:
        if put:
            *others, last = put[-1]
            if stretch.start - last.end <= _PAUSE_SECONDS * SAMPLE_RATE:
                longer = [*others, Stretch(last.start, stretch.end)]
            else:
                longer = [*others, last, stretch]
            if sum(part.seconds for part in longer) <= CLIP_SECONDS:
                put[-1] = longer
                continue
        put.append([stretch])
    return put


def sound_of(audio: Samples, clip: Clip) -> Samples:
    """What is heard in a clip."""
    return np.concatenate([audio[part.start : part.end] for part in clip])


def times_of(heard: Iterable[Clip]) -> tuple[tuple[float, float], ...]:
    """The stretches of all clips, in seconds."""
    return tuple((part.start / SAMPLE_RATE, part.end / SAMPLE_RATE) for clip in heard for part in clip)


def placed(said: Iterable[Said], clip: Clip, offset: float = 0.0) -> Iterator[Word]:
    """Words with their times in the whole: each within one stretch, and none before the last.

    `offset`: where the clip begins in what the engine was given, in seconds. A word on the border of two
    stretches goes where its last third begins: aligners let a word behind a pause begin too early.
    """
    at, floor = 0, 0.0
    for word in said:
        while at + 1 < len(clip) and (word.start + 2 * word.end) / 3 >= offset + clip[at].seconds:
            offset += clip[at].seconds
            at += 1
        begun, ended = clip[at].start / SAMPLE_RATE, clip[at].end / SAMPLE_RATE
        start = min(max(begun + float(word.start) - offset, begun, floor), ended)
        end = min(max(begun + float(word.end) - offset, start), ended)
        floor = end
        yield Word(start=start, end=end, word=word.word, probability=_finite(word.probability))


def _finite(probability: float) -> float:
    """Half precision can overflow, and JSON has no NaN."""
    return round(float(probability), 3) if math.isfinite(probability) else 0.0
