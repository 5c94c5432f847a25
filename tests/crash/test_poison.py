"""A recording that kills the worker's process, as a fault inside FFmpeg or a model would."""

import os
import signal
from functools import partial

import numpy as np
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from bucketscribe.worker.engines.base import Samples
from bucketscribe.worker.main import Worker

from tests.crash.test_processes import LATER, is_done, record, until
from tests.crash.world import RECORDING, Case, Child, StandInEngine, World, complete
from tests.media.odd import wav

POISON = wav(np.full(4000, 20_000, "<i2").tobytes())


class FragileEngine(StandInEngine):
    """Dies of a loud recording while that is still being decoded, and takes the process along."""

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        """A signal, and not an exception: nobody can catch it."""
        if audio.max() > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().language(audio, model)


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
