"""From the time of each character, as an alignment tells it, to the times of words. Torch-free.

    times_of_words([" And", " so"], [{"char": " "}, {"char": "A", "start": 0.3, "end": 0.34}, …])

The characters are those of the words, one for one. Marks do not count where a word has letters: a comma is
not heard, and may come to lie anywhere in the pause behind it.
"""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any


def spelled(words: Sequence[str]) -> str:
    """The text of the words, of as many characters in lower case as it has: alignment counts in these."""
    text = "".join(words)
    return "".join(sign if len(sign.lower()) == 1 else sign.lower()[0] for sign in text)


def times_of_words(
    words: Sequence[str], characters: Sequence[Mapping[str, Any]]
) -> list[tuple[float, float]] | None:
    """When each word begins and ends; None where the characters are others, or have no times.

    A word that has no time of its own is where the one before ends.
    """
    if "".join(character["char"] for character in characters) != spelled(words):
        return None
    times: list[tuple[float, float]] = []
    at, before, known = 0, 0.0, False
    for word in words:
        own = [timed for timed in characters[at : at + len(word)] if _is_timed(timed)]
        at += len(word)
        heard = [timed for timed in own if _is_heard(timed["char"])] or own
        if heard:
            known = True
            start = min(float(timed["start"]) for timed in heard)
            times.append((start, max(start, *(float(timed["end"]) for timed in heard))))
        else:
            times.append((before, before))
        before = times[-1][1]
    return times if known else None


def _is_timed(character: Mapping[str, Any]) -> bool:
    if character["char"].isspace():
        return False
    return all(math.isfinite(character.get(edge, math.nan)) for edge in ("start", "end"))


def _is_heard(sign: str) -> bool:
    return unicodedata.category(sign)[0] not in "PSZC"
