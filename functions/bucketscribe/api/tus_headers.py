"""What tus 1.0.0 says in headers: read from requests, written into answers.

Source: https://tus.io/protocols/resumable-upload
"""

import re
from email.utils import format_datetime
from typing import Final
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from ..errors import Problem
from ..records import is_id
from ..tus import Status
from .completions import TRANSCRIPTION
from .guard import declared_bytes

PATH: Final = "/uploads/files"
VERSION: Final = "1.0.0"
EXTENSIONS: Final = (
    "creation,creation-with-upload,creation-defer-length,expiration,termination,checksum,concatenation"
)
BYTES: Final = "application/offset+octet-stream"

EXPOSED: Final = [
    *("Location", "Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata", "Upload-Concat"),
    *("Upload-Defer-Length", "Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size"),
    *("Tus-Checksum-Algorithm", TRANSCRIPTION),
]
"""Headers that pages of other sites may read."""

_NUMBER: Final = re.compile(r"[0-9]+")
_MOST_DIGITS: Final = 18
_BEYOND: Final = 10**_MOST_DIGITS
"""Larger than any upload can be."""


class TusResumable:
    """ASGI middleware: every answer at these addresses names the version, whoever gives it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path != PATH and not path.startswith(f"{PATH}/"):
            await self.app(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Tus-Resumable"] = VERSION
                if message["status"] == 412:
                    headers["Tus-Version"] = VERSION
            await send(message)

        await self.app(scope, receive, told)


# What a request says


def said(request: Request, name: str) -> str | None:
    """A header that says one thing, or is not there. Raises Problem `invalid_tus_request` for two things."""
    values = {value.strip(" \t") for value in request.headers.getlist(name)}
    if len(values) > 1:
        raise Problem("invalid_tus_request", f"{name} stands there twice, and says two things; send it once.")
    return next(iter(values), None)


def method_of(request: Request) -> str:
    """What a request asks for: where a header says so, the method itself is not looked at."""
    return (said(request, "X-HTTP-Method-Override") or request.method).upper()


def check_request(request: Request, method: str) -> None:
    """See that it speaks our version, and asks for this method.

    Raises Problem `wrong_tus_version`, `invalid_tus_request`.
    """
    if said(request, "Tus-Resumable") != VERSION:
        raise Problem("wrong_tus_version", f"Send Tus-Resumable: {VERSION}; no other version is spoken here.")
    if method_of(request) != method:
        raise Problem(
            "invalid_tus_request",
            f"X-HTTP-Method-Override says another method than {request.method}. Leave it out, or send it "
            "with POST to the upload's address.",
        )


def number_in(request: Request, name: str) -> int | None:
    """A header that is a number of bytes; None where it is not there. Raises `invalid_tus_request`."""
    text = said(request, name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise Problem("invalid_tus_request", f"{name} must be a number of bytes, 0 or more.")
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MOST_DIGITS else _BEYOND


def bytes_coming(request: Request) -> int | None:
    """How many bytes the body has, if that is known."""
    if "transfer-encoding" in request.headers:
        return None
    return declared_bytes(request) if "content-length" in request.headers else 0


def check_bytes(request: Request) -> None:
    """See that a body is of the type that is appended, and nothing but the bytes.

    Raises Problem `wrong_content_type`, `invalid_tus_request`.
    """
    if (said(request, "Content-Type") or "").lower() != BYTES:
        raise Problem("wrong_content_type", f"Bytes are sent with Content-Type: {BYTES}.")
    if not set(_list_of(request, "Content-Encoding")) <= {"identity"}:
        raise Problem(
            "wrong_content_type", "Send the bytes as they are in the file, without Content-Encoding."
        )
    if not set(_list_of(request, "Transfer-Encoding")) <= {"chunked"}:
        raise Problem(
            "invalid_tus_request", "Send the bytes as they are; of Transfer-Encodings, only chunked."
        )
    # Trailers are not read, and what was to be checked must not be kept unchecked.
    if "upload-checksum" in _list_of(request, "Trailer"):
        raise Problem("invalid_tus_request", "Send Upload-Checksum before the bytes, as a header.")


def _list_of(request: Request, name: str) -> list[str]:
    """A header that is a list of words, on one line or several."""
    words = ",".join(request.headers.getlist(name)).lower().split(",")
    return [word.strip(" \t") for word in words if word.strip(" \t")]


def metadata_of(request: Request) -> str:
    """Upload-Metadata, which is a list and may stand on several lines."""
    lines = (line.strip() for line in request.headers.getlist("Upload-Metadata"))
    return ",".join(line for line in lines if line)


def declared_length(request: Request) -> int | None:
    """The declared length, or None where it is left open. Raises Problem `invalid_tus_request`."""
    length, deferred = number_in(request, "Upload-Length"), said(request, "Upload-Defer-Length")
    if deferred not in (None, "1"):
        raise Problem("invalid_tus_request", "Upload-Defer-Length can be 1, and nothing else.")
    if (length is None) == (deferred is None):
        raise Problem("invalid_tus_request", "Send Upload-Length, or Upload-Defer-Length: 1, and not both.")
    return length


def partial_ids(addresses: str) -> list[str]:
    """The partial uploads that a final one names, by path or whole URL. Raises `invalid_concatenation`."""
    ids = []
    for address in addresses.split():
        try:
            folder, _, id = urlsplit(address).path.rpartition("/")
        except ValueError:
            folder = id = ""
        if not folder.endswith(PATH) or not is_id(id):
            raise Problem("invalid_concatenation", f"{address[:200]!r} is not the Location of an upload.")
        ids.append(id)
    if not ids:
        raise Problem("invalid_concatenation", "Name the partial uploads, as in: final;/uploads/files/… …")
    return ids


# What an answer says


def headers_of(status: Status) -> dict[str, str]:
    """All that there is to tell of an upload."""
    headers = {"Cache-Control": "no-store"}
    if status.offset is not None:
        headers["Upload-Offset"] = str(status.offset)
    if status.length is not None:
        headers["Upload-Length"] = str(status.length)
    else:
        headers["Upload-Defer-Length"] = "1"
    if status.metadata:
        headers["Upload-Metadata"] = status.metadata
    if status.partial:
        headers["Upload-Concat"] = "partial"
    elif status.partials:
        headers["Upload-Concat"] = "final;" + " ".join(f"{PATH}/{id}" for id in status.partials)
    if status.expires is not None:
        headers["Upload-Expires"] = format_datetime(status.expires, usegmt=True)
    if status.transcription:
        headers[TRANSCRIPTION] = status.id
    return headers
