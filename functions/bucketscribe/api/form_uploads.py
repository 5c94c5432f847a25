"""Recordings that come in a form: their bytes go on into the bucket as they come, in constant memory.

A form of any size up to the limit passes through; nothing is written to a disk. The upload begins when the
file's headers have been read, so what is wrong with its name or options is told before its bytes come.
Whatever goes wrong afterwards (too large, a second file, a client that goes away) gives the upload up, and
nothing is left in the bucket. What dies with this process, the sweep ends as idle.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import structlog
from anyio import CancelScope, to_thread
from fastapi import Request
from starlette.requests import ClientDisconnect

from .. import media
from ..bucket import StorageError, UploadGone
from ..errors import Problem
from ..part_writer import PartWriter, TooMuch
from ..records import Part, Record, Stored
from ..service import Service
from .completions import Completions
from .forms import NOT_THE_FILE, FileBegins, FormReader, invalid
from .guard import declared_bytes
from .room import Room

log = structlog.get_logger()

STALLED_SECONDS = 60.0
"""A form without a byte for this long is over."""

PIECE_BYTES: Final = 32 * 1024
"""Taken apart at once: of bytes that look like a boundary again and again, this takes some 20 ms."""

MOST_NAME_CHARACTERS: Final = 4096

Fields = dict[str, list[str]]
"""A form's fields: the values of each name, in the order they came."""

Begin = Callable[[str, str | None, Fields], Stored]
"""Begins the upload of a file of this name and content type, with the fields that came before it; blocks."""

FORM_REFUSALS: Final = (
    *("invalid_form", "too_large", "unsupported_media", "invalid_option", "size_required", "body_stalled"),
    *("too_many_uploads", "daily_limit_reached", "begin_lost"),
    *("no_such_upload", "upload_expired", "invalid_part", "busy"),
)
"""What a form may be refused for until its upload is complete, beside what `begin` makes of its fields."""


@dataclass(frozen=True, slots=True)
class ReceivedForm:
    """A form whose file lies in the bucket, in parts. `size` in bytes; `fields` are all of the form's."""

    fields: Fields
    stored: Stored
    parts: list[Part]
    size: int
    filename: str
    late: bool
    """Some fields came after the file: the upload was begun without them."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """An upload that takes a form's file."""

    stored: Stored
    writer: PartWriter
    filename: str
    before: Fields


class _Receiving:
    """One form on its way into the bucket."""

    def __init__(self, request: Request, service: Service, owner: str, reader: FormReader) -> None:
        self.begun: _Begun | None = None
        self._request = request
        self._service = service
        self._owner = owner
        self._reader = reader
        self._limit = service.settings.max_upload_bytes

    async def take(self, begin: Begin) -> ReceivedForm:
        """Send the file's bytes on as they come. Raises Problem, UploadGone, TooMuch and StorageError."""
        taken = 0
        try:
            async for piece in self._pieces():
                taken += len(piece)
                if taken > self._limit + NOT_THE_FILE:
                    raise TooMuch(self._limit)
                for found in self._reader.feed(piece):
                    if isinstance(found, FileBegins):
                        self.begun = await self._begin(found, begin)
                    elif self.begun is not None:
                        await self.begun.writer.awrite(found)
        except ClientDisconnect:
            raise invalid("Its sender went away.") from None
        self._reader.close()
        begun, fields = self.begun, self._reader.fields
        if begun is None or begun.writer.size == 0:
            raise media.empty()
        parts = await to_thread.run_sync(begun.writer.end)
        late = fields != begun.before
        return ReceivedForm(fields, begun.stored, parts, begun.writer.size, begun.filename, late)

    async def _pieces(self) -> AsyncIterator[bytes]:
        """The body, in pieces of which none holds the event loop up for long."""
        pieces = aiter(self._request.stream())
        while True:
            try:
                async with asyncio.timeout(STALLED_SECONDS):
                    piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except TimeoutError:
                detail = "The rest of the form did not come, and nothing of it is kept. Send it again."
                raise Problem("body_stalled", detail, {"retryAfter": 1}) from None
            for at in range(0, len(piece), PIECE_BYTES):
                if at:
                    await asyncio.sleep(0)
                yield piece[at : at + PIECE_BYTES]

    async def _begin(self, begins: FileBegins, begin: Begin) -> _Begun:
        before = {name: [*values] for name, values in self._reader.fields.items()}
        filename = begins.filename or before.get("filename", [""])[-1]
        if len(filename) > MOST_NAME_CHARACTERS:
            raise invalid(f"The file's name has more than {MOST_NAME_CHARACTERS} characters.")
        told_type = _told_type(filename, begins.content_type)
        stored = await to_thread.run_sync(begin, filename, told_type, before)
        record = stored.record
        writer = PartWriter(self._service.bucket, record.key, record.upload_id or "", most=self._limit)
        return _Begun(stored, writer, filename, before)

    async def why_ended(self) -> Problem:
        """What to say where the upload has ended meanwhile: canceled, say, by its owner."""
        id = "" if self.begun is None else self.begun.stored.record.id
        return await to_thread.run_sync(self._service.uploads.why_ended, self._owner, id)

    async def give_up(self) -> None:
        """Stop sending, and leave nothing of it."""
        if self.begun is not None:
            await to_thread.run_sync(self.begun.writer.cancel)
            await give_up(self._service, self._owner, self.begun.stored.record.id)


async def receive_form(
    request: Request, service: Service, owner: str, *, file_field: str = "file", begin: Begin
) -> ReceivedForm:
    """Take a form whose one file goes into the bucket, as an upload that `begin` opens.

    The caller completes it. Raises the Problems of `FORM_REFUSALS`, those of `begin`, and StorageError; then
    nothing of it is left.
    """
    limit = service.settings.max_upload_bytes
    if (declared_bytes(request) or 0) > limit + NOT_THE_FILE:
        raise _too_large(limit)
    reader = FormReader(request.headers.get("content-type", ""), file_field)
    receiving = _Receiving(request, service, owner, reader)
    room: Room = request.app.state.room
    with await room.enter():
        async with or_else(receiving.give_up):
            try:
                return await receiving.take(begin)
            except TooMuch:
                raise _too_large(limit) from None
            except UploadGone:
                raise await receiving.why_ended() from None


async def complete_form(form: ReceivedForm, service: Service, owner: str, completions: Completions) -> Record:
    """Finish the upload of a form, as far as a caller waits for it. Raises the Problems of `complete`.

    What its sender could repeat is all of it. So it waits for the promise however long that takes; and what
    cannot be finished is given up, lest it be there twice.
    """
    id = form.stored.record.id
    async with or_else(lambda: give_up(service, owner, id)):
        return await completions.run(
            id,
            lambda: service.uploads.completed(owner, id, form.parts),
            lambda: service.uploads.promised(owner, id, form.parts),
            promise_seconds=None,
        )


async def give_up(service: Service, owner: str, id: str) -> None:
    """Leave nothing of an upload; where the bucket does not answer, the sweep ends it as idle."""
    try:
        await to_thread.run_sync(service.uploads.give_up, owner, id)
    except (Problem, *StorageError) as error:
        log.warning("form not given up", id=id, code="storage_unavailable", reason=str(error))


@asynccontextmanager
async def or_else(undo: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Undo what was begun if what follows fails, or if nobody waits for it any more."""
    try:
        yield
    except BaseException:
        # A request that is canceled must not leave its parts.
        with CancelScope(shield=True):
            await undo()
        raise


def at_most(request: Request, service: Service) -> int | None:
    """What a form's recording counts for the limits, in bytes, where that is told before."""
    declared = declared_bytes(request)
    return None if declared is None else min(declared, service.settings.max_upload_bytes)


def _told_type(filename: str, content_type: str | None) -> str | None:
    """The content type, unless the file's name says better what it is: elsewhere nobody asks for it."""
    with suppress(Problem):
        media.check_declared(filename, content_type)
        return content_type
    return None


def _too_large(limit: int) -> Problem:
    return Problem(
        "too_large",
        f"The recording has more than {limit} bytes, and no more are accepted. Split it or compress it.",
        {"maxBytes": limit},
    )
