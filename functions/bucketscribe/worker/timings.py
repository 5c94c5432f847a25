"""How long the stages of some work take, in seconds. Used by one thread; fails never."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic


class Timings:
    """Stages that may lie within each other: what goes to the inner one is not counted for the outer."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._within = 0.0  # what is not the stage's under way
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what is done in the block for a stage; it may come more than once."""
        with self.pause() as taken:
            yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + taken(), 3)

    @contextmanager
    def pause(self) -> Iterator[Callable[[], float]]:
        """Count what is done in the block for no stage. Gives how long it took, once it is over."""
        begun, before = self._clock(), self._within
        self._within = 0.0
        took = whole = 0.0
        try:
            yield lambda: took
        finally:
            whole = self._clock() - begun
            took = whole - self._within
            self._within = before + whole
