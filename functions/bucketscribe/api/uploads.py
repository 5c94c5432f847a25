"""The upload routes: the wire contract of Uppy's Companion for S3, so that `@uppy/aws-s3` works unchanged.

Source of the format: `@uppy/companion`'s S3 routes and `@uppy/aws-s3`'s requests. What is ours beyond it is
added to answers, never changed in them.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ..auth import Scope
from ..errors import Problem
from ..parts import MAX_PARTS
from ..records import Part, State
from .context import TheCompletions, TheOwner, TheService
from .guard import GuardedRoute, needs
from .problems import problems

router = APIRouter(prefix="/s3", tags=["uploads"], route_class=GuardedRoute)

_KEY_EXAMPLE = "uploads/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.mp3"

_REFUSED_BEGINS = (
    *("unsupported_media", "too_large", "unknown_option", "invalid_option", "size_required"),
    *("too_many_uploads", "daily_limit_reached", "begin_lost"),
)

_ABSENT = frozenset({"undefined", "null"})
"""What Uppy 6 writes into the address of a form for an allowed meta field that a file does not have."""

UploadId = Annotated[str, Path(description="The `uploadId` that beginning the upload gave.", max_length=2048)]
Key = Annotated[
    str,
    Query(description="The `key` that beginning the upload gave.", max_length=1024, examples=[_KEY_EXAMPLE]),
]


class BeginRequest(BaseModel):
    """What is to be uploaded, and how it is to be transcribed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "filename": "talk.mp3",
                    "type": "audio/mpeg",
                    "metadata": {"language": "en", "size": 52428800, "partSize": 8388608},
                }
            ]
        }
    )

    filename: str = Field(min_length=1, max_length=4096)
    type: str | None = Field(None, max_length=255, description="The file's MIME type, if it is known.")
    metadata: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of the transcription, `name`, `type`, `size` and `partSize` of the file. With "
        "`size` and `partSize` every part URL is signed for its exact length.",
    )
    sign: int = Field(
        0,
        ge=0,
        le=100,
        description="How many parts, from the first on, to sign with the same answer: saves a round trip.",
    )


class BeginAnswer(BaseModel):
    """An upload that was begun."""

    key: str = Field(examples=[_KEY_EXAMPLE])
    uploadId: str  # noqa: N815 -- the wire's name
    bucket: str
    id: str = Field(description="The transcription's id, for its whole life.")
    partSize: int = Field(description="Bytes in each part but the last.")  # noqa: N815
    expires: int = Field(description="Seconds without a finished part after which the upload ends.")
    presignedUrls: dict[str, str] | None = Field(  # noqa: N815 -- as in BatchAnswer
        None, description="Where to PUT the parts that were to be signed, by number."
    )
    urlsExpire: int | None = Field(None, description="Seconds those URLs are good for.")  # noqa: N815


class SignAnswer(BaseModel):
    """Where to PUT one part."""

    url: str
    expires: int = Field(description="Seconds the URL is good for.")


class BatchAnswer(BaseModel):
    """Where to PUT each part, by its number."""

    presignedUrls: dict[str, str]  # noqa: N815
    expires: int = Field(description="Seconds the URLs are good for.")


class ListedPart(BaseModel):
    """A part the bucket holds."""

    PartNumber: int
    Size: int
    ETag: str


class CompletedPart(BaseModel):
    """A part as its PUT was answered."""

    PartNumber: int = Field(ge=1, le=MAX_PARTS)
    ETag: str = Field(min_length=1, max_length=256)


class CompleteRequest(BaseModel):
    """All parts, 1…n in order."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"parts": [{"PartNumber": 1, "ETag": '"9bb58f26192e4ba00f01e2e7b136bbd8"'}]}]
        }
    )

    parts: list[CompletedPart] = Field(max_length=MAX_PARTS)


class CompleteAnswer(BaseModel):
    """An upload that is finished, or, while `state` is `completing`, soon will be."""

    location: str
    key: str
    bucket: str
    id: str
    state: State


class FormAnswer(BaseModel):
    """A form POST for a small file: send `fields`, then the file as `file`, to `url`."""

    method: str = "POST"
    url: str
    fields: dict[str, str]
    key: str
    id: str
    expires: int = Field(description="Seconds the form is good for.")


@router.post(
    "/multipart",
    summary="Begin an upload",
    openapi_extra=needs(Scope.UPLOAD),
    response_model_exclude_none=True,
    responses=problems(*_REFUSED_BEGINS),
)
def begin(request: BeginRequest, service: TheService, owner: TheOwner) -> BeginAnswer:
    begun = service.intake.begin(owner, request.filename, request.type, request.metadata)
    urls = (
        service.uploads.sign_first(owner, begun.key, begun.upload_id, request.sign) if request.sign else None
    )
    return BeginAnswer(
        key=begun.key,
        uploadId=begun.upload_id,
        bucket=service.settings.bucket,
        id=begun.id,
        partSize=begun.part_size,
        expires=service.settings.upload_idle_seconds,
        presignedUrls=urls and {str(number): url for number, url in urls.items()},
        urlsExpire=urls and service.settings.url_expires_seconds,
    )


@router.get(
    "/params",
    summary="Begin the upload of a small file by one form POST",
    description="Options go into `metadata[name]=value`. Nothing need be called after the POST: the "
    "transcription begins when the object is found.",
    openapi_extra=needs(Scope.UPLOAD)
    | {
        "parameters": [
            {
                "name": "metadata",
                "in": "query",
                "style": "deepObject",
                "explode": True,
                "description": "As `metadata` of the multipart route.",
                "schema": {"type": "object", "additionalProperties": {"type": "string"}},
                "example": {"language": "en"},
            }
        ]
    },
    responses=problems(*_REFUSED_BEGINS),
)
def params(
    request: Request,
    service: TheService,
    owner: TheOwner,
    filename: Annotated[str, Query(min_length=1, max_length=4096)],
    type: Annotated[str | None, Query(max_length=255)] = None,
) -> FormAnswer:
    metadata = {
        key[len("metadata[") : -1]: value
        for key, value in request.query_params.multi_items()
        if key.startswith("metadata[") and key.endswith("]") and value not in _ABSENT
    }
    form = service.intake.begin_form(owner, filename, type, metadata)
    return FormAnswer(
        url=form.url,
        fields=form.fields,
        key=form.key,
        id=form.id,
        expires=service.settings.url_expires_seconds,
    )


@router.get(
    "/multipart/{upload_id}/batch",
    summary="Sign many parts",
    openapi_extra=needs(Scope.UPLOAD),
    description="Behind an HTTP API of AWS an answer has room for some 3,000 of them.",
    responses=problems("not_yours", "no_such_upload", "invalid_part_number", "answer_too_large"),
)
def sign_batch(
    upload_id: UploadId,
    key: Key,
    service: TheService,
    owner: TheOwner,
    part_numbers: Annotated[
        str,
        Query(
            alias="partNumbers",
            # All 10,000 of them, and less than a server takes in an address.
            max_length=49_152,
            description="Numbers and ranges.",
            examples=["1,2,5-400"],
            json_schema_extra={"pattern": r"^[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*$"},
        ),
    ],
) -> BatchAnswer:
    urls = service.uploads.sign(owner, key, upload_id, read_numbers(part_numbers))
    return BatchAnswer(
        presignedUrls={str(number): url for number, url in urls.items()},
        expires=service.settings.url_expires_seconds,
    )


@router.get(
    "/multipart/{upload_id}/{part_number}",
    summary="Sign a part",
    openapi_extra=needs(Scope.UPLOAD),
    responses=problems("not_yours", "no_such_upload", "invalid_part_number"),
)
def sign(upload_id: UploadId, part_number: int, key: Key, service: TheService, owner: TheOwner) -> SignAnswer:
    urls = service.uploads.sign(owner, key, upload_id, [part_number])
    return SignAnswer(url=urls[part_number], expires=service.settings.url_expires_seconds)


@router.get(
    "/multipart/{upload_id}",
    summary="List the finished parts",
    openapi_extra=needs(Scope.UPLOAD),
    responses=problems("not_yours", "no_such_upload", "upload_expired", "unsupported_media", "too_large"),
)
def list_parts(upload_id: UploadId, key: Key, service: TheService, owner: TheOwner) -> list[ListedPart]:
    parts = service.uploads.list_parts(owner, key, upload_id)
    return [ListedPart(PartNumber=part.number, Size=part.size, ETag=part.etag) for part in parts]


@router.post(
    "/multipart/{upload_id}/complete",
    summary="Finish an upload",
    openapi_extra=needs(Scope.UPLOAD),
    description="Repeats its first answer however often it is called. After 20 s it answers with `state: "
    "completing`, and the rest happens without the caller.",
    responses=problems(
        "not_yours",
        "no_such_upload",
        "upload_expired",
        "invalid_part",
        "unsupported_media",
        "too_large",
        "busy",
    ),
)
async def complete(
    upload_id: UploadId,
    request: CompleteRequest,
    key: Key,
    service: TheService,
    owner: TheOwner,
    completions: TheCompletions,
) -> CompleteAnswer:
    id, _ = service.uploads.opened(owner, key, upload_id)
    parts = [Part(number=part.PartNumber, etag=part.ETag) for part in request.parts]
    record = await completions.run(
        id,
        lambda: service.uploads.complete(owner, key, upload_id, parts),
        lambda: service.uploads.promised(owner, id, parts),
    )
    return CompleteAnswer(
        location=service.presigner.url(key),
        key=key,
        bucket=service.settings.bucket,
        id=id,
        state=record.state,
    )


@router.delete(
    "/multipart/{upload_id}",
    summary="Give an upload up",
    openapi_extra=needs(Scope.UPLOAD),
    responses=problems("not_yours", "no_such_upload", "upload_expired"),
)
def abort(upload_id: UploadId, key: Key, service: TheService, owner: TheOwner) -> dict[str, str]:
    service.uploads.abort(owner, key, upload_id)
    return {}


_NUMBERS = re.compile(r"[0-9]{1,5}(-[0-9]{1,5})?(,[0-9]{1,5}(-[0-9]{1,5})?)*")


def read_numbers(text: str) -> list[int]:
    """Part numbers from a list of numbers and ranges, each once. Raises Problem `invalid_part_number`."""
    if not _NUMBERS.fullmatch(text):
        raise Problem("invalid_part_number", "partNumbers must look like 1,2,5-400.")
    numbers: dict[int, None] = {}
    asked = 0
    for piece in text.split(","):
        first, _, last = piece.partition("-")
        start, end = int(first), int(last or first)
        if end < start or end > MAX_PARTS:
            raise Problem("invalid_part_number", f"{piece} is no range of parts; they are 1…{MAX_PARTS}.")
        asked += end - start + 1
        if asked > MAX_PARTS:
            raise Problem("invalid_part_number", f"At most {MAX_PARTS} parts are signed at once.")
        numbers |= dict.fromkeys(range(start, end + 1))
    return list(numbers)
