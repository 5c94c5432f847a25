"""How an upload is put together of partial ones: parts that the bucket copies by itself, as far as it can.

S3 copies ranges, of 5 MiB or more but for the last part, and only out of objects that are larger than that
("Amazon S3 multipart upload limits"; API reference, "UploadPartCopy"). What is smaller goes through us,
joined with what comes behind it.

The id of what is put together follows from those of its parts, and the plan from their sizes: so who asks
again gets the same upload, and whoever goes on with one makes the same parts. What may die in between:

- *begin*: the partial uploads say to whom they belong → marker → CreateMultipartUpload → record. Who asks
  again goes on with it; nobody does, and the sweep ends them all.
- *go on*: parts, copied one by one → `Uploads.finish`, which removes the partial uploads. The sweep repeats
  what is missing.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from . import media
from .bucket import Bucket, Conflict, UploadGone
from .errors import Problem
from .intake import Intake
from .partials import Partial, Partials
from .parts import MIB, MIN_PART_BYTES
from .records import Part, Record, State, Stored, Tus, new_id
from .tus_metadata import UNNAMED, read_upload_metadata
from .uploads import Uploads, answer_of, ended_of

COPY_BYTES = 64 * MIB
"""The largest range that is copied at once: what dies in between is done again."""

_threads = ThreadPoolExecutor(4, "concatenation")
"""Of the process: what goes through us is in memory."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes [start, end) of the source at `index`."""

    index: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: its pieces, in order. One that is `copied` has one piece; others have less than 10 MiB."""

    pieces: tuple[Piece, ...]
    copied: bool

    @property
    def size(self) -> int:
        """How many bytes."""
        return sum(piece.size for piece in self.pieces)


def plan(sizes: Sequence[int]) -> list[PlannedPart]:
    """The parts of what is put together of sources with these sizes, in bytes, in order."""
    parts: list[PlannedPart] = []
    joined: list[Piece] = []
    for index, size in enumerate(sizes):
        at = 0
        if joined and size:
            at = min(size, MIN_PART_BYTES - sum(piece.size for piece in joined))
            joined.append(Piece(index, 0, at))
            if sum(piece.size for piece in joined) == MIN_PART_BYTES:
                parts.append(PlannedPart(tuple(joined), copied=False))
                joined = []
        left = size - at
        if left >= MIN_PART_BYTES and size > MIN_PART_BYTES:
            parts += _copied(index, at, size)
        elif left:
            joined.append(Piece(index, at, size))
            if left >= MIN_PART_BYTES:
                parts.append(PlannedPart(tuple(joined), copied=False))
                joined = []
    if joined:
        parts.append(PlannedPart(tuple(joined), copied=False))
    return parts


def _copied(index: int, start: int, end: int) -> list[PlannedPart]:
    """A range in parts of about the same size, none larger than is copied at once."""
    count = -(-(end - start) // COPY_BYTES)
    cuts = [start + (end - start) * number // count for number in range(count + 1)]
    return [PlannedPart((Piece(index, before, after),), copied=True) for before, after in pairwise(cuts)]


class OutOfTime(Exception):
    """What is left is for whoever goes on with it."""


class Concatenation:
    """Puts uploads together of partial ones; what was begun, anybody goes on with."""

    def __init__(self, bucket: Bucket, intake: Intake, uploads: Uploads, partials: Partials) -> None:
        self.bucket = bucket
        self.intake = intake
        self.uploads = uploads
        self.partials = partials

    def begin(self, owner: str, ids: Sequence[str], metadata: str) -> Stored:
        """Begin an upload that is put together of partial ones; one begun before of these is it again.

        Raises the Problems of `TusUploads.create`, and `invalid_concatenation`.
        """
        told = read_upload_metadata(metadata)
        if len(set(ids)) < len(ids):
            raise _no_concatenation("A partial upload is named twice. Name each of them once.")
        id = final_id(ids)
        stored = self.uploads.records.read(owner, id)
        if stored is not None:
            if stored.record.state is not State.UPLOADING:
                answer_of(stored.record)
            return stored
        partials = [self._usable(owner, one, id) for one in ids]
        size = sum(partial.length or 0 for partial in partials)
        media.check_size(size, self.intake.settings.max_upload_bytes)
        # Until there is a record, this is what keeps the sweep from them.
        now = self.bucket.now()
        for partial in partials:
            self.partials.change(owner, partial.id, lambda now_is: _used(now_is, id, now))
        return self.intake.open_final(
            owner,
            told.name or UNNAMED,
            told.type,
            told.options,
            size=size,
            tus=Tus(metadata=metadata, partials=tuple(ids)),
            # Its id is told by its parts.
            ignored=told.ignored if told.task is None else (*told.ignored, "taskId"),
            id=id,
        )

    def _usable(self, owner: str, id: str, final: str) -> Partial:
        found = self.partials.read(owner, id)
        if found is None:
            raise _no_concatenation(f"There is no partial upload {id[:64]!r}; upload that part again.")
        partial, _, now = found
        _used(partial, final, now)
        try:
            return self.partials.finish(partial)
        except Problem as problem:
            if problem.code != "no_such_upload":
                raise
            raise _no_concatenation(
                f"The partial upload {id} is not finished; send the rest of it."
            ) from None

    def completed(self, owner: str, id: str) -> Record:
        """Put an upload together, and have it judged; its first answer again, however often called.

        Raises the Problems of `Uploads.complete`.
        """
        stored = self.uploads.records.read(owner, id)
        if stored is None:
            raise ended_of(None)
        return answer_of(self.go_on(stored).record)

    def promised(self, owner: str, id: str) -> Record:
        """What is told where that takes long: the sweep goes on with what is written down."""
        stored = self.uploads.records.read(owner, id)
        if stored is None:
            raise ended_of(None)
        return stored.record if stored.record.state is State.UPLOADING else answer_of(stored.record)

    def go_on(self, stored: Stored, time_left: Callable[[], bool] = lambda: True) -> Stored:
        """Copy what is missing, and finish the upload; can be repeated, and can die anywhere.

        Where there is no `time_left` for all of it, it is still `uploading`. Raises StorageError.
        """
        record = stored.record
        if record.state is not State.UPLOADING or record.tus is None:
            return self.uploads.finish(record.owner, record.id)
        listed = self.bucket.list_parts(record.key, record.upload_id or "")
        found = [self.partials.read(record.owner, id) for id in record.tus.partials]
        sources = [one[0] for one in found if one is not None and one[0].finished is not None]
        if listed is None or len(sources) < len(found):
            return self._without_sources(stored)
        there = {(part.number, part.size): part.etag for part in listed[0]}
        planned = plan([source.length or 0 for source in sources])

        def made(number: int, part: PlannedPart) -> Part:
            etag = there.get((number, part.size))
            if etag is None:
                if not time_left():
                    raise OutOfTime
                etag = self._make(record, number, part, sources)
            return Part(number=number, etag=etag)

        making = [_threads.submit(made, number, part) for number, part in enumerate(planned, start=1)]
        try:
            parts = [future.result() for future in making]
        except OutOfTime:
            return stored
        except (Conflict, KeyError, UploadGone):
            return self._without_sources(stored)
        finally:
            for future in making:
                future.cancel()
            wait(making)
        return self.uploads.finish(record.owner, record.id, parts)

    def _make(self, record: Record, number: int, part: PlannedPart, sources: Sequence[Partial]) -> str:
        key, upload_id = record.key, record.upload_id or ""
        if part.copied:
            (piece,) = part.pieces
            source = sources[piece.index]
            return self.bucket.copy_part(
                source.key, source.etag, piece.start, piece.end, key, upload_id, number
            )
        body = bytearray()
        for piece in part.pieces:
            source = sources[piece.index]
            body += self.bucket.read(source.key, piece.start, piece.end, source.etag)
        return self.bucket.put_part(key, upload_id, number, body)

    def _without_sources(self, stored: Stored) -> Stored:
        """Upload or sources are gone: somebody has finished it meanwhile, or it is lost."""
        after = self.uploads.finish(stored.record.owner, stored.record.id)
        if after.record.state is not State.UPLOADING:
            return after
        return self.uploads.refuse(after, "upload_lost", "What it was to be put together of is gone.")


def final_id(ids: Sequence[str]) -> str:
    """The id of what is put together of these: of the first one's time, and otherwise of all of them."""
    first = int(ids[0].replace("-", "")[:12], 16)
    return new_id(first, hashlib.sha256(b"final\n" + "\n".join(ids).encode()).digest()[:10])


def _no_concatenation(detail: str) -> Problem:
    return Problem("invalid_concatenation", detail)


def _used(partial: Partial, final: str, now: datetime) -> Partial:
    if partial.used_by not in (None, final):
        raise _no_concatenation(f"The partial upload {partial.id} belongs to another upload already.")
    return partial.model_copy(update={"used_by": final, "used": now})
