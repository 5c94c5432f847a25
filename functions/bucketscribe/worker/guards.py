"""Against what Whisper makes up: a phrase repeated on and on.

Where it understands nothing, Whisper may repeat itself until its 224 tokens are used up, however short the
sound: `base` put 107 times "'n" into 4.6 s of speech played backwards, 24 words or 50 characters a second.
People repeat themselves too, but hardly say more than 25 characters a second, nor more than 8 words (Kent,
Kent & Rosenbek, "Maximum performance tests of speech production", 1987: 5 to 7 syllables). So a run is cut
only where it cannot have been said while somebody was speaking. One spread over 30 s is no faster than
people are, and stays.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ..captions import width
from ..transcript import Word

_LONGEST_PHRASE = 24  # words; where they are not told apart, as in Japanese, a word is a sign or two
_COLUMNS_A_SECOND = 25.0
_WORDS_A_SECOND = 8.0
_SLACK_SECONDS = 1.0  # by so much the aligner may be wrong


@dataclass(frozen=True, slots=True)
class Loop:
    """A run that was shortened. `at_seconds`: where it begins."""

    phrase: str
    at_seconds: float
    times_heard: int
    times_kept: int


def without_loops(
    words: Sequence[Word], speech: Sequence[tuple[float, float]]
) -> tuple[list[Word], list[Loop]]:
    """The words without what nobody can have said in the time there was, and what was left out.

    `speech` are the stretches in which somebody speaks, in order. At least one repetition stays.
    Takes time in proportion to the words.
    """
    kept: list[Word] = []
    loops: list[Loop] = []
    repeats, voice = _Repeats([_key(word) for word in words]), _Voice(speech)
    at = 0
    while at < len(words):
        period, covered = repeats.at(at)
        run = words[at : at + covered]
        at += covered
        times = covered // period
        phrase = "".join(word.word for word in run[:period])
        least = max(width(phrase) / _COLUMNS_A_SECOND, period / _WORDS_A_SECOND)  # seconds to say it
        voiced = voice.seconds(run[0].start, run[-1].end)
        if times == 1 or times * least <= voiced + _SLACK_SECONDS:
            kept += run
        else:
            fitting = max(1, int(voiced / least))
            kept += run[: fitting * period]
            loops.append(Loop(phrase.strip(), run[0].start, times, fitting))
    return kept, loops


class _Repeats:
    """Where a phrase is said again and again."""

    def __init__(self, keys: Sequence[str]) -> None:
        # For each period, how many words from here on equal the one a period later.
        self._same = [[0] * (len(keys) + 1) for _ in range(_LONGEST_PHRASE + 1)]
        for period in range(1, min(_LONGEST_PHRASE, len(keys) - 1) + 1):
            same = self._same[period]
            for at in range(len(keys) - period - 1, -1, -1):
                if keys[at] == keys[at + period]:
                    same[at] = same[at + 1] + 1

    def at(self, at: int) -> tuple[int, int]:
        """The length of the phrase that begins here and of the run it is repeated in, both in words.

        A single word, once, if nothing is repeated.
        """
        best = (1, 1)
        for period in range(1, _LONGEST_PHRASE + 1):
            same = self._same[period][at]
            if same >= period and same + period > best[1]:
                best = (period, same + period)
        return best


class _Voice:
    """How long somebody speaks, between two times."""

    def __init__(self, speech: Sequence[tuple[float, float]]) -> None:
        self._speech = speech
        self._starts = [start for start, _ in speech]
        self._before = list(accumulate((end - start for start, end in speech), initial=0.0))

    def seconds(self, start: float, end: float) -> float:
        return self._until(end) - self._until(start)

    def _until(self, time: float) -> float:
        last = bisect_right(self._starts, time) - 1
        if last < 0:
            return 0.0
        start, end = self._speech[last]
        return self._before[last] + min(time, end) - start


def _key(word: Word) -> str:
    text = word.word.casefold()
    return re.sub(r"\W", "", text) or text.strip()
