"""How many requests a second somebody may make: a token bucket for each, in this process's memory.

https://en.wikipedia.org/wiki/Token_bucket, of ten seconds' worth: a page that begins many uploads at once is
no attack. Several processes allow several times as much.
"""

import time
from collections.abc import Callable
from math import ceil

from ..errors import Problem

BURST_SECONDS = 10
REMEMBERED = 10_000


class RateLimit:
    """The limit, in requests a second, or None for none. For one event loop."""

    def __init__(self, limit: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> None:
        """Count a request. Raises Problem `too_many_requests`."""
        if self._limit is None:
            return
        now = self._clock()
        # A bucket is known by when it will be full again; each request puts that off.
        full_at = max(self._full_at.get(name, 0), now) + 1 / self._limit
        wait = full_at - now - max(BURST_SECONDS, 1 / self._limit)
        if wait > 0:
            raise Problem(
                "too_many_requests",
                f"At most {self._limit:g} requests a second are answered; try again in {ceil(wait)} s.",
                {"retryAfter": ceil(wait)},
            )
        if len(self._full_at) >= REMEMBERED:
            self._full_at = {who: at for who, at in self._full_at.items() if at > now}
        self._full_at[name] = full_at
