"""From characters' times to words' times."""

from typing import Any

from bucketscribe.worker.engines.spelling import spelled, times_of_words
from hypothesis import given
from hypothesis import strategies as st


def characters(words: list[str], **without: str) -> list[dict[str, Any]]:
    """As WhisperX tells them: one a tenth of a second; those in `without` have no times."""
    return [
        {"char": sign}
        if sign in without.get("times", " ")
        else {"char": sign, "start": at / 10, "end": (at + 1) / 10, "score": 0.5}
        for at, sign in enumerate(spelled(words))
    ]


def test_a_word_lasts_from_its_first_letter_to_its_last() -> None:
    words = [" ask", " not"]
    assert times_of_words(words, characters(words)) == [(0.1, 0.4), (0.5, 0.8)]


def test_a_mark_is_not_heard_where_there_are_letters() -> None:
    words = [" you,", " —", " ask?"]
    assert times_of_words(words, characters(words)) == [(0.1, 0.4), (0.6, 0.7), (0.8, 1.1)]


def test_a_word_without_a_time_is_where_the_one_before_ends() -> None:
    words = ["|", " ask", " |", " not"]
    assert times_of_words(words, characters(words, times=" |")) == [
        (0, 0),
        (0.2, 0.5),
        (0.5, 0.5),
        (0.8, 1.1),
    ]


def test_other_characters_and_none_with_a_time_cannot_be_mapped() -> None:
    words = [" ask", " not"]
    assert times_of_words(words, characters(words)[1:]) is None
    assert times_of_words(words, characters(words, times=" asknot")) is None
    assert times_of_words(words, []) is None


def test_a_letter_whose_lower_case_is_two_is_counted_once() -> None:
    words = [" İstanbul", " İzmir"]
    assert all(len(sign.lower()) == 1 for sign in spelled(words))
    assert times_of_words(words, characters(words)) == [(0.1, 0.9), (1.0, 1.5)]


@given(st.lists(st.text(min_size=1), max_size=8), st.text())
def test_every_word_has_a_time_or_none_has(words: list[str], untimed: str) -> None:
    times = times_of_words(words, characters(words, times=untimed))
    assert times is None or len(times) == len(words)
    for start, end in times or []:
        assert 0 <= start <= end <= len("".join(words)) / 10
