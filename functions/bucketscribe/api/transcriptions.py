"""The transcription routes: list, read, follow, download, cancel, retry, delete."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Literal, Self

import structlog
from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from ..auth import Scope
from ..bucket import StorageError
from ..errors import Problem
from ..inbox import refusal
from ..media import extension_of, object_name, without_extension
from ..options import FILE_NAMES, read_metadata
from ..public_addresses import MOST_CHARACTERS
from ..records import FINAL, NoRecord, Record, State, Stored
from ..service import Service
from ..transcript import FORMATS
from ..transcriptions import no_longer_kept, not_ready
from ..view import Transcription
from .context import TheCopies, TheOwner, ThePrincipal, TheService
from .guard import Guard, GuardedRoute, needs
from .problems import problems
from .streams import HELD_SECONDS, Streams, TheStreams, event_stream

log = structlog.get_logger()

router = APIRouter(prefix="/transcriptions", tags=["transcriptions"], route_class=GuardedRoute)

_VERSION = re.compile(r"[0-9]{1,18}")

POLL_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 15.0

PAGE = 50
"""Transcriptions on a page of the list, unless its reader wants fewer or more."""

Id = Annotated[
    str,
    Path(description="The transcription's id.", examples=["019aa5b2-7c1e-7d3a-9f00-0242ac120002"]),
]
Format = Literal["json", "srt", "vtt", "txt", "tsv", "ass"]


class TakeRequest(BaseModel):
    """Which object of one's inbox is to be transcribed, and how."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"key": "inbox/alice-3f1c9a0b7d2e4856/meetings/talk.mp3", "options": {"language": "en"}}
            ]
        },
    )

    key: str = Field(
        min_length=1, max_length=1024, description="Under `inbox/{owner}/`; the owner is that of one's keys."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="As in `metadata` of an upload, without what the object itself says.",
    )


class FetchRequest(BaseModel):
    """Which recording on the web is to be fetched and transcribed, and how."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "https://example.org/talks/1.mp3", "options": {"language": "en"}}]
        },
    )

    url: str = Field(
        min_length=1,
        max_length=MOST_CHARACTERS,
        description="http or https, to a public address, without a user name or password.",
    )
    name: str | None = Field(
        None, min_length=1, max_length=1024, description="What to call it; as its server does, unless given."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, description="As in `metadata` of an upload, without what the file itself says."
    )


def _kind(asked: object) -> str:
    return "url" if isinstance(asked, FetchRequest) or (isinstance(asked, dict) and "url" in asked) else "key"


class Receipt(BaseModel):
    """A transcription, as credentials see it that may send recordings and not read them."""

    id: str
    state: State
    inbox: str | None
    url: str | None


class TranscriptionPage(BaseModel):
    """Transcriptions, newest first. A page may be short; there is more as long as `cursor` is not null."""

    transcriptions: list[Transcription]
    cursor: str | None

    @classmethod
    def of(cls, records: Iterable[Record], cursor: str | None) -> Self:
        """The public view of a page."""
        return cls(transcriptions=[Transcription.of(record) for record in records], cursor=cursor)


@router.get(
    "",
    summary="List transcriptions, newest first",
    openapi_extra=needs(Scope.READ),
    responses=problems("invalid_cursor"),
)
def list_transcriptions(
    service: TheService,
    owner: TheOwner,
    state: Annotated[State | None, Query(description="Only those in this state.")] = None,
    cursor: Annotated[str | None, Query(description="The last page's `cursor`.", max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = PAGE,
) -> TranscriptionPage:
    return TranscriptionPage.of(*service.transcriptions.page(owner, state, cursor, limit))


@router.post(
    "",
    summary="Transcribe an object of the inbox, or what is at a URL",
    openapi_extra=needs(Scope.UPLOAD),
    description="A `url` is fetched by a worker; each request is a transcription of its own. A `key` is "
    "that of an object any S3 tool may have put there. It is found without this, too: who asks is told the "
    "id, and sets the options, unless a worker or other options were faster. Asked again, also after the "
    "object has left the inbox, it answers 200 with the same transcription. What takes long to copy is "
    "still `uploading` in the answer. Credentials without the scope `read` are told id, state and origin.",
    status_code=201,
    responses=problems(
        *("not_yours", "not_in_inbox", "unknown_option", "invalid_option", "not_possible"),
        *("unsupported_media", "too_large", "busy"),
        *("too_many_uploads", "daily_limit_reached", "begin_lost"),
    )
    | {
        200: {"model": Transcription | Receipt, "description": "It was taken before."},
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
    },
)
async def take(
    asked: Annotated[
        Annotated[TakeRequest, Tag("key")] | Annotated[FetchRequest, Tag("url")], Discriminator(_kind)
    ],
    response: Response,
    service: TheService,
    principal: ThePrincipal,
    copies: TheCopies,
) -> Transcription | Receipt:
    owner = principal.owner
    if isinstance(asked, FetchRequest):
        record, new = (await to_thread.run_sync(_request, service, owner, asked)).record, True
    else:
        stored, new = await to_thread.run_sync(service.inbox.request, owner, asked.key, asked.options)
        record = await copies.run(
            stored.record.id,
            lambda: service.inbox.go_on(stored).record,
            lambda: service.transcriptions.get(owner, stored.record.id).record,
        )
        if (problem := refusal(record)) is not None:
            raise problem
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"/transcriptions/{record.id}"
    shown = Transcription.of(record)
    if Scope.READ not in principal.scopes:
        return Receipt(id=shown.id, state=shown.state, inbox=shown.inbox, url=shown.url)
    return shown


def _request(service: Service, owner: str, asked: FetchRequest) -> Stored:
    options = read_metadata(asked.options, service.settings)
    if told := [name for name in FILE_NAMES if getattr(options.file, name) is not None]:
        raise Problem(
            "unknown_option",
            f"{told[0]} is no option here: type and size are what the server says, and `name` stands beside.",
            {"option": told[0]},
        )
    return service.online.request(owner, asked.url, options, asked.name)


@router.get(
    "/{id}",
    summary="Read a transcription",
    openapi_extra=needs(Scope.READ),
    responses=problems("no_such_transcription") | {304: {"description": "It has not changed."}},
)
def read(
    id: Id,
    response: Response,
    service: TheService,
    owner: TheOwner,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Transcription:
    record = _read(service, owner, id).record
    etag = f'"{record.version}-{record.write}"'
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=304, headers={"ETag": etag})  # type: ignore[return-value]
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = "private, no-cache"
    return Transcription.of(record)


@router.get(
    "/{id}/events",
    summary="Follow a transcription by server-sent events",
    openapi_extra=needs(Scope.READ),
    description="An event `transcription` at every change, its data a transcription and its id the version. "
    "The stream ends with a final state, or after `wait` seconds; a client goes on with `Last-Event-ID`. "
    "Behind an HTTP API of AWS it ends with its first event, and after 20 s at most.",
    response_class=StreamingResponse,
    responses=problems("no_such_transcription")
    | {
        200: {
            "content": {
                "text/event-stream": {
                    "itemSchema": {
                        "type": "object",
                        "required": ["id", "event", "data"],
                        "properties": {
                            "id": {"type": "string", "pattern": "^[0-9]+$"},
                            "event": {"const": "transcription"},
                            "data": {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "contentSchema": {"$ref": "#/components/schemas/Transcription"},
                            },
                        },
                    },
                    "example": 'id: 7\nevent: transcription\ndata: {"id": "019a…", "state": "running"}\n\n',
                }
            },
        }
    },
)
async def events(
    id: Id,
    request: Request,
    service: TheService,
    owner: TheOwner,
    streams: TheStreams,
    wait: Annotated[float, Query(ge=0, le=3600, description="Seconds to follow it at most.")] = 300,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    first = await to_thread.run_sync(_read, service, owner, id, limiter=streams.threads)
    if streams.held:
        wait = min(wait, HELD_SECONDS)
    seen = int(last_event_id) if last_event_id and _VERSION.fullmatch(last_event_id) else -1
    guard: Guard = request.app.state.guard
    admitted = partial(guard.still_admits, request)
    return event_stream(_changes(service, owner, first, seen, time.monotonic() + wait, admitted, streams))


async def _changes(
    service: Service,
    owner: str,
    stored: Stored,
    seen: int,
    until: float,
    admitted: Callable[[], Awaitable[bool]],
    streams: Streams,
) -> AsyncIterator[str]:
    quiet_since = time.monotonic()
    while True:
        record = stored.record
        if record.version > seen:
            seen, quiet_since = record.version, time.monotonic()
            data = Transcription.of(record).model_dump_json()
            yield f"id: {record.version}\nevent: transcription\ndata: {data}\n\n"
            if streams.held:
                return
        elif time.monotonic() - quiet_since > KEEP_ALIVE_SECONDS:
            quiet_since = time.monotonic()
            yield ": still here\n\n"
        if record.state in FINAL or time.monotonic() >= until:
            return
        await asyncio.sleep(POLL_SECONDS)
        try:
            if not await admitted():
                return
            stored = await to_thread.run_sync(_read, service, owner, record.id, limiter=streams.threads)
        except (Problem, NoRecord):
            return
        except StorageError as error:
            log.warning("cannot follow", id=record.id, code="storage_unavailable", reason=str(error))


@router.get(
    "/{id}/transcript.{format}",
    summary="Download the transcript",
    openapi_extra=needs(Scope.READ),
    status_code=307,
    response_class=RedirectResponse,
    responses=problems("no_such_transcription", "not_ready", "no_longer_kept")
    | {307: {"description": "A presigned URL of the file in the bucket."}},
)
def transcript(id: Id, format: Format, service: TheService, owner: TheOwner) -> RedirectResponse:
    seen: set[str] = set()
    while True:
        record = service.transcriptions.get(owner, id).record
        if not record.has_transcript:
            raise not_ready(record)
        key = f"{record.transcript_prefix}transcript.{format}"
        if service.bucket.find(key) is not None:
            break
        # Speakers may just have been renamed, and the files with the names before be gone.
        if key in seen:
            raise no_longer_kept("transcript")
        seen.add(key)
    # As in the bucket: a name as it was given can be too long for a header, or be made to deceive.
    name = without_extension(object_name(record.name))
    url = service.presigner.get(
        key,
        expires_seconds=service.settings.url_expires_seconds,
        now=datetime.now(UTC),
        filename=f"{name}.{format}",
        content_type=FORMATS[format],
    )
    return RedirectResponse(url, 307)


@router.get(
    "/{id}/peaks",
    summary="The shape of the recording, for a waveform",
    openapi_extra=needs(Scope.READ),
    description="There as soon as the recording has been decoded, and of the form that BBC's audiowaveform "
    "writes (JSON, version 2): pairs of the lowest and the highest sample, at most 4,096 of them.",
    status_code=307,
    response_class=RedirectResponse,
    responses=problems("no_such_transcription", "not_ready", "no_longer_kept")
    | {307: {"description": "A presigned URL of the file in the bucket."}},
)
def peaks(id: Id, service: TheService, owner: TheOwner) -> RedirectResponse:
    record = service.transcriptions.get(owner, id).record
    key = f"{record.results_prefix}peaks.json"
    if service.bucket.find(key) is None:
        raise no_longer_kept("transcript") if record.has_transcript else not_ready(record)
    url = service.presigner.get(
        key,
        expires_seconds=service.settings.url_expires_seconds,
        now=datetime.now(UTC),
        filename=f"{object_name(record.name)}.peaks.json",
        content_type="application/json",
        disposition="inline",
    )
    return RedirectResponse(url, 307)


@router.get(
    "/{id}/media",
    summary="Play the recording",
    openapi_extra=needs(Scope.READ),
    status_code=307,
    response_class=RedirectResponse,
    responses=problems("no_such_transcription", "not_ready", "no_longer_kept", "recording_changed")
    | {307: {"description": "A presigned URL of the recording in the bucket."}},
)
def media(id: Id, service: TheService, owner: TheOwner) -> RedirectResponse:
    record = service.transcriptions.get(owner, id).record
    found = service.bucket.find(record.key) if record.etag is not None else None
    if found is None:
        raise not_ready(record) if record.etag is None else no_longer_kept("recording")
    if found.etag != record.etag:
        raise Problem("recording_changed", "The recording is not the accepted one; upload it again.")
    url = service.presigner.get(
        record.key,
        expires_seconds=service.settings.url_expires_seconds,
        now=datetime.now(UTC),
        filename=_media_name(record),
        content_type=record.content_type,
        disposition="inline",
    )
    return RedirectResponse(url, 307)


@router.post(
    "/{id}/cancel",
    summary="Cancel a transcription",
    openapi_extra=needs(Scope.WRITE),
    description="The recording of a queued or running one is kept; an upload is given up.",
    responses=problems("no_such_transcription", "not_possible", "busy"),
)
def cancel(id: Id, service: TheService, owner: TheOwner) -> Transcription:
    return Transcription.of(service.transcriptions.cancel(owner, id).record)


@router.post(
    "/{id}/retry",
    summary="Transcribe again what failed or was canceled",
    openapi_extra=needs(Scope.WRITE),
    responses=problems("no_such_transcription", "not_possible", "recording_changed", "busy"),
)
def retry(id: Id, service: TheService, owner: TheOwner) -> Transcription:
    return Transcription.of(service.transcriptions.retry(owner, id).record)


@router.delete(
    "/{id}",
    summary="Delete a transcription and all that belongs to it",
    openapi_extra=needs(Scope.WRITE),
    status_code=202,
    responses=problems("no_such_transcription", "busy"),
)
def delete(id: Id, service: TheService, owner: TheOwner) -> dict[str, Any]:
    service.transcriptions.delete(owner, id)
    return {}


def _read(service: Service, owner: str, id: str) -> Stored:
    stored = service.transcriptions.get(owner, id)
    if stored.record.state is State.UPLOADING and stored.record.form_ends is not None:
        # Nobody tells us that a form was used: whoever asks finds out.
        service.uploads.finish(owner, id)
        return service.transcriptions.get(owner, id)
    return stored


def _media_name(record: Record) -> str:
    """What a recording is called that is downloaded: whatever it was renamed to, it is of the same type."""
    name, stored = without_extension(object_name(record.name)), record.key.rpartition("/")[2]
    extension = stored[len(without_extension(stored)) :]
    if not extension and (usual := extension_of(record.content_type)) is not None:
        # What was online may have had another name there than its URL says.
        extension = f".{usual}"
    return object_name(name + extension)
