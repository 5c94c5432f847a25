"""tus 1.0.0 at `/uploads/files/`, for every client of that protocol.

Source: https://tus.io/protocols/resumable-upload (core, creation, creation-with-upload,
creation-defer-length, expiration, termination, checksum, concatenation). What is ours beyond it is a header,
`Bucketscribe-Transcription`: the id to follow once the last byte is in.
"""

from contextlib import ExitStack, suppress
from email.utils import format_datetime
from functools import partial
from typing import Annotated, Any, Final, cast

from anyio import to_thread
from fastapi import APIRouter, Depends, Path, Request, Response

from ..auth import Scope
from ..bucket import StorageError
from ..errors import PROBLEMS, Problem
from ..records import State
from ..service import Service
from ..tus import Status
from .completions import TRANSCRIPTION, Completions
from .context import TheCompletions, TheOwner, TheService
from .guard import PUBLIC, GuardedRoute, needs
from .problems import problems
from .tus_body import ALGORITHMS, Bodies, Checksum
from .tus_headers import (
    BYTES,
    EXTENSIONS,
    PATH,
    VERSION,
    bytes_coming,
    check_bytes,
    check_request,
    declared_length,
    headers_of,
    metadata_of,
    method_of,
    number_in,
    partial_ids,
    said,
)

router = APIRouter(prefix=PATH, tags=["tus"], route_class=GuardedRoute)


async def _bodies(request: Request) -> Bodies:
    return cast("Bodies", request.app.state.bodies)


TheBodies = Annotated[Bodies, Depends(_bodies)]
Id = Annotated[str, Path(description="The id in the upload's `Location`.")]


async def _completed(
    service: Service, completions: Completions, owner: str, id: str, *, is_partial: bool
) -> dict[str, str]:
    """Finish an upload whose last byte is in; the headers that tell of it."""
    tus = service.tus
    if is_partial:
        await to_thread.run_sync(tus.complete_partial, owner, id)
        return {}
    await completions.run(id, partial(tus.complete, owner, id), partial(tus.promised, owner, id))
    return {TRANSCRIPTION: id}


def _told(description: str, *names: str) -> dict[str, Any]:
    """A success, in the document: its headers."""
    headers = {name: {"schema": {"type": "string"}} for name in ("Tus-Resumable", *names)}
    return {"description": description, "headers": headers}


def _takes(*names: str) -> dict[str, Any]:
    """The headers that a request may have, in the document."""
    examples = {"Tus-Resumable": VERSION, "Upload-Offset": "0", "Upload-Length": "1048576"}
    parameters = [
        {
            "name": name,
            "in": "header",
            # What is missing is refused by tus's own statuses, of which generators of requests know nothing.
            "required": False,
            "schema": {"type": "string"},
            **({"example": examples[name]} if name in examples else {}),
        }
        for name in ("Tus-Resumable", *names)
    ]
    return {"parameters": parameters}


_BODY: Final[dict[str, Any]] = {
    "requestBody": {"content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
}
_APPENDING: Final = (
    *("wrong_tus_version", "invalid_tus_request", "wrong_content_type", "checksum_unsupported"),
    *("checksum_mismatch", "offset_mismatch", "upload_locked", "not_appendable", "body_stalled"),
    *("no_such_upload", "upload_expired", "unsupported_media", "too_large", "body_too_large", "busy"),
)
_ENDED: Final = ("no_such_upload", "upload_expired", "unsupported_media", "too_large")


_CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: _told("The upload was begun.", "Location", "Upload-Offset", "Upload-Expires", TRANSCRIPTION)
}
_APPENDED: Final[dict[int | str, dict[str, Any]]] = {
    204: _told("The bytes are in the bucket.", "Upload-Offset", "Upload-Expires", TRANSCRIPTION)
}
_STATUS: Final[dict[int | str, dict[str, Any]]] = {
    200: _told(
        "How far the upload is.",
        *("Upload-Offset", "Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat"),
        *("Upload-Expires", TRANSCRIPTION),
    )
}
_TERMINATED: Final[dict[int | str, dict[str, Any]]] = {204: _told("It is given up, or has ended.")}
_CREATE_PROBLEMS: Final = (
    *("invalid_upload_metadata", "invalid_concatenation", "unknown_option", "invalid_option"),
    *("size_required", "too_many_uploads", "daily_limit_reached", "begin_lost", *_APPENDING),
)
_DISCOVER: Final[dict[str, Any]] = {
    "status_code": 204,
    "summary": "Ask what this server speaks",
    "openapi_extra": PUBLIC,
    "responses": {204: _told("What it speaks.", "Tus-Version", "Tus-Extension", "Tus-Max-Size")},
    "response_class": Response,
}
_DISCOVER_THERE: Final = _DISCOVER | {
    "responses": _DISCOVER["responses"] | problems("invalid_request", everywhere=False)
}
_CREATE: Final[dict[str, Any]] = {
    "status_code": 201,
    "summary": "Begin an upload by tus",
    "description": "Bytes may come with it. Options of the transcription go into `Upload-Metadata`. With "
    "`Upload-Concat: partial` it is a part of a recording; with `final;` and the Locations of such, they are "
    "put together.",
    "openapi_extra": needs(Scope.UPLOAD)
    | _takes(*("Upload-Length", "Upload-Defer-Length", "Upload-Metadata", "Upload-Concat", "Upload-Checksum"))
    | _BODY,
    "responses": _CREATED | problems(*_CREATE_PROBLEMS),
    "response_class": Response,
}


# The routes


@router.options("", include_in_schema=False, **_DISCOVER)
@router.options("/", **_DISCOVER)
async def discover(request: Request, service: TheService) -> Response:
    """What this server speaks; nobody need sign in to ask."""
    headers = {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(service.settings.max_upload_bytes),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }
    return Response(status_code=204, headers=headers)


@router.options("/{id}", **_DISCOVER_THERE)
async def discover_there(request: Request, id: Id, service: TheService) -> Response:
    """The same, asked at the address of an upload, whether there is one or not."""
    return await discover(request, service)


@router.post("", include_in_schema=False, **_CREATE)
@router.post("/", **_CREATE)
async def create(
    request: Request, service: TheService, owner: TheOwner, completions: TheCompletions, bodies: TheBodies
) -> Response:
    check_request(request, "POST")
    metadata = metadata_of(request)
    kind = said(request, "Upload-Concat") or ""
    is_partial = kind == "partial"
    if kind.startswith("final;"):
        return await _create_final(request, service, owner, completions, partial_ids(kind[6:]), metadata)
    if kind and not is_partial:
        raise Problem("invalid_tus_request", "Upload-Concat is partial, or final; and Locations.")
    length, coming = declared_length(request), bytes_coming(request)
    if coming != 0:
        check_bytes(request)
    checksum = Checksum.read(said(request, "Upload-Checksum"))
    if length is not None and coming is not None and coming > length:
        raise service.tus.too_much(length, coming)
    make = partial(service.tus.create, owner, length, metadata, partial=is_partial)
    with ExitStack() as place:
        if coming != 0:
            # Before anything is begun that would have to be given up.
            place.enter_context(await bodies.room.enter())
        status = await to_thread.run_sync(make)
        location = {"Location": f"{PATH}/{status.id}"}
        headers = headers_of(status)
        if coming != 0:
            try:
                headers = await _append(
                    request, service, owner, completions, bodies, status.id, 0, None, checksum, place
                )
            except Problem as problem:
                # Nobody has learned where it is.
                with suppress(Problem, *StorageError):
                    await to_thread.run_sync(service.tus.terminate, owner, status.id)
                raise _not_begun(problem) from None
    if coming == 0 and status.length == 0:
        await to_thread.run_sync(service.tus.complete_partial, owner, status.id)
        headers.pop("Upload-Expires", None)
    return Response(status_code=201, headers=headers | location)


def _not_begun(problem: Problem) -> Problem:
    """What to say where the upload itself is gone; what it says of going on with it is not true any more."""
    if problem.status not in (423, 503):
        return problem
    title = PROBLEMS[problem.code][1]
    detail = f"{title}. No upload was begun, and nothing of it is kept: send it again."
    return Problem(problem.code, detail, problem.extra)


async def _create_final(
    request: Request,
    service: Service,
    owner: str,
    completions: Completions,
    ids: list[str],
    metadata: str,
) -> Response:
    if "upload-length" in request.headers or bytes_coming(request) != 0:
        raise Problem("invalid_tus_request", "A final upload has no length of its own, and no bytes.")
    stored = await to_thread.run_sync(service.concatenation.begin, owner, ids, metadata)
    id = stored.record.id
    # It goes on without its caller where it takes long, and then with the sweep.
    if stored.record.state in (State.UPLOADING, State.COMPLETING):
        await completions.run(
            id,
            partial(service.concatenation.completed, owner, id),
            partial(service.concatenation.promised, owner, id),
        )
    status = await to_thread.run_sync(service.tus.status, owner, id)
    return Response(status_code=201, headers=headers_of(status) | {"Location": f"{PATH}/{id}"})


@router.head(
    "/{id}",
    summary="Ask how far an upload by tus is",
    description="Of one that is being put together, `Upload-Offset` is told once it is.",
    openapi_extra=needs(Scope.UPLOAD) | _takes(),
    responses=_STATUS | problems("wrong_tus_version", "invalid_tus_request", *_ENDED, "busy"),
    response_class=Response,
)
async def status(
    request: Request,
    id: Id,
    service: TheService,
    owner: TheOwner,
    completions: TheCompletions,
) -> Response:
    check_request(request, "HEAD")
    told = await to_thread.run_sync(service.tus.status, owner, id)
    headers = headers_of(told)
    if told.completes:
        headers |= await _completed(service, completions, owner, id, is_partial=told.partial)
        headers.pop("Upload-Expires", None)
    return Response(status_code=200, headers=headers)


@router.patch(
    "/{id}",
    status_code=204,
    summary="Append bytes",
    description="A body of any size, in parts that go to the bucket as they come. What came of one that "
    "breaks off is kept.",
    openapi_extra=needs(Scope.UPLOAD) | _takes("Upload-Offset", "Upload-Length", "Upload-Checksum") | _BODY,
    responses=_APPENDED | problems(*_APPENDING),
    response_class=Response,
)
async def append(
    request: Request,
    id: Id,
    service: TheService,
    owner: TheOwner,
    completions: TheCompletions,
    bodies: TheBodies,
) -> Response:
    check_request(request, "PATCH")
    check_bytes(request)
    offset = number_in(request, "Upload-Offset")
    if offset is None:
        raise Problem("invalid_tus_request", "Send Upload-Offset: where in the file these bytes are.")
    length = number_in(request, "Upload-Length")
    checksum = Checksum.read(said(request, "Upload-Checksum"))
    if bodies.room.full:
        # It may be a hanging request of the same client's that takes the room up: that one is to hear of it.
        await to_thread.run_sync(service.tus.knock, owner, id, limiter=bodies.threads)
    with await bodies.room.enter() as place:
        headers = await _append(
            request, service, owner, completions, bodies, id, offset, length, checksum, place
        )
    return Response(status_code=204, headers=headers)


async def _append(
    request: Request,
    service: Service,
    owner: str,
    completions: Completions,
    bodies: Bodies,
    id: str,
    offset: int,
    length: int | None,
    checksum: Checksum | None,
    place: ExitStack,
) -> dict[str, str]:
    begin = partial(
        service.tus.append,
        owner,
        id,
        offset,
        length,
        coming=bytes_coming(request),
        summed=checksum is not None,
    )
    appending = await to_thread.run_sync(begin, limiter=bodies.threads)
    if isinstance(appending, Status):
        place.close()
        headers = headers_of(appending)
        if appending.completes:
            headers |= await _completed(service, completions, owner, id, is_partial=appending.partial)
        return headers
    appended = await bodies.take(request, service.tus, owner, id, appending, checksum, place)
    headers = {"Upload-Offset": str(appended.offset)}
    if appended.whole:
        is_partial = appending.place.is_partial
        return headers | await _completed(service, completions, owner, id, is_partial=is_partial)
    return headers | {"Upload-Expires": format_datetime(appended.expires, usegmt=True)}


@router.delete(
    "/{id}",
    status_code=204,
    summary="Give an upload by tus up",
    description="What has become a transcription stays one.",
    openapi_extra=needs(Scope.UPLOAD) | _takes(),
    responses=_TERMINATED
    | problems("wrong_tus_version", "invalid_tus_request", "no_such_upload", "upload_expired", "busy"),
    response_class=Response,
)
async def terminate(request: Request, id: Id, service: TheService, owner: TheOwner) -> Response:
    check_request(request, "DELETE")
    await to_thread.run_sync(service.tus.terminate, owner, id)
    return Response(status_code=204)


@router.post(
    "/{id}",
    status_code=204,
    summary="PATCH, HEAD or DELETE, for who can only POST",
    description="As `X-HTTP-Method-Override` says.",
    openapi_extra=needs(Scope.UPLOAD)
    | _takes("X-HTTP-Method-Override", "Upload-Offset", "Upload-Length", "Upload-Checksum")
    | _BODY,
    responses=_STATUS | _APPENDED | problems(*_APPENDING),
    response_class=Response,
)
async def override(
    request: Request,
    id: Id,
    service: TheService,
    owner: TheOwner,
    completions: TheCompletions,
    bodies: TheBodies,
) -> Response:
    match method_of(request):
        case "PATCH":
            return await append(request, id, service, owner, completions, bodies)
        case "HEAD":
            return await status(request, id, service, owner, completions)
        case "DELETE":
            return await terminate(request, id, service, owner)
    check_request(request, "POST")
    raise Problem("invalid_tus_request", "Send PATCH, HEAD or DELETE, by X-HTTP-Method-Override if need be.")
