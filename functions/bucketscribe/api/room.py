"""Room for bodies on their way into the bucket: so many at once in one process, by tus and in forms together.

What each holds in memory is bounded, their number would not be. Who finds no room waits for it, with nothing
read of what it sends and no thread taken, and is told to come again if that takes too long.
"""

import asyncio
from contextlib import ExitStack

from ..errors import Problem

MOST = 32
"""Each holds a part that fills and one that waits: 10 MiB at most. With the 20 MiB that are being sent, and
what the process has anyway, 90 MiB, they stay below the 512 MiB that infra/compose gives it."""

WAIT_SECONDS = 10.0
"""How long one waits for room: less than clients and proxies wait for an answer."""

RETRY_SECONDS = 5


class Room:
    """The bodies under way in one application; for one event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(MOST)
        self._waiting = 0

    @property
    def full(self) -> bool:
        """Whether who comes now has to wait."""
        return self._places.locked()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for room."""
        return self._waiting > 0

    async def enter(self) -> ExitStack:
        """Come in, after those who came before; closing the stack leaves it. Raises Problem `busy`."""
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise busy("Nothing of this one was taken. Send it again in a moment.") from None
        finally:
            self._waiting -= 1
        place = ExitStack()
        place.callback(self._places.release)
        return place


def busy(what: str) -> Problem:
    """What to say where too many send at once, and what became of this one."""
    return Problem("busy", f"Too many recordings are on their way. {what}", {"retryAfter": RETRY_SECONDS})
