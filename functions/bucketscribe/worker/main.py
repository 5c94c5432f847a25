"""The worker: receive → claim → run → complete, and the next job fetched while this one is computed.

The main thread receives, claims and listens to signals; each claim has threads of its own (`attempt.py`), so
that no queue that hangs can cost a lease. The engine is used by one run at a time, in the order of the
claims. A second job is claimed only when the one before will need the engine for less than half a minute;
where that turns out wrong, it is given back: no job waits here that another worker could have. The message
was only a hint, and is deleted as soon as the claim is written.

On SIGTERM or SIGINT the window under way is saved if that takes no longer than `stop_seconds`; then, and at
once on a second signal, the run is given back and the process ends. A job that waits is given back at once.
"""

import os
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import FrameType

import structlog

from .. import logs, metrics
from ..bucket import StorageError
from ..errors import Problem
from ..markers import Kind
from ..monitoring import serve_monitoring
from ..queue import Job, Message
from ..service import Service
from ..settings import Settings
from ..transcriptions import Claim
from . import models
from .attempt import Attempt
from .engines.base import Engine, ModelUnavailable, OutOfMemory
from .forecast import Forecast
from .health import Watch
from .protection import Protection
from .turns import Turns

log = structlog.get_logger()

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
RECEIVE_SECONDS = 20
OLDEST_LOOKED_AT = 10
AHEAD_SECONDS = 30.0
"""A job is claimed ahead when the one before needs the engine for less than this."""
TOO_LONG_SECONDS = 120.0
"""It is given back when it turns out that the one before needs the engine for longer than this."""
MOST_ATTEMPTS = 3
"""One that saves its files, one that has the engine, one ahead."""
MOST_FETCHED = 4
"""Recordings that are fetched from the web at the same time; more are left to others."""
FETCHED_LATER_SECONDS = 20
"""Or for so long."""
UNREADABLE_SECONDS = 60
"""A job whose record this version cannot read is left to others for so long."""
GIVING_BACK_SECONDS = 5.0
SOCKET_SECONDS = 30.0
"""For connections that set no limit of their own, as some downloads of models do."""


class Stopping(BaseException):
    """Raised out of a long poll by a signal. An Exception would be taken for a failed try by the SDK."""


class Worker:
    """Works on one transcription after another until it is told to stop, or has had no work for too long."""

    def __init__(self, service: Service, engine: Engine, protection: Protection | None = None) -> None:
        self.service = service
        self.engine = engine
        self.protection = protection or Protection()
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.stopping = 0
        """How often it was told to stop."""
        self.attempts: list[Attempt] = []
        """What it holds, in the order of the claims."""
        self.looked = time.monotonic()
        """When the loop last went round."""
        self._turns = Turns()
        self._forecast = Forecast()
        self._idle_since = time.monotonic()
        self._receiving = False
        # SimpleQueue.put may be called from a signal handler, where Event.set could deadlock.
        self._wake: SimpleQueue[str] = SimpleQueue()

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Stop as soon as possible; told twice, at once. Fit to be the main thread's signal handler."""
        self.stopping += 1
        for attempt in tuple(self.attempts):
            attempt.stop()
        self._wake.put("stop")
        if self._receiving:
            raise Stopping

    def run(self) -> None:
        """Work until told to stop, or idle for too long."""
        self._idle_since = time.monotonic()
        while not self.stopping:
            self.looked = time.monotonic()
            self._let_go_of_ended()
            if self._idle_left == 0:
                log.info(
                    "worker ends, as it had no work", seconds=self.service.settings.worker_idle_exit_seconds
                )
                break
            try:
                if self._wants_more():
                    self._look_for_work()
                else:
                    self._make_way()
                    self._pause(self.service.settings.heartbeat_seconds)
            except Stopping:
                break
            except (Problem, *StorageError) as error:
                log.warning("bucket or queue do not answer", code="storage_unavailable", reason=str(error))
                self._pause(self.service.settings.heartbeat_seconds)
        self._end()

    # What it holds

    def _let_go_of_ended(self) -> None:
        for attempt in [attempt for attempt in self.attempts if attempt.over_since is not None]:
            self._idle_since = max(self._idle_since, attempt.over_since or 0)
            self.attempts.remove(attempt)

    @property
    def _idle_left(self) -> float | None:
        """For how many seconds it may still be without work; None for as long as it likes."""
        most = self.service.settings.worker_idle_exit_seconds
        if most is None or self.attempts:
            return most
        return max(0.0, self._idle_since + most - time.monotonic())

    def _wants_more(self) -> bool:
        if len(self.attempts) - self._fetching >= MOST_ATTEMPTS:
            return False
        line = self._line
        if len(line) == 1:
            left = line[0].left
            return left is not None and left < AHEAD_SECONDS
        return not line

    @property
    def _fetching(self) -> int:
        """How many recordings are being fetched from the web."""
        return sum(attempt.turn.aside for attempt in self.attempts)

    @property
    def _line(self) -> list[Attempt]:
        """Those who have the engine, or wait for it, in their order."""
        line = [attempt for attempt in self.attempts if not attempt.turn.over and not attempt.turn.aside]
        return sorted(line, key=lambda attempt: attempt.turn.joined)

    def _make_way(self) -> None:
        """Give back what would wait for too long."""
        line = self._line
        if len(line) > 1 and not line[1].turn.taken and (line[0].left or 0) > TOO_LONG_SECONDS:
            line[1].give_way()

    def _begin(self, claim: Claim) -> Attempt:
        free = partial(self._wake.put, "the engine is free")
        turn = self._turns.join(free, aside=claim.record.to_be_fetched)
        ended = partial(self._wake.put, "ended")
        attempt = Attempt(self.service, self.engine, claim, turn, self._forecast, ended)
        self.attempts.append(attempt)
        self.protection.want(True)
        attempt.start()
        if self.stopping:
            attempt.stop()  # the signal came before there was anything to tell it
        return attempt

    def _end(self) -> None:
        """Give back what it holds, in bounded time: what does not answer is left to its lease."""
        if not self.stopping:
            self.stop()
        ends = time.monotonic() + self.service.settings.stop_seconds + GIVING_BACK_SECONDS
        for attempt in self.attempts:
            attempt.join(max(0.0, ends - time.monotonic()))
        self.protection.end()

    def _work(self, claim: Claim) -> None:
        """Work on one claim, to its end."""
        self._begin(claim).join()
        self._let_go_of_ended()

    def _pause(self, seconds: float) -> None:
        with suppress(Empty):
            self._wake.get(timeout=seconds)
            while True:  # what came before is all answered by one look
                self._wake.get_nowait()

    # Finding work

    def _look_for_work(self) -> None:
        left = self._idle_left
        claim = self._next(RECEIVE_SECONDS if left is None else min(RECEIVE_SECONDS, int(left)))
        if claim is not None:
            self._begin(claim)
        elif not self.attempts:
            # Not before: between two jobs it would be removed and asked for all the time.
            self.protection.want(False)
            if left is not None and left < 1:
                self._pause(left)

    def _next(self, wait_seconds: int = RECEIVE_SECONDS) -> Claim | None:
        try:
            self._receiving = True
            try:
                if self.stopping:
                    raise Stopping
                message = self.service.queue.receive(wait_seconds)
            finally:
                self._receiving = False
        except StorageError as error:
            # The queue is a hint: without it there are still the markers.
            log.warning("queue does not answer", code="queue_unavailable", reason=str(error))
            self._pause(self.service.settings.heartbeat_seconds)
            message = None
        if message is None:
            # A worker that has work leaves what is hard to find to those who have none.
            return None if self.attempts else self._oldest()
        if message.job is None:
            log.warning("unreadable message", code="unreadable_message")
            return None
        try:
            if self._fetching >= MOST_FETCHED and self._to_be_fetched(message.job):
                # What is here already has no need to wait until a slow server is done.
                self._put_back(message, FETCHED_LATER_SECONDS)
                return None
            claim = self._claim(message.job)
        except ValueError:
            # While we are upgraded, a newer version of us is: what cannot be read has killed nobody.
            self._put_back(message, UNREADABLE_SECONDS)
            return None
        except (Problem, *StorageError):
            self._put_back(message)
            raise
        try:
            self.service.queue.delete(message)
        except StorageError as error:
            job, code = message.job, "queue_unavailable"
            log.warning("message not deleted", id=job.id, owner=job.owner, code=code, reason=str(error))
        return claim

    def _put_back(self, message: Message, delay_seconds: int = 0) -> None:
        """What the bucket refuses, for however long, must not count as if workers died of the job."""
        try:
            self.service.queue.put_back(message, delay_seconds)
        except StorageError as error:
            log.warning("message not put back", code="queue_unavailable", reason=str(error))

    def _to_be_fetched(self, job: Job) -> bool:
        stored = self.service.records.read(job.owner, job.id)
        return stored is not None and stored.record.to_be_fetched

    def _claim(self, job: Job) -> Claim | None:
        try:
            return self.service.transcriptions.claim(job, self.name)
        except ValueError as error:
            code = "unreadable_record"
            log.warning("unreadable record", id=job.id, owner=job.owner, code=code, reason=str(error))
            raise

    def _oldest(self) -> Claim | None:
        """Look at the oldest job markers: a message may be lost, or a worker dead."""
        markers = sorted(self.service.markers.listing(Kind.JOBS), key=lambda marker: marker.modified)
        for marker in markers[:OLDEST_LOOKED_AT]:
            if self.stopping:
                break
            with suppress(ValueError):
                claim = self._claim(Job(marker.owner, marker.id, marker.run))
                if claim is not None:
                    return claim
        return None


def make_engine(settings: Settings) -> Engine:
    """The engine the settings name. Raises ModuleNotFoundError where its extra is not installed."""
    # Imported here: engines are heavy, and only the one in use need be installed.
    resolve = partial(models.resolve, cache=settings.models_folder, folders=settings.allowed_models)
    if settings.engine == "whisperx":
        from .engines.whisperx import WhisperX

        return WhisperX(
            resolve,
            device=settings.device,
            compute_type=settings.compute_type,
            batch_size=settings.batch_size,
            models_dir=settings.models_folder,
            align_models=dict(named.split("=", 1) for named in settings.align_models),
            diarize_model=settings.diarize_model,
            hf_token=_hub_token(settings),
        )
    from .engines.faster_whisper import FasterWhisper

    return FasterWhisper(
        resolve,
        device=settings.device,
        compute_type=settings.compute_type,
        batch_size=settings.batch_size,
    )


def _hub_token(settings: Settings) -> str | None:
    """The token there is, which the hub's own client finds from now on, too."""
    if settings.hf_token is not None:
        os.environ["HF_TOKEN"] = settings.hf_token.get_secret_value()
    return os.environ.get("HF_TOKEN") or None


def _end_at_once(number: int, frame: FrameType | None) -> None:
    os._exit(0)


def run(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT, or until it is idle for too long; returns the exit status."""
    logs.configure(settings)
    metrics.configure()
    socket.setdefaulttimeout(SOCKET_SECONDS)
    # While a model is loaded, for minutes perhaps, there is nothing to give back; and the first process of a
    # container is told in vain to end unless it listens.
    for number in STOP_SIGNALS:
        signal.signal(number, _end_at_once)
    service = Service.connect(settings)
    watch = Watch(settings)
    if settings.worker_port is not None:
        serve_monitoring(settings.worker_port, watch.look)
    engine = make_engine(settings)
    try:
        if settings.models_url is not None:
            from .model_store import fetch

            fetch(settings)
        engine.load(settings.model)
    except (ModelUnavailable, OutOfMemory) as error:
        log.error("model cannot be loaded", model=settings.model, code=error.code, reason=str(error))
        return 1
    worker = Worker(service, engine, Protection(os.environ.get("ECS_AGENT_URI")))
    for number in STOP_SIGNALS:
        signal.signal(number, worker.stop)
    watch.worker = worker
    log.info("worker ready", engine=worker.engine.name, model=settings.model)
    worker.run()
    log.info("worker stopped")
    sys.stderr.flush()
    # The engine may still compute in its thread; nothing it could save is ours any more.
    os._exit(0)
