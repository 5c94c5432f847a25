"""One claim under way: the run in a thread of its own, and the loop beside it that keeps its lease.

The loop renews the lease, and by that sees a cancel, while the engine computes. What may die: anything. The
record and the files say what is done.

A process that dies of a recording takes the other run it holds along, and nobody can tell which of the two
it was: both have lost an attempt. So a run that has lost one, or has but one, is worked on alone: nothing of
it is decoded before it has the engine, until then the end of its lease is no attempt, and nothing is claimed
while it is in the line. A recording that kills workers cannot use up the attempts of another.

A recording that is online is fetched first of all, and by a run that is not in the line yet: others have the
engine meanwhile.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NoReturn

import structlog

from .. import metrics
from ..bucket import PartsRefused, StorageError, UploadGone
from ..errors import FAILURES, Problem
from ..records import Failure
from ..service import Service
from ..transcriptions import Claim, LeaseLost
from .endings import FilesGone, Finished, PlanDiffers, RunFailed
from .engines.base import Engine
from .fetching import fetched
from .forecast import Forecast
from .run import Run
from .status import Status, Stopped
from .turns import Turn

log = structlog.get_logger()

HUNG_SECONDS = 900.0
"""Work that was not heard of for this long will not be heard of any more; a batch takes minutes at most."""


EXCUSE_SECONDS = 600.0
"""How long a bucket that takes nothing is told so again and again; then the lease's end is an attempt."""


class Attempt:
    """A claim that is worked on. `ended` is called, in its thread, when it is over."""

    def __init__(
        self,
        service: Service,
        engine: Engine,
        claim: Claim,
        turn: Turn,
        forecast: Forecast,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.service = service
        self.claim = claim
        self.turn = turn
        self.forecast = forecast
        self.alone = claim.record.attempts > 0 or service.settings.max_attempts < 2
        """Whether it may be its recording that workers die of."""
        self.engine = engine
        self.status = Status(saved=lambda: self._wake.put("saved"))
        self.over_since: float | None = None
        self._ended = ended
        self._begun = self._looked = time.monotonic()
        self._stops = 0
        self._held = True
        self._renewing = threading.Lock()
        # SimpleQueue.put may be called from a signal handler, where Event.set could deadlock.
        self._wake: SimpleQueue[str] = SimpleQueue()
        self._outcome: SimpleQueue[Finished | BaseException] = SimpleQueue()
        self._keeper = threading.Thread(target=self._keep_to_the_end, name=f"lease {claim.record.id}")
        self._keeper.daemon = True

    # What its worker asks and tells

    def start(self) -> None:
        """Begin."""
        self._keeper.start()

    def join(self, seconds: float | None = None) -> None:
        """Wait until it is over, at most so long."""
        self._keeper.join(seconds)

    def stop(self) -> None:
        """Give the run back as soon as possible; told twice, at once. A signal handler may."""
        self._stops += 1
        self._wake.put("stop")

    def give_way(self) -> None:
        """Give a run that waits for the engine back, for a worker that has it to spare."""
        if not self.status.stop.is_set():
            log.info("given back, as the run before it takes long", **self._names)
            self.status.stop.set()

    @property
    def left(self) -> float | None:
        """How many seconds it will need the engine yet, about; None if nobody can say."""
        if self.alone:
            return None
        told = self.status.progress.seconds_left
        if told is None:
            return self.forecast.left(self.claim.record, self.turn.seconds)
        return told + self.status.silent_seconds

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of the work, or of what keeps its lease."""
        return max(self.status.silent_seconds, time.monotonic() - self._looked)

    # Keeping the lease

    def _keep_to_the_end(self) -> None:
        try:
            self._keep()
        except Exception:  # whatever it is, the lease ends by itself, and the loop goes on
            log.exception("lease is left", **self._names, code="worker_failed")
            self.status.stop.set()
        finally:
            self.over_since = time.monotonic()
            self._ended()

    def _keep(self) -> None:
        """Start the work, and stay until it has ended or the run is given back."""
        settings = self.service.settings
        threading.Thread(target=self._work, name=self.claim.record.id, daemon=True).start()
        ends = math.inf
        while self._outcome.empty():
            with suppress(Empty):
                self._wake.get(timeout=min(settings.heartbeat_seconds, max(ends - time.monotonic(), 0)))
            self._looked = time.monotonic()
            if not self._outcome.empty():
                break
            if self.status.silent_seconds > HUNG_SECONDS:
                self._give_up("work hangs", "worker_hung")
            if self._stops and ends == math.inf:
                self.status.stop_after_window.set()
                ends = time.monotonic() + self._grace()
            if self._stops > 1 or time.monotonic() >= ends:
                # Or it would take the engine once that is free.
                self.status.stop.set()
                if self._held:
                    self._give_back()
                return
            if self._held:
                self._renew()
        if self._held:
            self._end(self._outcome.get())

    def _give_up(self, why: str, code: str) -> NoReturn:
        """End the process, which nothing else mends; the lease ends as after a kill."""
        log.error(why, **self._names, code=code)
        sys.stderr.flush()
        os._exit(1)

    def _grace(self) -> float:
        """How long the window under way may still take, in seconds: not at all if it will not be saved."""
        most = self.service.settings.stop_seconds
        left = self.status.window_left
        return most if left is not None and left <= most else 0

    def _renew(self, *, excused: bool = False) -> bool:
        """Say that the worker lives; False if the bucket took no word of it."""
        # Two threads do it: the one that un-excuses a lease must be the last to write.
        with self._renewing:
            excused = excused or (self.alone and not self.turn.taken)
            try:
                self.service.transcriptions.renew(
                    self.claim, self.status.progress, self.status.windows, excused=excused
                )
            except (LeaseLost, ValueError) as lost:
                reason = lost.state if isinstance(lost, LeaseLost) else str(lost)
                log.info("stopping work", **self._names, reason=reason)
                self.status.stop.set()
                self._held = False
            except (Problem, *StorageError) as error:
                code = "storage_unavailable"
                log.warning("lease not renewed", **self._names, code=code, reason=str(error))
                return False
        return True

    def _excuse(self) -> None:
        """Have the lease end as no attempt. A bucket that is full, or gone, takes word of that only later.

        The pause has been had by then, so the run is given back. Raises LeaseLost.
        """
        until = time.monotonic() + EXCUSE_SECONDS
        written = self._renew(excused=True)
        while not written and not self._stops and time.monotonic() < until:
            with suppress(Empty):
                self._wake.get(timeout=self.service.settings.heartbeat_seconds)
            self._looked = time.monotonic()
            with suppress(Problem, *StorageError):
                self.service.transcriptions.release(self.claim)
                written = True

    def _give_back(self) -> None:
        try:
            self.service.transcriptions.release(self.claim)
        except (LeaseLost, ValueError, Problem, *StorageError) as error:
            log.warning("run not given back", **self._names, code="storage_unavailable", reason=str(error))

    # The work

    def _work(self) -> None:
        outcome: Finished | BaseException
        try:
            if self.turn.aside:
                self.claim = fetched(self.service.online, self.claim, self.status)
                self.turn.get_in_line()
            if self.alone:
                self._renew()
                self.turn.take(self.status.waiting)
                self._renew()
            settings, record = self.service.settings, self.claim.record
            run = Run(settings, self.service.bucket, self.engine, record, self.status, self.turn)
            outcome = run.finish()
        except BaseException as error:  # noqa: BLE001 -- told to the loop, which decides
            outcome = error
        self.turn.end()
        if not self.engine.works():
            # Or every job in the queue would fail, one after the other.
            self._give_up("the engine's device is lost", "device_lost")
        self._outcome.put(outcome)
        self._wake.put("done")

    def _end(self, outcome: Finished | BaseException) -> None:
        transcriptions = self.service.transcriptions
        try:
            match outcome:
                case Finished(facts=facts, failure=Failure() as failure):
                    transcriptions.fail(self.claim, failure, facts)
                    self._measure(outcome)
                case Finished(facts=facts):
                    transcriptions.complete(self.claim, facts)
                    self._measure(outcome)
                case RunFailed():
                    transcriptions.fail(self.claim, outcome.failure)
                case PlanDiffers():
                    transcriptions.restart(self.claim)
                case Stopped():
                    transcriptions.release(self.claim)
                case FilesGone() | UploadGone() | PartsRefused():
                    log.error("files are gone", **self._names, code="files_gone", reason=str(outcome))
                case _ if isinstance(outcome, StorageError):
                    # Not given back: the lease that ends by itself is the pause before the next attempt.
                    code = "storage_unavailable"
                    log.warning("bucket fails", **self._names, code=code, reason=str(outcome))
                    self._excuse()
                case _:
                    log.error("engine failed", **self._names, code="engine_failed", exc_info=outcome)
                    message = f"{FAILURES['engine_failed']} {type(outcome).__name__}: {outcome}"
                    transcriptions.fail(self.claim, Failure(code="engine_failed", message=message))
        except LeaseLost as lost:
            log.info("finished too late", **self._names, reason=lost.state)
        except ValueError as error:
            log.warning("unreadable record", **self._names, code="unreadable_record", reason=str(error))
        except (Problem, *StorageError) as error:
            # Its files stand: whoever claims it next has only to say so.
            log.warning("end not written", **self._names, code="storage_unavailable", reason=str(error))
        else:
            if self.claim.record.webhook is not None:
                self.service.webhooks.try_soon(self.claim.job)

    def _measure(self, finished: Finished) -> None:
        """Tell how long a run's stages took, whoever worked on them, and how fast this worker was."""
        transcript = finished.transcript
        for stage, seconds in transcript.timings.items():
            metrics.observe("stage_seconds", seconds, stage=stage)
        facts = {"seconds": round(time.monotonic() - self._begun, 3)}
        transcribed, had = self.status.transcribed_seconds, self.turn.seconds
        if transcribed and had:
            factor = transcribed / had
            metrics.observe("real_time_factor", factor, engine=transcript.engine, model=transcript.model)
            facts |= {"engine_seconds": round(had, 3), "real_time_factor": round(factor, 2)}
            if transcribed > transcript.duration - 1:  # not where another had done a part
                self.forecast.learn(self.claim.record, had - transcript.timings.get("load", 0.0))
        log.info("run ended", **self._names, **facts)

    @property
    def _names(self) -> dict[str, str]:
        """Whose work a log line is about."""
        return {"id": self.claim.record.id, "owner": self.claim.record.owner}
