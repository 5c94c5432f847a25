"""The transcript: its model, and the files made from it.

`transcript.json` is the one that counts; `render` makes every other format from it, as UTF-8. Text is put on
one line and freed of control characters first; then each format's own signs are made harmless:

* WebVTT has character references, so `&`, `<` and `>` (and with it `-->`) are written as such.
* SRT has no escape. What players take for a tag (`<i>`, `{\\an8}`) is kept apart from its bracket by an
  invisible word joiner, and `-->` becomes `->`, as openai-whisper does.
* ASS has none that every player knows: braces become their full-width forms.
* TSV follows openai-whisper's writer: start, end (integer milliseconds) and text, under a header.

Fails only with `KeyError` for a format that is not in `FORMATS`. ASS cannot tell a time past 9:59:59.99, nor
SRT and WebVTT one past 99:59:59.999 as pysubs2 writes them; later cues stay at that time.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pysubs2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pysubs2.warnings import TimestampOverflow

from .records import Warning

FORMATS: dict[str, str] = {
    # name: content type
    "json": "application/json",
    "srt": "application/x-subrip",
    "vtt": "text/vtt; charset=utf-8",
    "txt": "text/plain; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "ass": "text/x-ssa; charset=utf-8",
}

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(lambda value: round(value, 3))]
"""Seconds from the start of the recording, to the millisecond."""

_MIN_CUE_MS = 10  # the finest step ASS knows: a cue never ends where it starts
_WORD_JOINER = "\u2060"
_BACKSLASH = "\x1a"  # stands for a backslash on its way through pysubs2, which takes `\N` for a line break


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )


class Word(_Model):
    """One word, with the spaces and marks the engine gave it."""

    start: Seconds
    end: Seconds
    word: str
    probability: float
    speaker: str | None = None


class Segment(_Model):
    """What is shown as one cue or one line."""

    id: int
    start: Seconds
    end: Seconds
    text: str
    words: tuple[Word, ...] = ()
    speaker: str | None = None


class Transcript(_Model):
    """The words of one recording, and how they were found."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    id: str
    text: str
    language: str | None
    language_probability: float | None
    duration: Seconds
    segments: tuple[Segment, ...]
    engine: str
    model: str
    options: dict[str, Any] = {}
    timings: dict[str, Seconds] = Field(default={}, description="Seconds each stage took.")
    warnings: tuple[Warning, ...] = ()


def render(transcript: Transcript, format: str) -> bytes:
    """The transcript in one of `FORMATS`. One without segments gives a valid empty file."""
    return _WRITERS[format](transcript).encode()


def _json(transcript: Transcript) -> str:
    return transcript.model_dump_json(indent=2) + "\n"


def _txt(transcript: Transcript) -> str:
    return "".join(f"{_prefixed(segment)}\n" for segment in transcript.segments)


def _tsv(transcript: Transcript) -> str:
    rows = (
        f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{_prefixed(segment)}\n"
        for segment in transcript.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def _srt(transcript: Transcript) -> str:
    def text(segment: Segment) -> str:
        safe = _prefixed(segment).replace("-->", "->")
        return re.sub(r"<(?=[\s/A-Za-z])|\{(?=\\)", lambda sign: sign[0] + _WORD_JOINER, safe)

    return _subtitles(transcript, text).to_string("srt", keep_ssa_tags=True).replace(_BACKSLASH, "\\")


def _vtt(transcript: Transcript) -> str:
    def escape(text: str) -> str:
        return _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def text(segment: Segment) -> str:
        return (f"<v {escape(segment.speaker)}>" if segment.speaker else "") + escape(segment.text)

    return _subtitles(transcript, text).to_string("vtt", keep_ssa_tags=True).replace(_BACKSLASH, "\\")


def _ass(transcript: Transcript) -> str:
    def text(segment: Segment) -> str:
        return _prefixed(segment).replace("{", "\uff5b").replace("}", "\uff5d")

    # Apart from its letter, a backslash is no `\N`.
    with warnings.catch_warnings(action="ignore", category=TimestampOverflow):
        written = _subtitles(transcript, text).to_string("ass", header_notice="Bucketscribe")
    return written.replace(_BACKSLASH, "\\" + _WORD_JOINER)


def _subtitles(transcript: Transcript, text: Callable[[Segment], str]) -> pysubs2.SSAFile:
    """One cue a segment that says something, in order of time."""
    subtitles = pysubs2.SSAFile()
    for segment in sorted(transcript.segments, key=lambda segment: segment.start):
        if not _one_line(segment.text):
            continue
        start = round(segment.start * 1000)
        end = max(round(segment.end * 1000), start + _MIN_CUE_MS)
        subtitles.append(pysubs2.SSAEvent(start=start, end=end, text=text(segment).replace("\\", _BACKSLASH)))
    return subtitles


def _prefixed(segment: Segment) -> str:
    text = _one_line(segment.text)
    return f"{_one_line(segment.speaker)}: {text}" if segment.speaker else text


def _one_line(text: str) -> str:
    """All white space, tabs and line breaks included, becomes single spaces; control characters go."""
    return "".join(c for c in " ".join(text.split()) if unicodedata.category(c) != "Cc")


_WRITERS: dict[str, Callable[[Transcript], str]] = {
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "txt": _txt,
    "tsv": _tsv,
    "ass": _ass,
}
