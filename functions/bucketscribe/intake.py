"""How an upload begins: what its client says of the file is checked, and then a place is promised.

*begin*: its owner's limits → marker → CreateMultipartUpload → record. Died before the record: the sweep
writes it as expired and aborts the upload; a begin that wakes after that finds the record taken and aborts
its own. What dies in the limits is told in `limits`.

Source: the S3 user guide, "Uploading and copying objects using multipart upload".
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from . import media, metrics
from .bucket import Bucket, Conflict, StorageError
from .errors import Problem
from .limits import Limits
from .markers import Kind, Markers
from .options import Asked, read_metadata
from .part_writer import PART_BYTES
from .parts import MAX_PARTS, default_part_size
from .presign import Presigner
from .records import Record, Records, State, Stored, Tus, Webhook, new_id
from .seal import UploadSeal, seal
from .settings import Settings


@dataclass(frozen=True, slots=True)
class Begun:
    """A multipart upload as its client knows it. `upload_id` is ours, sealed; `part_size` in bytes."""

    id: str
    key: str
    upload_id: str
    part_size: int


@dataclass(frozen=True, slots=True)
class _Told:
    """What a caller says of a file, checked. Sizes in bytes."""

    name: str
    content_type: str
    size: int | None
    part_size: int | None
    asked: Asked


@dataclass(frozen=True, slots=True)
class Form:
    """A presigned POST for a small file: `url` and the `fields` that go before the file."""

    id: str
    key: str
    url: str
    fields: dict[str, str]


@contextmanager
def _refusals_counted() -> Iterator[None]:
    """Of what was refused before there is a record, nothing else tells."""
    try:
        yield
    except Problem as problem:
        if problem.status < 500:
            metrics.count("uploads_refused", code=problem.code)
        raise


class Intake:
    """Where the uploads of one bucket begin."""

    def __init__(
        self,
        settings: Settings,
        bucket: Bucket,
        records: Records,
        markers: Markers,
        limits: Limits,
        presigner: Presigner,
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.records = records
        self.markers = markers
        self.limits = limits
        self.presigner = presigner

    @_refusals_counted()
    def begin(self, owner: str, filename: str, content_type: str | None, metadata: dict[str, Any]) -> Begun:
        """Promise a multipart upload.

        Raises Problem `unsupported_media`, `too_large`, `unknown_option`, `invalid_option`, `size_required`,
        `too_many_uploads`, `daily_limit_reached`, `begin_lost`.
        """
        told = self._check(filename, content_type, metadata, ("size", "partSize"))
        size, part_size = told.size, told.part_size or default_part_size(told.size or 0)
        if size is not None and -(-size // part_size) > MAX_PARTS:
            raise Problem(
                "invalid_option",
                f"partSize is too small: {size} bytes would take more than {MAX_PARTS} parts of {part_size}.",
                {"option": "partSize"},
            )
        declared = told.part_size if size else None
        record = self._open(owner, told, part_size=declared).record
        sealed = seal(
            self.settings.sealing_secret,
            record.key,
            UploadSeal(record.upload_id or "", size or 0, declared or 0),
        )
        return Begun(record.id, record.key, sealed, part_size)

    @_refusals_counted()
    def open(
        self,
        owner: str,
        filename: str,
        content_type: str | None,
        metadata: dict[str, Any],
        *,
        size: int | None = None,
        at_most: int | None = None,
        tus: Tus | None = None,
        ignored: tuple[str, ...] = (),
        id: str | None = None,
    ) -> Stored:
        """Begin a multipart upload whose bytes come through us, in parts of `PART_BYTES`.

        `size` is exact; `at_most` is what counts for the limits where that is not known. An `id` is one
        that nobody has. Raises the Problems of `begin`.
        """
        told = self._check(filename, content_type, metadata, (), size)
        if told.size is None and at_most is None and self.settings.require_size:
            raise _size_required(["size"]) if tus is None else _length_required()
        if at_most is not None:
            media.check_size(at_most, self.settings.max_upload_bytes)
        return self._open(
            owner,
            told,
            id=id,
            counted=told.size or at_most,
            part_size=PART_BYTES,
            tus=tus,
            ignored=ignored,
        )

    def _open(
        self, owner: str, told: "_Told", *, id: str | None = None, counted: int | None = None, **facts: Any
    ) -> Stored:
        id, key = self._new_key(owner, told, id)
        self._announce(Kind.UPLOADS, owner, id, key, told.size if counted is None else counted)
        upload_id, now = self.bucket.begin_upload(key, told.content_type)
        try:
            return self._create_record(owner, id, key, told, now, upload_id=upload_id, **facts)
        except Conflict:
            self.bucket.abort_uploads(key, upload_id)
            raise _begin_lost() from None

    @_refusals_counted()
    def check_partial(self, length: int | None) -> None:
        """See that a partial upload by tus may have this length, None if that is told later.

        Raises Problem `too_large`, `size_required`.
        """
        if length is not None:
            media.check_size(length, self.settings.max_upload_bytes)
        elif self.settings.require_size:
            raise _length_required()

    def open_final(
        self,
        owner: str,
        filename: str,
        content_type: str | None,
        metadata: dict[str, Any],
        *,
        id: str,
        size: int,
        tus: Tus,
        ignored: tuple[str, ...],
    ) -> Stored:
        """Begin an upload that is put together of partial ones, which were counted for the limits.

        One that was begun by this id before is returned as it is. Raises Problem `unsupported_media`,
        `too_large`, `unknown_option`, `invalid_option`, `begin_lost`.
        """
        told = self._check(filename, content_type, metadata, (), size)
        stored = self.records.read(owner, id)
        if stored is not None:
            return stored
        id, key = self._new_key(owner, told, id)
        self.markers.put(Kind.UPLOADS, owner, id, key=key, final=True)
        upload_id, now = self.bucket.begin_upload(key, told.content_type)
        facts: dict[str, Any] = {"part_size": PART_BYTES, "tus": tus, "ignored": ignored}
        try:
            stored = self._create_record(owner, id, key, told, now, upload_id=upload_id, **facts)
            # One that died before its record has left an upload under this key, too.
            self.bucket.abort_uploads(key, keep=upload_id)
            return stored
        except Conflict:
            # Not whatever else is under this key: that is what the other one has begun.
            self.bucket.abort_upload(key, upload_id)
            stored = self.records.read(owner, id)
            if stored is None:
                raise _begin_lost() from None
            return stored

    @_refusals_counted()
    def begin_form(
        self, owner: str, filename: str, content_type: str | None, metadata: dict[str, Any]
    ) -> Form:
        """Promise one POST of a small file, of exactly its size if that is declared.

        Raises the Problems of `begin`.
        """
        told = self._check(filename, content_type, metadata, ("size",))
        id, key = self._new_key(owner, told)
        now = self._announce(Kind.FORMS, owner, id, key, told.size)
        seconds = self.settings.url_expires_seconds
        try:
            self._create_record(owner, id, key, told, now, form_ends=now + timedelta(seconds=seconds))
        except Conflict:
            raise _begin_lost() from None
        form = self.presigner.post(
            key,
            content_type=told.content_type,
            min_bytes=told.size or 1,
            max_bytes=told.size or self.settings.max_upload_bytes,
            expires_seconds=seconds,
            # The bucket's time, so that the policy ends when the record says.
            now=now,
        )
        return Form(id, key, form["url"], form["fields"])

    def _check(
        self,
        filename: str,
        content_type: str | None,
        metadata: dict[str, Any],
        sizes: tuple[str, ...],
        size: int | None = None,
    ) -> "_Told":
        """What a caller says of a file; `sizes` are those it must declare where sizes are required.

        A `size` that the protocol itself tells counts more than one in the metadata.
        """
        asked = read_metadata(metadata, self.settings)
        file = asked.file
        name = file.name or filename
        stored_type = media.check_declared(name, content_type or file.type)
        size = file.size if size is None else size
        if size == 0:
            raise media.empty()
        if size is not None:
            media.check_size(size, self.settings.max_upload_bytes)
        missing = [name for name in sizes if getattr(file, name) is None]
        if missing and self.settings.require_size:
            raise _size_required(missing)
        return _Told(name, stored_type, size, file.partSize, asked)

    def _new_key(self, owner: str, told: "_Told", id: str | None = None) -> tuple[str, str]:
        id = new_id() if id is None else id
        return id, f"uploads/{owner}/{id}/{media.object_name(told.name)}"

    def _announce(self, kind: Kind, owner: str, id: str, key: str, size: int | None) -> datetime:
        """Count it, and put its marker; returns the bucket's time."""
        counted = self.limits.admit(owner, id, size)
        try:
            return self.markers.put(kind, owner, id, key=key)
        except StorageError:
            # Should the marker stand after all: nobody has learned of a URL by which bytes could come.
            self.limits.take_back(counted)
            raise

    def _create_record(
        self,
        owner: str,
        id: str,
        key: str,
        told: "_Told",
        now: datetime,
        *,
        upload_id: str | None = None,
        part_size: int | None = None,
        form_ends: datetime | None = None,
        **facts: Any,
    ) -> Stored:
        record = Record(
            id=id,
            owner=owner,
            state=State.UPLOADING,
            created=now,
            updated=now,
            key=key,
            name=told.name,
            content_type=told.content_type,
            size=told.size,
            part_size=part_size,
            upload_id=upload_id,
            form_ends=form_ends,
            options=told.asked.options,
            metadata=told.asked.kept,
            webhook=Webhook.of(told.asked),
            **facts,
        )
        self.markers.owe(record)
        return self.records.create(record)


def _size_required(missing: list[str]) -> Problem:
    names = " and ".join(missing)
    return Problem(
        "size_required",
        f"Declare {names} in the upload's metadata, in bytes: nothing of unknown size is taken here.",
        {"missing": missing},
    )


def _length_required() -> Problem:
    return Problem(
        "size_required",
        "Send Upload-Length, the size in bytes, when the upload begins, and not Upload-Defer-Length: nothing "
        "of unknown size is taken here.",
        {"missing": ["Upload-Length"]},
    )


def _begin_lost() -> Problem:
    return Problem("begin_lost", "Beginning the upload took so long that it was given up. Begin it again.")
