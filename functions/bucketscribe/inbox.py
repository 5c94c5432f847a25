"""The inbox: an object put under `inbox/{owner}/` by any S3 tool becomes a transcription, once.

Its id is made of its LastModified, its key and its ETag, so whoever finds it (an event, the sweep, a request)
comes to the same record. Options are set by the first request, until a worker takes it. An object put there
anew is a new one. What may die between two requests, and who goes on:

- *begin*: marker → record. Died before the record: the object still lies there, and who finds it next begins.
- *go on*: the server copies the object to its place under `uploads/`, a large one in parts of a multipart
  upload that the record names → `uploads.finish` accepts or refuses it, as any upload. Died anywhere, or out
  of time: the sweep finds the marker and goes on, with the parts that are missing.
- *look*, by the sweep: an object whose copy was accepted is removed, if it is still the same. Not at once:
  the tool that put it there may want to see it. What was refused, or canceled, stays until its owner removes
  it or deletes the transcription: it may be the only copy. Died anywhere: the next sweep looks again.

Two at once copy the same bytes to the same place. An object that is removed or replaced before it was copied
cancels its transcription. Sources: the S3 API reference, CopyObject and UploadPartCopy.
"""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog
from botocore.exceptions import ClientError

from . import media
from .auth import OPEN_OWNER, is_owner
from .bucket import Bucket, Conflict, Found, Listed, StorageError, UploadGone, error_code
from .bucket import Part as HeldPart
from .errors import Problem
from .markers import Kind
from .options import FILE_NAMES, Asked, Options, read_metadata
from .records import Dropped, Failure, NoRecord, Part, Record, State, Stored, Webhook, new_id
from .s3 import PASSING_CODES, PASSING_STATUSES
from .settings import Settings
from .uploads import REFUSALS, Uploads

log = structlog.get_logger()

PREFIX = "inbox/"
PART_BYTES = 64 * 1024**2
"""What is larger is copied in parts of this size: S3 copies some 100 MB a second in one request."""

COPIES_AT_ONCE = 4
KEPT = timedelta(minutes=1)
"""An object stays this long after it was taken: rclone, say, looks whether it has arrived."""

REFUSED_FOR = timedelta(hours=1)
"""A bucket that does not let an object be copied is asked again for this long."""

FAILING_FOR = timedelta(days=1)
"""And so long one that fails at it, unless it is full: then somebody will make room."""

PAGE = 20
"""So many of the newest transcriptions are looked through for one that came from a key."""

_KEY = re.compile(r"inbox/([^/]+)/(.*[^/])", re.DOTALL)
_MAX_KEY_BYTES = 1024
_UNFINISHED = frozenset({State.UPLOADING, State.COMPLETING})


class SourceGone(Exception):
    """The object in the inbox was removed, or replaced, before it was copied."""


class OutOfTime(Exception):
    """There is no time for another part; those that were copied stay."""


class Inbox:
    """The inboxes of all owners of one bucket."""

    def __init__(self, settings: Settings, bucket: Bucket, uploads: Uploads) -> None:
        self.settings = settings
        self.bucket = bucket
        self.uploads = uploads
        self.records = uploads.records
        self.markers = uploads.markers
        self.transcriptions = uploads.transcriptions
        self._told = False

    def takes(self, key: str) -> bool:
        """Whether an object of this key is taken without being asked for.

        An owner is taken at their word. But where people sign in nobody is `local`, unless somebody made them
        a key: who has one can ask.
        """
        owner = owner_of(key)
        return owner is not None and (owner != OPEN_OWNER or self.settings.open_mode)

    def take(self, key: str, time_left: Callable[[], bool] = lambda: True) -> Record | None:
        """Make what lies at a key a transcription, however often called; None if nothing does.

        Raises StorageError, and Problem `busy`: then it is worth another try. Not where only the copy fails:
        whoever told of the object need not tell again, as the sweep goes on.
        """
        begun = self.begin(key)
        if begun is None:
            return None
        record = begun[0].record
        try:
            return self.go_on(begun[0], time_left).record
        except NoRecord:
            # Deleted meanwhile.
            return None
        except (Problem, *StorageError) as error:
            code = error.code if isinstance(error, Problem) else "storage_unavailable"
            log.warning("copied later", id=record.id, owner=record.owner, code=code, reason=str(error))
            return record

    def request(self, owner: str, key: str, options: Mapping[str, Any]) -> tuple[Stored, bool]:
        """The transcription of an object in an owner's inbox, and whether it is new: now it is there.

        Where an event or the sweep was faster, its options are set as long as no worker has had it. Raises
        Problem `not_yours`, `not_in_inbox`, `unknown_option`, `invalid_option`, those of `refusal`, and
        `not_possible` where it was taken with other options.
        """
        if owner_of(key) != owner:
            raise Problem(
                "not_yours",
                f"This is no key in your inbox, which is {PREFIX}{owner}/ and a path, without backslashes "
                "and without names that are empty, `.` or `..`.",
            )
        asked = read_metadata(options, self.settings)
        if told := [name for name in FILE_NAMES if getattr(asked.file, name) is not None]:
            raise Problem(
                "unknown_option",
                f"{told[0]} is no option here: name, type and size are those of the object.",
                {"option": told[0]},
            )
        begun = self._begin_if_possible(key, asked)
        stored, new = begun or (self._taken_before(owner, key), False)
        if stored is None or stored.record.state is State.DELETED:
            raise Problem(
                "not_in_inbox",
                "There is no object with this key, or it is empty. Put a recording there, and ask again.",
            )
        if (problem := refusal(stored.record)) is not None:
            raise problem
        if not new and _differ(stored.record, asked):
            stored = self._set_options(stored, asked)
        if _differ(stored.record, asked):
            raise Problem(
                "not_possible",
                f"The object was taken already, as transcription {stored.record.id}, with other options. "
                "Delete that, put the object there again, and ask at once.",
                {"id": stored.record.id, "state": stored.record.state},
            )
        return stored, new

    def _set_options(self, stored: Stored, asked: Asked) -> Stored:
        """Give options to what was taken without any, unless a worker has had it.

        The caller's own values also after that: they are nothing to a worker.
        """

        def edit(record: Record, now: datetime) -> Record | None:
            if record.state is State.DELETED:
                return None
            # The end of a lease leaves `quiet_after`.
            begun = record.state not in {*_UNFINISHED, State.QUEUED} or record.quiet_after is not None
            changes: dict[str, Any] = {}
            if not begun and record.options == Options():
                changes |= {"options": asked.options, "webhook": Webhook.of(asked)}
            if not record.metadata:
                changes["metadata"] = asked.kept
            # All that was asked for, or nothing.
            after = record.to(record.state, **changes)
            if _differ(after, asked):
                return None
            if "options" in changes:
                self.markers.owe(after)
            return after

        with suppress(NoRecord):
            return self.records.change(stored.record.owner, stored.record.id, edit, known=stored)
        return stored

    def begin(self, key: str, asked: Asked | None = None) -> tuple[Stored, bool] | None:
        """The record of what lies at a key, and whether it is new; None if nothing does that we take."""
        owner = owner_of(key)
        found = None if owner is None else self.bucket.find(key)
        if owner is None or found is None or not found.size:
            return None
        id = id_of(key, found.etag, found.modified)
        stored = self.records.read(owner, id)
        if stored is not None:
            return stored, False
        record = self._record(owner, id, key, found, asked)
        self.markers.owe(record)
        if record.state is State.UPLOADING:
            self.markers.put(Kind.UPLOADS, owner, id, key=record.key, inbox=key)
        try:
            return self.records.create(record), True
        except Conflict:
            stored = self.records.read(owner, id)
            return None if stored is None else (stored, False)

    def _record(self, owner: str, id: str, key: str, found: Found, asked: Asked | None) -> Record:
        """The first version of a record; what `Intake.begin` would refuse has failed already."""
        name = key.rpartition("/")[2]
        error = None
        content_type = found.content_type or "application/octet-stream"
        try:
            content_type = _type_of(name, found.content_type)
            media.check_size(found.size, self.settings.max_upload_bytes)
        except Problem as problem:
            error = Failure(code=problem.code, message=problem.detail, stage=State.UPLOADING.value)
        return Record(
            id=id,
            owner=owner,
            state=State.UPLOADING if error is None else State.FAILED,
            created=found.at,
            updated=found.at,
            key=f"uploads/{owner}/{id}/{media.object_name(name)}",
            name=name,
            content_type=content_type,
            size=found.size,
            part_size=PART_BYTES if found.size > PART_BYTES else None,
            inbox=Dropped(key=key, etag=found.etag, modified=found.modified),
            options=Options() if asked is None else asked.options,
            webhook=None if asked is None else Webhook.of(asked),
            metadata={} if asked is None else asked.kept,
            error=error,
        )

    def _begin_if_possible(self, key: str, asked: Asked) -> tuple[Stored, bool] | None:
        try:
            return self.begin(key, asked)
        except ClientError as error:
            # Servers take no key that leads out of its folder, for one.
            if error_code(error)[0] == 400:
                return None
            raise

    def _taken_before(self, owner: str, key: str) -> Stored | None:
        """The newest transcription that came from a key, if it is among the newest."""
        keys = list(self.records.listing(owner, at_most=PAGE))
        with ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
            for stored in threads.map(self.records.read_listed, keys):
                dropped = None if stored is None else stored.record.inbox
                if dropped is not None and dropped.key == key:
                    return stored
        return None

    # Copying

    def go_on(self, stored: Stored, time_left: Callable[[], bool] = lambda: True) -> Stored:
        """Copy what was begun, and have it accepted or refused; from any state, however often called.

        Where there is no `time_left` for all parts, it is still `uploading`. Raises NoRecord where it was
        deleted, Problem `busy`, and StorageError.
        """
        record = stored.record
        if record.inbox is None or record.state not in _UNFINISHED:
            return stored
        try:
            uploading = record.state is State.UPLOADING
            parts = self._copy(stored, record.inbox, time_left) if uploading else None
            self.uploads.finish(record.owner, record.id, parts)
        except OutOfTime:
            return stored
        except SourceGone:
            self._end_without_source(record)
        except StorageError as error:
            if stored.at - record.created <= (FAILING_FOR if is_passing(error) else REFUSED_FOR):
                raise
            if self.bucket.is_full(error):
                raise
            reason = error_code(error)[1] or type(error).__name__
            message = (
                f"The bucket does not copy the object out of the inbox ({reason}). It still lies there: once "
                "that is put right, put it there again."
            )
            self.uploads.refuse(stored, "recording_unreadable", message)
        except Problem as problem:
            if problem.status >= 500:
                raise
            # Another has ended it meanwhile; or the parts have changed, and the next look sees which they are
            # now.
            log.info("not copied", id=record.id, owner=record.owner, code=problem.code)
        after = self.records.read(record.owner, record.id)
        if after is None or after.record.state is State.DELETED:
            # It may have been copied when all the rest was gone.
            self.transcriptions.discard_recording(record)
            raise NoRecord(record.id)
        return after

    def _copy(self, stored: Stored, source: Dropped, time_left: Callable[[], bool]) -> list[Part] | None:
        """Have the object copied: its parts if they are yet to be put together, else None."""
        record = stored.record
        if record.part_size is not None:
            return self._copy_parts(stored, source, record.part_size, time_left)
        try:
            self.bucket.copy(source.key, source.etag, record.key, record.content_type)
        except (Conflict, KeyError):
            raise SourceGone from None
        return None

    def _copy_parts(
        self, stored: Stored, source: Dropped, part_size: int, time_left: Callable[[], bool]
    ) -> list[Part] | None:
        """The parts of the upload the record names, after those that were missing were copied.

        Raises OutOfTime.
        """
        stored, held = self._opened(stored)
        record = stored.record
        if held is None or record.upload_id is None:
            return None
        upload_id, size = record.upload_id, record.size or 0
        there = {part.number: part.etag for part in held}

        def copied(number: int) -> Part:
            start = (number - 1) * part_size
            end = min(start + part_size, size)
            etag = there.get(number)
            if etag is None:
                if not time_left():
                    raise OutOfTime
                etag = self.bucket.copy_part(
                    source.key, source.etag, start, end, record.key, upload_id, number
                )
            return Part(number=number, etag=etag)

        try:
            with ThreadPoolExecutor(COPIES_AT_ONCE) as threads:
                return list(threads.map(copied, range(1, -(-size // part_size) + 1)))
        except (Conflict, KeyError):
            raise SourceGone from None
        except UploadGone:
            # Another has put the parts together, or has ended it.
            return None

    def _opened(self, stored: Stored) -> tuple[Stored, list[HeldPart] | None]:
        """A multipart upload in the record, and its parts; None where there is no use for one any more."""
        record = stored.record
        known = record.upload_id
        if known is not None:
            # One whose beginner died before it was written down, too, would stay for ever.
            self.bucket.abort_uploads(record.key, keep=known)
            listed = self.bucket.list_parts(record.key, known)
            if listed is not None:
                return stored, listed[0]
            if self.bucket.find(record.key) is not None:
                return stored, None
        upload_id, _ = self.bucket.begin_upload(record.key, record.content_type)

        def edit(record: Record, now: datetime) -> Record | None:
            if record.state is not State.UPLOADING or record.upload_id != known:
                return None
            return record.to(State.UPLOADING, upload_id=upload_id)

        try:
            stored = self.records.change(record.owner, record.id, edit)
        except NoRecord:
            self.bucket.abort_uploads(record.key, upload_id)
            raise
        kept = stored.record.upload_id
        if kept is not None:
            self.bucket.abort_uploads(record.key, None if kept == upload_id else upload_id, keep=kept)
        if stored.record.state is not State.UPLOADING or kept is None:
            return stored, None
        listed = self.bucket.list_parts(record.key, kept)
        return stored, None if listed is None else listed[0]

    def _end_without_source(self, record: Record) -> None:
        """End a transcription whose object has gone, unless it was copied before."""
        if self.bucket.find(record.key) is not None:
            self.uploads.finish(record.owner, record.id)
            return
        log.info("gone before it was copied", id=record.id, owner=record.owner)
        with suppress(Problem):
            # Gone, too, then.
            self.transcriptions.cancel(record.owner, record.id, only=State.UPLOADING)

    # What the sweep finds

    def look(self, entry: Listed, now: datetime, time_left: Callable[[], bool] = lambda: True) -> bool:
        """Take an object that a listing shows, or remove it where it was taken; False if it is to stay."""
        owner = owner_of(entry.key)
        if owner is None or not entry.size:
            if entry.size:
                log.warning("in nobody's inbox", key=entry.key, code="not_in_inbox")
            return False
        stored = self.records.read(owner, id_of(entry.key, entry.etag, entry.modified))
        if stored is None and not self.takes(entry.key):
            # It may be asked for yet, and is to be removed then.
            if not self._told:
                self._told = True
                log.warning("in nobody's inbox", key=entry.key, code="not_in_inbox")
            return True
        record = self.take(entry.key, time_left) if stored is None else stored.record
        if record is None:
            return True
        if record.etag is None:
            # What is under way has a marker, which the sweep looks at.
            return record.state in {*_UNFINISHED, State.DELETED}
        if record.inbox is not None and now - record.created > KEPT:
            self.bucket.delete_version(record.inbox.key, record.inbox.etag, record.inbox.modified)
        return True


def owner_of(key: str) -> str | None:
    """Whose inbox a key is in; None for a folder, and where nobody can be said.

    SeaweedFS takes `\\` and `//` for `/`: with such a key an object would have two names, and so two ids.
    """
    match = _KEY.fullmatch(key)
    if match is None or not is_owner(match[1]):
        return None
    if "\\" in key or not {"", ".", ".."}.isdisjoint(key.split("/")):
        return None
    try:
        return match[1] if len(key.encode()) <= _MAX_KEY_BYTES else None
    except UnicodeEncodeError:
        # Half a surrogate pair: no bucket has such a key.
        return None


def id_of(key: str, etag: str, modified: datetime) -> str:
    """The id of the transcription of this version of an object; in whole seconds, as HTTP tells them."""
    digest = sha256(f"{key}\0{etag.strip('"')}".encode()).digest()
    return new_id(int(modified.timestamp()) * 1000, digest[:10])


def refusal(record: Record) -> Problem | None:
    """Why there will be no transcription of a version of an object, if nothing of it was accepted.

    Problem `unsupported_media`, `too_large`; `not_possible` for what was canceled, or has gone too early.
    """
    error, facts = record.error, {"id": record.id, "state": record.state}
    if record.etag is not None:
        return None
    if error is not None and error.code in REFUSALS:
        return Problem(error.code, error.message, facts)
    if record.state in (State.CANCELED, State.EXPIRED):
        return Problem(
            "not_possible",
            f"Transcription {record.id} was {record.state} before the object was copied. "
            "Put the object there again, and ask again.",
            facts,
        )
    return None


def is_passing(error: Exception) -> bool:
    """Whether the same request may be answered otherwise the next time, or was not answered at all."""
    status, code = error_code(error)
    return (
        not isinstance(error, ClientError)
        or status >= 500
        or status in PASSING_STATUSES
        or code in PASSING_CODES
    )


def _type_of(name: str, content_type: str) -> str:
    """The content type by the name, and by what the tool said only where the name says nothing.

    Tools guess it, or send what they always send. Raises Problem `unsupported_media`.
    """
    try:
        return media.check_declared(name, None)
    except Problem:
        return media.check_declared(name, content_type)


def _differ(record: Record, asked: Asked) -> bool:
    """Whether what is asked for, as far as it is, is not what the record has."""
    options = asked.options
    others = any(getattr(record.options, name) != getattr(options, name) for name in options.model_fields_set)
    return others or any(record.metadata.get(name) != value for name, value in asked.kept.items())
