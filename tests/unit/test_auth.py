"""Owners, and where open mode may listen."""

import re

import pytest
from bucketscribe.auth import (
    OPEN,
    OpenToOthers,
    Scope,
    check_reach,
    is_loopback,
    is_owner,
    owned_id,
    owner_slug,
)
from bucketscribe.errors import Problem
from bucketscribe.records import new_id
from bucketscribe.settings import Settings
from hypothesis import given
from hypothesis import strategies as st

SUBJECTS = st.text(st.characters(codec=None), max_size=100)


@given(subject=SUBJECTS)
def test_whatever_a_subject_is_its_owner_is_one_step_of_a_path(subject: str) -> None:
    owner = owner_slug("https://issuer.example", subject)
    assert re.fullmatch(r"[a-z0-9-]{1,40}-[0-9a-f]{16}", owner)
    assert is_owner(owner)
    assert owner != OPEN.owner


@given(subjects=st.tuples(SUBJECTS, SUBJECTS))
def test_two_subjects_are_two_owners(subjects: tuple[str, str]) -> None:
    one, other = (owner_slug("https://issuer.example", subject) for subject in subjects)
    assert (one == other) == (subjects[0] == subjects[1])


def test_an_owner_is_readable_and_never_changes() -> None:
    # It is the prefix of all they have.
    assert owner_slug("keys", "Zoë O'Hara") == "zoe-o-hara-bf26e9c77c9b844b"
    assert owner_slug("keys", "日本") == "owner-ce14ccf831b2adb0"
    assert owner_slug("https://a.example", "ann") != owner_slug("https://b.example", "ann")


@pytest.mark.parametrize(
    "text", ["", "Local", "ann", "ann-0123", "../x-0123456789abcdef", "local/", "local\n"]
)
def test_what_is_no_owner_is_told(text: str) -> None:
    assert not is_owner(text)


def test_the_key_of_an_owner_tells_its_id() -> None:
    id = new_id()
    assert owned_id("ann-0123456789abcdef", f"uploads/ann-0123456789abcdef/{id}/a.mp3") == id


@pytest.mark.parametrize(
    "key",
    [
        "uploads/bob-0123456789abcdef/{id}/a.mp3",
        "uploads/ann-0123456789abcdef/{id}/",
        "uploads/ann-0123456789abcdef/{id}/a/b.mp3",
        "uploads/ann-0123456789abcdef/../{id}/a.mp3",
        "uploads/ann-0123456789abcdef/{id}/a.mp3\n",
        "uploads/ann-0123456789abcdef/{id}/a\0.mp3",
        "uploads/ann-0123456789abcdef/00000000-0000-0000-0000-000000000000/a.mp3",
        "Uploads/ann-0123456789abcdef/{id}/a.mp3",
        "/uploads/ann-0123456789abcdef/{id}/a.mp3",
        "keys/{id}.json",
        "",
    ],
)
def test_a_key_that_is_another_s_or_malformed_is_not_theirs(key: str) -> None:
    with pytest.raises(Problem, match="not_yours"):
        owned_id("ann-0123456789abcdef", key.replace("{id}", new_id()))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.8.9.10", "::1", "localhost", "::ffff:127.0.0.1", "0:0:0:0:0:0:0:1"]
)
def test_the_loopback_is_told(host: str) -> None:
    assert is_loopback(host)
    check_reach(Settings(host=host))


@pytest.mark.parametrize(
    "host",
    [
        *("0.0.0.0", "::", "192.168.1.2", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "", "example.com"),
        *("localhost.example.com", "127.0.0.1.example.com", "127.1", "2130706433", "0x7f000001", "[::1]"),
        *("localhost.", "LOCALHOST", "127.0.0.1:8000", "127.0.0.1\n"),
    ],
)
def test_open_mode_starts_nowhere_else_and_says_what_to_set(host: str) -> None:
    assert not is_loopback(host)
    settings = Settings(host=host) if host else Settings().model_copy(update={"host": ""})
    with pytest.raises(OpenToOthers, match=r"(?s)^BUCKETSCRIBE_HOST is .*BUCKETSCRIBE_AUTH to keys"):
        check_reach(settings)
    check_reach(settings.model_copy(update={"auth": ("keys",)}))


def test_open_mode_does_not_start_on_a_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    with pytest.raises(OpenToOthers, match=r"^This is a Lambda.*BUCKETSCRIBE_AUTH to keys"):
        check_reach(Settings())
    check_reach(Settings(auth=("keys",)))


def test_in_open_mode_one_may_do_everything() -> None:
    assert OPEN.scopes == set(Scope)
