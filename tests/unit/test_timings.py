"""How long stages take, one within the other."""

import pytest
from bucketscribe.worker.timings import Timings


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_goes_to_an_inner_stage_is_not_counted_for_the_outer() -> None:
    clock = Clock()
    timings = Timings(clock)
    with timings.stage("decode"):
        clock.now += 1
        with timings.stage("language"):
            clock.now += 2
            with timings.stage("load"):
                clock.now += 10
        with timings.pause():
            clock.now += 500
        clock.now += 0.5
    assert timings.seconds == {"load": 10, "language": 2, "decode": 1.5}


def test_a_stage_that_comes_twice_is_summed() -> None:
    clock = Clock()
    timings = Timings(clock)
    for seconds in (1, 2):
        with timings.stage("decode"):
            clock.now += seconds
    assert timings.seconds == {"decode": 3}


def test_a_stage_that_fails_takes_its_time_from_the_outer_all_the_same() -> None:
    clock = Clock()
    timings = Timings(clock)

    def fail() -> None:
        with timings.stage("language"):
            clock.now += 2
            raise OSError("no")

    with timings.stage("decode"):
        with pytest.raises(OSError, match="no"):
            fail()
        clock.now += 1
    assert timings.seconds == {"decode": 1}
