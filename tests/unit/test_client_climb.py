"""How many parts at once, and who waits how long: the client's two judgements that need no server."""

import threading
from collections.abc import Callable

import pytest
from bucketscribe.client import Backoff, Unreachable, offline
from bucketscribe.client.climb import REST_WINDOWS, WINDOW_SECONDS, Climb
from bucketscribe.client.offline import Line
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024**2
TICK = 0.1


class Ride:
    """A climb that is fed from a line, whose clock and count go on from one stretch to the next."""

    def __init__(self, ceiling: int) -> None:
        self.climb = Climb(ceiling)
        self.now = self.sent = 0.0

    def along(self, speed: Callable[[int], float], seconds: float) -> list[int]:
        """Feed it a line that carries `speed(limit)` bytes a second; the limits it came to."""
        limits = [self.climb.limit]
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            self.sent += speed(self.climb.limit) * TICK
            self.climb.feed(self.now, int(self.sent), 0)
            if self.climb.limit != limits[-1]:
                limits.append(self.climb.limit)
        return limits


def test_where_each_connection_adds_speed_all_are_used() -> None:
    assert Ride(8).along(lambda limit: limit * 20 * MIB, 60) == [3, 4, 5, 6, 7, 8]


def test_where_another_connection_adds_nothing_it_is_given_up_for_a_while() -> None:
    ride = Ride(16)
    assert ride.along(lambda limit: 100 * MIB, 4) == [3, 4, 3]
    assert ride.along(lambda limit: 100 * MIB, REST_WINDOWS * WINDOW_SECONDS) == [3]
    assert ride.along(lambda limit: 100 * MIB, 5) == [3, 4, 3]


def test_where_more_connections_are_worse_there_are_few() -> None:
    assert max(Ride(16).along(lambda limit: 100 * MIB / limit, 60)) == 4


def test_a_line_that_has_become_slower_is_not_made_slower_yet() -> None:
    ride = Ride(16)
    ride.along(lambda limit: 100 * MIB, 4)
    assert min(ride.along(lambda limit: limit * 10 * MIB, 60)) == 3


def test_on_a_slow_line_a_second_tells_nothing() -> None:
    assert Ride(16).along(lambda limit: 100 * 1024, 50) == [3]


def test_what_fails_halves_the_number() -> None:
    ride = Ride(16)
    ride.along(lambda limit: limit * 20 * MIB, 30)
    assert ride.climb.limit == 16
    for seconds in (1, 3):
        ride.climb.feed(ride.now + seconds, int(ride.sent), 5)
    assert ride.climb.limit == 8


@given(
    st.integers(1, 32),
    st.lists(st.tuples(st.floats(0, 5), st.integers(0, 500 * MIB), st.integers(0, 3)), max_size=200),
)
def test_the_limit_stays_within_its_bounds(ceiling: int, steps: list[tuple[float, int, int]]) -> None:
    climb = Climb(ceiling)
    now, sent, failures = 0.0, 0, 0
    for seconds, more, failed in steps:
        now, sent, failures = now + seconds, sent + more, failures + failed
        climb.feed(now, sent, failures)
        assert 1 <= climb.limit <= ceiling


# Waiting for a connection

GONE = Unreachable("http://bucket:9000", "Connection refused")


def test_everybody_tries_again_when_one_gets_through() -> None:
    line = Line(10_000, Backoff(tries=1, first=5000, longest=5000))
    threads = [threading.Thread(target=line.lost, args=(GONE,), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    while line.waiting is None:
        pass
    assert line.waiting == "no connection to bucket:9000: Connection refused"
    line.found("http://api:8000")
    assert line.waiting is not None
    line.found(GONE.server)
    for thread in threads:
        # One that came late is still to be told.
        while thread.is_alive():
            line.found(GONE.server)
    assert line.waiting is None


def test_who_waits_hears_whether_somebody_got_through() -> None:
    line = Line(10_000, Backoff(tries=1, first=5000, longest=5000))
    heard: list[bool] = []
    thread = threading.Thread(target=lambda: heard.append(line.lost(GONE)), daemon=True)
    thread.start()
    while thread.is_alive():
        line.found(GONE.server)
    assert heard == [True]
    assert not Line(10_000, Backoff(tries=1, first=0.01, longest=0.01)).lost(GONE)


def test_a_server_away_for_too_long_is_unreachable() -> None:
    line = Line(0, Backoff(tries=1, first=5000, longest=5000))
    with pytest.raises(Unreachable):
        line.lost(GONE)


def lose_for_good(line: Line) -> None:
    while True:
        line.lost(GONE)


def test_time_away_counts_from_when_a_server_was_lost() -> None:
    line = Line(0.05, Backoff(tries=1, first=0.01, longest=0.01))
    with pytest.raises(Unreachable):
        lose_for_good(line)
    line.found(GONE.server)
    line.lost(GONE)


def test_a_server_that_never_answered_is_not_waited_for_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offline, "STRANGER_SECONDS", 0)
    line = Line(10_000, Backoff(tries=1, first=0.01, longest=0.01))
    with pytest.raises(Unreachable):
        line.lost(GONE)
    line.found(GONE.server)
    line.lost(GONE)


def test_who_gives_up_waits_for_nothing() -> None:
    line = Line(10_000, Backoff(tries=1, first=5000, longest=5000))
    raised: list[BaseException] = []

    def wait() -> None:
        try:
            line.lost(GONE)
        except Unreachable as error:
            raised.append(error)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    line.close()
    thread.join(10)
    assert raised == [GONE]


def test_another_transfer_begins_with_the_number_found_and_its_own_count() -> None:
    climb = Climb(16, 9)
    for now in (0, 1, 3):
        climb.feed(now, 0, 0)
    assert climb.limit == 9
