"""A transcription told as OpenAI's audio routes tell it: documents, events and errors.

Source: OpenAI's API reference, "The transcription object" and its verbose, streaming and translation forms,
and "Error codes". What nobody here knows of a segment has a value that its readers' checks let through: no
tokens, and as sure a model as there can be.
"""

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import Problem
from ..languages import ENGLISH_NAMES
from ..transcript import Transcript
from .openai_form import AudioForm
from .problems import MEDIA_TYPE, ProblemDocument


class Usage(BaseModel):
    """Seconds of the recording."""

    type: Literal["duration"] = "duration"
    seconds: float


class OpenAIText(BaseModel):
    """What was said; `response_format` json."""

    text: str
    usage: Usage | None = Field(None, description="Not for a translation.")


class OpenAISegment(BaseModel):
    """A caption. What follows its text is not known here, and the same in each."""

    id: int
    seek: int = 0
    start: float = Field(description="Seconds from the recording's start.")
    end: float
    text: str
    tokens: list[int] = []
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 1.0
    no_speech_prob: float = 0.0


class OpenAIWord(BaseModel):
    """A word, and when it is said."""

    word: str
    start: float = Field(description="Seconds from the recording's start.")
    end: float


class OpenAIVerbose(BaseModel):
    """What was said, and when; `response_format` verbose_json."""

    task: Literal["transcribe", "translate"]
    language: str = Field(description="Its English name, in lower case; empty where nobody speaks.")
    duration: float = Field(description="Seconds.")
    text: str
    segments: list[OpenAISegment] | None = None
    words: list[OpenAIWord] | None = None
    usage: Usage | None = Field(None, description="Not for a translation.")


class OpenAIError(BaseModel):
    """What OpenAI's clients show of a problem. Further members are those of the problem."""

    model_config = ConfigDict(extra="allow")

    message: str
    type: Literal["invalid_request_error", "server_error"]
    param: str | None = Field(description="The field that is wrong, if one is.")
    code: str = Field(description="The problem's, or of a transcription that failed the failure's.")


class OpenAIProblemDocument(ProblemDocument):
    """An RFC 9457 problem. `error` tells it once more, as OpenAI does."""

    error: OpenAIError  # type: ignore[assignment]


def document(transcript: Transcript, form: AudioForm) -> OpenAIText | OpenAIVerbose:
    """The answer for json and verbose_json."""
    translated = form.options["task"] == "translate"
    usage = None if translated else Usage(seconds=transcript.duration)
    if form.response_format == "json":
        return OpenAIText(text=transcript.text, usage=usage)
    language = "english" if translated else ENGLISH_NAMES.get(transcript.language or "", "")
    segments = [
        OpenAISegment(id=segment.id, start=segment.start, end=segment.end, text=segment.text)
        for segment in transcript.segments
    ]
    words = [
        OpenAIWord(word=word.word.strip(), start=word.start, end=word.end)
        for segment in transcript.segments
        for word in segment.words
    ]
    return OpenAIVerbose(
        task="translate" if translated else "transcribe",
        language=language,
        duration=transcript.duration,
        text=transcript.text,
        segments=segments if form.segments else None,
        words=words if form.words else None,
        usage=usage,
    )


def text_events(transcript: Transcript) -> Iterator[str]:
    """The text in pieces, which put together are the whole, and then the whole."""
    at = 0
    for segment in transcript.segments[1:]:
        begins = transcript.text.find(segment.text, at)
        if begins > at:
            yield _event({"type": "transcript.text.delta", "delta": transcript.text[at:begins]})
            at = begins
    if rest := transcript.text[at:]:
        yield _event({"type": "transcript.text.delta", "delta": rest})
    yield _event({"type": "transcript.text.done", "text": transcript.text})


def error_event(problem: Problem) -> str:
    """What ends a stream without a transcript."""
    return _event({"error": _error(problem.document())})


def problem_document(problem: Problem) -> dict[str, Any]:
    """The RFC 9457 document of a problem, with `error` as OpenAI's clients read it."""
    told = problem.document()
    return told | {"error": _error(told)}


def reshape(operation: dict[str, Any]) -> None:
    """Describe the problems of an operation of the OpenAPI document in this shape."""
    for response in operation["responses"].values():
        if (content := response.get("content", {}).get(MEDIA_TYPE)) is not None:
            content["schema"] = {"$ref": f"#/components/schemas/{OpenAIProblemDocument.__name__}"}
            for example in content["examples"].values():
                example["value"] |= {"error": _error(example["value"])}


def _error(told: dict[str, Any]) -> dict[str, Any]:
    known = {"type", "title", "status", "detail", "code", "error", "message"}
    return {name: value for name, value in told.items() if name not in known} | {
        "message": told["detail"],
        "type": "server_error" if told["status"] >= 500 else "invalid_request_error",
        "param": told.get("option"),
        "code": told.get("failure", told["code"]),
    }


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"
