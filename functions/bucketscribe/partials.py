"""Partial uploads of tus: parts of a recording that are sent side by side, to be put together by another.

They are no transcriptions: no list shows them, nothing judges them. `tus/{owner}/{id}/partial.json` tells of
one, and the bytes become the object `whole` beside it. Each is a marker, S3's upload and the document, in
this order. What may die between two requests, and who goes on:

- *begin*, before the document: the sweep aborts the upload and removes the marker. A begin that wakes after
  that finds no marker, and takes its document back.
- *finish*: CompleteMultipartUpload → the document says finished. Who asks next, or the sweep, repeats it.
- *remove*: the document says removed → the upload is aborted, all else goes → the sweep empties the place
  once more, when no writer can be late → document and marker go.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from .bucket import Bucket, Conflict, Document, PartsRefused, StorageError, UploadGone
from .errors import Problem
from .limits import Limits
from .markers import Kind, Marker, Markers
from .part_writer import PART_BYTES
from .records import Records, State, is_id, new_id
from .settings import Settings
from .tus_append import Place, held_now, with_last_part
from .uploads import ended_of

WAITS = timedelta(hours=1)
"""How long one that is finished waits for the upload that is put together of it, and then for its record."""

TRIES = 10


class Partial(BaseModel):
    """A partial upload. Sizes in bytes, times are the bucket's."""

    model_config = ConfigDict(extra="allow", frozen=True)

    id: str
    owner: str
    created: datetime
    upload_id: str
    length: int | None = None
    metadata: str
    part_bytes: int
    finished: datetime | None = None
    etag: str = ""
    used_by: str | None = None
    """The upload it belongs to."""
    used: datetime | None = None
    """When that upload was last begun."""
    removed: datetime | None = None
    expired: bool = False
    """Nobody has given it up: it was idle for too long, or waited too long."""
    write: str = ""

    @property
    def prefix(self) -> str:
        """Where all of it lies."""
        return prefix_of(self.owner, self.id)

    @property
    def key(self) -> str:
        """The object that its bytes become."""
        return f"{self.prefix}whole"

    def place(self, most: int) -> Place:
        """Where its bytes go."""
        return Place(self.prefix, self.key, self.upload_id, self.part_bytes, self.length, most)


Edit = Callable[[Partial], Partial | None]


def prefix_of(owner: str, id: str) -> str:
    """Where everything of an upload by tus lies but its recording."""
    return f"tus/{owner}/{id}/"


def _key(owner: str, id: str) -> str:
    return f"{prefix_of(owner, id)}partial.json"


class Partials:
    """The partial uploads in a bucket."""

    def __init__(
        self, settings: Settings, bucket: Bucket, records: Records, markers: Markers, limits: Limits
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.records = records
        self.markers = markers
        self.limits = limits

    def begin(self, owner: str, length: int | None, metadata: str) -> Partial:
        """Begin one. Raises Problem `too_many_uploads`, `daily_limit_reached`, `begin_lost`."""
        id = new_id()
        counted = self.limits.admit(owner, id, length)
        key = f"{prefix_of(owner, id)}whole"
        try:
            self.markers.put(Kind.PARTIALS, owner, id, key=key)
        except StorageError:
            self.limits.take_back(counted)
            raise
        upload_id, now = self.bucket.begin_upload(key, "application/octet-stream")
        partial = Partial(
            id=id,
            owner=owner,
            created=now,
            upload_id=upload_id,
            length=length,
            metadata=metadata,
            part_bytes=PART_BYTES,
        )
        self.bucket.put(_key(owner, id), _body(partial))
        if not self.markers.stands(Kind.PARTIALS, owner, id):
            self._empty(partial)
            raise Problem(
                "begin_lost", "Beginning the upload took so long that it was given up. Begin again."
            )
        return partial

    def read(self, owner: str, id: str) -> tuple[Partial, str, datetime] | None:
        """One, its document's ETag, and the bucket's time. None of one that was removed."""
        document = self._document(owner, id)
        if document is None:
            return None
        partial = Partial.model_validate_json(document.body)
        return None if partial.removed is not None else (partial, document.etag, document.at)

    def get(self, owner: str, id: str) -> tuple[Partial, datetime]:
        """One, and the bucket's time. Raises Problem `no_such_upload`, `upload_expired`."""
        document = self._document(owner, id)
        if document is None:
            raise ended_of(None)
        partial = Partial.model_validate_json(document.body)
        if partial.removed is None:
            return partial, document.at
        if not partial.expired:
            raise ended_of(None)
        ended = partial.removed.isoformat()
        raise Problem(
            "upload_expired",
            f"The upload was idle for too long and ended at {ended}. Begin a new one.",
            {"expired": ended, "id": id},
        )

    def _document(self, owner: str, id: str) -> Document | None:
        return self.bucket.get(_key(owner, id)) if is_id(id) else None

    def change(self, owner: str, id: str, edit: Edit) -> Partial:
        """Apply an edit to the newest version; one that gives None leaves it.

        Raises Problem `no_such_upload`, `busy`, and whatever `edit` raises.
        """
        for _ in range(TRIES):
            found = self.read(owner, id)
            if found is None:
                raise ended_of(None)
            partial, etag, _ = found
            edited = edit(partial)
            if edited is None:
                return partial
            try:
                self.bucket.replace(_key(owner, id), _body(edited), etag)
            except Conflict:
                continue
            return edited
        raise Problem("busy", "The upload is being changed by others; try again in a moment.")

    def finish(self, partial: Partial) -> Partial:
        """Make the object of the bytes, all of which are in; can be repeated, and can die anywhere.

        Raises Problem `no_such_upload`, `busy`; StorageError.
        """
        if partial.finished is not None:
            return partial
        place = partial.place(self.settings.max_upload_bytes)
        held = held_now(self.bucket, place)
        if held is not None and partial.length == 0:
            self.bucket.put(partial.key, b"", "application/octet-stream")
            self.bucket.abort_upload(partial.key, partial.upload_id)
        elif held is not None and held.offset == partial.length:
            held = with_last_part(self.bucket, place, held)
            parts = [(part.number, part.etag) for part in held.parts]
            # By somebody else meanwhile, perhaps: then the object is there.
            with suppress(UploadGone, PartsRefused):
                self.bucket.complete_upload(partial.key, partial.upload_id, parts)
        found = self.bucket.find(partial.key)
        if found is None or found.size != partial.length:
            raise ended_of(None)
        told = {"finished": found.at, "etag": found.etag}

        def edit(now_is: Partial) -> Partial | None:
            return now_is.model_copy(update=told) if now_is.finished is None else None

        return self.change(partial.owner, partial.id, edit)

    def remove(self, owner: str, id: str, *, expired: bool = False, judged: Partial | None = None) -> None:
        """Remove one, with `judged` only as it was then; one that is gone is fine.

        Whoever writes to it finds that out.
        """
        found = self.read(owner, id)
        if found is None:
            return
        told = {"removed": found[2], "expired": expired}

        def edit(now_is: Partial) -> Partial | None:
            return now_is.model_copy(update=told) if judged in (None, now_is) else None

        try:
            partial = self.change(owner, id, edit)
        except Problem as problem:
            if problem.code == "no_such_upload":
                return
            raise
        if partial.removed is None:
            return
        self._empty(partial, but=_key(owner, id))

    def _empty(self, partial: Partial, but: str | None = None) -> None:
        self.bucket.abort_upload(partial.key, partial.upload_id)
        keys = [entry.key for entry in self.bucket.listing(partial.prefix) if entry.key != but]
        self.bucket.delete_keys(keys)

    # The sweep's look

    def look(self, marker: Marker) -> None:
        """End one that is idle, or that nobody has put together with others; go on with what was begun."""
        owner, id = marker.owner, marker.id
        idle = timedelta(seconds=self.settings.upload_idle_seconds + 1)
        document = self.bucket.get(_key(owner, id))
        if document is None:
            self.bucket.abort_uploads(f"{prefix_of(owner, id)}whole")
            self.bucket.delete_all(prefix_of(owner, id))
            self.markers.remove(Kind.PARTIALS, owner, id)
            return
        partial, now = Partial.model_validate_json(document.body), document.at
        if partial.removed is not None:
            if now - partial.removed > idle:
                self._empty(partial)
                self.markers.remove(Kind.PARTIALS, owner, id)
            return
        if partial.finished is not None:
            signs = [partial.finished, partial.used or partial.finished, *self._seen(owner, id)]
            if now - max(signs) > WAITS and not self._is_in_use(partial):
                self.remove(owner, id, expired=True, judged=partial)
            return
        held = held_now(self.bucket, partial.place(self.settings.max_upload_bytes))
        if held is None or held.offset == partial.length:
            # Where that fails, a server may still be making the object.
            with suppress(Problem):
                self.finish(partial)
                return
        signs = [partial.created, *self._seen(owner, id)]
        signs += [entry.modified for entry in self.bucket.listing(partial.prefix)]
        if held is not None:
            signs += [part.modified for part in (*held.parts, *held.late)]
        if now - max(signs) > (idle if held is not None else max(idle, WAITS)):
            self.remove(owner, id, expired=held is not None, judged=partial)

    def _is_in_use(self, partial: Partial) -> bool:
        """Whether the upload that it belongs to may still copy it."""
        stored = None if partial.used_by is None else self.records.read(partial.owner, partial.used_by)
        return stored is not None and stored.record.state in (State.UPLOADING, State.COMPLETING)

    def _seen(self, owner: str, id: str) -> list[datetime]:
        read = self.markers.read(Kind.PARTIALS, owner, id)
        return [] if read is None or "seen" not in read[0] else [datetime.fromisoformat(read[0]["seen"])]


def _body(partial: Partial) -> bytes:
    document = partial.model_dump(mode="json", exclude_none=True)
    # No two versions may be equal: an ETag is the MD5 of the body.
    return json.dumps(document | {"write": os.urandom(6).hex()}).encode()
