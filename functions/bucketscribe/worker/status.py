"""What the worker's loop and the work in its thread tell each other: progress out, the wish to stop in."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..records import Progress

_BELIEVED_SECONDS = 3.0


class Stopped(Exception):
    """The work was told to stop: canceled, the lease is lost, or the worker ends."""


class Status:
    """The state of one run's work. `saved` is called whenever a window was saved."""

    def __init__(self, saved: Callable[[], None] = lambda: None) -> None:
        self.progress = Progress(stage="starting", percent=0)
        self.windows = 0
        """Windows saved, and speakers, and a recording that was fetched."""
        self.stop = threading.Event()
        """Set to stop at once."""
        self.stop_after_window = threading.Event()
        """Set to stop when the window under way is saved."""
        self._saved = saved
        self._pace = Pace()
        self._last = True
        self._window = (0.0, 0.0, 0.0)
        self._until_saved: Pace | None = self._pace
        self._heard_of = time.monotonic()

    def check(self) -> None:
        """Raises Stopped once the work is to stop at once."""
        self._heard_of = time.monotonic()
        if self.stop.is_set():
            raise Stopped

    def reporter(self, stage: str) -> Callable[[float], None]:
        """A callback for the share of a stage that is done. It raises Stopped once the work is to stop."""

        def report(share: float) -> None:
            self.check()
            self.progress = Progress(stage=stage, percent=_percent(share))

        report(0)
        return report

    @contextmanager
    def within(self) -> Iterator[None]:
        """What is done in the middle of a stage, which goes on afterwards where it was."""
        before = self.progress
        try:
            yield
        finally:
            # A model may have taken longer to load than work may be silent.
            self._heard_of = time.monotonic()
            self.progress = before

    @contextmanager
    def loading(self) -> Iterator[None]:
        """A model is loaded in the middle of a stage, which may take long without a word."""
        with self.within():
            self.reporter("loading")
            yield

    def waiting(self) -> None:
        """The work waits for its turn. Raises Stopped once it is to stop."""
        self.check()
        self.progress = Progress(stage="waiting", percent=0)

    def transcribing(self, total: float, missing: float, *, last: bool = True) -> None:
        """The transcribing begins: so many seconds of the recording in all, and so many still to be done.

        Unless it is the last thing that takes long, nobody can say yet how long all takes.
        """
        self._pace.begin(total, total - missing)
        self._last = last

    def window_reporter(self, seconds: float, share: float = 1.0) -> Callable[[float], None]:
        """A callback for how far the words of a window of that length are. It raises Stopped, too.

        They take that share of the window's time; the rest is the aligning.
        """
        before = self._pace.begin_window(seconds)
        self._window = before, seconds, share
        return self._window_reporter("transcribing", before, seconds * share)

    def aligning_reporter(self) -> Callable[[float], None]:
        """The same for the exact times of the window's words."""
        before, seconds, share = self._window
        return self._window_reporter("aligning", before + seconds * share, seconds * (1 - share))

    def _window_reporter(self, stage: str, begin: float, seconds: float) -> Callable[[float], None]:
        def report(share: float) -> None:
            self.check()
            self._pace.done = begin + share * seconds
            self._tell(stage, self._pace, self._last)

        report(0)
        return report

    def _tell(self, stage: str, pace: "Pace", last: bool) -> None:
        left = pace.left if last else None
        self.progress = Progress(
            stage=stage, percent=_percent(pace.share), seconds_left=None if left is None else round(left)
        )

    def window_saved(self) -> None:
        """A window stands in the bucket. Raises Stopped if the work was to go on until then only."""
        self._count_saved()

    def speakers_begin(self) -> None:
        """The windows are done, and speakers are told apart. How long that takes is not known at first."""
        self._until_saved = None

    def diarizing_reporter(self) -> Callable[[float], None]:
        """A callback for the share of the recording in which speakers are told apart. It raises Stopped."""
        pace = Pace()
        pace.begin(1, 0)
        pace.begin_window(1)
        self._until_saved = pace

        def report(share: float) -> None:
            self.check()
            pace.done = share
            self._tell("diarizing", pace, last=True)

        report(0)
        return report

    def speakers_saved(self) -> None:
        """The speakers stand in the bucket, which counts as a window. Raises Stopped as for one."""
        self._until_saved = self._pace
        self._count_saved()

    def recording_fetched(self) -> None:
        """The recording stands in the bucket, which counts as a window. Raises Stopped as for one."""
        self._count_saved()

    def _count_saved(self) -> None:
        self.windows += 1
        self._saved()
        if self.stop_after_window.is_set():
            raise Stopped

    @property
    def transcribed_seconds(self) -> float:
        """Seconds of the recording that a finished run has transcribed here; others were saved before."""
        return self._pace.missing

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard of the work. A model that is being fetched says nothing for long."""
        return 0.0 if self.progress.stage == "loading" else time.monotonic() - self._heard_of

    @property
    def window_left(self) -> float | None:
        """About how many seconds it takes yet until something is saved; None if nobody can say."""
        return None if self._until_saved is None else self._until_saved.window_left


class Pace:
    """How fast the transcribing goes, by what was done since it began here. In seconds of the recording."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun = clock()
        self._first = 0.0
        self._total = 0.0
        self._window_end = 0.0
        self.done = 0.0

    def begin(self, total: float, done: float) -> None:
        """Here and now it begins; `done` was there before."""
        self._begun = self._clock()
        self._total, self._first, self.done = total, done, done

    def begin_window(self, seconds: float) -> float:
        """Go on with a window of that length; returns what is done before it."""
        self.done = max(self.done, self._window_end)
        self._window_end = self.done + seconds
        return self.done

    @property
    def missing(self) -> float:
        """What was to be done when it began."""
        return self._total - self._first

    @property
    def share(self) -> float:
        """How much of the whole is done."""
        return self.done / self._total if self._total else 0.0

    @property
    def left(self) -> float | None:
        """Seconds of work until all is done; None as long as that would be a guess."""
        if self._clock() - self._begun < _BELIEVED_SECONDS:
            return None
        return self._until(self._total)

    @property
    def window_left(self) -> float | None:
        """Seconds of work until the window is done, as far as can be told."""
        return self._until(self._window_end)

    def _until(self, end: float) -> float | None:
        elapsed, done = self._clock() - self._begun, self.done - self._first
        return (end - self.done) * elapsed / done if done > 0 else None


def _percent(share: float) -> int:
    return min(100, max(0, int(share * 100)))
