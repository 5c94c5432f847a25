"""Whose words they are, by the turns speakers take; and captions that have one speaker each."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from bucketscribe.captions import fits
from bucketscribe.transcript import Word
from bucketscribe.worker.cues import segments
from bucketscribe.worker.engines.base import Turn
from bucketscribe.worker.speakers import Voices
from hypothesis import given
from hypothesis import strategies as st

A, B, C = "SPEAKER_00", "SPEAKER_01", "SPEAKER_02"


def said(*texts: str, seconds: float = 1.0) -> list[Word]:
    """Words one after the other, each of the same length."""
    return [
        Word(start=n * seconds, end=(n + 1) * seconds, word=f" {text}", probability=0.9)
        for n, text in enumerate(texts)
    ]


def told(words: Sequence[Word], *turns: Turn) -> list[str | None]:
    return [word.speaker for word in Voices(turns).tell(words)]


def test_a_word_is_its_who_speaks_longest_in_it() -> None:
    assert told(said("yes.", "no.", "so."), Turn(0, 1.4, A), Turn(1.4, 3, B)) == [A, B, B]


def test_turns_of_one_speaker_add_up() -> None:
    assert told(said("well"), Turn(0, 0.3, A), Turn(0.3, 0.7, B), Turn(0.7, 1, A)) == [A]


def test_a_word_in_which_nobody_speaks_goes_to_the_nearest_turn() -> None:
    words = [Word(start=at, end=at + 1, word=" hm.", probability=1) for at in (0.0, 10.0, 20.0, 31.0, 50.0)]
    assert told(words, Turn(12, 13, A), Turn(30, 30.5, B), Turn(33, 34, C)) == [A, A, A, B, C]


def test_a_word_of_no_length_is_its_within_whose_turn_it_lies() -> None:
    word = Word(start=5, end=5, word=" a", probability=1)
    assert told([word], Turn(0, 4.9, A), Turn(4.95, 6, B), Turn(6, 9, C)) == [B]


def test_of_two_who_speak_at_once_the_one_goes_on_who_began() -> None:
    words = said("I.", "say.", "that.", "again.")
    assert told(words, Turn(0, 4, B), Turn(1, 3, A)) == [B] * 4
    assert told(words[1:3], Turn(1, 4, B), Turn(0, 3, A)) == [A, A]


def test_who_speaks_on_alone_is_heard() -> None:
    words = said("I.", "say.", "that.", "again.")
    assert told(words, Turn(0, 2, A), Turn(1, 4, B)) == [A, A, B, B]


def test_a_word_within_a_sentence_does_not_change_the_speaker_unless_it_is_clear() -> None:
    words = said("we", "will", "see.")
    doubtful = [Turn(0, 1.3, A), Turn(1.3, 2, B), Turn(2, 3, A)]
    assert told(words, *doubtful) == [A, A, A]
    assert told(words, Turn(0, 1.1, A), Turn(1.1, 2, B), Turn(2, 3, A)) == [A, B, A]
    # A word that is a sentence, or begins one, may well be another's.
    assert told(said("see.", "Yes.", "we"), *doubtful) == [A, B, A]


def test_nobody_is_named_where_nobody_speaks() -> None:
    assert told(said("a", "b")) == [None, None]
    assert told(said("a"), Turn(3, 3, A)) == [None]


TIMES = st.integers(0, 400).map(lambda tenth: tenth / 10)
TURNS = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker),
        TIMES,
        st.sampled_from([0.0, 0.1, 0.5, 2.0, 30.0]),
        st.sampled_from([A, B, C]),
    ),
    max_size=25,
)
TEXTS = st.sampled_from([" a", " the", " Yes.", " well,", "日", "", " " + "x" * 50])


@st.composite
def spoken(draw: st.DrawFn) -> list[Word]:
    words: list[Word] = []
    clock = 0.0
    for text, gap, length in draw(
        st.lists(st.tuples(TEXTS, st.sampled_from([0.0, 0.1, 5.0]), st.sampled_from([0.0, 0.2, 1.0, 8.0])))
    ):
        start = clock + gap
        clock = start + length
        words.append(Word(start=start, end=clock, word=text, probability=0.5))
    return words


def overlap(word: Word, speaker: str, turns: Sequence[Turn]) -> float:
    """For how long someone speaks in a word; the plain way, moment by moment between all edges."""
    theirs = [turn for turn in turns if turn.speaker == speaker]
    edges = {word.start, word.end}
    edges |= {time for turn in theirs for time in (turn.start, turn.end) if word.start < time < word.end}
    return sum(
        after - before
        for before, after in pairwise(sorted(edges))
        if any(turn.start <= before and after <= turn.end for turn in theirs)
    )


@given(spoken(), TURNS)
def test_words_keep_their_text_times_and_order(words: list[Word], turns: list[Turn]) -> None:
    assert [replace(word, speaker=None) for word in Voices(turns).tell(words)] == words


@given(spoken(), TURNS)
def test_every_word_has_a_speaker_who_speaks_and_none_has_clearly_more_of_it(
    words: list[Word], turns: list[Turn]
) -> None:
    speakers = {turn.speaker for turn in turns if turn.end > turn.start}
    for word in Voices(turns).tell(words):
        if not speakers:
            assert word.speaker is None
            continue
        assert word.speaker in speakers
        shares = {speaker: overlap(word, speaker, turns) for speaker in speakers}
        assert max(shares.values()) - shares[word.speaker] <= 0.5 * (word.end - word.start) + 1e-5


@given(spoken(), TURNS)
def test_a_word_alone_goes_to_the_largest_overlap_or_the_nearest_turn(
    words: list[Word], turns: list[Turn]
) -> None:
    turns = [turn for turn in turns if turn.end > turn.start]
    for word in words:
        (speaker,) = told([word], *turns)
        if not turns:
            assert speaker is None
            continue
        assert speaker is not None
        shares = {turn.speaker: overlap(word, turn.speaker, turns) for turn in turns}
        assert shares[speaker] >= max(shares.values()) - 1e-5
        if not max(shares.values()):
            gaps = {
                name: min(
                    max(turn.start - word.end, word.start - turn.end, 0.0)
                    for turn in turns
                    if turn.speaker == name
                )
                for name in shares
            }
            assert gaps[speaker] == pytest.approx(min(gaps.values()))


@given(spoken(), TURNS)
def test_captions_have_one_speaker_and_all_the_words(words: list[Word], turns: list[Turn]) -> None:
    voiced = Voices(turns).tell(words)
    captions = segments(voiced)
    assert [word.word for caption in captions for word in caption.words] == [word.word for word in words]
    for caption in captions:
        assert {word.speaker for word in caption.words} == {caption.speaker}
        assert caption.text == "".join(word.word for word in caption.words).strip()
        # With their name before it, as SRT shows it.
        assert len(caption.words) == 1 or fits(f"{caption.speaker}: {caption.text}")
    assert [caption.id for caption in captions] == list(range(len(captions)))


def test_a_caption_has_room_for_the_speakers_name() -> None:
    words = said(
        *"And so my fellow Americans ask not what your country can do for you to day".split(), seconds=0.2
    )
    assert len(segments(words)) == 1
    first, second = segments(Voices([Turn(0, 99, A)]).tell(words))
    assert f"{first.text} {second.text}" == segments(words)[0].text


@pytest.mark.timeout(60)  # a look at every turn for every word takes an hour
def test_ten_hours_of_words_are_told_apart() -> None:
    words = said(*["a"] * 100_000, seconds=0.36)
    turns = [Turn(n * 1.8, n * 1.8 + 2.5, f"SPEAKER_{n % 20:02}") for n in range(20_000)]
    voiced = Voices(turns).tell(words)
    assert [word.speaker for word in voiced[:5]] == ["SPEAKER_00"] * 5
    assert [word.speaker for word in voiced[-4:]] == ["SPEAKER_19"] * 4
