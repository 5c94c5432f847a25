"""The older service's ways to send a recording: a form of any size, a form with parameters, a URL.

Source of the format: WhisperX FastAPI, "Speech-2-Text" and "Upload". Parameters go into the query, as there,
or into the form. What they do, and which do nothing, `task_parameters` says.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Form, Request
from pydantic import BaseModel, Field

from ..auth import Scope
from ..errors import Problem
from ..options import read_metadata
from ..records import Record, State, Stored
from ..service import Service
from ..task_parameters import IGNORED, USED, Understood, as_there, understand
from .completions import Completions
from .context import TheCompletions, TheOwner, TheService
from .form_uploads import (
    FORM_REFUSALS,
    Fields,
    ReceivedForm,
    at_most,
    complete_form,
    give_up,
    or_else,
    receive_form,
)
from .guard import GuardedRoute, needs
from .problems import problems
from .tasks import TaskAnswer

router = APIRouter(tags=["older service"], route_class=GuardedRoute)

QUEUED: Final = "Task queued"

_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {
                            "type": "string",
                            "contentMediaType": "application/octet-stream",
                            "description": "The recording: one file, with a name. Parameters may come before "
                            "it, as fields of their own, or after it.",
                        }
                    },
                    "additionalProperties": {"type": "string"},
                }
            }
        },
    }
}

_PARAMETERS: Final[dict[str, Any]] = {
    "parameters": [
        {"name": name, "in": "query", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in (*USED.items(), *((name, f"No effect: {why}") for name, why in IGNORED.items()))
    ]
}


class StreamedUpload(BaseModel):
    """A recording that has come, and what becomes of it."""

    upload_id: str = Field(description="The transcription's id.")
    filename: str
    size: int = Field(description="Bytes.")
    size_bytes: int = Field(description="The same, by its older name.")
    path: str = Field(description="The recording's key in the bucket.")
    id: str
    state: State


@router.post(
    "/upload/stream",
    summary="Send a recording of any size by one form",
    description="In constant memory. Its transcription begins when the form has come.",
    openapi_extra=needs(Scope.UPLOAD) | _FORM,
    responses=problems(*FORM_REFUSALS, "unsupported_extension"),
)
async def upload_stream(
    request: Request, service: TheService, owner: TheOwner, completions: TheCompletions
) -> StreamedUpload:
    form, record = await _Sending(request, service, owner, {}).take(completions)
    return StreamedUpload(
        upload_id=record.id,
        filename=form.filename,
        size=form.size,
        size_bytes=form.size,
        path=record.key,
        id=record.id,
        state=record.state,
    )


@router.post(
    "/speech-to-text",
    summary="Transcribe a recording sent by a form",
    openapi_extra=needs(Scope.UPLOAD) | _FORM | _PARAMETERS,
    responses=problems(*FORM_REFUSALS, "unsupported_extension"),
)
async def speech_to_text(
    request: Request, service: TheService, owner: TheOwner, completions: TheCompletions
) -> TaskAnswer:
    _, record = await _Sending(request, service, owner, as_there({})).take(completions)
    return TaskAnswer(identifier=record.id, message=QUEUED)


@router.post(
    "/speech-to-text-url",
    summary="Transcribe a recording that is online",
    description="It is fetched by a worker; what goes wrong then is told by the task.",
    openapi_extra=needs(Scope.UPLOAD) | _PARAMETERS,
    responses=problems("invalid_option", "too_many_uploads", "daily_limit_reached", "begin_lost"),
)
def speech_to_text_url(
    request: Request,
    service: TheService,
    owner: TheOwner,
    url: Annotated[str, Form(min_length=1, max_length=8192)],
) -> TaskAnswer:
    metadata, ignored = understand(dict(request.query_params), service.settings)
    asked = read_metadata(as_there(metadata), service.settings)
    stored = service.online.request(owner, url, asked, ignored=ignored)
    return TaskAnswer(identifier=stored.record.id, message=QUEUED)


class _Sending:
    """One form with a recording, and what is meant where it says nothing."""

    def __init__(self, request: Request, service: Service, owner: str, meant: Mapping[str, str]) -> None:
        self._request = request
        self._service = service
        self._owner = owner
        self._meant = meant

    async def take(self, completions: Completions) -> tuple[ReceivedForm, Record]:
        """Take the form, and finish its upload."""
        form = await receive_form(self._request, self._service, self._owner, begin=self._open)
        if form.late:
            id = form.stored.record.id
            async with or_else(lambda: give_up(self._service, self._owner, id)):
                await to_thread.run_sync(self._set_options, id, form.fields)
        return form, await complete_form(form, self._service, self._owner, completions)

    def _open(self, filename: str, content_type: str | None, fields: Fields) -> Stored:
        metadata, ignored = self._understood(fields)
        try:
            return self._service.intake.open(
                self._owner,
                filename,
                content_type,
                metadata,
                at_most=at_most(self._request, self._service),
                ignored=ignored,
            )
        except Problem as problem:
            if problem.code == "unsupported_media":
                raise Problem("unsupported_extension", problem.detail) from None
            raise

    def _set_options(self, id: str, fields: Fields) -> None:
        metadata, ignored = self._understood(fields)
        asked = read_metadata(metadata, self._service.settings)
        self._service.uploads.set_options(self._owner, id, asked, ignored)

    def _understood(self, fields: Fields) -> Understood:
        given = dict(self._request.query_params) | {name: values[-1] for name, values in fields.items()}
        # It is the file's name where the file itself has none, and of no use otherwise.
        given.pop("filename", None)
        metadata, ignored = understand(given, self._service.settings)
        return Understood({**self._meant, **metadata}, ignored)
