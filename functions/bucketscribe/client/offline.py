"""Sitting out a lost connection: everyone who waits for a server tries again when the first one gets through.

No connection means that none can be made, or that one has fallen silent; a connection that breaks is another
matter, and its caller's. The clock stands still while the machine sleeps, where the system has such a clock,
so that a closed lid does not use the time up.
"""

import random
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from urllib3.exceptions import TimeoutError as NoAnswer

from .backoff import Backoff
from .errors import Unreachable


def is_offline(error: BaseException) -> bool:
    """Whether a request failed for want of a connection: refused, no route, no name, no answer in time."""
    cause: BaseException | None = error
    while cause is not None:
        # urllib3's own is also the base of its errors of connecting.
        if isinstance(cause, NoAnswer | TimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


STRANGER_SECONDS = 60
"""A server that has never answered is more likely to have another address than to come back."""


class Line:
    """The way to the servers; threads share it.

    A server that has answered before, or is said to be `known`, may be away for `seconds`; the pauses between
    tries grow with that time, from the shortest to the longest of `backoff`. `tell` hears what is waited for,
    and None when it is over, in the thread that waits.
    """

    def __init__(
        self,
        seconds: float,
        backoff: Backoff,
        tell: Callable[[str | None], None] = lambda _waiting: None,
        known: str | None = None,
    ) -> None:
        self._seconds = seconds
        self._backoff = backoff
        self._tell = tell
        self._known = {known}
        self._away: dict[str, tuple[float, str]] = {}
        self._closed = False
        self._changed = threading.Condition()

    @property
    def waiting(self) -> str | None:
        """What is waited for, in a few words."""
        return next((words for _, words in self._away.copy().values()), None)

    def lost(self, error: Unreachable) -> bool:
        """Pause until it is time to try again; whether somebody has got through meanwhile.

        Raises the error when its server was away for too long.
        """
        now = time.monotonic()
        words = f"no connection to {urlsplit(error.server).netloc}: {error.reason}"
        with self._changed:
            since, _ = self._away.get(error.server, (now, ""))
            self._away[error.server] = since, words
        self._tell(words)
        away = now - since
        known = error.server in self._known
        left = (self._seconds if known else min(self._seconds, STRANGER_SECONDS)) - away
        pause = min(max(away, self._backoff.first), self._backoff.longest)
        with self._changed:
            if error.server in self._away and left > 0 and not self._closed:
                self._changed.wait(min(pause * random.uniform(0.5, 1), left))  # noqa: S311 -- jitter
            if left <= 0 or self._closed:
                raise error
            return error.server not in self._away

    def found(self, server: str) -> None:
        """A server has answered, whatever it said."""
        self._known.add(server)
        if server not in self._away:
            return
        with self._changed:
            self._away.pop(server, None)
            self._changed.notify_all()
        self._tell(self.waiting)

    def close(self) -> None:
        """Wait no more: whoever does gets the error."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
