"""The plan by which an upload is put together of partial ones: what S3 would refuse is in none."""

from bucketscribe.concatenation import COPY_BYTES, plan
from bucketscribe.parts import MAX_PARTS, MIB, MIN_PART_BYTES
from bucketscribe.settings import MAX_OBJECT_BYTES
from hypothesis import given
from hypothesis import strategies as st

SIZES = st.lists(
    st.one_of(
        st.integers(0, 3 * MIN_PART_BYTES),
        st.integers(0, 8).map(lambda count: count * MIN_PART_BYTES),
        st.integers(-2, 2).map(lambda beside: MIN_PART_BYTES + beside),
        st.integers(0, 400 * MIB),
    ),
    max_size=40,
)


@given(SIZES)
def test_all_bytes_are_there_once_and_in_order(sizes: list[int]) -> None:
    pieces = [piece for part in plan(sizes) for piece in part.pieces]
    at = [0] * len(sizes)
    order = [piece.index for piece in pieces]
    assert order == sorted(order)
    for piece in pieces:
        assert piece.start == at[piece.index] < piece.end
        at[piece.index] = piece.end
    assert at == sizes


@given(SIZES)
def test_no_part_but_the_last_is_smaller_than_s3_takes(sizes: list[int]) -> None:
    assert all(part.size >= MIN_PART_BYTES for part in plan(sizes)[:-1])


@given(SIZES)
def test_only_what_s3_copies_is_copied(sizes: list[int]) -> None:
    for part in plan(sizes):
        if part.copied:
            (piece,) = part.pieces
            assert MIN_PART_BYTES <= piece.size <= COPY_BYTES
            assert sizes[piece.index] > MIN_PART_BYTES


@given(SIZES)
def test_little_goes_through_us(sizes: list[int]) -> None:
    parts = plan(sizes)
    assert all(part.size < 2 * MIN_PART_BYTES for part in parts if not part.copied)
    # Of a source that S3 copies: what fills the part before it, and what is left behind.
    through_us = [piece for part in parts if not part.copied for piece in part.pieces]
    for index, size in enumerate(sizes):
        if size > MIN_PART_BYTES:
            assert sum(piece.size for piece in through_us if piece.index == index) < 2 * MIN_PART_BYTES


def test_the_largest_recording_of_many_small_ones_has_few_enough_parts() -> None:
    size = 2 * MIB + 1
    assert len(plan([size] * (MAX_OBJECT_BYTES // size))) <= MAX_PARTS
