"""Forms as they come: multipart/form-data (RFC 7578), taken apart piece by piece, whatever their size.

Fields are kept; of the one file nothing is, but passed on as it comes. Where a piece ends makes no
difference. What is wrong with a form is told as soon as it is seen, as Problem `invalid_form`: more than one
file, or one under another name; too many fields, or too large ones; a part that does not say what it is; an
end that never comes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from ..errors import Problem

MOST_FIELDS: Final = 64
MOST_FIELD_BYTES: Final = 64 * 1024
MOST_FIELDS_BYTES: Final = 256 * 1024
"""In all fields together: they are kept until the form ends."""
MOST_HEADER_BYTES: Final = 16 * 1024
"""In one line of a part's headers: a file's name can be long."""

NOT_THE_FILE: Final = MOST_FIELDS_BYTES + MOST_FIELDS * 8 * MOST_HEADER_BYTES
"""Bytes of a form beside its file, at most."""

# How browsers write what would end a file's name (HTML, "multipart/form-data encoding algorithm").
_ESCAPED: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}


@dataclass(frozen=True, slots=True)
class FileBegins:
    """The headers of the file have been read. Its `filename` is None where it has none."""

    filename: str | None
    content_type: str | None


@dataclass(slots=True)
class _PartOfForm:
    headers: dict[str, bytes] = field(default_factory=dict)
    header: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    name: str = ""
    is_file: bool = False


class FormReader:
    """Reads one form. Raises Problem `invalid_form` for a content type that is not a form's.

    `fields` are those that have come so far, by name, in the order they came.
    """

    def __init__(self, content_type: str, file_field: str) -> None:
        kind, parameters = parse_options_header(content_type)
        boundary = parameters.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise invalid("Send multipart/form-data, with the boundary in the Content-Type header.")
        self.fields: dict[str, list[str]] = {}
        self._file_field = file_field
        self._part = _PartOfForm()
        self._found: list[FileBegins | memoryview] = []
        self._count = 0
        self._kept_bytes = 0
        self._seen_file = False
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._part_data,
                    "on_part_end": self._part_end,
                    "on_end": self._end,
                },
                max_header_size=MOST_HEADER_BYTES,
            )
        except FormParserError as error:
            raise invalid(f"The boundary cannot be used ({error}).") from None

    def feed(self, piece: bytes) -> Iterator[FileBegins | memoryview]:
        """What a piece of the form brings of the file. Raises Problem `invalid_form`, all before it told."""
        problem: Problem | None = None
        try:
            self._parser.write(piece)
        except FormParserError as error:
            problem = invalid(f"It is not as its boundary says ({error}).")
        except Problem as told:
            problem = told
        found, self._found = self._found, []
        yield from found
        if problem is not None:
            raise problem

    def close(self) -> None:
        """Say that nothing more comes. Raises Problem `invalid_form` where something is missing."""
        if not self._ended:
            raise invalid("It ended before its last boundary.")
        if not self._seen_file:
            raise invalid(f"There is no file in it. Send one, in the field {self._file_field!r}.")

    # What the parser tells

    def _part_begin(self) -> None:
        self._part = _PartOfForm()

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.value += data[start:end]

    def _header_end(self) -> None:
        part = self._part
        part.headers[part.header.decode("ascii", "replace").lower()] = bytes(part.value)
        part.header, part.value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        part = self._part
        disposition, parameters = parse_options_header(part.headers.get("content-disposition", b""))
        if disposition != b"form-data" or b"name" not in parameters:
            raise invalid("A part of it has no Content-Disposition of form-data with a name.")
        part.name = parameters[b"name"].decode(errors="replace")
        part.is_file = part.name == self._file_field
        if part.is_file:
            if self._seen_file:
                raise invalid("There is more than one file in it. Send one form for each.")
            self._seen_file = True
            content_type = part.headers.get("content-type")
            self._found.append(
                FileBegins(
                    _file_name(parameters.get(b"filename")),
                    None if content_type is None else content_type.decode("latin-1"),
                )
            )
        elif b"filename" in parameters:
            raise invalid(
                f"A file is in the field {part.name[:64]!r}. Send it in the field {self._file_field!r}."
            )
        else:
            self._count += 1
            if self._count > MOST_FIELDS:
                raise invalid(f"It has more than {MOST_FIELDS} fields.")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.is_file:
            self._found.append(memoryview(data)[start:end])
            return
        part.value += data[start:end]
        self._kept_bytes += end - start
        if len(part.value) > MOST_FIELD_BYTES:
            raise invalid(f"The field {part.name[:64]!r} has more than {MOST_FIELD_BYTES} bytes.")
        if self._kept_bytes > MOST_FIELDS_BYTES:
            raise invalid(f"Its fields have more than {MOST_FIELDS_BYTES} bytes together.")

    def _part_end(self) -> None:
        part = self._part
        if not part.is_file:
            self.fields.setdefault(part.name, []).append(part.value.decode(errors="replace"))

    def _end(self) -> None:
        self._ended = True


def invalid(detail: str) -> Problem:
    """What to say of a form that cannot be used."""
    return Problem("invalid_form", f"The form cannot be used. {detail}")


def _file_name(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    name = raw.decode(errors="replace")
    for escaped, character in _ESCAPED.items():
        name = name.replace(escaped, character)
    return name or None
