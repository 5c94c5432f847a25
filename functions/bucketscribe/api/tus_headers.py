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

_NUMBER: Final = re.compile(r"[0-9]{1,18}")


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


def check_version(request: Request) -> None:
    """Raises Problem `wrong_tus_version`."""
    if request.headers.get("tus-resumable") != VERSION:
        raise Problem("wrong_tus_version", f"Send Tus-Resumable: {VERSION}; no other version is spoken here.")


def number_in(request: Request, name: str) -> int | None:
    """A header that is a number of bytes; None where it is not there. Raises `invalid_tus_request`."""
    text = request.headers.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text.strip()):
        raise Problem("invalid_tus_request", f"{name} must be a number of bytes, 0 or more.")
    return int(text)


def bytes_coming(request: Request) -> int | None:
    """How many bytes the body has, if that is known."""
    if "transfer-encoding" in request.headers:
        return None
    return declared_bytes(request) if "content-length" in request.headers else 0


def check_bytes(request: Request) -> None:
    """See that a body is of the type that is appended. Raises Problem `wrong_content_type`."""
    if request.headers.get("content-type", "").strip().lower() != BYTES:
        raise Problem("wrong_content_type", f"Bytes are sent with Content-Type: {BYTES}.")


def declared_length(request: Request) -> int | None:
    """The declared length, or None where it is left open. Raises Problem `invalid_tus_request`."""
    length, deferred = number_in(request, "Upload-Length"), request.headers.get("upload-defer-length")
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
