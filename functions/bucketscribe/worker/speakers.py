"""Whose words they are, by the turns in which speakers speak.

A word is its who speaks for the longest part of it; of two who speak for as long, for turns may overlap, the
one who said the word before, else the one who began first. A word in which nobody speaks goes to the nearest
turn. And a speaker does not change for a single word within a sentence, unless that is clear: unless the
other speaks for more than half of the word longer. Words stay as they are and where they are.

Takes time in proportion to the words and, but for sorting, to the turns. Nothing here fails.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ..captions import roughness
from ..transcript import Word
from .engines.base import Turn

_CLEAR = 0.5  # of a word's length
_SAME_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch in which the same speakers speak, in the order in which they began."""

    start: float
    end: float
    speakers: tuple[str, ...]


class Voices:
    """Who speaks when."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._pieces = list(_pieces(turns))
        self._ends = [piece.end for piece in self._pieces]

    def tell(self, words: Sequence[Word]) -> list[Word]:
        """The words with their speakers, who stay unknown only where nobody ever speaks."""
        if not self._pieces:
            return list(words)
        shares = [self._shares(word) for word in words]
        speakers: list[str] = []
        for share in shares:
            most = max(share.values()) - _SAME_SECONDS
            best = [speaker for speaker, seconds in share.items() if seconds >= most]
            speakers.append(speakers[-1] if speakers and speakers[-1] in best else best[0])
        for at in range(1, len(words) - 1):
            others = speakers[at - 1]
            if speakers[at] == others or others != speakers[at + 1]:
                continue
            within = roughness(words[at - 1].word) > 0 and roughness(words[at].word) > 0
            lead = shares[at][speakers[at]] - shares[at].get(others, 0.0)
            if within and lead <= _CLEAR * (words[at].end - words[at].start):
                speakers[at] = others
        return [replace(word, speaker=speaker) for word, speaker in zip(words, speakers, strict=True)]

    def _shares(self, word: Word) -> dict[str, float]:
        """For how many seconds of a word each speaks; those nearest to it, for none, if nobody does."""
        share: dict[str, float] = {}
        after = bisect_right(self._ends, word.start)
        for at in range(after, len(self._pieces)):
            piece = self._pieces[at]
            seconds = min(piece.end, word.end) - max(piece.start, word.start)
            if seconds <= 0:
                break
            for speaker in piece.speakers:
                share[speaker] = share.get(speaker, 0.0) + seconds
        if share:
            return share
        near = self._pieces[max(after - 1, 0) : after + 1]
        nearest = min(near, key=lambda piece: max(piece.start - word.end, word.start - piece.end))
        return dict.fromkeys(nearest.speakers, 0.0)


def _pieces(turns: Sequence[Turn]) -> Iterator[_Piece]:
    """The time somebody speaks, cut wherever one begins or ends."""
    edges = [
        edge for turn in turns if turn.end > turn.start for edge in ((turn.start, turn), (turn.end, turn))
    ]
    edges.sort(key=lambda edge: edge[0])
    speaking: dict[str, int] = {}  # in how many of their turns at once
    before = 0.0
    for time, turn in edges:
        if speaking and time > before:
            yield _Piece(before, time, tuple(speaking))
        before = time
        begun = time == turn.start
        left = speaking.get(turn.speaker, 0) + (1 if begun else -1)
        if left:
            speaking[turn.speaker] = left
        else:
            del speaking[turn.speaker]
