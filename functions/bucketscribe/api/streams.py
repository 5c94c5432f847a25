"""Event streams that are open: each looks into the bucket twice a second, for as long as its reader likes.

So an owner may have so many at once, and all looks share a few threads that no other route needs.
"""

from collections import Counter
from collections.abc import AsyncIterator

from anyio import CapacityLimiter

from ..errors import Problem

MOST = 100
"""Open streams of one owner, in one process: a page follows what is in progress."""

HELD_SECONDS = 20.0
"""How long a stream that is held may last: less than anybody in front of us waits."""

THREADS = 8
RETRY_SECONDS = 5


class Streams:
    """The streams of one application; for one event loop.

    `held` are those that reach their readers only when they end, as a Lambda has it.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.held = held
        self.threads = CapacityLimiter(THREADS)
        self._open: Counter[str] = Counter()

    def check(self, owner: str) -> None:
        """See that one more may be opened. Raises Problem `too_many_requests`."""
        if self._open[owner] >= MOST:
            raise Problem(
                "too_many_requests",
                f"{MOST} event streams are open. Close some, or read transcriptions now and then instead.",
                {"retryAfter": RETRY_SECONDS},
            )

    async def counted(self, owner: str, stream: AsyncIterator[str]) -> AsyncIterator[str]:
        """The stream, counted from its first event to its end."""
        self._open[owner] += 1
        try:
            async for event in stream:
                yield event
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
