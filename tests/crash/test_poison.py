"""A recording that kills the worker's process, as a fault inside FFmpeg or a model would."""

import os
import signal
from functools import partial

import numpy as np
from bucketscribe.markers import Kind
from bucketscribe.queue import Queue
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from bucketscribe.worker.engines.base import Samples
from bucketscribe.worker.main import Worker

from tests.crash.test_processes import LATER, is_done, record, until
from tests.crash.world import RECORDING, Case, Child, StandInEngine, World, cancel, complete
from tests.media.odd import wav

POISON = wav(np.full(4000, 20_000, "<i2").tobytes())


class FragileEngine(StandInEngine):
    """Dies of a loud recording while that is still being decoded, and takes the process along."""

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        """A signal, and not an exception: nobody can catch it."""
        if audio.max() > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().language(audio, model)


class FragileWithAnotherEngine(StandInEngine):
    """Dies of a loud recording, too, but not before another run waits for the engine."""

    worker: Worker

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        if audio.max() > 0.5:
            until(self.another_waits, "another run waits")
            os.kill(os.getpid(), signal.SIGKILL)
        return super().language(audio, model)

    def another_waits(self) -> bool:
        """Whether it has come so far that only the engine is missing."""
        others = self.worker.attempts[1:]
        return any(other.status.progress.stage == "waiting" for other in others)


def work_ahead(service: Service) -> None:
    """A worker that believes all runs to be short, so that it claims the next one ahead."""
    engine = FragileWithAnotherEngine()
    engine.worker = worker = Worker(service, engine)
    for marker in service.markers.listing(Kind.JOBS):
        stored = service.records.read(marker.owner, marker.id)
        assert stored is not None
        worker._forecast.learn(stored.record, 0.01)
    worker.run()


def work(service: Service) -> None:
    """A worker's own loop, which ends with its process."""
    Worker(service, FragileEngine()).run()


def worker(world: World) -> Child:
    """A worker in a process of its own."""
    child = world.start(work)
    child.go()
    return child


def uploaded(world: World, body: bytes) -> Case:
    """A recording that waits for a worker."""
    case = world.uploading(body)
    complete(world.service, case)
    return case


def test_a_recording_that_kills_every_worker_fails_and_holds_up_no_other(world: World) -> None:
    poison, others = uploaded(world, POISON), []
    child = worker(world)
    try:
        for attempt in range(1, world.settings.max_attempts + 1):
            assert child.end() is None
            assert record(world, poison).state is State.RUNNING
            child = worker(world)
            others.append(uploaded(world, RECORDING))
            until(partial(is_done, world, others[-1]), "the next worker goes on with the next recording")
            with world.later(LATER):
                Sweep(world.service).run()
            assert record(world, poison).attempts == attempt
    finally:
        os.kill(child.pid, signal.SIGKILL)
    assert child.end() is None
    error = record(world, poison).error
    assert error is not None
    assert error.code == "attempts_exhausted"
    world.settle()
    assert world.wrongs(poison, frozenset({State.FAILED}), run=1) == []
    for other in others:
        assert world.wrongs(other, frozenset({State.COMPLETED}), run=1) == []


def emptied(queue: Queue) -> None:
    """Take all messages out: what is sent next is what comes next."""
    while (message := queue.receive(0)) is not None:
        queue.delete(message)


def test_a_run_that_others_die_beside_loses_one_attempt_and_no_more(world: World) -> None:
    bystander = uploaded(world, RECORDING)
    for _ in range(world.settings.max_attempts):
        emptied(world.service.queue)
        # A new one each time: one that has killed before is worked on alone.
        poison = uploaded(world, POISON)
        world.service.transcriptions.send(record(world, bystander))
        child = world.start(work_ahead)
        child.go()
        assert child.end() is None
        assert record(world, bystander).state is State.RUNNING
        with world.later(LATER):
            Sweep(world.service).run()
        assert record(world, poison).attempts == 1
        assert record(world, bystander).attempts == 1
        cancel(world.service, poison)
    world.settle()
    assert world.wrongs(bystander, frozenset({State.COMPLETED}), run=1) == []
