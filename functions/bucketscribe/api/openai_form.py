"""What a form of OpenAI's audio routes asks for, in our words.

Source: OpenAI's API reference, "Create transcription" and "Create translation". What its clients may send and
has no effect here is named and not refused, so that they need not be changed; what would give another answer
than was asked for is refused.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from ..errors import Problem
from ..options import ignored_names

Task = Literal["transcribe", "translate"]
ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]

RESPONSE_FORMATS: tuple[str, ...] = get_args(ResponseFormat)
GRANULARITIES = ("segment", "word")

OPENAI_MODELS = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
)
"""OpenAI's own, but for the one that tells speakers apart: here they all are the server's own model."""

PROMPT_CHARACTERS = 2000
"""More than Whisper takes of a prompt, which is its last 224 tokens; clients send whole transcripts."""

_UNDERSTOOD = frozenset(
    {
        *("model", "language", "prompt", "response_format", "temperature", "stream"),
        *("timestamp_granularities", "timestamp_granularities[]"),
    }
)
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class AudioForm:
    """A form, read. `options` are those of a transcription; `ignored` names what has no effect."""

    options: dict[str, Any]
    response_format: ResponseFormat
    segments: bool
    words: bool
    stream: bool
    ignored: tuple[str, ...]


def read_form(fields: Mapping[str, Sequence[str]], task: Task, allowed_models: Collection[str]) -> AudioForm:
    """Read the fields that came; of one that came twice the last counts. Raises Problem `invalid_option`."""
    given = {name: values[-1].strip() for name, values in fields.items() if values and values[-1].strip()}
    format = _response_format(given.get("response_format", "json"))
    granularities = _granularities(fields, format)
    stream = _switch("stream", given.get("stream", "false"))
    if stream and format not in ("json", "text"):
        raise _invalid("stream", f"A stream has text only: with stream, {format} cannot be had.")
    options = {"task": task, "language": given.get("language"), "model": _model(given, allowed_models)}
    options["initial_prompt"] = given.get("prompt", "")[-PROMPT_CHARACTERS:]
    ignored = {name.removesuffix("[]").partition("[")[0] for name in given.keys() - _UNDERSTOOD}
    if _temperature(given.get("temperature", "0")) > 0:
        ignored.add("temperature")
    return AudioForm(
        options={name: value for name, value in options.items() if value},
        response_format=format,
        segments=not granularities or "segment" in granularities,
        words="word" in granularities,
        stream=stream,
        ignored=ignored_names(sorted(ignored)),
    )


def _response_format(named: str) -> ResponseFormat:
    for format in get_args(ResponseFormat):
        if named == format:
            found: ResponseFormat = format
            return found
    raise _invalid("response_format", f"response_format must be one of {', '.join(RESPONSE_FORMATS)}.")


def _granularities(fields: Mapping[str, Sequence[str]], format: str) -> list[str]:
    named = [*fields.get("timestamp_granularities[]", ()), *fields.get("timestamp_granularities", ())]
    named = [value.strip() for value in named if value.strip()]
    if unknown := [value for value in named if value not in GRANULARITIES]:
        raise _invalid(
            "timestamp_granularities",
            f"There are segment and word, and no {unknown[0][:40]!r}, to choose from.",
        )
    if named and format != "verbose_json":
        raise _invalid(
            "timestamp_granularities", "timestamp_granularities go with response_format verbose_json only."
        )
    return named


def _model(given: Mapping[str, str], allowed_models: Collection[str]) -> str | None:
    """The model's name here; None for the server's own."""
    named = given.get("model")
    if named is None or named in allowed_models:
        return named
    if named in OPENAI_MODELS:
        return None
    raise _invalid(
        "model",
        f"There is no model {named[:100]!r} here. Ask for {', '.join(allowed_models)}; or for "
        f"{OPENAI_MODELS[0]}, which stands for the server's own.",
    )


def _temperature(text: str) -> float:
    try:
        temperature = float(text)
    except ValueError:
        temperature = -1
    # Written so that what is not a number is refused, too.
    if not 0 <= temperature <= 1:
        raise _invalid("temperature", "temperature must be a number from 0 to 1.")
    return temperature


def _switch(name: str, text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise _invalid(name, f"{name} must be true or false.")
    return _SWITCH[text.lower()]


def _invalid(name: str, detail: str) -> Problem:
    return Problem("invalid_option", detail, {"option": name})
