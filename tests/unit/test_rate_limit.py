"""So many requests a second, with a clock that stands still until it is told otherwise."""

import pytest
from bucketscribe.api import rate_limit
from bucketscribe.api.rate_limit import BURST_SECONDS, RateLimit
from bucketscribe.errors import Problem


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(limit: RateLimit, name: str = "ann", at_most: int = 10_000) -> int:
    """How many requests go through at this moment."""
    for count in range(at_most):
        try:
            limit.take(name)
        except Problem:
            return count
    return at_most


def test_ten_seconds_worth_goes_through_at_once_and_then_so_many_a_second(clock: Clock) -> None:
    limit = RateLimit(4, clock)
    assert taken(limit) == 4 * BURST_SECONDS
    clock.now += 1
    assert taken(limit) == 4
    clock.now += 0.125
    assert taken(limit) == 0
    clock.now += 3600
    assert taken(limit) == 4 * BURST_SECONDS


def test_who_is_refused_is_told_when_to_come_again_and_may_then(clock: Clock) -> None:
    limit = RateLimit(0.25, clock)
    taken(limit)
    with pytest.raises(Problem, match=r"At most 0.25 requests a second") as refused:
        limit.take("ann")
    assert refused.value.code == "too_many_requests"
    wait = refused.value.extra["retryAfter"]
    assert (wait, type(wait)) == (2, int)
    clock.now += wait
    limit.take("ann")


def test_being_refused_costs_nothing(clock: Clock) -> None:
    limit = RateLimit(1, clock)
    taken(limit)
    for _ in range(100):
        with pytest.raises(Problem):
            limit.take("ann")
    clock.now += 1
    limit.take("ann")


def test_what_others_do_does_not_count(clock: Clock) -> None:
    limit = RateLimit(1, clock)
    assert taken(limit, "ann") == taken(limit, "bob") == BURST_SECONDS


def test_less_than_one_in_ten_seconds_is_one_at_least(clock: Clock) -> None:
    limit = RateLimit(0.01, clock)
    assert taken(limit) == 1
    clock.now += 100
    assert taken(limit) == 1


def test_without_a_limit_everything_goes_through(clock: Clock) -> None:
    assert taken(RateLimit(None, clock)) == 10_000


def test_who_has_not_come_for_a_while_is_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limit, "REMEMBERED", 100)
    limit = RateLimit(1, clock)
    assert taken(limit, "ann") == BURST_SECONDS
    for number in range(1024):
        clock.now += 2**-8
        limit.take(str(number))
    assert len(limit._full_at) < 400
    # Not she, who has used hers up.
    assert taken(limit, "ann") == 4
