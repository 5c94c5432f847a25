"""Sealed upload ids."""

import pytest
from bucketscribe.seal import BrokenSeal, UploadSeal, seal, unseal
from hypothesis import given
from hypothesis import strategies as st

SECRET = b"a secret for tests only"
KEY = "uploads/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.wav"
sizes = st.integers(0, 5 * 1024**3)


@given(st.text(st.characters(codec="utf-8"), max_size=200), sizes, sizes)
def test_what_was_sealed_is_read_back(upload_id: str, size: int, part_size: int) -> None:
    upload = UploadSeal(upload_id, size, part_size)
    sealed = seal(SECRET, KEY, upload)
    assert unseal(SECRET, KEY, sealed) == upload
    assert set(sealed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(st.text(max_size=100))
def test_anything_else_is_a_broken_seal(text: str) -> None:
    with pytest.raises(BrokenSeal):
        unseal(SECRET, KEY, text)


@given(st.data())
def test_no_character_can_be_changed(data: st.DataObject) -> None:
    sealed = seal(SECRET, KEY, UploadSeal("an S3 id", 1000, 100))
    at = data.draw(st.integers(0, len(sealed) - 2))  # the last one has bits that do not count
    other = data.draw(st.sampled_from("Aa0-_").filter(lambda character: character != sealed[at]))
    with pytest.raises(BrokenSeal):
        unseal(SECRET, KEY, sealed[:at] + other + sealed[at + 1 :])


def test_another_key_or_another_secret_does_not_open_it() -> None:
    sealed = seal(SECRET, KEY, UploadSeal("an S3 id"))
    for secret, key in ((SECRET, KEY + "x"), (SECRET + b"x", KEY), (SECRET, "\ud800")):
        with pytest.raises(BrokenSeal):
            unseal(secret, key, sealed)


@pytest.mark.parametrize(
    ("size", "part_size", "lengths"),
    [(1, 5, [1]), (5, 5, [5]), (6, 5, [5, 1]), (10, 5, [5, 5]), (11, 5, [5, 5, 1])],
)
def test_the_lengths_of_the_parts_add_up_to_the_size(size: int, part_size: int, lengths: list[int]) -> None:
    upload = UploadSeal("id", size, part_size)
    assert [upload.length_of(n) for n in range(1, upload.last_part + 1)] == lengths


def test_without_a_declared_size_no_length_is_known() -> None:
    assert (UploadSeal("id").last_part, UploadSeal("id", 10).length_of(1)) == (10_000, None)
