"""The transcript: its model, and the files made from it.

`transcript.json` is the one that counts; `render` makes every other format from it, as UTF-8. Its segments
and words have the labels of speakers, whatever those are called; the other formats have names, where there
are any. Text is put on one line and freed of control characters first; then each format's own signs are made
harmless:

* WebVTT has character references, so `&`, `<` and `>` (and with it `-->`) are written as such.
* SRT has no escape. What players take for a tag (`<i>`, `{\\an8}`) is kept apart from its bracket by an
  invisible word joiner, and `-->` becomes `->`, as openai-whisper does.
* ASS has none that every player knows: braces become their full-width forms.
* TSV follows openai-whisper's writer: start, end (integer milliseconds) and text, under a header.

SRT, WebVTT and ASS are for reading: text is broken into lines as `captions` says, and a cue too short to be
read stands for 5/6 s, or until the next begins. The other formats have one line and exact times.

Fails only with `KeyError` for a format that is not in `FORMATS`. ASS cannot tell a time past 9:59:59.99, nor
SRT and WebVTT one past 99:59:59.999 as pysubs2 writes them; later cues stay at that time.
"""

import re
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

import pysubs2
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from pysubs2.warnings import TimestampOverflow

from .captions import CUE_SECONDS_MIN, lines
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word, with the spaces and marks the engine gave it. There are 100,000 in ten hours: it is small."""

    start: Seconds
    end: Seconds
    word: str
    probability: float
    speaker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What is shown as one cue or one line."""

    id: int
    start: Seconds
    end: Seconds
    text: str
    words: tuple[Word, ...] = ()
    speaker: str | None = None


class Transcript(BaseModel):
    """The words of one recording, and how they were found."""

    model_config = ConfigDict(
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        # An error is logged, and no word of a recording.
        hide_input_in_errors=True,
    )

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
    speakers: dict[str, str] = Field(
        default={}, description="Names by the label of each; only of those who were given one."
    )
    timings: dict[str, Seconds] = Field(default={}, description="Seconds each stage took.")
    warnings: tuple[Warning, ...] = ()


def render(transcript: Transcript, format: str) -> bytes:
    """The transcript in one of `FORMATS`. One without segments gives a valid empty file."""
    return _WRITERS[format](transcript)


def _json(transcript: Transcript) -> bytes:
    return _TRANSCRIPT.dump_json(transcript, indent=2)  # not by way of a str, which would double it


def _txt(transcript: Transcript) -> bytes:
    return "".join(f"{_prefixed(transcript, segment)}\n" for segment in transcript.segments).encode()


def _tsv(transcript: Transcript) -> bytes:
    rows = (
        f"{round(segment.start * 1000)}\t{round(segment.end * 1000)}\t{_prefixed(transcript, segment)}\n"
        for segment in transcript.segments
    )
    return ("start\tend\ttext\n" + "".join(rows)).encode()


def _srt(transcript: Transcript) -> bytes:
    def text(segment: Segment) -> str:
        safe = "\n".join(lines(_prefixed(transcript, segment).replace("-->", "->")))
        return re.sub(r"<(?=[\s/A-Za-z])|\{(?=\\)", lambda sign: sign[0] + _WORD_JOINER, safe)

    return _written(_subtitles(transcript, text).to_string("srt", keep_ssa_tags=True), "\\")


def _vtt(transcript: Transcript) -> bytes:
    def escape(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    def text(segment: Segment) -> str:
        speaker = _speaker(transcript, segment)
        voice = f"<v {escape(speaker)}>" if speaker else ""
        return voice + escape("\n".join(lines(_one_line(segment.text))))

    return _written(_subtitles(transcript, text).to_string("vtt", keep_ssa_tags=True), "\\")


def _ass(transcript: Transcript) -> bytes:
    def text(segment: Segment) -> str:
        shown = "\n".join(lines(_prefixed(transcript, segment)))
        return shown.replace("{", "\uff5b").replace("}", "\uff5d")

    with warnings.catch_warnings(action="ignore", category=TimestampOverflow):
        written = _subtitles(transcript, text).to_string("ass", header_notice="Bucketscribe")
    return _written(written, "\\" + _WORD_JOINER)  # apart from its letter, a backslash is no `\N`


def _written(subtitles: str, backslash: str) -> bytes:
    return subtitles.replace(_BACKSLASH, backslash).encode()


def _subtitles(transcript: Transcript, text: Callable[[Segment], str]) -> pysubs2.SSAFile:
    """One cue a segment that says something, in order of time. `text` gives its lines."""
    subtitles = pysubs2.SSAFile()
    for segment, start, end in _shown(transcript):
        shown = text(segment).replace("\\", _BACKSLASH).replace("\n", r"\N")
        subtitles.append(pysubs2.SSAEvent(start=start, end=end, text=shown))
    return subtitles


def _shown(transcript: Transcript) -> Iterator[tuple[Segment, int, int]]:
    """The segments that say something, and from when to when they are shown, in milliseconds.

    Nothing is lengthened into the one that follows, or past the recording's end.
    """
    segments = [segment for segment in transcript.segments if _one_line(segment.text)]
    segments.sort(key=lambda segment: segment.start)
    starts: list[int] = []
    for segment in segments:
        start = round(segment.start * 1000)
        starts.append(max(start, starts[-1] + _MIN_CUE_MS) if starts else start)
    last = round(transcript.duration * 1000)
    for segment, start, following in zip(segments, starts, [*starts[1:], last], strict=False):
        readable = min(start + round(CUE_SECONDS_MIN * 1000), following)
        yield segment, start, max(round(segment.end * 1000), readable, start + _MIN_CUE_MS)


def _prefixed(transcript: Transcript, segment: Segment) -> str:
    text, speaker = _one_line(segment.text), _speaker(transcript, segment)
    return f"{speaker}: {text}" if speaker else text


def _speaker(transcript: Transcript, segment: Segment) -> str:
    """Who says it, by name where there is one; nothing where nobody knows."""
    label = segment.speaker
    return _one_line(transcript.speakers.get(label, label)) if label else ""


def _one_line(text: str) -> str:
    """All white space, tabs and line breaks included, becomes single spaces; control characters go."""
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(c for c in text if unicodedata.category(c) != "Cc")


_TRANSCRIPT = TypeAdapter(Transcript)
_WRITERS: dict[str, Callable[[Transcript], bytes]] = {
    "json": _json,
    "srt": _srt,
    "vtt": _vtt,
    "txt": _txt,
    "tsv": _tsv,
    "ass": _ass,
}
