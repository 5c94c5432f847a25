"""Phrases repeated on and on: what nobody can have said goes, what somebody may have said stays."""

from collections.abc import Sequence

import pytest
from bucketscribe.transcript import Word
from bucketscribe.worker.guards import Loop, without_loops


def said(text: str, start: float, end: float) -> list[Word]:
    """The words of a text, evenly spread."""
    parts = text.split()
    step = (end - start) / len(parts)
    return [
        Word(start=start + n * step, end=start + (n + 1) * step, word=f" {part}", probability=0.5)
        for n, part in enumerate(parts)
    ]


def text(words: Sequence[Word]) -> str:
    return "".join(word.word for word in words).strip()


@pytest.mark.parametrize(
    ("spoken", "seconds"),
    [
        ("no, no, no, no", 1.0),
        ("No! No! No! No!", 0.3),
        ("ha " * 30, 5.0),
        ("one two three four five six seven eight nine ten " * 3, 12.0),
        ("We all live in a yellow submarine, yellow submarine, yellow submarine. " * 4, 40.0),
        ("Hey Jude. " + "Na, na, na, na-na-na-na, na-na-na-na, Hey Jude. " * 18, 240.0),
        ("um " * 3 + "that that is is", 2.0),
        ("go " * 60, 12.0),
    ],
)
def test_what_can_be_said_is_kept(spoken: str, seconds: float) -> None:
    words = said(spoken, 3.0, 3.0 + seconds)
    assert without_loops(words, [(2.6, 3.4 + seconds)]) == (words, [])


@pytest.mark.parametrize(
    "phrase", ["you", "thank you for watching", "I'm going to go to the next one and then"]
)
def test_a_loop_is_cut_to_what_the_voice_can_hold(phrase: str) -> None:
    words = said("And so. " + f"{phrase} " * 100 + "We begin.", 0.0, 10.0)
    kept, loops = without_loops(words, [(0.0, 10.0)])
    (loop,) = loops
    assert (loop.phrase, loop.times_heard) == (phrase, 100)
    assert 1 <= loop.times_kept < 100
    assert text(kept) == " ".join(["And so.", *[phrase] * loop.times_kept, "We begin."])
    assert len(text(kept)) <= 10 * 25 + len("And so. We begin.")


def test_a_loop_over_silence_is_said_once() -> None:
    words = said("Thank you. " * 40, 5.0, 25.0)
    kept, loops = without_loops(words, [(4.6, 5.2)])
    assert loops == [Loop("Thank you.", 5.0, 40, 1)]
    assert text(kept) == "Thank you."


def test_words_squeezed_into_no_time_are_a_loop() -> None:
    words = said("so it is " * 60, 30.0, 30.0)
    kept, (loop,) = without_loops(words, [(0.0, 30.0)])
    assert loop.times_kept < 4
    assert len(kept) == loop.times_kept * 3


def test_capitals_and_marks_make_no_difference() -> None:
    words = said("Bye-bye, Bye-bye! bye-bye... " * 40, 0.0, 2.0)
    _, (loop,) = without_loops(words, [(0.0, 2.0)])
    assert loop.times_heard == 120


def test_the_broken_end_of_a_loop_goes_with_it() -> None:
    words = said("see you in the " * 50 + "see you", 0.0, 3.0)
    kept, (loop,) = without_loops(words, [(0.0, 3.0)])
    assert text(kept) == " ".join(["see you in the"] * loop.times_kept)


def test_each_loop_is_told_apart() -> None:
    words = said("la " * 200 + "no no " + "oh dear " * 200, 0.0, 8.0)
    _, loops = without_loops(words, [(0.0, 8.0)])
    assert [loop.phrase for loop in loops] == ["la", "oh dear"]
    assert loops[0].at_seconds == 0.0
    assert loops[1].at_seconds > 2.0


def test_one_long_word_is_no_loop() -> None:
    words = said("Donaudampfschifffahrtsgesellschaftskapitänsmütze", 0.0, 0.2)
    assert without_loops(words, []) == (words, [])


def test_no_words_have_no_loops() -> None:
    assert without_loops([], []) == ([], [])


def test_ten_hours_of_repeated_words_are_no_hurdle() -> None:
    # Far too many for a look from each word at all the others.
    words = said("a b " * 50_000, 0.0, 36_000.0)
    assert without_loops(words, [(float(second), second + 0.9) for second in range(36_000)]) == (words, [])
