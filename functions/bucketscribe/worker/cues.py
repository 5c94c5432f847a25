"""Cutting words into captions.

Every caption fits on two lines, lasts at most 7 s and ends before the next begins, provided that the words'
times run forward. Within that it is cut where it reads best: at ends of sentences, else of clauses, and at
pauses; a word is rarely left alone. The cheapest cuts are found by dynamic programming, as in Knuth & Plass,
"Breaking Paragraphs into Lines" (1981): time grows with words times words a caption.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from operator import attrgetter

from ..captions import CUE_SECONDS, LINE_CHARACTERS, LINES, fits, roughness, width
from ..transcript import Segment, Word

_SILENCE_SECONDS = 2.0  # a caption never stands through one this long
_ROUGH = 4.0  # a cut's cost for each step of `captions.roughness`
_PAUSE = 10.0  # what a second of pause makes a cut cheaper
_GLUED = 30.0  # a cut between words without a space between
_CUE = 5.0  # every caption: fewer are better
_FULL = 6.0  # a caption filled to its brim, by the square of its width: even ones are better
_SENTENCE = 6.0  # a sentence that ends inside a caption
_ALONE = 5.0  # a caption of one word
_BRIEF = 6.0  # each second that a caption is shorter than `_BRIEF_SECONDS`
_BRIEF_SECONDS = 1.5


def segments(words: Sequence[Word], offset: float = 0.0, *, with_words: bool = True) -> tuple[Segment, ...]:
    """Captions, `offset` seconds later than the words. None has words of two speakers."""
    made: list[Segment] = []
    for speaker, theirs in groupby(words, attrgetter("speaker")):
        for cue in cues(list(theirs), f"{speaker}: " if speaker else ""):
            moved = tuple(replace(word, start=word.start + offset, end=word.end + offset) for word in cue)
            made.append(
                Segment(
                    id=len(made),
                    start=moved[0].start,
                    end=moved[-1].end,
                    text="".join(word.word for word in moved).strip(),
                    words=moved if with_words else (),
                    speaker=speaker,
                )
            )
    return tuple(made)


def cues(words: Sequence[Word], prefix: str = "") -> list[list[Word]]:
    """The words, in order, as captions, each of which has room for a prefix.

    A word longer than 7 s is a slip of the aligner, which puts a pause to the word behind it: it begins 7 s
    before its end. Only a caption of a single word can need more than two lines.
    """
    return [cue for stretch in _stretches(words) for cue in _cut(stretch, prefix)]


def _stretches(words: Sequence[Word]) -> Iterator[list[Word]]:
    """What lies between long silences."""
    stretch: list[Word] = []
    for word in words:
        if word.end - word.start > CUE_SECONDS:
            word = replace(word, start=word.end - CUE_SECONDS)
        if stretch and word.start - stretch[-1].end >= _SILENCE_SECONDS:
            yield stretch
            stretch = []
        stretch.append(word)
    if stretch:
        yield stretch


def _cut(words: list[Word], prefix: str) -> Iterator[list[Word]]:
    """The cheapest way to cut. `costs[n]` is that of the first n words, the last of whose captions begins
    with word `begins[n]`."""
    count = len(words)
    after = [_cut_cost(word, following) for word, following in pairwise(words)] + [0.0]
    ends_sentence = [roughness(word.word) == 0 for word in words]
    costs = [0.0] + [float("inf")] * count
    begins = [0] * (count + 1)
    for begin in range(count):
        text, sentences = prefix, 0.0
        for end in range(begin, count):
            text += words[end].word
            seconds = words[end].end - words[begin].start
            if end > begin and (seconds > CUE_SECONDS or not fits(text)):
                break
            cost = costs[begin] + after[end] + _CUE + sentences
            cost += _BRIEF * max(0.0, _BRIEF_SECONDS - seconds)
            cost += _FULL * (width(text) / (LINES * LINE_CHARACTERS)) ** 2
            if end == begin:
                cost += _ALONE
            if cost < costs[end + 1]:
                costs[end + 1], begins[end + 1] = cost, begin
            sentences += _SENTENCE * ends_sentence[end]
    cuts = [count]
    while cuts[-1]:
        cuts.append(begins[cuts[-1]])
    cuts.reverse()
    for begin, end in pairwise(cuts):
        yield words[begin:end]


def _cut_cost(word: Word, following: Word) -> float:
    pause = following.start - word.end
    glued = not word.word[-1:].isspace() and not following.word[:1].isspace()
    glued = glued and word.word.isascii() and following.word.isascii()
    return max(0.0, _ROUGH * roughness(word.word) - _PAUSE * pause) + _GLUED * glued
