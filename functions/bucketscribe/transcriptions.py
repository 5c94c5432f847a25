"""A job's life: queue · claim · renew · release · complete · fail · cancel · retry · delete.

Every step is a compare-and-swap on the record. What stands beside the record is ordered so that a process
may die between any two requests:

- *queue, retry, restart*: job marker (and, where a webhook is asked for, its marker), then the record, then a
  message. Died after the marker: the sweep finishes the upload, or gives the new run's number up. Died before
  the message: the sweep sends it.
- *complete, fail, bury, cancel*: the record, then the marker goes. Died between: the sweep removes the
  marker.
- *delete*: purge marker, then the record says deleted, then the bucket is emptied, the record goes, and the
  marker last. Died anywhere: the sweep goes on with it.
"""

import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog

from .bucket import Bucket, Conflict, StorageError
from .errors import FAILURES, Problem
from .markers import Kind, Markers
from .queue import Job, Queue
from .records import (
    FINAL,
    Failure,
    Lease,
    NoRecord,
    Progress,
    Record,
    Records,
    State,
    Stored,
    Warning,
    Webhook,
)
from .settings import Settings

log = structlog.get_logger()

CANCELABLE = frozenset({State.UPLOADING, State.COMPLETING, State.QUEUED, State.RUNNING})
RETRYABLE = frozenset({State.FAILED, State.CANCELED})
SWAP_TRIES = 10
PAGE_READS = 200
PAGE_THREADS = 8
CURSOR = re.compile(r"[0-9a-f]{12}-[0-9a-f-]{36}")


class LeaseLost(Exception):
    """The claim is no longer ours; `state` says what became of the transcription, None if it is gone."""

    def __init__(self, state: State | None) -> None:
        super().__init__(str(state))
        self.state = state


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's hold on a run, told by the lease's token."""

    record: Record
    token: str

    @property
    def job(self) -> Job:
        """Which run is held."""
        return Job(self.record.owner, self.record.id, self.record.run)


class Facts(NamedTuple):
    """What the record tells of a transcript that stands. `duration` and `timings` in seconds."""

    language: str | None
    duration: float | None
    timings: dict[str, float] | None
    warnings: tuple[Warning, ...]


class Transcriptions:
    """What can happen to transcriptions once their recording is, or is not, in the bucket."""

    def __init__(
        self, settings: Settings, bucket: Bucket, records: Records, markers: Markers, queue: Queue
    ) -> None:
        self.settings = settings
        self.bucket = bucket
        self.records = records
        self.markers = markers
        self.queue = queue

    # Reading

    def get(self, owner: str, id: str) -> Stored:
        """The transcription. Raises Problem `no_such_transcription`, for a deleted one too."""
        stored = self.records.read(owner, id)
        if stored is None or stored.record.state is State.DELETED:
            raise no_such(id)
        return stored

    def page(
        self, owner: str, state: State | None, cursor: str | None, limit: int
    ) -> tuple[list[Record], str | None]:
        """Up to `limit` transcriptions, newest first, and the cursor of what follows.

        Reads at most 200 records, so that a page may be short. Raises Problem `invalid_cursor`.
        """
        if cursor is not None and not CURSOR.fullmatch(cursor):
            raise Problem("invalid_cursor", "Use the `cursor` of the page before, unchanged.")
        after = f"records/{owner}/{cursor}.json" if cursor is not None else ""
        keys = list(self.records.listing(owner, after, PAGE_READS))
        found: list[Record] = []
        read = 0
        with ThreadPoolExecutor(PAGE_THREADS) as threads:
            while read < len(keys) and len(found) < limit:
                batch = keys[read : read + limit - len(found)]
                read += len(batch)
                for stored in threads.map(self.records.read_listed, batch):
                    if stored is None or stored.record.state is State.DELETED:
                        continue
                    if state is None or stored.record.state is state:
                        found.append(stored.record)
        more = read < len(keys) or len(keys) == PAGE_READS
        return found, keys[read - 1].rpartition("/")[2].removesuffix(".json") if more else None

    # A run

    def enqueue(self, stored: Stored, *, etag: str, size: int) -> Stored:
        """Accept a completing transcription's recording: one run is queued, however often this is called."""
        record = stored.record
        self.markers.put(Kind.JOBS, record.owner, record.id, record.run)
        moved = False

        def edit(record: Record, now: datetime) -> Record | None:
            nonlocal moved
            moved = record.state is State.COMPLETING
            if not moved:
                return None
            return record.to(State.QUEUED, etag=etag, size=size, parts=None, lost_since=None)

        after = self.records.change(record.owner, record.id, edit, known=stored)
        if moved:
            self.send(after.record)
        return after

    def send(self, record: Record) -> None:
        """Send a job message. A failure fails nobody: the sweep sends it again."""
        try:
            self.queue.send(Job(record.owner, record.id, record.run))
        except StorageError as error:
            log.warning(
                "job message not sent",
                id=record.id,
                owner=record.owner,
                code="queue_unavailable",
                reason=str(error),
            )

    def claim(self, job: Job, worker: str) -> Claim | None:
        """Take a queued run, or one whose lease is over. None if there is nothing to take."""
        token = os.urandom(8).hex()

        def edit(record: Record, now: datetime) -> Record | None:
            if record.run != job.run:
                return None
            if record.state is State.RUNNING and record.lease is not None and record.lease.over(now):
                record = self._lease_ended(record)
                if record.state is State.FAILED:
                    return record
            if record.state is not State.QUEUED:
                return None
            seconds = self.settings.lease_seconds
            lease = Lease(token=token, worker=worker, since=now, renewed=now, seconds=seconds, windows=0)
            return record.to(State.RUNNING, lease=lease, progress=Progress(stage="starting", percent=0))

        try:
            record = self.records.change(job.owner, job.id, edit).record
        except NoRecord:
            return None
        if record.lease is not None and record.lease.token == token:
            return Claim(record, token)
        if record.state is State.FAILED and record.run == job.run:
            self._let_go(record, job.run)
        return None

    def bury(self, job: Job) -> bool:
        """Fail a queued run that no worker could take; False if there is no such run, or a worker has it.

        Against a worker that claims it at the same moment, the first to write wins.
        """
        buried = False

        def edit(record: Record, now: datetime) -> Record | None:
            nonlocal buried
            buried = record.state is State.QUEUED and record.run == job.run
            if not buried:
                return None
            failure = Failure(code="never_started", message=FAILURES["never_started"])
            return record.to(State.FAILED, error=failure)

        try:
            record = self.records.change(job.owner, job.id, edit).record
        except NoRecord:
            return False
        # Also where whoever buried it died before this.
        if record.run == job.run and record.error is not None and record.error.code == "never_started":
            self._let_go(record, job.run, clean=record.quiet_after is None)
        return buried

    def requeue_lost(self, job: Job) -> Record:
        """End a lease that is over: back to queued, or failed if attempts are used up.

        Returns the record as it is then. Raises NoRecord.
        """

        def edit(record: Record, now: datetime) -> Record | None:
            lost = record.state is State.RUNNING and record.lease is not None and record.lease.over(now)
            return self._lease_ended(record) if lost and record.run == job.run else None

        return self.records.change(job.owner, job.id, edit).record

    def _lease_ended(self, record: Record) -> Record:
        lease = record.lease
        attempts = record.attempts + (lease is not None and lease.windows == 0 and not lease.excused)
        if attempts < self.settings.max_attempts:
            return record.to(State.QUEUED, attempts=attempts, **_lease_dropped(record))
        failure = Failure(code="attempts_exhausted", message=FAILURES["attempts_exhausted"])
        return record.to(State.FAILED, attempts=attempts, error=failure, **_lease_dropped(record))

    def renew(self, claim: Claim, progress: Progress, windows: int = 0, *, excused: bool = False) -> None:
        """Say that the worker lives, how far it is, and how many windows it saved. Raises LeaseLost.

        A lease that is `excused` may end without counting as an attempt: it was not the worker that failed.
        """

        def edit(record: Record, now: datetime) -> Record:
            lease = _held(record, claim)
            renewed = lease.model_copy(update={"renewed": now, "windows": windows, "excused": excused})
            return record.to(State.RUNNING, lease=renewed, progress=progress)

        self._change_held(claim, edit)

    def fetch_to(self, claim: Claim, key: str) -> Claim:
        """Have a claimed run's recording lie at another key; the claim from now on. Raises LeaseLost."""

        def edit(record: Record, now: datetime) -> Record:
            _held(record, claim)
            return record.to(State.RUNNING, key=key)

        return Claim(self._change_held(claim, edit), claim.token)

    def accept(self, claim: Claim, *, etag: str, size: int, name: str, content_type: str) -> Claim:
        """Say that a claimed run's recording was fetched and judged; the claim from now on. Raises LeaseLost.

        Somebody may have renamed it meanwhile: then that counts.
        """

        def edit(record: Record, now: datetime) -> Record:
            _held(record, claim)
            called = name if record.name == claim.record.name else record.name
            return record.to(State.RUNNING, etag=etag, size=size, name=called, content_type=content_type)

        return Claim(self._change_held(claim, edit), claim.token)

    def release(self, claim: Claim) -> None:
        """Give the run back, unharmed, for the next worker. Raises LeaseLost."""

        def edit(record: Record, now: datetime) -> Record:
            _held(record, claim)
            return record.to(State.QUEUED, **_lease_dropped(record))

        self.send(self._change_held(claim, edit))

    def restart(self, claim: Claim) -> None:
        """Give up this run for a new one: it was planned for another engine or model. Raises LeaseLost."""

        def fresh(record: Record) -> Record:
            _held(record, claim)
            return record.to(State.QUEUED, run=record.next_run, **_lease_dropped(record))

        try:
            self._new_run(claim.record.owner, claim.record.id, fresh)
        except Problem as problem:
            raise LeaseLost(None) from problem

    def complete(self, claim: Claim, facts: Facts) -> None:
        """Say that the run's transcript stands in the bucket. Raises LeaseLost."""
        self._end(claim, State.COMPLETED, error=None, **facts._asdict())

    def fail(self, claim: Claim, failure: Failure, facts: Facts | None = None) -> None:
        """End the run; with `facts`, a transcript of what came before stands. Raises LeaseLost."""
        kept = {} if facts is None else {"partial": True, **facts._asdict()}
        self._end(claim, State.FAILED, error=failure, **kept)

    def _end(self, claim: Claim, state: State, **facts: Any) -> None:
        def edit(record: Record, now: datetime) -> Record:
            _held(record, claim)
            return record.to(state, **facts, **_lease_dropped(record))

        # What it began itself, a worker clears up before it says so; others may have begun before it.
        clean = claim.record.quiet_after is None
        self._let_go(self._change_held(claim, edit), claim.job.run, clean=clean)

    def _let_go(self, record: Record, run: int, *, clean: bool = False) -> None:
        """Remove the marker of a run that has ended; unless a download may have left something.

        Then it stays, and the sweep ends the job: neither workers nor whoever buries may touch all it takes.
        """
        if clean or not record.to_be_fetched:
            self.markers.remove(Kind.JOBS, record.owner, record.id, run)

    def end_job(self, record: Record, run: int) -> None:
        """Remove the marker of a run that has ended; before that, what may be left of a download.

        A worker that does not know yet may go on with that one: then a marker of an upload has the sweep look
        at it again.
        """
        if record.run == run and record.to_be_fetched and record.state in RETRYABLE:
            look_again = record.quiet_after is not None
            if look_again:
                self.markers.put(Kind.UPLOADS, record.owner, record.id, key=record.key, restored=True)
            self.discard_recording(record, look_again=look_again)
        self.markers.remove(Kind.JOBS, record.owner, record.id, run)

    def _change_held(self, claim: Claim, edit: Callable[[Record, datetime], Record]) -> Record:
        try:
            return self.records.change(claim.record.owner, claim.record.id, edit).record
        except NoRecord:
            raise LeaseLost(None) from None

    # What its owner may do

    def cancel(self, owner: str, id: str, *, only: State | None = None) -> Stored:
        """Stop whatever is going on. The recording of a queued or running one is kept, a half-sent one not.

        Canceling twice is fine; with `only`, nothing is done in another state. Raises Problem
        `no_such_transcription`, `not_possible` or `busy`.
        """
        before, look_again = State.CANCELED, False

        def edit(record: Record, now: datetime) -> Record | None:
            nonlocal before, look_again
            before = State.CANCELED
            if only is not None and record.state is not only:
                return None
            if record.state is State.DELETED:
                raise no_such(id)
            if record.state is State.CANCELED:
                return None
            if record.state not in CANCELABLE:
                raise _not_possible("canceled", record, CANCELABLE)
            before, look_again = record.state, _still_coming(record)
            changes = _lease_dropped(record) | {"parts": None, "lost_since": None}
            if look_again:
                changes["quiet_after"] = now
            return record.to(State.CANCELED, **changes)

        try:
            stored = self.records.change(owner, id, edit)
        except NoRecord:
            raise no_such(id) from None
        if before is not State.CANCELED:
            with _left_to_the_sweep(owner, id):
                if stored.record.etag is None and stored.record.url is None:
                    self.discard_recording(stored.record, look_again=look_again)
                else:
                    self.end_job(stored.record, stored.record.run)
        return stored

    def discard_recording(self, record: Record, *, look_again: bool = False) -> None:
        """Remove a recording that was refused or canceled, whole or in parts, and then its marker.

        With `look_again`, and for a form that can still be used, the marker stays: the sweep empties the
        place once more.
        """
        self.bucket.abort_uploads(record.key, record.upload_id)
        if record.url is None:
            self.bucket.delete_all(f"uploads/{record.owner}/{record.id}/")
        else:
            # And not the prefix: a retry may have begun meanwhile, which fetches to another key.
            self.bucket.delete(record.key)
        self.clear_tus(record)
        if record.form_ends is None and not look_again:
            self.markers.remove(Kind.UPLOADS, record.owner, record.id)

    def clear_tus(self, record: Record) -> None:
        """Remove what an upload by tus had beside its recording, and the partial uploads it was made of."""
        if record.tus is None:
            return
        self.bucket.delete_all(f"tus/{record.owner}/{record.id}/")
        for id in record.tus.partials:
            self.bucket.delete_all(f"tus/{record.owner}/{id}/")
            self.markers.remove(Kind.PARTIALS, record.owner, id)

    def retry(self, owner: str, id: str) -> Stored:
        """Queue a new run of a failed or canceled transcription whose recording exists, or can be fetched.

        Raises Problem `no_such_transcription`, `not_possible`, `recording_changed` or `busy`.
        """

        def fresh(record: Record) -> Record:
            if record.state not in RETRYABLE:
                raise _not_possible("retried", record, RETRYABLE)
            found = self.bucket.find(record.key) if record.etag is not None else None
            # It is fetched once more.
            gone = record.url is not None and (found is None or found.etag != record.etag)
            if found is None and not gone:
                raise Problem(
                    "not_possible",
                    "There is no recording to transcribe any more; "
                    f"{'upload it' if record.inbox is None else 'put it into the inbox'} again.",
                    {"state": record.state},
                )
            if found is not None and found.etag != record.etag and not gone:
                raise Problem("recording_changed", "The recording is not the accepted one; upload it again.")
            undone = {"error": None, "partial": False, **Facts(None, None, None, ())._asdict()}
            # Another run may tell its speakers apart otherwise.
            undone |= {"speakers": {}, "names": None}
            if record.webhook is not None:
                undone["webhook"] = Webhook(shape=record.webhook.shape)
            if gone:
                undone |= {"etag": None, "size": None}
            return record.to(State.QUEUED, run=record.next_run, attempts=0, **undone)

        return self._new_run(owner, id, fresh)

    def _new_run(self, owner: str, id: str, fresh: Callable[[Record], Record]) -> Stored:
        """Marker, then record, then message; all of it again if the record has changed meanwhile."""
        for _ in range(SWAP_TRIES):
            stored = self.get(owner, id)
            record = fresh(stored.record)
            self.markers.put(Kind.JOBS, owner, id, record.run)
            # After the job's: whoever gives this run's number up finds it by that.
            self.markers.owe(record)
            try:
                stored = self.records.swap(stored, record)
            except Conflict:
                continue
            self.send(stored.record)
            return stored
        raise busy()

    def delete(self, owner: str, id: str) -> None:
        """Delete a transcription and all that belongs to it. To its owner it is gone at once.

        Raises Problem `no_such_transcription` or `busy`.
        """
        self.get(owner, id)
        self.markers.put(Kind.PURGE, owner, id)
        try:
            self.records.change(owner, id, _deleted)
        except NoRecord:
            raise no_such(id) from None
        with _left_to_the_sweep(owner, id):
            self.purge(owner, id)

    def purge(self, owner: str, id: str) -> bool:
        """Empty the bucket of a deleted transcription; True once nothing of it is left.

        As long as somebody may still write, the record and the purge marker stay.
        """
        stored = self.records.read(owner, id)
        if stored is not None:
            # A delete that died between marker and record is carried out, never taken back.
            stored = self.records.change(owner, id, _deleted, known=stored)
            record = stored.record
            if (dropped := record.inbox) is not None:
                # Without the record it would be taken for a new one.
                self.bucket.delete_version(dropped.key, dropped.etag, dropped.modified)
            self.bucket.abort_uploads(record.key, record.upload_id)
            # What was found is gone now; only a look that finds nothing counts.
            self.clear_tus(record)
            leftover = self._empty(record) > 0 and self._empty(record) > 0
            quiet = timedelta(seconds=self.settings.upload_idle_seconds + 1)
            if leftover or (record.quiet_after is not None and stored.at - record.quiet_after <= quiet):
                return False
            self.markers.remove(Kind.UPLOADS, owner, id)
            self.markers.remove(Kind.FORMS, owner, id)
            self.markers.remove_runs(Kind.JOBS, owner, id)
            if record.webhook is not None:
                self.markers.remove_runs(Kind.WEBHOOKS, owner, id)
            self.records.remove(owner, id)
            log.info("purged", id=id, owner=owner)
        self.markers.remove(Kind.PURGE, owner, id)
        return True

    def _empty(self, record: Record) -> int:
        return sum(
            self.bucket.delete_all(f"{place}/{record.owner}/{record.id}/")
            for place in ("uploads", "results", "tus")
        )


def _still_coming(record: Record) -> bool:
    """Whether a completion on its way, a writer, or one of many who copy out of the inbox, may be late."""
    writing = record.tus is not None and record.state is State.UPLOADING
    return record.state is State.COMPLETING or record.inbox is not None or writing


def _deleted(record: Record, now: datetime) -> Record | None:
    if record.state is State.DELETED:
        return None
    changes = _lease_dropped(record)
    late = [now] if _still_coming(record) else []
    late += [time for time in (changes["quiet_after"], record.form_ends) if time is not None]
    return record.to(State.DELETED, parts=None, **changes | {"quiet_after": max(late, default=None)})


@contextmanager
def _left_to_the_sweep(owner: str, id: str) -> Iterator[None]:
    """What was asked for is written down; a bucket that fails now fails nobody, as a marker stands."""
    try:
        yield
    except StorageError as error:
        code = "storage_unavailable"
        log.warning("clearing up goes on later", id=id, owner=owner, code=code, reason=str(error))


def _held(record: Record, claim: Claim) -> Lease:
    lease = record.lease
    if record.state is not State.RUNNING or lease is None or lease.token != claim.token:
        raise LeaseLost(record.state)
    return lease


def _lease_dropped(record: Record) -> dict[str, Any]:
    # The end of the last lease is kept: a stale worker may write until then, so deleting waits for it.
    quiet = record.quiet_after
    if record.lease is not None:
        ends = record.lease.renewed + timedelta(seconds=record.lease.seconds)
        quiet = max(quiet or ends, ends)
    return {"lease": None, "progress": None, "quiet_after": quiet}


def busy() -> Problem:
    """What one is told who has lost too many races."""
    return Problem("busy", "The transcription is being changed by others; try again in a moment.")


def no_such(id: str) -> Problem:
    """What one is told who asks for what is not there, or is another's."""
    return Problem("no_such_transcription", f"There is no transcription {id[:64]!r}.")


def not_ready(record: Record) -> Problem:
    """What one is told who wants what is not there yet, or never will be."""
    if record.state in FINAL:
        detail = f"There is nothing to download: the transcription is {record.state}."
    else:
        detail = f"The transcription is still {record.state}; follow /transcriptions/{record.id}/events."
    return Problem("not_ready", detail, {"state": record.state})


def no_longer_kept(what: str) -> Problem:
    """What one is told who wants what retention has removed."""
    return Problem(
        "no_longer_kept",
        f"The {what} is no longer kept here; what ended long ago is removed. Upload the recording again to "
        "have it transcribed anew.",
    )


def _not_possible(what: str, record: Record, states: frozenset[State]) -> Problem:
    allowed = ", ".join(sorted(states))
    return Problem(
        "not_possible",
        f"A transcription that is {record.state} cannot be {what}; only one that is: {allowed}.",
        {"state": record.state},
    )
