"""Where a caption's text is broken."""

import pytest
from bucketscribe.captions import LINE_CHARACTERS, LINES, fits, lines, roughness, width
from hypothesis import given
from hypothesis import strategies as st

SENTENCES = st.lists(st.text(alphabet="abcdefgh,.'é", min_size=1, max_size=14), min_size=1, max_size=20).map(
    " ".join
)
ANY = st.text(max_size=150)


def test_a_short_text_stays_on_one_line() -> None:
    assert lines(" Ask not what your country can do for you. ") == [
        "Ask not what your country can do for you."
    ]


def test_a_text_without_a_sign_has_no_line() -> None:
    assert lines(" \n") == []


def test_two_lines_are_about_equally_long() -> None:
    assert lines("ask not what your country can do for you today") == [
        "ask not what your country",
        "can do for you today",
    ]


def test_a_line_ends_at_a_comma_rather_than_exactly_in_the_middle() -> None:
    assert lines("And so, my fellow Americans, ask not what your country can do") == [
        "And so, my fellow Americans,",
        "ask not what your country can do",
    ]


def test_a_line_does_not_end_with_an_article() -> None:
    assert lines("we went across the bridge to see what the children had been up to") == [
        "we went across the bridge to see",
        "what the children had been up to",
    ]


def test_wide_signs_count_twice() -> None:
    assert width("日本語") == 6
    assert width("e\u0301") == 1
    assert all(width(line) <= LINE_CHARACTERS for line in lines("日本語" * 14))
    assert len(lines("日本語" * 14)) == 2


def test_no_line_begins_with_a_closing_mark() -> None:
    for shift in range(12):
        broken = lines("あ" * (12 + shift) + "、" + "い" * (12 + shift) + "。")
        assert not any(line.startswith(("、", "。")) for line in broken)


def test_korean_is_broken_at_spaces() -> None:
    text = "저는 오늘 아침에 학교에 가서 친구들을 만나고 왔습니다"
    assert " ".join(lines(text)) == text


def test_a_word_that_fits_on_no_line_is_broken() -> None:
    assert [len(line) for line in lines("a" * 100)] == [42, 42, 16]


def test_a_text_longer_than_two_lines_has_as_many_as_it_needs() -> None:
    assert [len(line) for line in lines("four " * 40)] == [39] * 5


@given(SENTENCES)
def test_nothing_is_lost_between_lines(text: str) -> None:
    assert " ".join(lines(text)) == text


@given(ANY)
def test_no_text_makes_a_line_too_long_and_no_sign_is_lost(text: str) -> None:
    broken = lines(text)
    assert all(width(line) <= LINE_CHARACTERS for line in broken)
    assert "".join("".join(broken).split()) == "".join(text.split())
    assert fits(text) == (len(broken) <= LINES)


@pytest.mark.parametrize(
    ("text", "rough"),
    [("country.", 0), ('you."', 0), ("そうです。", 0), ("Americans,", 1), (" the", 3), (" country", 2)],
)
def test_a_break_is_the_rougher_the_less_has_ended(text: str, rough: float) -> None:
    assert roughness(text) == rough
