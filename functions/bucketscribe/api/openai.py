"""Transcriptions in the shape of OpenAI's audio API, for its clients: one request, answered when it is done.

Source: OpenAI's API reference, "Create transcription" and "Create translation". The recording comes as in any
form, and what follows is an ordinary transcription, which goes on whether or not somebody waits for it. Its
id is in a header of the answer, and in every problem that has to do with it: those clients send what failed
once more by themselves, and are told by their own `x-should-retry` where that would only be heard again.
"""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final

import structlog
from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from ..auth import Scope
from ..bucket import StorageError
from ..errors import Problem
from ..options import read_metadata
from ..records import Record, Stored
from ..service import Service
from ..transcript import FORMATS, Transcript
from .completions import TRANSCRIPTION, Completions
from .context import TheCompletions, TheOwner, TheService
from .form_uploads import (
    FORM_REFUSALS,
    Fields,
    at_most,
    complete_form,
    give_up,
    or_else,
    receive_form,
)
from .guard import Guard, GuardedRoute, needs
from .openai_answers import (
    OpenAIText,
    OpenAIVerbose,
    document,
    error_event,
    problem_document,
    text_events,
)
from .openai_end import WORTH_REPEATING, followed, transcript_file
from .openai_form import GRANULARITIES, RESPONSE_FORMATS, AudioForm, Task, read_form
from .problems import answer, problems
from .streams import HELD_SECONDS, Streams, TheStreams, event_stream
from .transcriptions import KEEP_ALIVE_SECONDS

log = structlog.get_logger()

PREFIX: Final = "/v1/audio"

WAIT_SECONDS = 570.0
"""Less than the ten minutes that OpenAI's clients wait, who then send the recording once more."""

STREAM_SECONDS = 3600.0
"""A stream says that it is still there, so that its reader waits longer."""


class OpenAIRoute(GuardedRoute):
    """A route that tells problems as OpenAI's clients read them."""

    def tell(self, problem: Problem, headers: dict[str, str] | None = None) -> JSONResponse:
        """The response that tells a problem."""
        headers = dict(headers or {})
        if "id" in problem.extra:
            headers[TRANSCRIPTION] = problem.extra["id"]
            if problem.extra.get("failure") not in WORTH_REPEATING:
                headers["x-should-retry"] = "false"
        return answer(problem, headers, problem_document(problem))


router = APIRouter(prefix=PREFIX, tags=["openai"], route_class=OpenAIRoute)

_FORM: dict[str, Any] = {
    "type": "object",
    "required": ["file"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The recording."},
        "model": {
            "type": "string",
            "description": "One of the server's models. OpenAI's names, as whisper-1, are its default.",
        },
        "language": {"type": "string", "description": "The code of the language that is spoken."},
        "prompt": {"type": "string", "description": "Sets style and names."},
        "response_format": {"type": "string", "enum": [*RESPONSE_FORMATS], "default": "json"},
        "temperature": {"type": "number", "minimum": 0, "maximum": 1, "description": "Has no effect."},
        "timestamp_granularities[]": {
            "type": "array",
            "items": {"type": "string", "enum": [*GRANULARITIES]},
            "description": "With verbose_json only.",
        },
        "stream": {
            "type": "boolean",
            "description": "Answer by events `transcript.text.delta` and `transcript.text.done`. With json "
            "and text only.",
        },
    },
}
_OPERATION: dict[str, Any] = needs(Scope.UPLOAD, Scope.READ) | {
    "requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
}
_CONTENT: dict[str, Any] = {
    FORMATS[format]: {"schema": {"type": "string"}} for format in ("txt", "srt", "vtt")
}
_CONTENT["text/event-stream"] = {
    "schema": {"type": "string"},
    "example": 'data: {"type": "transcript.text.delta", "delta": "Ask not"}\n\n'
    'data: {"type": "transcript.text.done", "text": "Ask not"}\n\n',
}
_RESPONSES: dict[int | str, dict[str, Any]] = problems(
    *FORM_REFUSALS,
    *("not_transcribable", "transcription_failed", "takes_longer"),
    *("no_such_transcription", "not_ready", "no_longer_kept", "too_many_requests", "bad_credentials"),
) | {
    200: {
        "model": OpenAIText | OpenAIVerbose,
        "content": _CONTENT,
        "headers": {TRANSCRIPTION: {"schema": {"type": "string"}, "description": "The transcription's id."}},
    }
}


@router.post(
    "/transcriptions",
    summary="Transcribe a recording, and wait for it",
    description="In the shape of OpenAI's API. What takes longer than an answer may is told by the problem "
    "`takes_longer`, and goes on.",
    openapi_extra=_OPERATION,
    response_model=None,
    responses=_RESPONSES,
)
async def transcribe(
    request: Request, service: TheService, owner: TheOwner, streams: TheStreams, completions: TheCompletions
) -> Response:
    return await _Asked(request, service, owner, streams, "transcribe").answer(completions)


@router.post(
    "/translations",
    summary="Translate a recording into English, and wait for it",
    description="In the shape of OpenAI's API. Takes a multilingual model: one for English only, which "
    "translates nothing, is refused.",
    openapi_extra=_OPERATION,
    response_model=None,
    responses=_RESPONSES,
)
async def translate(
    request: Request, service: TheService, owner: TheOwner, streams: TheStreams, completions: TheCompletions
) -> Response:
    return await _Asked(request, service, owner, streams, "translate").answer(completions)


class _Asked:
    """One request, from its form to its answer."""

    def __init__(self, request: Request, service: Service, owner: str, streams: Streams, task: Task) -> None:
        self._request = request
        self._service = service
        self._owner = owner
        self._streams = streams
        self._task = task
        # Whoever is in front of us counts from here on.
        self._held_until = time.monotonic() + HELD_SECONDS if streams.held else None

    async def answer(self, completions: Completions) -> Response:
        """Take the recording, and answer once there is a transcript."""
        service, owner = self._service, self._owner
        received = await receive_form(self._request, service, owner, begin=self._begin)
        id = received.stored.record.id
        async with or_else(partial(give_up, service, owner, id)):
            form = self._read(received.fields)
            if received.late:
                asked = read_metadata(form.options, service.settings)
                await to_thread.run_sync(service.uploads.set_options, owner, id, asked, form.ignored)
        await complete_form(received, service, owner, completions)
        if form.stream and self._held_until is None:
            response: Response = event_stream(self._events(id))
        else:
            until = self._held_until or time.monotonic() + WAIT_SECONDS
            async for seen in self._followed(id, until):
                record = seen
                if await self._request.is_disconnected():
                    # As nginx has it: nobody is told, and the transcription goes on.
                    return Response(status_code=499)
            try:
                response = await to_thread.run_sync(self._told, record, form, limiter=self._streams.threads)
            except StorageError as error:
                raise _unreadable(id, error) from None
        response.headers[TRANSCRIPTION] = id
        return response

    def _begin(self, filename: str, content_type: str | None, fields: Fields) -> Stored:
        # What is wrong with fields that come before the file is told before its bytes are taken.
        form = self._read(fields)
        return self._service.intake.open(
            self._owner,
            filename,
            content_type,
            form.options,
            at_most=at_most(self._request, self._service),
            ignored=form.ignored,
        )

    def _read(self, fields: Fields) -> AudioForm:
        return read_form(fields, self._task, self._service.settings.allowed_models)

    def _followed(self, id: str, until: float) -> AsyncIterator[Record]:
        guard: Guard = self._request.app.state.guard
        admitted = partial(guard.still_admits, self._request)
        return followed(self._service, self._owner, id, until, admitted, self._streams)

    async def _events(self, id: str) -> AsyncIterator[str]:
        quiet_since = time.monotonic()
        try:
            async for seen in self._followed(id, quiet_since + STREAM_SECONDS):
                record = seen
                if time.monotonic() - quiet_since > KEEP_ALIVE_SECONDS:
                    quiet_since = time.monotonic()
                    yield ": still here\n\n"
            events = await to_thread.run_sync(self._text_events, record, limiter=self._streams.threads)
        except Problem as problem:
            yield error_event(problem)
        except StorageError as error:
            yield error_event(_unreadable(id, error))
        else:
            yield events

    def _told(self, record: Record, form: AudioForm) -> Response:
        """The answer of the format that was asked for."""
        match form.response_format:
            case "srt" | "vtt" as format:
                file = transcript_file(self._service, record, format)
                return Response(file, media_type=FORMATS[format])
            case _ if form.stream:
                return Response(self._text_events(record), media_type="text/event-stream")
            case "text":
                return Response(f"{self._transcript(record).text}\n", media_type=FORMATS["txt"])
            case _:
                told = document(self._transcript(record), form)
                return Response(told.model_dump_json(exclude_none=True), media_type="application/json")

    def _text_events(self, record: Record) -> str:
        return "".join(text_events(self._transcript(record)))

    def _transcript(self, record: Record) -> Transcript:
        return Transcript.model_validate_json(transcript_file(self._service, record, "json"))


def _unreadable(id: str, error: Exception) -> Problem:
    """What to say where there is a transcript, and the bucket does not give it: that it is not sent again."""
    log.warning("cannot answer", id=id, code="storage_unavailable", reason=str(error))
    there = f"/transcriptions/{id}/transcript.json"
    detail = f"The object store does not answer as it should. The transcript is at {there}."
    return Problem("storage_unavailable", detail, {"id": id})
