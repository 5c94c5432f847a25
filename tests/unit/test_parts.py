"""Parts: sizes, lists of numbers, and the check of a caller's list against the bucket's."""

from datetime import UTC, datetime

import pytest
from bucketscribe.api.uploads import read_numbers
from bucketscribe.bucket import Part as HeldPart
from bucketscribe.errors import Problem
from bucketscribe.parts import MAX_PARTS, MIB, bytes_held, check_parts, default_part_size
from bucketscribe.records import Part, Record, State, new_id
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def record(size: int | None = None) -> Record:
    return Record(
        id=new_id(),
        owner="local",
        state=State.UPLOADING,
        created=NOW,
        updated=NOW,
        key="k",
        name="n",
        content_type="audio/wav",
        size=size,
    )


def held(*sizes: int) -> list[HeldPart]:
    return [HeldPart(n, f'"etag-{n}"', size, NOW) for n, size in enumerate(sizes, start=1)]


def listed(*numbers: int) -> list[Part]:
    return [Part(number=n, etag=f'"etag-{n}"') for n in numbers]


@given(st.integers(1, 5 * 1024**4))
def test_the_default_part_size_needs_no_more_than_10000_parts(size: int) -> None:
    part = default_part_size(size)
    assert -(-size // part) <= MAX_PARTS
    assert part % MIB == 0
    assert part == 8 * MIB or size > 8 * MIB * MAX_PARTS


def test_of_two_versions_of_a_part_the_smaller_counts() -> None:
    other = HeldPart(2, '"another"', 3, NOW)
    assert bytes_held([*held(10, 7, 5), other]) == bytes_held([other, *held(10, 7, 5)]) == 18


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_a_list_of_numbers_is_read_each_once_in_order(numbers: list[int]) -> None:
    assert read_numbers(",".join(map(str, numbers))) == list(dict.fromkeys(numbers))


@given(st.integers(1, 10_000), st.integers(0, 500))
def test_a_range_is_read_with_both_ends(first: int, more: int) -> None:
    last = min(first + more, 10_000)
    assert read_numbers(f"{first}-{last}") == list(range(first, last + 1))


@given(st.text(max_size=40))
def test_any_other_text_is_refused_with_a_code(text: str) -> None:
    try:
        numbers = read_numbers(text)
    except Problem as problem:
        numbers = [] if problem.code == "invalid_part_number" else [-1]
    assert all(0 <= number <= 10_000 for number in numbers)


def test_parts_that_are_all_there_are_accepted_with_and_without_quotes() -> None:
    check_parts(record(), listed(1, 2), held(5 * MIB, 1))
    check_parts(record(), [Part(number=1, etag="etag-1")], held(1))
    check_parts(record(5 * MIB + 1), listed(1, 2), held(5 * MIB, 1))


@pytest.mark.parametrize(
    ("asked", "there", "size", "said"),
    [
        ([], held(1), None, "No parts"),
        (listed(2), held(1, 1), None, "without gaps"),
        (listed(2, 1), held(5 * MIB, 1), None, "without gaps"),
        (listed(1, 1), held(5 * MIB, 1), None, "without gaps"),
        (listed(1, 3), held(5 * MIB, 5 * MIB, 1), None, "without gaps"),
        (listed(1, 2), held(5 * MIB), None, "Part 2 is not in the bucket"),
        ([Part(number=1, etag="other")], held(1), None, "another ETag"),
        (listed(1), held(5 * MIB, 1), None, "leaves out"),
        (listed(1, 2), held(5 * MIB - 1, 1), None, "Part 1 has 5242879 bytes"),
        (listed(1), held(10), 11, "add up to 10 bytes; 11 were declared"),
        (listed(1), held(10), 9, "add up to 10 bytes; 9 were declared"),
    ],
)
def test_parts_that_are_not_right_are_refused_with_the_reason(
    asked: list[Part], there: list[HeldPart], size: int | None, said: str
) -> None:
    with pytest.raises(Problem, match=said) as refused:
        check_parts(record(size), asked, there)
    assert refused.value.code == "invalid_part"


def test_where_nothing_tells_which_of_two_parts_is_newer_either_is_accepted() -> None:
    twice = [HeldPart(1, '"a"', 10, NOW), HeldPart(1, '"b"', 12, NOW)]
    check_parts(record(12), [Part(number=1, etag='"b"')], twice)
    with pytest.raises(Problem):
        check_parts(record(12), [Part(number=1, etag='"a"')], twice)
