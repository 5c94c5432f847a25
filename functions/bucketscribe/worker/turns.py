"""Who may use the engine: one run at a time, in the order in which the runs were claimed.

So the next run can fetch and decode its recording while the one before has the engine. A run whose recording
is fetched from the web gets in line only when it is there: that can take as long as it likes.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable

_LOOK_SECONDS = 0.5


class Turns:
    """The line before an engine."""

    def __init__(self) -> None:
        self._line: deque[Turn] = deque()
        self._moved = threading.Condition()

    def join(self, ended: Callable[[], None] = lambda: None, *, aside: bool = False) -> "Turn":
        """Get in line, behind all who are in it; or stay `aside` for now, in nobody's way.

        `ended` is called once the turn is over, by who ends it.
        """
        turn = Turn(self._line, self._moved, ended)
        if not aside:
            turn.get_in_line()
        return turn


class Turn:
    """A place in the line. Whoever has one ends it, come what may, or nobody behind it gets on."""

    def __init__(
        self, line: "deque[Turn]", moved: threading.Condition, when_over: Callable[[], None]
    ) -> None:
        self._line = line
        self._when_over = when_over
        self._moved = moved
        self.joined = math.inf
        """When it got in line, by our own clock."""
        self._taken: float | None = None
        self._ended: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has, or had, the engine."""
        if self._taken is None:
            return 0.0
        return (time.monotonic() if self._ended is None else self._ended) - self._taken

    @property
    def taken(self) -> bool:
        """Whether it has, or had, the engine."""
        return self._taken is not None

    @property
    def aside(self) -> bool:
        """Whether it is not in line yet."""
        return self.joined == math.inf and not self.over

    @property
    def over(self) -> bool:
        """Whether it has left the line."""
        return self._ended is not None

    def get_in_line(self) -> None:
        """Wait behind all who are in line from now on; twice is fine."""
        with self._moved:
            if self.joined == math.inf and self._ended is None:
                self.joined = time.monotonic()
                self._line.append(self)

    def take(self, check: Callable[[], None]) -> None:
        """Wait until it is the first. `check` is called at least every half second, and may raise to give up.

        At once where it has the engine already. A turn that is over is never taken again.
        """
        with self._moved:
            while self._line[0] is not self:
                check()
                self._moved.wait(_LOOK_SECONDS)
            if self._taken is None:
                self._taken = time.monotonic()

    def end(self) -> None:
        """Let the next one have the engine, or leave the line; twice is fine."""
        with self._moved:
            if self._ended is not None:
                return
            self._ended = time.monotonic()
            if self.joined != math.inf:
                self._line.remove(self)
                self._moved.notify_all()
        self._when_over()
