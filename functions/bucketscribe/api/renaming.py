"""Renaming: a transcription, and the speakers in its transcript."""

from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from ..auth import Scope
from ..view import Transcription
from .context import TheOwner, TheService
from .guard import GuardedRoute, needs
from .problems import problems
from .transcriptions import Id

router = APIRouter(prefix="/transcriptions", tags=["transcriptions"], route_class=GuardedRoute)

THREADS = 2
"""Renamings at once: ten hours of words take 150 MB and two seconds to be written in every format."""


class RenameRequest(BaseModel):
    """What is to be called otherwise; the rest stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "Interview.mp3", "speakers": {"SPEAKER_00": "Ann", "SPEAKER_01": None}}]
        },
    )

    name: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(
        None, description="What the transcription and its downloads are called; the type of a file stays."
    )
    speakers: dict[str, Annotated[str, Field(max_length=100)] | None] = Field(
        default_factory=dict,
        description="Names by the labels in `transcript.json`. An empty one, or null, takes a name away.",
    )


async def _limiter(request: Request) -> CapacityLimiter:
    limiter: CapacityLimiter = request.app.state.renamings
    return limiter


@router.patch(
    "/{id}",
    summary="Rename a transcription, or its speakers",
    openapi_extra=needs(Scope.WRITE),
    description="New names of speakers are in every format from then on. In `transcript.json` segments and "
    "words keep their labels, and `speakers` has the names. A retry forgets them.",
    responses=problems(
        *("no_such_transcription", "invalid_option", "not_ready", "no_longer_kept", "not_possible", "busy")
    ),
)
async def rename(
    id: Id,
    asked: RenameRequest,
    service: TheService,
    owner: TheOwner,
    limiter: Annotated[CapacityLimiter, Depends(_limiter)],
) -> Transcription:
    stored = await to_thread.run_sync(
        service.renaming.rename, owner, id, asked.name, asked.speakers, limiter=limiter
    )
    return Transcription.of(stored.record)
