"""The older service's task routes: the same paths and fields, in front of transcriptions.

Source of the format: WhisperX FastAPI, "Tasks Management". A task is known by its transcription's id, or by
the `taskId` its client gave it.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import BaseModel, Field

from .. import tasks
from ..auth import Scope
from ..records import Record
from ..tasks import NEWEST, Task, TaskProgress, TaskSummary
from ..tokens import TokenKind, issue
from .context import TheOwner, ThePrincipal, TheService
from .guard import GuardedRoute, needs
from .problems import problems

router = APIRouter(tags=["older service"], route_class=GuardedRoute)

TICKET_SECONDS = 60

THREADS = 2
"""Lists and results that are made at once: a list reads a thousand records, in threads of its own, and ten
hours of words take 150 MB."""

TaskId = Annotated[
    str,
    Path(
        description="The task's identifier, which is the transcription's id; or the `taskId` sent with a tus "
        "upload.",
        max_length=tasks.NAME_CHARACTERS,
        examples=["019aa5b2-7c1e-7d3a-9f00-0242ac120002"],
    ),
]


class TaskList(BaseModel):
    """Tasks, newest first. `total` is how many there are before they are divided into pages."""

    tasks: list[TaskSummary]
    total: int
    page: int
    page_size: int


class TaskAnswer(BaseModel):
    """What was done, and to which task."""

    identifier: str
    message: str


class TicketRequest(BaseModel):
    """Which task is to be followed."""

    task_id: str = Field(min_length=1, max_length=tasks.NAME_CHARACTERS)


class Ticket(BaseModel):
    """What opens `/ws/tasks/{id}?ticket=…`."""

    ticket: str
    expires_at: datetime


async def _limiter(request: Request) -> CapacityLimiter:
    limiter: CapacityLimiter = request.app.state.task_reads
    return limiter


@router.get(
    "/task/all",
    summary="List tasks, newest first",
    description=f"Of the newest {NEWEST} transcriptions.",
    openapi_extra=needs(Scope.READ),
    responses=problems(),
)
async def list_tasks(
    service: TheService,
    owner: TheOwner,
    limiter: Annotated[CapacityLimiter, Depends(_limiter)],
    q: Annotated[str | None, Query(max_length=200, description="What the file's name contains.")] = None,
    status: Annotated[str | None, Query(max_length=32, description="Only those of this status.")] = None,
    page: Annotated[int, Query(ge=1, le=NEWEST)] = 1,
    page_size: Annotated[int, Query(ge=1, le=NEWEST)] = NEWEST,
) -> TaskList:
    newest = await to_thread.run_sync(tasks.newest, service.transcriptions, owner, limiter=limiter)
    found = [record for record in newest if _fits(record, q, status)]
    begin = (page - 1) * page_size
    return TaskList(
        tasks=[tasks.summary(record) for record in found[begin : begin + page_size]],
        total=len(found),
        page=page,
        page_size=page_size,
    )


def _fits(record: Record, q: str | None, status: str | None) -> bool:
    named = not q or q.casefold() in record.name.casefold()
    return named and (not status or status == tasks.status_of(record))


@router.get(
    "/task/{id}",
    summary="Read a task and, once it is completed, its result",
    openapi_extra=needs(Scope.READ),
    response_model=Task,
    responses=problems("no_such_transcription", "no_longer_kept", "not_possible", "answer_too_large"),
)
async def read_task(
    id: TaskId,
    service: TheService,
    owner: TheOwner,
    limiter: Annotated[CapacityLimiter, Depends(_limiter)],
) -> Response:
    record = (await to_thread.run_sync(tasks.find, service.transcriptions, owner, id)).record

    def written() -> str:
        # Written out here, too, and not on the event loop: of ten hours that takes a while.
        return tasks.task_document(record, tasks.transcript_of(service.bucket, record)).model_dump_json()

    # Who only looks whether it is done does not wait for those who read.
    body = await to_thread.run_sync(written, limiter=limiter if record.has_transcript else None)
    return Response(body, media_type="application/json")


@router.delete(
    "/task/{id}/delete",
    summary="Delete a task and all that belongs to it",
    openapi_extra=needs(Scope.WRITE),
    responses=problems("no_such_transcription", "busy"),
)
def delete_task(id: TaskId, service: TheService, owner: TheOwner) -> TaskAnswer:
    stored = tasks.find(service.transcriptions, owner, id)
    service.transcriptions.delete(owner, stored.record.id)
    return TaskAnswer(identifier=id, message="Task deleted")


@router.get(
    "/tasks/{id}/progress",
    summary="Read how far a task has come",
    openapi_extra=needs(Scope.READ),
    responses=problems("no_such_transcription"),
)
def read_progress(id: TaskId, service: TheService, owner: TheOwner) -> TaskProgress:
    return tasks.progress(tasks.find(service.transcriptions, owner, id).record)


@router.post(
    "/api/ws/ticket",
    summary="Make a ticket for a WebSocket that follows a task",
    description=f"Good for {TICKET_SECONDS} s, to open `/ws/tasks/{{id}}?ticket=…`; clients that can send "
    "headers need none. Behind an HTTP API of AWS there are no WebSockets; read `/tasks/{id}/progress`.",
    openapi_extra=needs(Scope.READ),
    status_code=201,
    responses=problems("no_such_transcription"),
)
def make_ticket(asked: TicketRequest, service: TheService, principal: ThePrincipal) -> Ticket:
    tasks.find(service.transcriptions, principal.owner, asked.task_id)
    ends = int(time.time()) + TICKET_SECONDS
    if principal.expires is not None:
        ends = min(ends, principal.expires)
    reader = replace(principal, scopes=frozenset({Scope.READ}), expires=ends)
    ticket = issue(service.settings.sealing_secret, TokenKind.TICKET, reader)
    return Ticket(ticket=ticket, expires_at=datetime.fromtimestamp(ends, UTC))
