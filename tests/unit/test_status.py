"""What is said of how far the work has come."""

import pytest
from bucketscribe.worker.status import Pace, Status, Stopped


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_time_left_is_told_by_the_pace_since_the_work_began() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(total=3600, done=0)
    pace.begin_window(600)
    clock.now += 10
    pace.done = 300
    assert pace.left == pytest.approx(110)
    assert pace.window_left == pytest.approx(10)
    assert pace.share == pytest.approx(300 / 3600)


def test_what_another_worker_has_done_does_not_count_for_the_pace() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(total=3600, done=3000)
    pace.begin_window(600)
    clock.now += 20
    pace.done = 3100
    assert pace.left == pytest.approx(100)


def test_nobody_guesses_in_the_first_seconds() -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.begin(total=3600, done=0)
    pace.begin_window(600)
    clock.now += 2
    pace.done = 60
    assert pace.left is None
    clock.now += 2
    assert pace.left is not None


def test_percent_goes_over_all_windows() -> None:
    status = Status()
    status.transcribing(total=1200, missing=900)
    report = status.window_reporter(600)
    assert (status.progress.stage, status.progress.percent) == ("transcribing", 25)
    report(0.5)
    assert status.progress.percent == 50
    status.window_saved()
    status.window_reporter(300)
    assert status.progress.percent == 75


def test_a_stop_is_raised_at_the_next_report() -> None:
    status = Status()
    report = status.reporter("decoding")
    report(0.4)
    status.stop.set()
    with pytest.raises(Stopped):
        report(0.5)
    assert (status.progress.stage, status.progress.percent) == ("decoding", 40)


def test_a_stop_after_the_window_waits_for_it() -> None:
    saved = []
    status = Status(saved=lambda: saved.append(status.windows))
    status.stop_after_window.set()
    status.window_reporter(600)(0.9)
    with pytest.raises(Stopped):
        status.window_saved()
    assert saved == [1]
