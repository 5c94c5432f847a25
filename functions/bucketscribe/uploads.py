"""An upload's life once it has begun: sign · list · complete · abort, and `finish`, where every way ends.

What may die between two requests, and who goes on (how one begins, `intake` tells):

- *finish*: marker → parts or object there? → record says completing, with the parts →
  CompleteMultipartUpload → the object is judged → job marker → record says queued or failed → the upload's
  marker goes. Died anywhere after completing: the sweep calls `finish` again, and every step can be repeated.
- *expire*: record says expired → abort → one more look → the marker goes.
- *outgrown*, found when the parts are listed: record says failed → abort → the marker goes. Died between:
  the sweep does the rest.

Sources: the S3 user guide, "Uploading and copying objects using multipart upload"; the wire format is that of
Uppy's Companion (`@uppy/aws-s3`).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from . import media
from .auth import owned_id
from .bucket import Bucket, PartsRefused, StorageError, UploadGone
from .bucket import Part as HeldPart
from .errors import FAILURES, Problem
from .markers import Kind, Markers, upload_kind
from .options import Asked
from .parts import bytes_held, check_parts
from .presign import Presigner
from .records import Failure, Part, Record, Records, State, Stored, Webhook
from .seal import BrokenSeal, UploadSeal, unseal
from .settings import Settings
from .transcriptions import Transcriptions

log = structlog.get_logger()

SEEN_TRIES = 5
LOST_AFTER = timedelta(hours=1)
REFUSALS = frozenset({"unsupported_media", "too_large"})
UNFINISHED = frozenset({State.UPLOADING, State.COMPLETING, State.EXPIRED})


class Uploads:
    """Uploads of one bucket."""

    def __init__(
        self,
        settings: Settings,
        bucket: Bucket,
        records: Records,
        markers: Markers,
        transcriptions: Transcriptions,
        presigner: Presigner,
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.records = records
        self.markers = markers
        self.transcriptions = transcriptions
        self.presigner = presigner

    def set_options(self, owner: str, id: str, asked: Asked, ignored: tuple[str, ...] = ()) -> Stored:
        """Say how a recording is to be transcribed that is being uploaded; past that nothing changes.

        Raises NoRecord.
        """

        def edit(record: Record, now: datetime) -> Record | None:
            if record.state is not State.UPLOADING:
                return None
            changes = {"options": asked.options, "metadata": asked.kept, "webhook": Webhook.of(asked)}
            after = record.to(State.UPLOADING, ignored=ignored, **changes)
            self.markers.owe(after)
            return after

        return self.records.change(owner, id, edit)

    # Sign and list

    def sign(self, owner: str, key: str, sealed: str, numbers: Iterable[int]) -> dict[int, str]:
        """Presigned URLs of parts. Makes no request: the bucket refuses the PUT of an upload that has ended.

        Raises Problem `not_yours`, `no_such_upload`, `invalid_part_number`.
        """
        _, upload = self.opened(owner, key, sealed)
        last = upload.last_part
        wanted = []
        for number in numbers:
            if not 1 <= number <= last:
                raise Problem(
                    "invalid_part_number",
                    f"Part {number} is outside 1…{last}, the parts of this upload.",
                    {"partNumber": number, "lastPart": last},
                )
            wanted.append((number, upload.length_of(number)))
        return self.presigner.parts(
            key,
            upload.upload_id,
            wanted,
            expires_seconds=self.settings.url_expires_seconds,
            now=datetime.now(UTC),
        )

    def sign_first(self, owner: str, key: str, sealed: str, count: int) -> dict[int, str]:
        """Presigned URLs of the first parts of an upload: fewer than `count` where it has fewer."""
        _, upload = self.opened(owner, key, sealed)
        return self.sign(owner, key, sealed, range(1, min(count, upload.last_part) + 1))

    def list_parts(self, owner: str, key: str, sealed: str) -> list[HeldPart]:
        """The finished parts. Asking for them counts as a sign of life.

        Raises Problem `not_yours`, `no_such_upload`, `upload_expired`, and what it was refused for.
        """
        id, upload = self.opened(owner, key, sealed)
        listed = (
            self.bucket.list_parts(key, upload.upload_id)
            if self.seen_alive(Kind.UPLOADS, owner, id)
            else None
        )
        if listed is None:
            stored = self.records.read(owner, id)
            raise ended_of(stored.record if stored is not None else None)
        parts, _ = listed
        if bytes_held(parts) > (upload.size or self.settings.max_upload_bytes):
            # Whoever lists often keeps the sweep from looking.
            stored = self.records.read(owner, id)
            stored = None if stored is None else self.end_if_outgrown(stored, parts)
            if stored is None or stored.record.state is State.FAILED:
                raise ended_of(stored.record if stored is not None else None)
        return list({part.number: part for part in parts}.values())

    def seen_alive(self, kind: Kind, owner: str, id: str, every: timedelta | None = None) -> bool:
        """Note in the upload's marker that its client lives; False if there is no marker any more.

        One that was noted less than `every` ago need not be, unless told an eighth of what may be idle.
        """
        every = timedelta(seconds=self.settings.upload_idle_seconds / 8) if every is None else every
        for _ in range(SEEN_TRIES):
            marker = self.markers.read(kind, owner, id)
            if marker is None:
                return False
            body, etag, now = marker
            seen = datetime.fromisoformat(body["seen"]) if "seen" in body else None
            if seen is not None and now - seen <= every:
                return True
            # Conditional: a marker that has been removed meanwhile must not come back.
            if self.markers.touch(kind, owner, id, etag, **body | {"seen": now.isoformat()}):
                return True
        return True

    def opened(self, owner: str, key: str, sealed: str) -> tuple[str, UploadSeal]:
        """The id and the seal's contents, told without a request. Raises `not_yours`, `no_such_upload`."""
        id = owned_id(owner, key)
        try:
            return id, unseal(self.settings.sealing_secret, key, sealed)
        except BrokenSeal:
            raise ended_of(None) from None

    # End

    def complete(self, owner: str, key: str, sealed: str, parts: Sequence[Part]) -> Record:
        """Finish an upload with the parts its client lists; repeats the first answer however often called.

        The record returned may still be `completing`: then the rest happens without the caller. Raises
        Problem `invalid_part` (it can still be finished), `unsupported_media`, `too_large`,
        `upload_expired`, `no_such_upload`, `not_yours`.
        """
        id, _ = self.opened(owner, key, sealed)
        return self.completed(owner, id, parts)

    def completed(self, owner: str, id: str, parts: Sequence[Part]) -> Record:
        """The same for an upload whose bytes came through us. Raises the Problems of `complete`."""
        return answer_of(self.finish(owner, id, parts).record)

    def why_ended(self, owner: str, id: str) -> Problem:
        """What to say of an upload that turns out to have ended."""
        stored = self.records.read(owner, id)
        return ended_of(None if stored is None else stored.record)

    def promised(self, owner: str, id: str, parts: Sequence[Part]) -> Record:
        """What a caller of `complete` who waits no longer may be told: what is written down, if need be now.

        Raises the Problems of `complete`, and `busy` where nothing is that the sweep could carry out.
        """
        stored = self._standing(owner, id)
        if stored.record.state is State.UPLOADING and stored.record.form_ends is None:
            stored = self._promise(stored, parts)
        if stored.record.state is State.UPLOADING:
            raise still_busy()
        return answer_of(stored.record)

    def abort(self, owner: str, key: str, sealed: str) -> None:
        """Give an upload up; past `uploading` nothing changes.

        Raises Problem `not_yours`, `no_such_upload`, `upload_expired`.
        """
        id, _ = self.opened(owner, key, sealed)
        stored = self.records.read(owner, id)
        if stored is None or stored.record.state in (State.EXPIRED, State.DELETED):
            raise ended_of(stored.record if stored is not None else None)
        self.give_up(owner, id)

    def give_up(self, owner: str, id: str) -> None:
        """Cancel an upload that cannot be finished; past `uploading` nothing changes. Can be repeated."""
        self.transcriptions.cancel(owner, id, only=State.UPLOADING)

    def finish(self, owner: str, id: str, parts: Sequence[Part] | None = None) -> Stored:
        """Take an upload as far as it will go: exactly one transcription, however often called and by whom.

        Without `parts` an upload is finished only if its object is there or its parts are in the record. Can
        be repeated and can die anywhere. Raises Problem `no_such_upload` and `invalid_part`.
        """
        stored = self._standing(owner, id)
        record = stored.record
        if record.state not in UNFINISHED:
            return stored
        kind = upload_kind(record)
        if parts is not None and stored.record.state is State.UPLOADING and record.form_ends is None:
            stored = self._promise(stored, parts)
            if stored.record.state is State.COMPLETING:
                stored = self._assemble(stored)
            if stored.record.state is not State.UPLOADING:
                return self._judge(stored, kind)
        if self.bucket.find(record.key) is not None:
            expired = stored.record.state is State.EXPIRED
            if expired:
                self._announce_again(kind, record)
            stored = self.records.change(owner, id, _to_completing)
            if expired:
                # Whoever ended the upload may have removed the marker in between, and seen no change yet.
                self._announce_again(kind, record)
        elif stored.record.state is State.COMPLETING:
            stored = self._assemble(stored) if record.form_ends is None else self._lost(stored)
        return self._judge(stored, kind)

    def _announce_again(self, kind: Kind, record: Record) -> None:
        """The markers of what was ended, and goes on."""
        self.markers.owe(record)
        self.markers.put(kind, record.owner, record.id, key=record.key, restored=True)

    def _standing(self, owner: str, id: str) -> Stored:
        """The record of an upload, whose marker stands unless it has ended. Raises `no_such_upload`."""
        stored = self._read(owner, id)
        ended = stored.record.state not in UNFINISHED - {State.EXPIRED}
        if ended or self.markers.stands(upload_kind(stored.record), owner, id):
            return stored
        # Either it has ended since we read the record, or a marker was lost: then it stands again.
        stored = self._read(owner, id)
        if stored.record.state in UNFINISHED:
            kind = upload_kind(stored.record)
            self.markers.put(kind, owner, id, key=stored.record.key, restored=True)
        return stored

    def _read(self, owner: str, id: str) -> Stored:
        stored = self.records.read(owner, id)
        if stored is None:
            raise ended_of(None)
        return stored

    def _promise(self, stored: Stored, parts: Sequence[Part]) -> Stored:
        """Check the caller's list against the bucket's, and write it down before S3 is asked to act on it.

        Nothing is promised where the object is there already, or the upload is unknown to S3.
        """
        record = stored.record
        listed = self.bucket.list_parts(record.key, record.upload_id or "")
        if listed is None:
            # Ended by somebody else: what they made of it is in the record by now, or soon.
            return self.records.read(record.owner, record.id) or stored
        try:
            # Where we are who sends, what stands behind the last one is a writer's that came late.
            held = [part for part in listed[0] if record.tus is None or part.number <= len(parts)]
            check_parts(record, parts, held)
        except Problem:
            # While a server puts the object together, it may list none of its parts any more.
            current = self.records.read(record.owner, record.id) or stored
            if current.record.state is State.UPLOADING and self.bucket.find(record.key) is None:
                raise
            return current

        def edit(record: Record, now: datetime) -> Record | None:
            if record.state is not State.UPLOADING:
                return None
            return record.to(State.COMPLETING, parts=tuple(parts))

        return self.records.change(record.owner, record.id, edit, known=stored)

    def _assemble(self, stored: Stored) -> Stored:
        """CompleteMultipartUpload, with the parts the record holds."""
        record = stored.record
        try:
            self.bucket.complete_upload(
                record.key, record.upload_id or "", [(part.number, part.etag) for part in record.parts or ()]
            )
        except PartsRefused as refused:
            if self.bucket.find(record.key) is not None:
                return stored

            def edit(now_is: Record, now: datetime) -> Record | None:
                # Only what was tried here is taken back, not what somebody else has promised since.
                if now_is.state is not State.COMPLETING or now_is.parts != record.parts:
                    return None
                return now_is.to(State.UPLOADING, parts=None, lost_since=None)

            after = self.records.change(record.owner, record.id, edit)
            if after.record.state is not State.UPLOADING:
                return after
            raise Problem(
                "invalid_part",
                f"The bucket refused the parts ({refused}). List the upload's parts, send again those that "
                "are missing or too small, and complete it again.",
            ) from None
        except UploadGone:
            if self.bucket.find(record.key) is None:
                return self._lost(stored)
        except StorageError as error:
            log.warning(
                "completing goes on later",
                id=record.id,
                owner=record.owner,
                code="storage_unavailable",
                reason=str(error),
            )
        return stored

    def _lost(self, stored: Stored) -> Stored:
        """Neither upload nor object: perhaps the server is still putting it together, for an hour."""
        ended = False

        def edit(record: Record, now: datetime) -> Record | None:
            nonlocal ended
            ended = False
            if record.state is not State.COMPLETING:
                return None
            if record.lost_since is None:
                return record.to(State.COMPLETING, lost_since=now)
            if now - record.lost_since <= LOST_AFTER:
                return None
            ended = True
            failure = Failure(code="upload_lost", message=FAILURES["upload_lost"], stage="completing")
            return record.to(State.FAILED, error=failure, parts=None)

        after = self.records.change(stored.record.owner, stored.record.id, edit)
        if ended:
            self.transcriptions.discard_recording(after.record)
        return after

    def _judge(self, stored: Stored, kind: Kind) -> Stored:
        """Accept or refuse the object of what is completing, if it is there."""
        record = stored.record
        if record.state is not State.COMPLETING:
            return stored
        opened = self.bucket.open(record.key, media.HEAD_BYTES)
        if opened is None:
            return stored
        found, head = opened
        try:
            self.judge(found.size, head)
        except Problem as problem:
            return self.refuse(stored, problem.code, problem.detail)
        after = self.transcriptions.enqueue(stored, etag=found.etag, size=found.size)
        if after.record.state in (State.FAILED, State.CANCELED) and after.record.etag is None:
            self.transcriptions.discard_recording(after.record, look_again=True)
        elif after.record.state not in (*UNFINISHED, State.DELETED):
            self.transcriptions.clear_tus(record)
            self.markers.remove(kind, record.owner, record.id)
        return after

    def judge(self, size: int, head: bytes) -> None:
        """What a recording must be, told by its size and first bytes: `too_large`, `unsupported_media`."""
        media.check_size(size, self.settings.max_upload_bytes)
        media.check_content(head)

    def end_if_outgrown(self, stored: Stored, parts: Sequence[HeldPart]) -> Stored:
        """End an upload in progress whose parts have more bytes than were declared, or are accepted."""
        size, limit = bytes_held(parts), stored.record.size or self.settings.max_upload_bytes
        if stored.record.state is not State.UPLOADING or size <= limit:
            return stored
        what = "are accepted" if stored.record.size is None else "were declared"
        message = f"The parts sent so far have {size} bytes, and {limit} {what}, so the upload was ended."
        return self.refuse(stored, "too_large", message)

    def refuse(self, stored: Stored, code: str, message: str) -> Stored:
        """Say so in the record, unless it has left the state in which it was judged; then empty its place."""
        judged = stored.record.state
        failure = Failure(code=code, message=message, stage=judged.value)

        def edit(record: Record, now: datetime) -> Record | None:
            if record.state is not judged:
                return None
            # Whoever copies it out of the inbox, too, may still put it there.
            quiet = record.quiet_after if record.inbox is None else now
            return record.to(State.FAILED, error=failure, parts=None, quiet_after=quiet)

        after = self.records.change(stored.record.owner, stored.record.id, edit, known=stored)
        if after.record.state is State.FAILED and after.record.etag is None:
            self.transcriptions.discard_recording(after.record, look_again=after.record.inbox is not None)
        return after

    def expire(self, owner: str, id: str) -> Stored:
        """End an upload that is idle, unless its object turns out to be there. Raises NoRecord."""

        def edit(record: Record, now: datetime) -> Record | None:
            return record.to(State.EXPIRED) if record.state is State.UPLOADING else None

        stored = self.records.change(owner, id, edit)
        record = stored.record
        if record.state is not State.EXPIRED:
            return stored
        if record.form_ends is None:
            self.bucket.abort_uploads(record.key, record.upload_id)
        if self.bucket.find(record.key) is not None:
            return self.finish(owner, id)
        self.transcriptions.clear_tus(record)
        self.markers.remove(upload_kind(record), owner, id)
        # An object found since then has a marker of its own, which may be the one just removed.
        current = self.records.read(owner, id)
        if current is not None and current.record.state is State.COMPLETING:
            self.markers.put(upload_kind(record), owner, id, key=record.key, restored=True)
        return stored


def answer_of(record: Record) -> Record:
    """The record as the answer to a complete: refused and ended uploads are Problems."""
    match record.state:
        case State.UPLOADING | State.EXPIRED | State.DELETED:
            raise ended_of(record)
        case State.FAILED | State.CANCELED if record.etag is None:
            raise ended_of(record)
    return record


def _to_completing(record: Record, now: datetime) -> Record | None:
    if record.state not in (State.UPLOADING, State.EXPIRED):
        return None
    return record.to(State.COMPLETING)


def still_busy() -> Problem:
    """What to say of a complete of which nothing is written down yet."""
    return Problem("busy", "The bucket takes long to answer. Nothing is lost; complete it again.")


def ended_of(record: Record | None) -> Problem:
    """What to say of an upload that is no more: why it was refused, if it was."""
    if record is not None and record.state is State.EXPIRED:
        return Problem(
            "upload_expired",
            f"The upload was idle for too long and ended at {record.updated.isoformat()}. Begin a new one.",
            {"expired": record.updated.isoformat(), "id": record.id},
        )
    error = None if record is None or record.etag is not None else record.error
    if record is not None and error is not None and error.code in REFUSALS:
        return Problem(error.code, error.message, {"id": record.id})
    return Problem("no_such_upload", "There is no such upload in progress. Begin a new one.")
