"""What is said of how far the work has come."""

from functools import partial
from types import SimpleNamespace

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


def test_aligning_goes_on_where_transcribing_ended_and_nothing_goes_back() -> None:
    status = Status()
    status.transcribing(total=1000, missing=1000)
    seen = []
    for _ in range(2):
        for begin in (partial(status.window_reporter, 500, 0.8), status.aligning_reporter):
            report = begin()
            for share in (0.5, 1.0):
                seen.append((status.progress.stage, status.progress.percent))
                report(share)
        seen.append((status.progress.stage, status.progress.percent))
        status.window_saved()
    assert [percent for _, percent in seen] == [0, 20, 40, 45, 50, 50, 70, 90, 95, 100]
    assert [stage for stage, _ in seen] == [*["transcribing"] * 2, *["aligning"] * 3] * 2


def test_a_window_that_is_not_aligned_after_all_counts_as_a_whole() -> None:
    status = Status()
    status.transcribing(total=1000, missing=1000)
    status.window_reporter(500, 0.8)(1)
    status.window_saved()
    status.window_reporter(500, 0.8)
    assert status.progress.percent == 50


def test_the_time_left_is_not_told_as_long_as_speakers_are_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("bucketscribe.worker.status.time.monotonic", clock)
    told = []
    for last in (True, False):
        status = Status()
        status._pace = Pace(clock)
        status.transcribing(total=100, missing=100, last=last)
        report = status.window_reporter(100)
        clock.now += 10
        report(0.5)
        told.append(status.progress.seconds_left)
    assert told == [10, None]


def test_telling_speakers_apart_has_its_own_pace() -> None:
    status = Status()
    status.transcribing(total=100, missing=100, last=False)
    status.window_reporter(100)(1)
    status.window_saved()
    assert status.window_left == 0
    status.speakers_begin()
    # Nothing is saved soon: a worker that is told to stop need not wait.
    assert status.window_left is None
    report = status.diarizing_reporter()
    assert status.window_left is None
    report(0.5)
    assert (status.progress.stage, status.progress.percent) == ("diarizing", 50)
    assert status.window_left is not None
    status.speakers_saved()
    assert (status.windows, status.window_left) == (2, 0)


def test_a_stop_after_what_is_under_way_waits_for_the_speakers() -> None:
    status = Status()
    status.stop_after_window.set()
    status.diarizing_reporter()(0.9)
    with pytest.raises(Stopped):
        status.speakers_saved()


def test_who_waits_says_so_and_goes_on_where_it_was() -> None:
    status = Status()
    status.reporter("decoding")(0.4)
    with status.within():
        status.waiting()
        assert status.progress.stage == "waiting"
        status.stop.set()
        with pytest.raises(Stopped):
            status.waiting()
    assert (status.progress.stage, status.progress.percent) == ("decoding", 40)


def test_a_model_that_takes_long_to_load_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("bucketscribe.worker.status.time", SimpleNamespace(monotonic=lambda: now))
    status = Status()
    status.reporter("aligning")(0.5)
    with status.loading():
        now = 10_000
        assert (status.progress.stage, status.silent_seconds) == ("loading", 0)
    # What follows may be silent for as long as any other work.
    assert (status.progress.stage, status.silent_seconds) == ("aligning", 0)
    now += 7
    assert status.silent_seconds == 7
