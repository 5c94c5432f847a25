"""Webhooks: whoever asked for it is told of a transcription's end, at least once.

Signed by Standard Webhooks (https://github.com/standard-webhooks/standard-webhooks, its specification). A
notice is owed from the moment its run has ended until it is delivered or given up, and the marker
`open/webhooks/{owner}/{id}.{run}` stands for it from before the record was written. What may die between two
requests, and who goes on:

- *a try*: the marker is rewritten by compare-and-swap, with the number of the try and when the next is due →
  the POST → the record says delivered, or given up → the marker goes. Died before the POST, or after it: it
  is sent (again) when the next try is due, with the same `webhook-id`. Died after the record: the next look
  removes the marker.
- *the worker* tries first, in a thread of its own, as soon as it has ended a run. All other tries, and the
  first one of what ended elsewhere, are the sweep's.

Two at once do no harm: only one of them can rewrite the marker. A notice that fails is tried again after
`PAUSES`, and given up where the next try would come more than an hour after the first, or at once where the
receiver says 410. A retry is another run, with a marker and a `webhook-id` of its own.
"""

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from standardwebhooks import Webhook as Signer

from . import metrics
from .bucket import Bucket, StorageError
from .errors import Problem
from .markers import Kind, Marker, Markers
from .public_addresses import AddressRefused, NoAnswer, PublicWeb, WebAddress, web_address
from .queue import Job
from .records import NoRecord, Record, Records, State, Stored, Webhook
from .settings import Settings
from .tasks import task_document
from .transcript import Transcript
from .view import Transcription

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 10.0
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (10, 30, 60, 120, 300, 600, 1200))
"""From one try to the next; the last one is repeated. The sweep comes once a minute, and is never early."""

TRIED_FOR = timedelta(hours=1)
BEGUN_WITHIN = timedelta(hours=1)
"""So long a marker may wait for a record that owes what it stands for."""

AT_ONCE = 16
AT_ONCE_BY_A_WORKER = 4
LONG_SECONDS = 3600.0
"""The older document of a recording longer than this is made by one thread at a time: that of ten hours takes
160 MB, and the process that makes many at once may not have so much."""

GONE = 410


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a try came to nothing, and whether another makes no sense."""

    reason: str
    for_good: bool = False


class Webhooks:
    """The notices of one bucket's transcriptions. For any number of threads."""

    def __init__(self, settings: Settings, bucket: Bucket, records: Records, markers: Markers) -> None:
        self.bucket = bucket
        self.records = records
        self.markers = markers
        secret = settings.webhook_secret
        self._signer = None if secret is None else Signer(secret.get_secret_value())
        self._web = PublicWeb(
            settings.private_hosts,
            connect_seconds=CONNECT_SECONDS,
            answer_seconds=ANSWER_SECONDS,
            read_seconds=ANSWER_SECONDS,
        )
        self._free = threading.BoundedSemaphore(AT_ONCE_BY_A_WORKER)
        self._long = threading.Lock()

    # The worker's

    def try_soon(self, job: Job) -> None:
        """Try to tell of a run that has just ended, in a thread of its own.

        Not where many are under way, or where this process has no secret: the sweep has.
        """
        if self._signer is None or not self._free.acquire(blocking=False):
            return
        threading.Thread(target=self._try_first, args=(job,), name=f"webhook {job.id}", daemon=True).start()

    def _try_first(self, job: Job) -> None:
        try:
            stored = self.records.read(job.owner, job.id)
            if stored is not None and stored.record.run == job.run and stored.record.owes_webhook:
                self._deliver(stored, set())
        except (Problem, ValueError, *StorageError) as error:
            # Nothing is lost: the marker stands.
            log.warning("webhook is left", id=job.id, owner=job.owner, code="webhook_left", reason=str(error))
        finally:
            self._free.release()

    # The sweep's

    def look(
        self, markers: Sequence[Marker], now: datetime, time_left: Callable[[], bool] = lambda: True
    ) -> int:
        """Look at these markers, as long as there is `time_left`; returns at how many.

        First at those that were not tried for longest: many that nobody answers must not keep others from
        their turn. A URL that gave no answer is not asked again in the same look: its other notices count
        that as a try. Not those of its whole host, which others may share.
        """
        silent: set[WebAddress] = set()

        def look_at(marker: Marker) -> bool:
            if not time_left():
                return False
            try:
                self._look(marker, now, silent)
            except Exception as error:  # noqa: BLE001 -- one look that fails must not keep the others from theirs
                log.warning("look failed", marker=marker.key, code="look_failed", reason=str(error))
            return True

        if not markers:
            return 0
        with ThreadPoolExecutor(min(AT_ONCE, len(markers))) as threads:
            return sum(threads.map(look_at, sorted(markers, key=lambda marker: marker.modified)))

    def _look(self, marker: Marker, now: datetime, silent: set[WebAddress]) -> None:
        owner, id, run = marker.owner, marker.id, marker.run
        stored = self.records.read(owner, id)
        if stored is None or stored.record.webhook is None:
            # Whoever has put it may not have come to the record yet.
            if now - marker.modified > BEGUN_WITHIN:
                self.markers.remove(Kind.WEBHOOKS, owner, id, run)
            return
        record = stored.record
        if record.run < run:
            # A retry has put it before its record; or it died, and its number was given up.
            if run <= record.last_run:
                self.markers.remove(Kind.WEBHOOKS, owner, id, run)
        elif record.run > run:
            self.markers.remove(Kind.WEBHOOKS, owner, id, run)
        elif record.owes_webhook:
            self._deliver(stored, silent)
        elif _is_over(record):
            self.markers.remove(Kind.WEBHOOKS, owner, id, run)
            if record.state is State.EXPIRED:
                self._put_back_if_it_goes_on(record)

    def _put_back_if_it_goes_on(self, before: Record) -> None:
        """An object that was found late takes an expired upload up again, as the same run."""
        current = self.records.read(before.owner, before.id)
        if current is not None and not _is_over(current.record):
            self.markers.owe(current.record)

    # A try

    def _deliver(self, stored: Stored, silent: set[WebAddress]) -> None:
        """Tell of an end that is owed, if that is due and nobody else does it."""
        record = stored.record
        if not _is_long(record):
            self._try(record, silent)
        elif self._long.acquire(blocking=False):
            try:
                self._try(record, silent)
            finally:
                self._long.release()

    def _try(self, record: Record, silent: set[WebAddress]) -> None:
        owner, id, run = record.owner, record.id, record.run
        read = self.markers.read(Kind.WEBHOOKS, owner, id, run)
        if read is None:
            return
        body, etag, now = read
        if "due" in body and now < datetime.fromisoformat(body["due"]):
            return
        tries = int(body.get("tries", 0)) + 1
        since = datetime.fromisoformat(body["since"]) if "since" in body else now
        due = now + PAUSES[min(tries, len(PAUSES)) - 1]
        state = {"tries": tries, "since": since.isoformat(), "due": due.isoformat()}
        if not self.markers.touch(Kind.WEBHOOKS, owner, id, etag, run, **state):
            return
        failed = self._send(record, silent)
        facts = {"id": id, "owner": owner, "run": run, "tries": tries}
        if failed is None:
            metrics.count("webhooks", outcome="delivered")
            log.info("webhook delivered", **facts)
            self._settle(record, delivered=now, attempts=tries)
        elif failed.for_good or due - since > TRIED_FOR:
            metrics.count("webhooks", outcome="given_up")
            log.warning("webhook given up", **facts, code="webhook_given_up", reason=failed.reason)
            self._settle(record, given_up=now, attempts=tries, error=failed.reason)
        else:
            metrics.count("webhooks", outcome="failed")
            log.info("webhook not delivered", **facts, code="webhook_failed", reason=failed.reason)

    def _settle(self, told: Record, **outcome: datetime | int | str) -> None:
        """Write down what became of it, unless a retry has begun another run; then the marker goes."""

        def edit(record: Record, now: datetime) -> Record | None:
            if record.run != told.run or not record.owes_webhook:
                return None
            webhook = record.webhook or Webhook()
            return record.to(record.state, webhook=webhook.model_copy(update=outcome))

        with suppress(NoRecord):
            self.records.change(told.owner, told.id, edit)
        self.markers.remove(Kind.WEBHOOKS, told.owner, told.id, told.run)

    def _send(self, record: Record, silent: set[WebAddress]) -> Failed | None:
        """One POST; None where it was answered 2xx."""
        if self._signer is None:
            return Failed("the server has no secret to sign it with")
        address = web_address(record.options.webhook_url or "")
        if address in silent:
            return Failed("it did not answer another notice a moment ago")
        try:
            status = self._post(self._signer, address, record)
        except (ValueError, *StorageError) as error:
            # Whatever it is, it must not be tried for ever.
            code = "webhook_left"
            log.warning("webhook not made", id=record.id, owner=record.owner, code=code, reason=str(error))
            return Failed("the bucket did not give what it is to tell")
        except AddressRefused:
            return Failed("its host has no public address")
        except NoAnswer as error:
            silent.add(address)
            return Failed(str(error))
        if 200 <= status < 300:
            return None
        if 300 <= status < 400:
            return Failed(f"it was answered with the redirect {status}, and none is followed")
        return Failed(f"it was answered with {status}", for_good=status == GONE)

    def _post(self, signer: Signer, address: WebAddress, record: Record) -> int:
        id, body = f"msg_{record.id}_{record.run}", self._body(record)
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(id, now, body),
        }
        with self._web.ask("POST", address, headers, body.encode()) as answer:
            return answer.status

    def _body(self, record: Record) -> str:
        if record.webhook is not None and record.webhook.shape == "task":
            return task_document(record, self._transcript(record)).model_dump_json()
        data = Transcription.of(record).model_dump(mode="json")
        told = {"type": f"transcription.{record.state}", "timestamp": data["updated"], "data": data}
        return json.dumps(told, ensure_ascii=False)

    def _transcript(self, record: Record) -> Transcript | None:
        """The transcript, if there is one and it is still kept."""
        if not record.has_transcript:
            return None
        document = self.bucket.get(f"{record.transcript_prefix}transcript.json")
        return None if document is None else Transcript.model_validate_json(document.body)


def _is_long(record: Record) -> bool:
    """Whether what is told has a transcript that fills much memory."""
    as_task = record.webhook is not None and record.webhook.shape == "task"
    return as_task and record.has_transcript and (record.duration or 0) > LONG_SECONDS


def _is_over(record: Record) -> bool:
    """Whether a run has come to an end of which nothing is owed, or no longer."""
    if record.state in (State.COMPLETED, State.FAILED):
        return not record.owes_webhook
    return record.state in (State.CANCELED, State.EXPIRED, State.DELETED)
