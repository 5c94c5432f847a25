"""The sweep: what a minute's look finds and puts right.

One listing of the markers, and a closer look at those that nobody looked at for a while. Everything it does
is a step of another module that can be repeated, so a sweep may die anywhere, and two at once do no harm:
a look begins by rewriting the marker by compare-and-swap, and only one of two succeeds.

All ages are the bucket's: LastModified of markers and parts against the `Date` of its answers.
"""

import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import date, datetime, timedelta
from queue import Empty, SimpleQueue

import structlog

from . import logs, metrics
from .bucket import Conflict, Listed, StorageError
from .errors import Problem
from .inbox import PREFIX as INBOX
from .markers import Kind, Marker
from .monitoring import serve_monitoring
from .queue import Job
from .records import FINAL, NoRecord, Record, State, Stored
from .service import Service
from .settings import Settings

log = structlog.get_logger()

INBOX_SECONDS = 20.0
"""How long a sweep copies what lies in the inbox before it leaves the rest to the next."""

WEBHOOK_SECONDS = 20.0
"""How long a sweep begins tries to tell webhooks before it leaves the rest to the next."""

FORM_GRACE = timedelta(hours=1)
"""A form's object is looked for until this long after its policy has ended."""


class Sweep:
    """Looks at everything that is not finished."""

    def __init__(self, service: Service) -> None:
        self.bucket = service.bucket
        self.records = service.records
        self.markers = service.markers
        self.queue = service.queue
        self.uploads = service.uploads
        self.transcriptions = service.transcriptions
        self.idle = timedelta(seconds=service.settings.upload_idle_seconds)
        self.limits = service.limits
        self.dead_letters = service.dead_letters
        self.inbox = service.inbox
        self.tus = service.tus
        self.concatenation = service.concatenation
        self.webhooks = service.webhooks
        self._inbox_after = ""
        # What is there to stay, as known from the last way through the inbox, and from this one.
        self._left_there: set[Listed] = set()
        self._seen_there: set[Listed] = set()
        # Uploads that are copied out of it, or put together of others.
        self._copies: list[Marker] = []
        self._jobs = 0
        self._today: date | None = None
        self.job_look = timedelta(seconds=service.settings.job_look_seconds)

    def run(self, time_left: Callable[[], bool] = lambda: True) -> int:
        """One sweep. Returns how many markers were looked at; what fails is logged and left to the next.

        So is what there is no `time_left` for: what was looked at now, the next one passes over. The inbox
        comes last, as copies take their time.
        """
        looks: dict[Kind, Callable[[Marker, datetime], bool]] = {
            Kind.UPLOADS: self._look_at_upload,
            Kind.FORMS: self._look_at_form,
            Kind.PARTIALS: self._look_at_partial,
            Kind.JOBS: self._look_at_job,
            Kind.PURGE: self._look_at_purge,
        }
        now = self.bucket.now()
        markers = list(self.markers.listing())
        self._jobs = sum(marker.kind is Kind.JOBS for marker in markers)
        self._copies = []
        looked = 0
        for marker in markers:
            if marker.kind is Kind.WEBHOOKS:
                continue
            if not time_left():
                log.info("left to the next sweep", markers=len(markers), looked=looked)
                break
            try:
                looked += looks[marker.kind](marker, now)
            except Exception as error:  # noqa: BLE001 -- one look that fails must not keep the others from theirs
                log.warning("look failed", marker=marker.key, code="look_failed", reason=str(error))
        self._keep_queue_awake()
        self._forget_days(now.date())
        self._bury_dead_letters()
        looked += self._tell_webhooks(markers, now, time_left)
        begun = time.monotonic()

        def time_to_copy() -> bool:
            return time.monotonic() - begun <= INBOX_SECONDS and time_left()

        looked += self._go_on_copying(now, time_to_copy)
        self._look_into_inbox(now, time_to_copy)
        return looked

    def _tell_webhooks(self, markers: Sequence[Marker], now: datetime, time_left: Callable[[], bool]) -> int:
        """Look at the webhooks of what may have ended: as long as its job's marker stands, a run has not."""
        begun = time.monotonic()
        running = {(marker.owner, marker.id, marker.run) for marker in markers if marker.kind is Kind.JOBS}
        ended = [
            marker
            for marker in markers
            if marker.kind is Kind.WEBHOOKS and (marker.owner, marker.id, marker.run) not in running
        ]
        return self.webhooks.look(
            ended, now, lambda: time.monotonic() - begun <= WEBHOOK_SECONDS and time_left()
        )

    def _forget_days(self, today: date) -> None:
        """Once a day: what was counted before yesterday counts for nothing any more."""
        if today == self._today:
            return
        try:
            # Not yesterday's: a begin may have read its date just before midnight.
            self.limits.forget(today - timedelta(days=1))
            self._today = today
        except StorageError as error:
            log.warning("counts not forgotten", code="storage_unavailable", reason=str(error))

    def _keep_queue_awake(self) -> None:
        """SQS measures no queue that nobody has asked for six hours, and then starts no worker for long."""
        try:
            self.queue.count()
        except StorageError as error:
            log.warning("queue not asked", code="queue_unavailable", reason=str(error))

    def _bury_dead_letters(self) -> None:
        """What no worker could take, where there is no function that is told of it."""
        try:
            self.dead_letters.drain()
        except (Problem, *StorageError) as error:
            log.warning("dead letters are left", code="storage_unavailable", reason=str(error))

    def _go_on_copying(self, now: datetime, time_left: Callable[[], bool]) -> int:
        """Look at the uploads that are copied out of the inbox; how many were looked at."""
        looked = 0
        for marker in self._copies:
            if not time_left():
                break
            try:
                looked += self._look_at_upload(marker, now, time_left)
            except Exception as error:  # noqa: BLE001 -- as above
                log.warning("look failed", marker=marker.key, code="look_failed", reason=str(error))
        return looked

    def _look_into_inbox(self, now: datetime, time_left: Callable[[], bool]) -> None:
        """Take what lies there, for so long; the next sweep goes on behind that, and then from the front."""
        try:
            for entry in self.bucket.listing(INBOX, self._inbox_after):
                if not time_left():
                    return
                if entry in self._left_there or self._is_left_there(entry, now, time_left):
                    self._seen_there.add(entry)
                self._inbox_after = entry.key
        except StorageError as error:
            log.warning("inbox not looked through", code="storage_unavailable", reason=str(error))
            return
        self._inbox_after, self._left_there, self._seen_there = "", self._seen_there, set()

    def _is_left_there(self, entry: Listed, now: datetime, time_left: Callable[[], bool]) -> bool:
        try:
            return not self.inbox.look(entry, now, time_left)
        except Exception as error:  # noqa: BLE001 -- as above
            log.warning("look failed", key=entry.key, code="look_failed", reason=str(error))
            return False

    # Multipart uploads

    def _look_at_upload(
        self, marker: Marker, now: datetime, copying: Callable[[], bool] | None = None
    ) -> bool:
        """Look at one that is not copied out of the inbox; or at one that is, as long as there is time."""
        if now - marker.modified <= self.idle / 4:
            return False
        owner, id = marker.owner, marker.id
        read = self.markers.read(Kind.UPLOADS, owner, id)
        if read is None:
            return False
        body, etag, now = read
        if copying is None and ("inbox" in body or "final" in body):
            self._copies.append(marker)
            return False
        if copying is not None and etag != marker.etag:
            # Another sweep has looked at it while this one was busy.
            return False
        if not self.markers.touch(Kind.UPLOADS, owner, id, etag, **body):
            return False
        stored = self.records.read(owner, id)
        if stored is None:
            self._end_lost_begin(marker, copying)
            return True
        record = stored.record
        match record.state:
            case State.UPLOADING | State.COMPLETING if record.inbox is not None:
                if copying is None:
                    # Its marker was lost, and stands again; now it tells what it stands for.
                    self.markers.put(Kind.UPLOADS, owner, id, key=record.key, inbox=record.inbox.key)
                    return True
                self.inbox.go_on(stored, copying)
            case State.UPLOADING if record.tus is not None and record.tus.partials:
                if copying is None:
                    # As above.
                    self.markers.put(Kind.UPLOADS, owner, id, key=record.key, final=True)
                    return True
                self.concatenation.go_on(stored, copying)
            case State.UPLOADING:
                self._end_if_idle(marker, stored)
            case State.COMPLETING:
                self.uploads.finish(owner, id)
            case State.EXPIRED:
                # A sweep died after it wrote this; or an object was found late.
                self.uploads.expire(owner, id)
            case State.FAILED | State.CANCELED if record.etag is None:
                quiet = record.quiet_after
                unquiet = quiet is not None and now - quiet <= self.idle + timedelta(seconds=1)
                self.transcriptions.discard_recording(record, look_again=unquiet)
            case State.DELETED:
                # Its purge marker stands, or the purge removes this one.
                self.transcriptions.purge(owner, id)
            case _:
                self.transcriptions.clear_tus(record)
                self.markers.remove(Kind.UPLOADS, owner, id)
        return True

    def _end_if_idle(self, marker: Marker, stored: Stored) -> None:
        """End an upload that is idle, or larger than it may be."""
        owner, id, record = marker.owner, marker.id, stored.record
        if self.bucket.find(record.key) is not None:
            self.uploads.finish(owner, id)
            return
        if record.tus is not None and self.tus.completed_by_now(stored):
            return
        listed = self.bucket.list_parts(record.key, record.upload_id or "")
        if listed is None:
            self.uploads.expire(owner, id)
            return
        parts, now = listed
        if self.uploads.end_if_outgrown(stored, parts).record.state is not State.UPLOADING:
            return
        signs = [record.created, *(part.modified for part in parts)]
        if record.tus is not None:
            signs += self.tus.signs(record)
        read = self.markers.read(Kind.UPLOADS, owner, id)
        if read is not None and "seen" in read[0]:
            signs.append(datetime.fromisoformat(read[0]["seen"]))
        if now - max(signs) > self.idle + timedelta(seconds=1):
            self.uploads.expire(owner, id)

    def _end_lost_begin(self, marker: Marker, copying: Callable[[], bool] | None = None) -> None:
        """A begin died between its marker and its record, or has not come to it yet."""
        owner, id = marker.owner, marker.id
        read = self.markers.read(marker.kind, owner, id, marker.run)
        if read is None:
            # Not lost but purged: then the marker goes before the record.
            return
        body, _, _ = read
        key = str(body.get("key", ""))
        if "inbox" in body and copying is not None:
            # Its id is told by the object, which still lies there, or will never be told again.
            self.inbox.take(body["inbox"], copying)
            if self.records.read(owner, id) is not None:
                return
        if not body.get("restored"):
            now = self.bucket.now()
            lost = Record(
                id=id,
                owner=owner,
                state=State.EXPIRED,
                created=now,
                updated=now,
                key=key,
                name=key.rpartition("/")[2],
                content_type="application/octet-stream",
                form_ends=now if marker.kind is Kind.FORMS else None,
            )
            try:
                self.records.create(lost)
            except Conflict:
                # It has come to it: the next look sees an upload like any other.
                return
            if marker.kind is Kind.UPLOADS:
                self.bucket.abort_uploads(key)
        self.markers.remove(marker.kind, owner, id, marker.run)

    def _look_at_partial(self, marker: Marker, now: datetime) -> bool:
        if now - marker.modified <= self.idle / 4:
            return False
        read = self.markers.read(Kind.PARTIALS, marker.owner, marker.id)
        if read is None or not self.markers.touch(Kind.PARTIALS, marker.owner, marker.id, read[1], **read[0]):
            return False
        self.tus.partials.look(marker)
        return True

    # Forms

    def _look_at_form(self, marker: Marker, now: datetime) -> bool:
        owner, id = marker.owner, marker.id
        stored = self.records.read(owner, id)
        if stored is None:
            if now - marker.modified > self.idle / 4:
                self._end_lost_begin(marker)
            return True
        record = stored.record
        over = record.form_ends is None or now - record.form_ends > FORM_GRACE
        match record.state:
            case State.UPLOADING | State.EXPIRED if over:
                self.uploads.expire(owner, id)
            case State.UPLOADING | State.COMPLETING | State.EXPIRED:
                self.uploads.finish(owner, id)
            case State.FAILED | State.CANCELED if record.etag is None:
                # As long as the policy is good, the form can put something there again.
                self.transcriptions.discard_recording(record)
                if over:
                    self.markers.remove(Kind.FORMS, owner, id)
            case State.DELETED:
                self.transcriptions.purge(owner, id)
            case _:
                self.markers.remove(Kind.FORMS, owner, id)
        return True

    # Jobs

    def _look_at_job(self, marker: Marker, now: datetime) -> bool:
        if now - marker.modified <= self.job_look:
            return False
        owner, id, run = marker.owner, marker.id, marker.run
        read = self.markers.read(Kind.JOBS, owner, id, run)
        if read is None or read[1] != marker.etag:
            return False
        body, etag, _ = read
        if not self.markers.touch(Kind.JOBS, owner, id, etag, run, **body):
            return False
        job = Job(owner, id, run)

        def give_up(record: Record, now: datetime) -> Record | None:
            # A retry died, or waits, between marker and record: it must begin anew, with another number.
            ahead = record.run < run and record.state is not State.DELETED
            return record.to(record.state, last_run=max(record.last_run, run)) if ahead else None

        try:
            self.transcriptions.requeue_lost(job)
            record = self.records.change(owner, id, give_up).record
        except NoRecord:
            if "key" in body:
                # What is online begins with its job.
                self._end_lost_begin(marker)
            else:
                self.markers.remove(Kind.JOBS, owner, id, run)
            return True
        if record.run != run or record.state in FINAL:
            self.transcriptions.end_job(record, run)
        elif record.state is State.QUEUED and self.queue.count() < self._jobs:
            log.info("sent again", id=id, owner=owner, run=run)
            self.transcriptions.send(record)
        return True

    # Deletions

    def _look_at_purge(self, marker: Marker, now: datetime) -> bool:
        self.transcriptions.purge(marker.owner, marker.id)
        return True


def run_once(settings: Settings) -> int:
    """One sweep; returns the exit status."""
    logs.configure(settings)
    metrics.configure()
    try:
        Sweep(Service.connect(settings)).run()
    finally:
        metrics.flush()
    return 0


def run_forever(settings: Settings) -> int:
    """Sweep at every interval until SIGTERM or SIGINT; returns the exit status."""
    logs.configure(settings)
    metrics.configure()
    # SimpleQueue.put may be called from a signal handler, where Event.set could deadlock.
    stop: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stop.put(number))
    sweep = Sweep(Service.connect(settings))
    if settings.sweep_port is not None:
        serve_monitoring(settings.sweep_port)
    while True:
        try:
            sweep.run()
        except Exception as error:  # noqa: BLE001 -- the next sweep may well succeed
            log.warning("sweep failed", code="sweep_failed", reason=str(error))
        with suppress(Empty):
            stop.get(timeout=settings.sweep_interval_seconds)
            return 0
