"""Forms, taken apart piece by piece: where a piece ends makes no difference."""

from itertools import pairwise

import pytest
from bucketscribe.api.forms import (
    MOST_FIELD_BYTES,
    MOST_FIELDS,
    MOST_FIELDS_BYTES,
    FileBegins,
    FormReader,
)
from bucketscribe.errors import Problem
from hypothesis import given
from hypothesis import strategies as st

BOUNDARY = "----a.boundary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"
FILE = 'form-data; name="file"; filename="talk.wav"'


def part(body: bytes, disposition: str, *headers: str) -> bytes:
    lines = [f"--{BOUNDARY}", f"Content-Disposition: {disposition}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body + b"\r\n"


def field(name: str, value: bytes = b"x") -> bytes:
    return part(value, f'form-data; name="{name}"')


LARGE_FIELDS = [
    field(f"f{number}", b"y" * MOST_FIELD_BYTES) for number in range(MOST_FIELDS_BYTES // MOST_FIELD_BYTES)
]
"""As many bytes as all fields may have together."""


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def read(
    body: bytes, cuts: list[int] | None = None, content_type: str = TYPE
) -> tuple[FileBegins | None, bytes, dict[str, list[str]]]:
    """The file's headers and bytes, and the fields, of a form that comes in pieces cut there."""
    reader = FormReader(content_type, "file")
    begins, taken = None, bytearray()
    places = [0, *sorted(cuts or []), len(body)]
    for start, end in pairwise(places):
        for found in reader.feed(body[start:end]):
            if isinstance(found, FileBegins):
                begins = found
            else:
                taken += found
    reader.close()
    return begins, bytes(taken), reader.fields


def refusal(body: bytes, content_type: str = TYPE) -> str:
    with pytest.raises(Problem) as refused:
        read(body, content_type=content_type)
    assert refused.value.code == "invalid_form"
    return refused.value.detail


# Bytes that look like boundaries, whole or in part, are what can go wrong.
_TRICKY = (
    st.lists(
        st.sampled_from(
            [b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", b"\r\n------a.boundar", b"a.boundary"]
        )
        | st.binary(max_size=20),
        max_size=12,
    )
    .map(b"".join)
    .filter(lambda content: f"--{BOUNDARY}".encode() not in content)
)


@given(
    content=_TRICKY,
    before=st.dictionaries(st.sampled_from("abc"), _TRICKY, max_size=2),
    after=st.dictionaries(st.sampled_from("xyz"), _TRICKY, max_size=2),
    data=st.data(),
)
def test_however_a_form_is_cut_the_same_comes_out(
    content: bytes, before: dict[str, bytes], after: dict[str, bytes], data: st.DataObject
) -> None:
    body = form(
        *(field(name, value) for name, value in before.items()),
        part(content, FILE, "Content-Type: audio/wav"),
        *(field(name, value) for name, value in after.items()),
    )
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=20))
    expected = {name: [value.decode(errors="replace")] for name, value in (before | after).items()}
    assert read(body, cuts) == (FileBegins("talk.wav", "audio/wav"), content, expected)


def test_a_form_may_come_byte_by_byte() -> None:
    content = b"\r\n--" + BOUNDARY.encode()[:-1] + b"\r\n-" + bytes(range(256))
    body = form(field("language", b"en"), part(content, FILE))
    begins, taken, fields = read(body, [*range(len(body))])
    assert (begins, taken) == (FileBegins("talk.wav", None), content)
    assert fields == {"language": ["en"]}


def test_every_value_of_a_name_is_kept_in_order() -> None:
    body = form(field("a", b"1"), field("a", b"2"), part(b"x", FILE), field("a", b"3"))
    assert read(body)[2] == {"a": ["1", "2", "3"]}


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ('filename="Gespräch 東京.wav"', "Gespräch 東京.wav"),
        ('filename="a%22b.wav"', 'a"b.wav'),
        ('filename="a\\"b;c.wav"', 'a"b;c.wav'),
        ('filename="C:\\Users\\ann\\talk.wav"', "talk.wav"),
        ("filename=talk.wav", "talk.wav"),
        ('filename=""', None),
        ("", None),
    ],
)
def test_a_files_name_is_read_as_clients_write_it(written: str, name: str | None) -> None:
    begins, _, _ = read(form(part(b"x", f'form-data; name="file"; {written}')))
    assert begins == FileBegins(name, None)


@pytest.mark.parametrize(
    ("content_type", "told"),
    [
        ("", "multipart/form-data"),
        ("application/json", "multipart/form-data"),
        ("multipart/form-data", "boundary"),
        ("multipart/form-data; boundary=" + "x" * 1000, "boundary"),
        ("application/x-www-form-urlencoded; boundary=x", "multipart/form-data"),
    ],
)
def test_what_is_no_form_is_refused(content_type: str, told: str) -> None:
    assert told in refusal(form(part(b"x", FILE)), content_type)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "last boundary"),
        (form(), "no file"),
        (form(field("language")), "no file"),
        (form(part(b"x", FILE), part(b"y", FILE)), "more than one file"),
        (form(part(b"x", 'form-data; name="audio"; filename="talk.wav"')), "'audio'"),
        (part(b"x", FILE), "last boundary"),
        (part(b"x", FILE)[:-2], "last boundary"),
        (b"no form at all" * 10, "boundary"),
        (form(part(b"x", "attachment")), "Content-Disposition"),
        (form(part(b"x", 'form-data; filename="talk.wav"')), "Content-Disposition"),
        (b"--" + BOUNDARY.encode() + b"\r\n\r\nx\r\n" + form(), "Content-Disposition"),
        (form(*[field(f"f{number}") for number in range(MOST_FIELDS + 1)], part(b"x", FILE)), "fields"),
        (form(field("prompt", bytes(MOST_FIELD_BYTES + 1)), part(b"x", FILE)), "'prompt'"),
        (form(*LARGE_FIELDS, field("one more", b"y"), part(b"x", FILE)), "together"),
        (form(part(b"x", FILE, *[f"X-{number}: 1" for number in range(100)])), "header"),
        (form(part(b"x", FILE, "X: " + "y" * 100_000)), "header"),
        (form(part(b"x", FILE, "no header")), "header"),
    ],
)
def test_a_form_that_cannot_be_used_is_refused_with_the_reason(body: bytes, told: str) -> None:
    assert told in refusal(body)


@pytest.mark.parametrize("fields", [LARGE_FIELDS, [field(f"f{number}") for number in range(MOST_FIELDS)]])
def test_as_many_and_as_large_fields_as_are_allowed_are_taken(fields: list[bytes]) -> None:
    assert len(read(form(*fields, part(b"x", FILE)))[2]) == len(fields)


def test_what_follows_the_last_boundary_is_nobodys() -> None:
    assert read(form(part(b"x", FILE)) + b"and so on" * 100)[1] == b"x"
