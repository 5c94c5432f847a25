"""How many parts to send at once: more as long as that is faster, fewer when the line or the bucket says so.

A hill climb on measured throughput. A step up is kept if throughput rose noticeably, and taken back if not;
then things stay as they are for a while. Whatever fails halves the number, as TCP halves its window.
Nothing here knows the time or a thread: it is fed.
"""

START = 3

SETTLE_SECONDS = 0.5
"""Not measured after a step: a new connection first fills the system's own buffers."""

WINDOW_SECONDS = 1.0
WINDOW_BYTES = 2 * 1024**2
"""Measured for at least so many bytes a connection: on a slow line that is longer than a second."""

NOTICEABLE = 1.05
"""Throughput must rise by this factor for another connection to be worth it."""

REST_WINDOWS = 2


class Climb:
    """`limit` is how many parts may be on their way, from 1 to `ceiling`. For one transfer."""

    def __init__(self, ceiling: int, limit: int = START) -> None:
        self.ceiling = ceiling
        self.limit = min(limit, ceiling)
        self._settled_at: float | None = None
        self._since = (0.0, 0)
        self._failures = 0
        self._before = 0.0
        self._stepped_up = False
        self._resting = 0

    def feed(self, now: float, sent: int, failures: int) -> None:
        """Say how many bytes were sent, and how many tries failed, until `now`, in seconds of any clock."""
        if self._settled_at is None:
            self._settled_at = now + SETTLE_SECONDS
        if now < self._settled_at:
            self._since = (now, sent)
            return
        seconds, more = now - self._since[0], sent - self._since[1]
        if seconds < WINDOW_SECONDS:
            return
        if failures > self._failures:
            self._failures = failures
            self._rest(max(1, self.limit // 2))
        elif more >= WINDOW_BYTES * self.limit:
            self._since = (now, sent)
            self._judge(more / seconds)

    def _judge(self, rate: float) -> None:
        """A window has ended, in which `rate` bytes a second were sent."""
        if self._stepped_up and rate < self._before * NOTICEABLE:
            self._rest(self.limit - 1)
        elif self._resting:
            self._resting -= 1
        else:
            self._before = rate
            self._stepped_up = self.limit < self.ceiling
            if self._stepped_up:
                self._step_to(self.limit + 1)

    def _rest(self, limit: int) -> None:
        self._stepped_up = False
        self._resting = REST_WINDOWS
        self._step_to(limit)

    def _step_to(self, limit: int) -> None:
        self.limit = limit
        self._settled_at = None
