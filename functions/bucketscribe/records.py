"""The record: the one JSON document that holds a transcription's state, and how it may change.

It lives at `records/{owner}/{rank}-{id}.json` and is changed only by compare-and-swap on its ETag. Every
write carries a fresh random `write` id and a higher `version`: an ETag is the MD5 of the body, so two
versions must never be equal, and a write whose answer was lost is recognised by its id when the record is
read again. Nothing here can be left half-done: a record is one object.
"""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from random import SystemRandom
from typing import Any, Literal, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field

from . import metrics
from .bucket import Bucket, Conflict, StorageError
from .errors import Problem
from .options import Asked, Options

log = structlog.get_logger()

SCHEMA = 1
REMEMBERED_WRITES = 8
CHANGE_TRIES = 30
UNANSWERED_TRIES = 2

_chance = SystemRandom()
"""Unlike a generator in our memory, it is not the same in processes cloned from one image."""


class State(StrEnum):
    """Where a transcription stands."""

    UPLOADING = "uploading"
    """Its parts, or its form, are being sent."""
    COMPLETING = "completing"
    """The bucket is putting the parts together, or the object is being judged."""
    QUEUED = "queued"
    """The recording is accepted and waits for a worker."""
    RUNNING = "running"
    """A worker holds its lease."""
    COMPLETED = "completed"
    """There is a transcript."""
    FAILED = "failed"
    """There will be none; the record's `error` says why."""
    CANCELED = "canceled"
    """Its owner did not want it any more."""
    EXPIRED = "expired"
    """The upload was idle for too long."""
    DELETED = "deleted"
    """Gone for its owner; being removed from the bucket."""


MOVES: dict[State, frozenset[State]] = {
    State.UPLOADING: frozenset(
        {State.COMPLETING, State.FAILED, State.EXPIRED, State.CANCELED, State.DELETED}
    ),
    State.COMPLETING: frozenset({State.UPLOADING, State.QUEUED, State.FAILED, State.CANCELED, State.DELETED}),
    State.QUEUED: frozenset({State.RUNNING, State.FAILED, State.CANCELED, State.DELETED}),
    State.RUNNING: frozenset({State.QUEUED, State.COMPLETED, State.FAILED, State.CANCELED, State.DELETED}),
    State.COMPLETED: frozenset({State.DELETED}),
    State.FAILED: frozenset({State.QUEUED, State.DELETED}),
    State.CANCELED: frozenset({State.QUEUED, State.DELETED}),
    State.EXPIRED: frozenset({State.COMPLETING, State.DELETED}),
    State.DELETED: frozenset(),
}
"""Every legal move. To stay in a state is always legal, but for `deleted` nothing more is written."""

FINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELED, State.EXPIRED, State.DELETED})


class IllegalMove(Exception):
    """A change of state that `MOVES` does not have. A mistake of ours, never forced."""


class NoRecord(Exception):
    """There is no such record."""


class Part(BaseModel):
    """A part named by the caller of complete."""

    model_config = ConfigDict(extra="allow")

    number: int
    etag: str


class Progress(BaseModel):
    """How far the work has come: the stage's name, percent of that stage, and how long it all takes yet."""

    model_config = ConfigDict(extra="allow")

    stage: str
    percent: int = Field(ge=0, le=100)
    seconds_left: int | None = Field(None, description="Until the transcript is there, if that can be told.")


class Lease(BaseModel):
    """A worker's time-limited claim. `token` is new for each claim; times are the bucket's."""

    model_config = ConfigDict(extra="allow")

    token: str
    worker: str
    since: datetime
    renewed: datetime
    seconds: int
    windows: int = Field(0, description="Windows saved under this lease.")
    excused: bool = Field(False, description="If it ends, that is the bucket's fault, and no attempt.")

    def over(self, now: datetime) -> bool:
        """Whether the lease has ended: by a whole second more, as the bucket's clock has no finer."""
        return now - self.renewed > timedelta(seconds=self.seconds + 1)


class Failure(BaseModel):
    """Why a transcription failed. `at_seconds` is where in the recording, if that is known."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str
    stage: str | None = None
    at_seconds: float | None = None


class Warning(BaseModel):
    """Something the reader of a transcript should know."""

    model_config = ConfigDict(extra="allow")

    code: str
    message: str


class Dropped(BaseModel):
    """The version of an object in the inbox that a recording is copied from."""

    model_config = ConfigDict(extra="allow", frozen=True)

    key: str
    etag: str
    modified: datetime


class Tus(BaseModel):
    """An upload that comes by the tus protocol. Its offset is what the bucket holds, and stands nowhere."""

    model_config = ConfigDict(extra="allow", frozen=True)

    metadata: str = Field("", description="`Upload-Metadata` as it was sent, which is told again.")
    partials: tuple[str, ...] = Field((), description="Ids of what it is put together of, in order.")


class Webhook(BaseModel):
    """What is to be told of the current run's end to `options.webhook_url`, and what came of it."""

    model_config = ConfigDict(extra="allow", frozen=True)

    shape: Literal["standard", "task"] = Field(
        "standard",
        description="`task` is the older service's document, for what was asked by `callback_url`.",
    )
    delivered: datetime | None = Field(None, description="When it was answered 2xx.")
    given_up: datetime | None = Field(None, description="When nobody tried any more.")
    attempts: int = Field(0, description="How often it was sent, once it is delivered or given up.")
    error: str | None = Field(None, description="Why it was given up.")

    @classmethod
    def of(cls, asked: Asked) -> Self | None:
        """What is owed to whom has asked so; None where nothing is."""
        if asked.options.webhook_url is None:
            return None
        return cls(shape="task" if asked.as_task else "standard")

    @property
    def settled(self) -> bool:
        """Whether nothing is owed any more."""
        return self.delivered is not None or self.given_up is not None


class Record(BaseModel):
    """A transcription. Unknown fields are kept, so that an older reader loses nothing."""

    # What cannot be read is logged, but not what it holds.
    model_config = ConfigDict(extra="allow", frozen=True, hide_input_in_errors=True)

    schema_: int = Field(SCHEMA, alias="schema")
    id: str
    owner: str
    version: int = 0
    write: str = ""
    writes: tuple[str, ...] = ()
    state: State
    created: datetime
    updated: datetime

    key: str
    name: str
    content_type: str
    size: int | None = None
    part_size: int | None = None
    upload_id: str | None = Field(None, description="S3's id of the multipart upload.")
    inbox: Dropped | None = Field(None, description="Where it was dropped; only what came that way has it.")
    tus: Tus | None = Field(None, description="Only what comes by tus has it.")
    url: str | None = Field(None, description="Where it is fetched from; only what is online has it.")
    form_ends: datetime | None = Field(None, description="When the form's policy ends; only a form has it.")
    parts: tuple[Part, ...] | None = Field(None, description="What completing completes with.")
    lost_since: datetime | None = Field(None, description="Upload and object were first seen both gone.")
    etag: str | None = Field(None, description="The accepted recording's ETag; None until it is accepted.")

    options: Options = Options()
    webhook: Webhook | None = Field(None, description="Only where `options` has a `webhook_url`.")
    metadata: dict[str, str | int | float | bool] = Field({}, description="The caller's own `x-` values.")
    ignored: tuple[str, ...] = Field((), description="What was asked for and has no effect here, by name.")
    run: int = 1
    last_run: int = Field(0, description="The highest run number given up; none up to it is used again.")
    attempts: int = Field(0, description="Leases of this run that ended without a new window.")
    lease: Lease | None = None
    progress: Progress | None = None
    error: Failure | None = None
    warnings: tuple[Warning, ...] = ()
    language: str | None = None
    duration: float | None = Field(None, description="Length of the recording in seconds.")
    timings: dict[str, float] | None = Field(None, description="Seconds by stage.")
    partial: bool = Field(False, description="A failed one has a transcript up to where it failed.")
    speakers: dict[str, str] = Field({}, description="Names of speakers, by the label of each.")
    names: int | None = Field(None, description="Of the transcript with these names: its folder's number.")
    quiet_after: datetime | None = Field(
        None, description="When the last writer of a deleted transcription has surely stopped."
    )

    def to(self, state: State, **changes: Any) -> Self:
        """This record in another state, or in the same. Raises IllegalMove."""
        if state is not self.state and state not in MOVES[self.state]:
            raise IllegalMove(f"{self.state} → {state}")
        return self.model_copy(update={"state": state, **changes})

    @property
    def to_be_fetched(self) -> bool:
        """Whether its recording is yet to be fetched from its URL."""
        return self.url is not None and self.etag is None

    @property
    def next_run(self) -> int:
        """The number of the next run."""
        return max(self.run, self.last_run) + 1

    @property
    def owes_webhook(self) -> bool:
        """Whether its end is still to be told."""
        ended = self.state in (State.COMPLETED, State.FAILED)
        return ended and self.webhook is not None and not self.webhook.settled

    @property
    def has_transcript(self) -> bool:
        """Whether the current run has a transcript, be it only up to where it failed."""
        return self.state is State.COMPLETED or self.partial

    @property
    def results_prefix(self) -> str:
        """Where the files of the current run lie."""
        return f"results/{self.owner}/{self.id}/{self.run}/"

    @property
    def transcript_prefix(self) -> str:
        """Where the current run's transcript lies: with the names its speakers were given, if they were."""
        return self.results_prefix if self.names is None else f"{self.results_prefix}names-{self.names}/"


def new_id(milliseconds: int | None = None, rest: bytes | None = None) -> str:
    """A UUIDv7 (RFC 9562, 5.7), from `os.urandom`, which a cloned process does not repeat.

    Unless what makes it differ from others is given: 10 bytes as `rest`.
    """
    milliseconds = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    value = int.from_bytes(milliseconds.to_bytes(6) + (os.urandom(10) if rest is None else rest))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def is_id(text: str) -> bool:
    """Whether this is a UUIDv7 as we write them."""
    try:
        parsed = uuid.UUID(text)
    except ValueError:
        return False
    return parsed.version == 7 and str(parsed) == text


def record_key(owner: str, id: str) -> str:
    """Where the record lies; a plain listing is newest first."""
    rank = (1 << 48) - 1 - (uuid.UUID(id).int >> 80)
    return f"records/{owner}/{rank:012x}-{id}.json"


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it was read. `at` is the bucket's time then."""

    record: Record
    etag: str
    at: datetime


Edit = Callable[[Record, datetime], Record | None]
"""Takes a record and the bucket's time; gives the record as it should be, or None to leave it."""


class Records:
    """The records in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def read(self, owner: str, id: str) -> Stored | None:
        """The record, or None. A foreign or malformed id is an unknown one."""
        return self.read_key(record_key(owner, id)) if is_id(id) else None

    def read_key(self, key: str) -> Stored | None:
        """The record at a key of the bucket, or None."""
        document = self.bucket.get(key)
        if document is None:
            return None
        record = Record.model_validate_json(document.body)
        if record.schema_ > SCHEMA:
            raise ValueError(f"{key} has schema {record.schema_}; this version reads up to {SCHEMA}")
        return Stored(record, document.etag, document.at)

    def read_listed(self, key: str) -> Stored | None:
        """The record at a key that was listed; None also for one that cannot be read.

        One that a newer version, or a hand, has written must not hide all others.
        """
        try:
            return self.read_key(key)
        except ValueError as error:
            log.warning("unreadable record", key=key, code="unreadable_record", reason=str(error))
            return None

    def create(self, record: Record) -> Stored:
        """Write a new record. Raises Conflict if there is one."""
        record = self._stamp(record, record.created)
        key = record_key(record.owner, record.id)
        try:
            stored = Stored(record, self.bucket.create(key, _json(record)).etag, record.created)
        except (Conflict, *StorageError):
            # Our own write may be what stands there: an answer can be lost, and the SDK repeats.
            found = self.read_key(key)
            if found is None or record.write not in found.record.writes:
                raise
            stored = found
        _tell(None, record)
        return stored

    def swap(self, stored: Stored, record: Record) -> Stored:
        """Replace exactly what was read, once. Raises Conflict if it has changed since.

        After botocore's errors nobody knows whether it was, or will be, written.
        """
        return self._replace(stored, self._stamp(record, stored.at))

    def change(self, owner: str, id: str, edit: Edit, known: Stored | None = None) -> Stored:
        """Apply an edit to the newest version, again and again until it is written.

        `known` saves the first read. Raises NoRecord, IllegalMove, whatever `edit` raises, and Problem
        `busy` when others are always faster.
        """
        written: dict[str, tuple[Record, Record]] = {}
        unanswered = 0
        for attempt in range(CHANGE_TRIES):
            stored = known if known is not None and attempt == 0 else self.read(owner, id)
            if stored is None:
                raise NoRecord(id)
            if ours := written.keys() & set(stored.record.writes):
                _tell(*written[ours.pop()])
                return stored
            edited = edit(stored.record, stored.at)
            if edited is None or edited is stored.record:
                return stored
            if stored.record.state is State.DELETED:
                raise IllegalMove("a deleted record is not written")
            record = self._stamp(edited, stored.at)
            written[record.write] = (stored.record, record)
            try:
                return self._replace(stored, record)
            except StorageError:
                # It may have been written, or be yet: the next read tells. A bucket that is down stays so.
                unanswered += 1
                if unanswered == UNANSWERED_TRIES:
                    raise
            except Conflict:
                time.sleep(_chance.uniform(0, 0.01 * 2 ** min(attempt, 5)))
        raise Problem("busy", "The transcription is being changed by others; try again in a moment.")

    def _replace(self, stored: Stored, record: Record) -> Stored:
        key = record_key(record.owner, record.id)
        try:
            after = Stored(record, self.bucket.replace(key, _json(record), stored.etag).etag, stored.at)
        except (Conflict, *StorageError):
            # An answer can be lost, and the SDK repeats: our own write may be what stands there.
            current = self.read_key(key)
            if current is None or record.write not in current.record.writes:
                raise
            after = current
        _tell(stored.record, record)
        return after

    def remove(self, owner: str, id: str) -> None:
        """Remove a record for good: the last step but one of a purge."""
        self.bucket.delete(record_key(owner, id))

    def listing(self, owner: str, after: str = "", at_most: int | None = None) -> dict[str, str]:
        """Keys of an owner's records, newest first, and the ETag of each."""
        listed = self.bucket.listing(f"records/{owner}/", after, at_most)
        return {entry.key: entry.etag for entry in listed}

    def _stamp(self, record: Record, now: datetime) -> Record:
        write = os.urandom(8).hex()
        return record.model_copy(
            update={
                "version": record.version + 1,
                "write": write,
                "writes": (*record.writes, write)[-REMEMBERED_WRITES:],
                "updated": now,
            }
        )


def _json(record: Record) -> bytes:
    return record.model_dump_json(by_alias=True, exclude_none=True).encode()


def _tell(before: Record | None, after: Record) -> None:
    """Log and count what a write has changed of a transcription's state: here, and nowhere else."""
    was = None if before is None else before.state
    lease = after.lease
    # A lease that was over is taken over in one write: back in the queue, and claimed again.
    lost = None if before is None else before.lease
    taken_over = lease is not None and lost is not None and lease.token != lost.token
    if was is after.state and not taken_over:
        return
    facts: dict[str, Any] = {}
    if after.state is State.FAILED and after.error is not None:
        facts["code"] = after.error.code
    if after.attempts:
        facts["attempts"] = after.attempts
    if lease is not None:
        facts["worker"] = lease.worker
    log.info(after.state.value, id=after.id, owner=after.owner, run=after.run, **facts)
    metrics.count("transcriptions", state=after.state.value)
    if was is State.RUNNING:
        metrics.count("jobs_ended", outcome=(State.QUEUED if taken_over else after.state).value)
    match was, after.state:
        case None, State.UPLOADING:
            metrics.count("uploads_begun")
        case State.COMPLETING, State.QUEUED:
            metrics.count("uploads_completed")
        case State.UPLOADING, State.EXPIRED:
            metrics.count("uploads_expired")
        case State.UPLOADING | State.COMPLETING | None, State.FAILED:
            metrics.count("uploads_refused", code=facts["code"])
