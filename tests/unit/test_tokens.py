"""Tokens of our own: they say what they were made to say, and nobody else can make one."""

import pytest
from bucketscribe.auth import OPEN, Principal, Scope, SignIn
from bucketscribe.seal import UploadSeal, seal
from bucketscribe.tokens import BrokenToken, TokenKind, issue, read
from hypothesis import given
from hypothesis import strategies as st

SECRET = b"a secret for tests only"
KEY = "0123456789abcdef" * 4

PRINCIPALS = st.builds(
    Principal,
    owner=st.from_regex(r"[a-z0-9-]{1,40}-[0-9a-f]{16}", fullmatch=True) | st.just("local"),
    scopes=st.frozensets(st.sampled_from(Scope)),
    by=st.sampled_from(SignIn),
    key=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True).filter(lambda key: set(key) != {"0"}),
    expires=st.integers(0, 2**63),
)
ANN = Principal("ann-0123456789abcdef", frozenset({Scope.UPLOAD}), SignIn.KEYS, KEY, 2_000_000_000)


@given(principal=PRINCIPALS, kind=st.sampled_from(TokenKind))
def test_a_token_says_who_it_was_made_for(principal: Principal, kind: TokenKind) -> None:
    assert read(SECRET, kind, issue(SECRET, kind, principal)) == principal


@given(principal=PRINCIPALS)
def test_a_token_stands_in_a_path_as_it_is(principal: Principal) -> None:
    token = issue(SECRET, TokenKind.UPLOAD, principal)
    assert token.replace("-", "").replace("_", "").isalnum()
    assert len(token) <= 256


@given(place=st.integers(0), bit=st.integers(0, 5))
def test_a_token_that_was_changed_is_none(place: int, bit: int) -> None:
    signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = issue(SECRET, TokenKind.UPLOAD, ANN)
    place %= len(token) - 1  # the last sign has bits that say nothing
    changed = token[:place] + signs[signs.index(token[place]) ^ 1 << bit] + token[place + 1 :]
    with pytest.raises(BrokenToken):
        read(SECRET, TokenKind.UPLOAD, changed)


@pytest.mark.parametrize(("made", "asked"), [(1, 2), (2, 1)])
def test_a_token_of_one_kind_is_none_of_the_other(made: int, asked: int) -> None:
    with pytest.raises(BrokenToken):
        read(SECRET, TokenKind(asked), issue(SECRET, TokenKind(made), ANN))


def test_a_token_of_another_secret_is_none() -> None:
    with pytest.raises(BrokenToken):
        read(b"another secret for tests", TokenKind.UPLOAD, issue(SECRET, TokenKind.UPLOAD, ANN))


def test_a_sealed_upload_id_is_no_token() -> None:
    with pytest.raises(BrokenToken):
        read(SECRET, TokenKind.UPLOAD, seal(SECRET, "uploads/local/x/y", UploadSeal("an id of S3's" * 10)))


@given(text=st.text(st.characters(codec=None)) | st.from_regex(r"[\w-]{1,300}", fullmatch=True))
def test_whatever_is_no_token_is_told(text: str) -> None:
    with pytest.raises(BrokenToken):
        read(SECRET, TokenKind.UPLOAD, text)


def test_a_token_must_end() -> None:
    with pytest.raises(ValueError, match="expire"):
        issue(SECRET, TokenKind.SESSION, OPEN)
