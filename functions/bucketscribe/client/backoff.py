"""How long to wait before trying again: pauses that double, shortened by chance to spread clients out."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """At most `tries` tries, with pauses from `first` up to `longest` seconds between them."""

    tries: int
    first: float
    longest: float

    def pauses(self) -> Iterator[float]:
        """The pauses in seconds; one fewer than there are tries."""
        for attempt in range(self.tries - 1):
            pause = min(self.longest, self.first * 2**attempt)
            yield pause * random.uniform(0.5, 1)  # noqa: S311 -- jitter


QUICK = Backoff(tries=3, first=0.2, longest=1)
"""For a call a person waits for: gives up within a second."""

PATIENT = Backoff(tries=10, first=0.5, longest=30)
"""For an upload or a long wait: outlasts a restart of the server, or a minute without a network."""
