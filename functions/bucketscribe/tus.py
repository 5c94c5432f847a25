"""Uploads by tus 1.0.0 (https://tus.io/protocols/resumable-upload), over S3's multipart uploads.

A recording that comes this way is a record like any other, marked by `record.tus`; partial uploads, of which
another is put together, are in `partials`. What is between two requests stands in the bucket alone: how far
an upload is, `tus_append` tells; who may write, `tus_lock`. So any process can take any request, and each of
them can die at any moment.

When the last byte is in, `Uploads.finish` takes over. Whoever dies before has only not called it: the next
HEAD does, or the sweep.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from . import media
from .bucket import Bucket
from .errors import Problem
from .intake import Intake
from .markers import Kind
from .partials import Partial, Partials, prefix_of
from .records import Part, Record, State, Stored, Tus, is_id
from .settings import Settings
from .tasks import id_named
from .tus_append import Appending, Gone, Place, WrongOffset, held_now, with_last_part
from .tus_lock import Lock, Locked, LockLost, knock
from .tus_metadata import UNNAMED, read_upload_metadata
from .uploads import REFUSALS, Uploads, answer_of, ended_of

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to tell of an upload. Sizes in bytes.

    `offset` is None of one that is being put together. `completes` says that all bytes are in, and that
    nobody has said so to the bucket yet; `transcription` that they are a recording.
    """

    id: str
    offset: int | None
    length: int | None
    metadata: str
    partial: bool = False
    partials: tuple[str, ...] = ()
    expires: datetime | None = None
    completes: bool = False
    transcription: bool = False


class Appended(NamedTuple):
    """How far an upload is after a PATCH, and whether that was the last byte."""

    offset: int
    whole: bool
    expires: datetime


class TusUploads:
    """The uploads by tus in one bucket."""

    def __init__(
        self, settings: Settings, bucket: Bucket, intake: Intake, uploads: Uploads, partials: Partials
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.intake = intake
        self.uploads = uploads
        self.records = uploads.records
        self.partials = partials

    # Begin

    def create(self, owner: str, length: int | None, metadata: str, *, partial: bool = False) -> Status:
        """Begin an upload of `length` bytes, None if that is told later.

        Raises the Problems of `Intake.begin`, and `invalid_upload_metadata`.
        """
        told = read_upload_metadata(metadata)
        if partial:
            self.intake.check_partial(length)
            return self._of_partial(self.partials.begin(owner, length, metadata), 0)
        stored = self.intake.open(
            owner,
            told.name or UNNAMED,
            told.type,
            told.options,
            size=length,
            tus=Tus(metadata=metadata),
            ignored=told.ignored,
            id=None if told.task is None else id_named(told.task),
        )
        return self._of_record(stored, 0, None)

    # How far

    def status(self, owner: str, id: str) -> Status:
        """What there is to tell of an upload; to ask counts as a sign of life.

        Raises Problem `no_such_upload`, `upload_expired`, and what a recording was refused for.
        """
        stored = self.records.read(owner, id)
        if stored is None:
            partial = self.partials.get(owner, id)[0]
            held = None if partial.finished else held_now(self.bucket, self._place_of(partial))
            if held is None:
                partial = self.partials.finish(partial)
                return self._of_partial(partial, partial.length)
            return self._of_partial(partial, held.offset, self._alive(Kind.PARTIALS, owner, id, held.listed))
        tus = _of_tus(stored)
        if stored.record.state is not State.UPLOADING:
            return self._of_record(stored, answer_of(stored.record).size, None)
        if tus.partials:
            return self._of_record(stored, None, None)
        held = held_now(self.bucket, self._place(stored.record))
        if held is None:
            return self._ended_meanwhile(owner, id)
        return self._of_record(stored, held.offset, self._alive(Kind.UPLOADS, owner, id, held.listed))

    def _ended_meanwhile(self, owner: str, id: str) -> Status:
        """S3 does not know the upload: somebody completes it, or has ended it."""
        stored = self.uploads.finish(owner, id)
        if stored.record.state is State.UPLOADING:
            raise _unknown_there()
        return self._of_record(stored, answer_of(stored.record).size, None)

    def _alive(self, kind: Kind, owner: str, id: str, now: datetime) -> datetime:
        if not self.uploads.seen_alive(kind, owner, id, timedelta()):
            raise ended_of(None)
        return now

    # Appending

    def knock(self, owner: str, id: str) -> None:
        """Tell whoever writes to an upload that another waits. Raises Problem `upload_locked` if one does."""
        if not is_id(id):
            return
        try:
            knock(self.bucket, f"{prefix_of(owner, id)}lock")
        except Locked:
            raise locked() from None

    def append(
        self, owner: str, id: str, offset: int, length: int | None, *, coming: int | None, summed: bool
    ) -> Appending | Status:
        """Begin to append at an offset; a Status where there is nothing to append, and nothing comes.

        `length` is told where it was left open, and `coming` is how many bytes come, if that is known. Raises
        Problem `offset_mismatch`, `upload_locked`, `not_appendable`, `invalid_tus_request`, `too_large`,
        `body_too_large`, `no_such_upload`, `upload_expired`, and what a recording was refused for.
        """
        place, ended, now = self._target(owner, id)
        self._check_length(place.length, length, offset)
        if ended is not None:
            self._check_nothing_comes(ended, offset, coming)
            return self.status(owner, id)
        if length == 0 and not place.is_partial:
            raise media.empty()
        try:
            lock = Lock.take(self.bucket, place.lock, now)
        except Locked:
            raise locked() from None
        try:
            if place.length is None:
                # Whoever had the lock before may have told it.
                place = self._target(owner, id)[0]
                self._check_length(place.length, length, offset)
            declares = length if place.length is None else None
            if declares is not None:
                place = replace(place, length=declares)
        except BaseException:
            lock.release()
            raise
        try:
            appending = Appending(self.bucket, place, lock, offset, summed=summed)
        except WrongOffset as wrong:
            raise _wrong_offset(wrong.offset, offset) from None
        except LockLost:
            raise locked() from None
        except Gone:
            status = self.status(owner, id)
            self._check_nothing_comes(status.offset or 0, offset, coming)
            return status
        try:
            most = place.most if place.length is None else place.length
            if coming is not None and offset + coming > most:
                raise self.too_much(place.length, offset + coming)
            appending.declares = declares
            if not summed:
                # Before its bytes: clients tell it once, and go by what they are told of it afterwards.
                self._declare(owner, id, appending)
        except BaseException:
            lock.release()
            raise
        return appending

    def _target(self, owner: str, id: str) -> tuple[Place, int | None, datetime]:
        """Where an upload's bytes go, its size if it has ended, and the bucket's time."""
        stored = self.records.read(owner, id)
        if stored is None:
            partial, now = self.partials.get(owner, id)
            return self._place_of(partial), partial.length if partial.finished else None, now
        record = stored.record
        if _of_tus(stored).partials:
            raise Problem("not_appendable", "This upload is put together of others; append to those.")
        ended = None if record.state is State.UPLOADING else answer_of(record).size
        return self._place(record), ended, stored.at

    def _check_length(self, known: int | None, told: int | None, offset: int) -> None:
        if told is None:
            return
        if known is not None and told != known:
            raise Problem("invalid_tus_request", f"The upload's length is {known} bytes, and stays that.")
        if told < offset:
            raise Problem("invalid_tus_request", f"Upload-Length is {told}, but {offset} bytes are there.")
        media.check_size(told, self.settings.max_upload_bytes)

    def _check_nothing_comes(self, ended: int, offset: int, coming: int | None) -> None:
        if offset != ended:
            raise _wrong_offset(ended, offset)
        if coming:
            raise self.too_much(ended, offset + coming)

    def too_much(self, length: int | None, coming: int) -> Problem:
        """What to say where more bytes come than there may be."""
        if length is None:
            return media.too_large(coming, self.settings.max_upload_bytes)
        return Problem("body_too_large", f"The upload has {length} bytes in all; more than is left came.")

    def _declare(self, owner: str, id: str, appending: Appending) -> None:
        """Write down a length that was left open, if one is told now."""
        length, appending.declares = appending.declares, None
        if length is None:
            return

        def told(record: Record, now: datetime) -> Record | None:
            if record.state is not State.UPLOADING or record.size is not None:
                return None
            return record.to(State.UPLOADING, size=length)

        if appending.place.is_partial:
            self.partials.change(owner, id, lambda now_is: now_is.model_copy(update={"length": length}))
        else:
            self.records.change(owner, id, told)

    def save(self, owner: str, id: str, appending: Appending) -> Appended:
        """Keep what came. Raises Problem `upload_locked`, `no_such_upload`, …; StorageError."""
        try:
            self._declare(owner, id, appending)
        except BaseException:
            appending.end()
            raise
        try:
            offset = appending.save()
        except LockLost:
            raise self._why_lost(owner, id) from None
        except Gone:
            raise self._why_gone(owner, id) from None
        now = appending.lock.at
        return Appended(offset, appending.whole, self._expires(now))

    def drop(self, owner: str, id: str, appending: Appending) -> None:
        """Keep nothing of what came. Raises as `save`."""
        try:
            appending.drop()
        except LockLost:
            raise self._why_lost(owner, id) from None
        except Gone:
            raise self._why_gone(owner, id) from None

    def _why_lost(self, owner: str, id: str) -> Problem:
        """The lock was another's, or went with an upload that has ended."""
        stored = self.records.read(owner, id)
        if stored is not None and stored.record.state is State.UPLOADING:
            return locked()
        if stored is None and self.partials.read(owner, id) is not None:
            return locked()
        return self._why_gone(owner, id)

    def _why_gone(self, owner: str, id: str) -> Problem:
        stored = self.records.read(owner, id)
        if stored is not None and stored.record.state is not State.UPLOADING:
            try:
                answer_of(stored.record)
            except Problem as problem:
                return problem
            return locked()
        return ended_of(None) if stored is None else _unknown_there()

    # End

    def complete(self, owner: str, id: str) -> Record:
        """Have an upload judged all of whose bytes are in; its first answer again, however often called.

        Raises the Problems of `Uploads.complete`.
        """
        stored = self.records.read(owner, id)
        if stored is None:
            raise ended_of(None)
        if stored.record.state not in (State.UPLOADING, State.COMPLETING):
            return answer_of(stored.record)
        promised = stored.record.state is State.COMPLETING
        parts = None if promised else self._all_parts(stored.record)
        if parts is None:
            return answer_of(self.uploads.finish(owner, id).record)
        return self.uploads.completed(owner, id, parts)

    def promised(self, owner: str, id: str) -> Record:
        """What is told where completing takes long: see `Uploads.promised`."""
        stored = self.records.read(owner, id)
        if stored is None:
            raise ended_of(None)
        if stored.record.state is not State.UPLOADING:
            return answer_of(stored.record)
        return self.uploads.promised(owner, id, self._all_parts(stored.record) or [])

    def complete_partial(self, owner: str, id: str) -> None:
        """Make the object of a partial upload all of whose bytes are in. Raises Problem `no_such_upload`."""
        self.partials.finish(self.partials.get(owner, id)[0])

    def terminate(self, owner: str, id: str) -> None:
        """Give an upload up; what has become a transcription stays one.

        Raises Problem `no_such_upload`, `upload_expired`.
        """
        stored = self.records.read(owner, id)
        if stored is None:
            self.partials.get(owner, id)
            self.partials.remove(owner, id)
            return
        _of_tus(stored)
        if stored.record.state is State.UPLOADING:
            self.uploads.give_up(owner, id)
            return
        try:
            answer_of(stored.record)
        except Problem as problem:
            if problem.code not in REFUSALS:
                raise
            raise Problem(
                "no_such_upload", f"This upload has ended, as it was refused. {problem.detail}"
            ) from None

    # What the sweep finds

    def completed_by_now(self, stored: Stored) -> bool:
        """Complete an upload all of whose bytes are in; False of one that is not so far."""
        record = stored.record
        held = held_now(self.bucket, self._place(record))
        if held is None or held.offset != record.size:
            return False
        try:
            self.uploads.finish(record.owner, record.id, self._all_parts(record))
        except Problem as problem:
            if problem.code != "invalid_part":
                raise
            # It ends as any other that is idle.
            log.warning("parts are refused", id=record.id, owner=record.owner, code=problem.code)
            return False
        return True

    def signs(self, record: Record) -> list[datetime]:
        """When an upload gave signs of life beside its parts."""
        return [entry.modified for entry in self.bucket.listing(prefix_of(record.owner, record.id))]

    def _all_parts(self, record: Record) -> list[Part] | None:
        """The parts of an upload all of whose bytes are in; None if S3 does not know it any more."""
        place = self._place(record)
        held = held_now(self.bucket, place)
        if held is not None and held.offset == record.size:
            held = with_last_part(self.bucket, place, held)
        return None if held is None else held.named

    # Telling

    def _place(self, record: Record) -> Place:
        most = self.settings.max_upload_bytes
        prefix = prefix_of(record.owner, record.id)
        return Place(prefix, record.key, record.upload_id or "", record.part_size or 0, record.size, most)

    def _place_of(self, partial: Partial) -> Place:
        return partial.place(self.settings.max_upload_bytes)

    def _expires(self, alive: datetime) -> datetime:
        return alive + timedelta(seconds=self.settings.upload_idle_seconds)

    def _of_partial(self, partial: Partial, offset: int | None, alive: datetime | None = None) -> Status:
        begun = partial.created if offset == 0 and alive is None else alive
        return Status(
            partial.id,
            offset,
            partial.length,
            partial.metadata,
            partial=True,
            expires=None if begun is None or partial.finished else self._expires(begun),
            completes=partial.finished is None and offset == partial.length,
        )

    def _of_record(self, stored: Stored, offset: int | None, alive: datetime | None) -> Status:
        record, tus = stored.record, _of_tus(stored)
        if record.state is State.UPLOADING:
            alive = alive or record.created
            return Status(
                record.id,
                offset,
                record.size,
                tus.metadata,
                partials=tus.partials,
                expires=None if tus.partials else self._expires(alive),
                completes=offset is not None and offset == record.size,
            )
        there = record.state is not State.COMPLETING or not tus.partials
        return Status(
            record.id,
            record.size if there else None,
            record.size,
            tus.metadata,
            partials=tus.partials,
            # Whoever promised it may have died since.
            completes=record.state is State.COMPLETING,
            transcription=True,
        )


def locked() -> Problem:
    """What to say while another writes."""
    return Problem(
        "upload_locked",
        "Another request is writing to this upload. Try again in a moment: one whose client is gone ends in "
        "seconds.",
        {"retryAfter": 1},
    )


def _unknown_there() -> Problem:
    # Not that it is gone, or clients begin anew: while one is completed, a server may know of nothing.
    return Problem(
        "busy",
        "The bucket does not know the upload any more: it is being completed, or was ended there. Ask again "
        "in a moment.",
        {"retryAfter": 1},
    )


def _wrong_offset(is_at: int, told: int) -> Problem:
    return Problem(
        "offset_mismatch",
        f"The upload is at {is_at}, not at {told}. Ask for its offset (HEAD), and go on from there.",
        {"offset": is_at},
    )


def _of_tus(stored: Stored) -> Tus:
    """Raises Problem `no_such_upload` for one that came by another way, or was deleted."""
    if stored.record.tus is None or stored.record.state is State.DELETED:
        raise ended_of(None)
    return stored.record.tus
