"""Captions cut from words: limits that always hold, and cuts a reader expects."""

from dataclasses import replace
from itertools import pairwise

import pytest
from bucketscribe.captions import CUE_SECONDS, LINES, fits, lines
from bucketscribe.transcript import Word
from bucketscribe.worker.cues import cues
from hypothesis import given
from hypothesis import strategies as st

SPEECH = (
    "And so, my fellow Americans, ask not what your country can do for you; ask what you can do for your "
    "country. My fellow citizens of the world, ask not what America will do for you, but what together we "
    "can do for the freedom of man. Finally, whether you are citizens of America or citizens of the world, "
    "ask of us here the same high standards of strength and sacrifice which we ask of you. With a good "
    "conscience our only sure reward, with history the final judge of our deeds, let us go forth to lead the "
    "land we love, asking His blessing and His help, but knowing that here on earth God's work must truly be "
    "our own."
)

TEXTS = st.one_of(
    st.text(alphabet="abcdefghij.,!'", max_size=12).map(lambda text: f" {text}"),
    st.sampled_from(
        [" the", " of", " Yes.", " well,", "-known", "日", "本。", "、", "한국", " " + "x" * 90, ""]
    ),
    st.text(max_size=4),
)
GAPS = st.sampled_from([0.0, 0.0, 0.0, 0.05, 0.3, 1.5, 5.0])
LENGTHS = st.sampled_from([0.0, 0.1, 0.2, 0.4, 2.5, 9.0])


@st.composite
def spoken(draw: st.DrawFn) -> list[Word]:
    """Words whose times run forward."""
    words: list[Word] = []
    clock = 0.0
    for text, gap, length in draw(st.lists(st.tuples(TEXTS, GAPS, LENGTHS), max_size=60)):
        start = clock + gap
        clock = start + length
        words.append(Word(start=start, end=clock, word=text, probability=0.5))
    return words


def said(text: str, rate: float = 3.0, pauses: dict[str, float] | None = None) -> list[Word]:
    """The words of a text at so many words a second, with a pause in seconds behind some."""
    clock, words = 0.0, []
    for part in text.split():
        words.append(Word(start=clock, end=clock + 1 / rate, word=f" {part}", probability=0.9))
        clock += 1 / rate + (pauses or {}).get(part, 0.0)
    return words


def texts(words: list[Word]) -> list[str]:
    return ["".join(word.word for word in cue).strip() for cue in cues(words)]


@given(spoken())
def test_every_word_comes_once_and_in_order(words: list[Word]) -> None:
    cut = [word for cue in cues(words) for word in cue]
    assert [(word.word, word.end) for word in cut] == [(word.word, word.end) for word in words]
    assert [word.start for word in cut] == [max(word.start, round(word.end - 7, 3)) for word in words]


@given(spoken())
def test_no_caption_is_too_long_or_laps_over_the_next(words: list[Word]) -> None:
    cut = cues(words)
    for cue in cut:
        assert cue[-1].end - cue[0].start <= CUE_SECONDS + 1e-9
        assert len(cue) == 1 or fits("".join(word.word for word in cue))
    for cue, following in pairwise(cut):
        assert cue[-1].end <= following[0].start


def test_a_speech_is_cut_where_a_reader_expects_it() -> None:
    cut = texts(said(SPEECH))
    assert " ".join(cut) == SPEECH
    assert sum(text.endswith((".", ",", ";")) for text in cut) >= 0.8 * len(cut)
    assert all(len(lines(text)) <= LINES for text in cut)
    assert min(len(text.split()) for text in cut) >= 3


def test_a_sentence_is_a_caption() -> None:
    assert texts(
        said("Where were you last night? I was at home with my mother. We watched a film about birds.")
    ) == [
        "Where were you last night?",
        "I was at home with my mother.",
        "We watched a film about birds.",
    ]


def test_very_short_sentences_share_a_caption() -> None:
    assert texts(said("Yes. No. Of course. I will be there at nine.")) == [
        "Yes. No. Of course.",
        "I will be there at nine.",
    ]


def test_no_word_is_left_alone_behind_a_full_caption() -> None:
    words = said(
        "this is what happens when nobody ever stops for breath and every one of them goes on talking now"
    )
    assert all(len(text.split()) > 3 for text in texts(words))


def test_a_pause_is_a_place_to_cut() -> None:
    text = "we took the long road over the hills because the bridge was closed for repairs again"
    assert texts(said(text, pauses={"hills": 0.8})) == [
        "we took the long road over the hills",
        "because the bridge was closed for repairs again",
    ]


def test_no_caption_stands_through_a_long_silence() -> None:
    assert texts(said("Well I think so", pauses={"Well": 2.5})) == ["Well", "I think so"]


def test_a_hyphenated_word_is_not_cut() -> None:
    words = said("it is one of the oldest and most widely used of all the things that we call well")
    words.append(replace(words[-1], start=words[-1].end, end=words[-1].end + 0.3, word="-known"))
    words += [replace(w, start=w.start + 7, end=w.end + 7) for w in said("tools in the world of today")]
    assert not any(text.startswith("-") for text in texts(words))


def test_wide_signs_fill_a_caption_twice_as_fast() -> None:
    words = [
        Word(start=n * 0.1, end=n * 0.1 + 0.1, word=sign, probability=0.9)
        for n, sign in enumerate("今日は良い天気ですから公園に行きましょうと彼は言いました。" * 4)
    ]
    assert all(len("".join(word.word for word in cue)) <= 42 for cue in cues(words))
    assert all(cue[-1].word == "。" for cue in cues(words))


@pytest.mark.parametrize("length", [43, 84, 200])
def test_a_word_longer_than_a_line_has_a_caption_of_its_own(length: int) -> None:
    words = said("see " + "x" * length + " there")
    assert [word.word for cue in cues(words) for word in cue] == [word.word for word in words]


def test_a_word_that_lasts_too_long_begins_seven_seconds_before_its_end() -> None:
    slip = Word(start=1.0, end=20.0, word=" and", probability=0.2)
    assert cues([slip]) == [[replace(slip, start=13.0)]]


def test_no_words_make_no_captions() -> None:
    assert cues([]) == []


def test_two_hours_of_talk_without_a_pause_are_cut() -> None:
    words = said((SPEECH + " ") * 200)
    assert sum(len(cue) for cue in cues(words)) == len(words)
