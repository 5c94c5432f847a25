"""Looking for speech in pieces of a minute: so it can be reported, stopped, and takes no memory to speak of.

A stretch that may go on behind the end of a piece is left to the next, which has it whole.
"""

from collections.abc import Callable, Iterable, Iterator

from .base import SAMPLE_RATE, Samples
from .clips import Stretch

PIECE_SECONDS = 60
_OVERLAP_SECONDS = 2

type Find = Callable[[Samples], Iterable[tuple[int, int]]]
"""A VAD: the stretches of speech, in order, as the samples where they begin and end."""


def listen(audio: Samples, find: Find, before_seconds: float = 0) -> Iterator[tuple[list[Stretch], int]]:
    """The stretches of speech, piece by piece, each with the sample up to which all are known.

    `before_seconds`: how much of the sound before a piece the VAD is given to find its way into it. No
    stretch may be as long as a piece less its overlap.
    """
    begin = 0
    while begin < len(audio):
        end = min(begin + PIECE_SECONDS * SAMPLE_RATE, len(audio))
        first = max(0, begin - int(before_seconds * SAMPLE_RATE))
        stretches = [(max(first + a, begin), min(first + b, end)) for a, b in find(audio[first:end])]
        found = [Stretch(start, stop) for start, stop in stretches if start < stop]
        if end < len(audio):
            end -= _OVERLAP_SECONDS * SAMPLE_RATE
            if found and found[-1].end > end:
                end = found.pop().start
        yield found, end
        begin = end
