"""The worker: receive → claim → run → complete, one job at a time.

The loop's own thread receives, renews the lease and listens to signals; the work is done in a second one, so
that a lease is renewed and a cancel is seen while the engine computes. What may die: anything. The record and
the files say what is done; the message was only a hint, and is deleted as soon as the claim is written.

On SIGTERM or SIGINT the window under way is saved if that takes no longer than `stop_seconds`; then, and at
once on a second signal, the run is given back and the process ends.
"""

import math
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import NoReturn

import structlog

from .. import logs, metrics
from ..bucket import StorageError
from ..errors import FAILURES, Problem
from ..markers import Kind
from ..monitoring import serve_monitoring
from ..queue import Job
from ..records import Failure
from ..service import Service
from ..settings import Settings
from ..transcriptions import Claim, LeaseLost
from . import models
from .engines.base import Engine, ModelUnavailable
from .run import FilesGone, Finished, PlanDiffers, Run, RunFailed
from .status import Status, Stopped

log = structlog.get_logger()

RECEIVE_SECONDS = 20
OLDEST_LOOKED_AT = 10
HUNG_SECONDS = 900.0
"""Work that was not heard of for this long will not be heard of any more; a batch takes minutes at most."""


class Stopping(BaseException):
    """Raised out of a long poll by a signal. An Exception would be taken for a failed try by the SDK."""


class Worker:
    """Works on one transcription after another until it is told to stop."""

    def __init__(self, service: Service, engine: Engine) -> None:
        self.service = service
        self.engine = engine
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.stopping = 0
        """How often it was told to stop."""
        self._receiving = False
        # SimpleQueue.put may be called from a signal handler, where Event.set could deadlock.
        self._wake: SimpleQueue[str] = SimpleQueue()

    def stop(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Stop as soon as possible; told twice, at once. Fit to be a signal handler."""
        self.stopping += 1
        self._wake.put("stop")
        if self._receiving:
            raise Stopping

    def run(self) -> None:
        """Work until stopped."""
        while not self.stopping:
            try:
                claim = self._next()
                if claim is not None:
                    self._work(claim)
            except Stopping:
                return
            except (Problem, *StorageError) as error:
                log.warning("bucket or queue do not answer", code="storage_unavailable", reason=str(error))
                self._pause(self.service.settings.heartbeat_seconds)

    # Finding work

    def _next(self) -> Claim | None:
        try:
            self._receiving = True
            try:
                if self.stopping:
                    raise Stopping
                message = self.service.queue.receive(RECEIVE_SECONDS)
            finally:
                self._receiving = False
        except StorageError as error:
            # The queue is a hint: without it there are still the markers.
            log.warning("queue does not answer", code="queue_unavailable", reason=str(error))
            self._pause(self.service.settings.heartbeat_seconds)
            message = None
        if message is None:
            return self._oldest()
        if message.job is None:
            log.warning("unreadable message", code="unreadable_message")
            return None
        try:
            claim = self._claim(message.job)
        except ValueError:
            # Another version of us may be able to read it; if nobody is, it becomes a dead letter.
            return None
        try:
            self.service.queue.delete(message)
        except StorageError as error:
            job, code = message.job, "queue_unavailable"
            log.warning("message not deleted", id=job.id, owner=job.owner, code=code, reason=str(error))
        return claim

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

    # Working

    def _work(self, claim: Claim) -> None:
        begun = time.monotonic()
        status = Status(saved=lambda: self._wake.put("saved"))
        run = Run(self.service.settings, self.service.bucket, self.engine, claim.record, status)
        outcome: SimpleQueue[Finished | BaseException] = SimpleQueue()

        def work() -> None:
            try:
                outcome.put(run.finish())
            except BaseException as error:  # noqa: BLE001 -- told to the loop, which decides
                outcome.put(error)
            self._wake.put("done")

        threading.Thread(target=work, name=claim.record.id, daemon=True).start()
        held = True
        ends = math.inf
        while outcome.empty():
            self._pause(min(self.service.settings.heartbeat_seconds, max(ends - time.monotonic(), 0)))
            if not outcome.empty():
                break
            if status.silent_seconds > HUNG_SECONDS:
                self._give_up(claim)
            if self.stopping and ends == math.inf:
                status.stop_after_window.set()
                ends = time.monotonic() + self._grace(status)
            if self.stopping > 1 or time.monotonic() >= ends:
                if held:
                    self._give_back(claim)
                return
            if held:
                held = self._renew(claim, status)
        if held:
            self._end(claim, status, outcome.get(), time.monotonic() - begun)

    def _give_up(self, claim: Claim) -> NoReturn:
        """End the process, as nothing else ends a thread that hangs; the lease ends as after a kill."""
        log.error("work hangs", **_of(claim), code="worker_hung")
        sys.stderr.flush()
        os._exit(1)

    def _grace(self, status: Status) -> float:
        """How long the window under way may still take, in seconds: not at all if it will not be saved."""
        most = self.service.settings.stop_seconds
        left = status.window_left
        return most if left is not None and left <= most else 0

    def _pause(self, seconds: float) -> None:
        with suppress(Empty):
            self._wake.get(timeout=seconds)

    def _renew(self, claim: Claim, status: Status, *, excused: bool = False) -> bool:
        try:
            self.service.transcriptions.renew(claim, status.progress, status.windows, excused=excused)
        except (LeaseLost, ValueError) as lost:
            reason = lost.state if isinstance(lost, LeaseLost) else str(lost)
            log.info("stopping work", **_of(claim), reason=reason)
            status.stop.set()
            return False
        except (Problem, *StorageError) as error:
            log.warning("lease not renewed", **_of(claim), code="storage_unavailable", reason=str(error))
        return True

    def _give_back(self, claim: Claim) -> None:
        try:
            self.service.transcriptions.release(claim)
        except (LeaseLost, ValueError, Problem, *StorageError) as error:
            log.warning("run not given back", **_of(claim), code="storage_unavailable", reason=str(error))

    def _end(self, claim: Claim, status: Status, outcome: Finished | BaseException, seconds: float) -> None:
        transcriptions = self.service.transcriptions
        try:
            match outcome:
                case Finished(facts=facts, failure=Failure() as failure):
                    transcriptions.fail(claim, failure, facts)
                    _measure(outcome, status.transcribed_seconds, seconds)
                case Finished(facts=facts):
                    transcriptions.complete(claim, facts)
                    _measure(outcome, status.transcribed_seconds, seconds)
                case RunFailed():
                    transcriptions.fail(claim, outcome.failure)
                case PlanDiffers():
                    transcriptions.restart(claim)
                case Stopped():
                    transcriptions.release(claim)
                case FilesGone():
                    log.error("files are gone", **_of(claim), code="files_gone", reason=str(outcome))
                case _ if isinstance(outcome, StorageError):
                    # Not given back: the lease that ends by itself is the pause before the next attempt.
                    log.warning("bucket fails", **_of(claim), code="storage_unavailable", reason=str(outcome))
                    self._renew(claim, status, excused=True)
                case _:
                    log.error("engine failed", **_of(claim), code="engine_failed", exc_info=outcome)
                    message = f"{FAILURES['engine_failed']} {type(outcome).__name__}: {outcome}"
                    transcriptions.fail(claim, Failure(code="engine_failed", message=message))
        except LeaseLost as lost:
            log.info("finished too late", **_of(claim), reason=lost.state)
        except ValueError as error:
            log.warning("unreadable record", **_of(claim), code="unreadable_record", reason=str(error))


def _of(claim: Claim) -> dict[str, str]:
    """Whose work a log line is about."""
    return {"id": claim.record.id, "owner": claim.record.owner}


def _measure(finished: Finished, transcribed: float, worked: float) -> None:
    """Tell how long a run's stages took, whoever worked on them, and how fast this worker was. In seconds."""
    transcript = finished.transcript
    for stage, seconds in transcript.timings.items():
        metrics.observe("stage_seconds", seconds, stage=stage)
    if transcribed:
        factor = transcribed / worked
        metrics.observe("real_time_factor", factor, engine=transcript.engine, model=transcript.model)


def make_engine(settings: Settings) -> Engine:
    """The engine the settings name."""
    # Imported here: engines are heavy, and only the one in use need be installed.
    from .engines.faster_whisper import FasterWhisper

    return FasterWhisper(
        lambda model: models.resolve(model, settings.models_folder, settings.allowed_models),
        device=settings.device,
        compute_type=settings.compute_type,
        batch_size=settings.batch_size,
    )


def run(settings: Settings) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit status."""
    logs.configure(settings)
    metrics.configure()
    worker = Worker(Service.connect(settings), make_engine(settings))
    try:
        worker.engine.load(settings.model)
    except ModelUnavailable as error:
        log.error("model cannot be loaded", model=settings.model, code=error.code, reason=str(error))
        return 1
    # Only now: while a model is loaded, for minutes perhaps, there is nothing to give back.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    if settings.worker_port is not None:
        serve_monitoring(settings.worker_port)
    log.info("worker ready", engine=worker.engine.name, model=settings.model)
    worker.run()
    log.info("worker stopped")
    sys.stderr.flush()
    # The engine may still compute in its thread; nothing it could save is ours any more.
    os._exit(0)
