"""How long a run will need the engine, told by the runs before it. In seconds.

Nobody knows how long a recording is before it is decoded, but how large it is: what counts is the engine's
time for each byte, for the same kind of run. That can be far from true (a video has more bytes a second than
a phone call), so whoever relies on it looks again later.
"""

from collections import deque
from statistics import median

from ..records import Record

_REMEMBERED = 8


class Forecast:
    """What the last runs took."""

    def __init__(self) -> None:
        self._paces: dict[tuple[str | None, bool], deque[float]] = {}

    def learn(self, record: Record, seconds: float) -> None:
        """A run has had the engine for so long."""
        if record.size:
            self._paces.setdefault(_kind(record), deque(maxlen=_REMEMBERED)).append(seconds / record.size)

    def left(self, record: Record, seconds: float) -> float | None:
        """How long a run that has had the engine for so long will need it yet; None if nobody can say."""
        paces = tuple(self._paces.get(_kind(record), ()))
        if not paces or not record.size:
            return None
        left = median(paces) * record.size - seconds
        # What has taken longer than expected may take as long again.
        return left if left > 0 else seconds


def _kind(record: Record) -> tuple[str | None, bool]:
    return record.options.model, bool(record.options.diarize)
