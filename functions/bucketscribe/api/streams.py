"""Event streams that are open: each looks into the bucket again and again, for as long as its reader likes.

So an owner may have so many at once, and all looks share a few threads that no other route needs.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Request
from fastapi.responses import StreamingResponse

from ..errors import Problem
from .context import TheOwner

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

    @contextmanager
    def counted(self, owner: str) -> Iterator[None]:
        """Count one more, to the end of the block. Raises Problem `too_many_requests`."""
        if self._open[owner] >= MOST:
            raise Problem(
                "too_many_requests",
                f"{MOST} event streams are open. Close some, or read transcriptions now and then instead.",
                {"retryAfter": RETRY_SECONDS},
            )
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]


async def _one_more(request: Request, owner: TheOwner) -> AsyncIterator[Streams]:
    streams: Streams = request.app.state.streams
    # To the end of the answer, or of the request, where no answer is ever begun.
    with streams.counted(owner):
        yield streams


TheStreams = Annotated[Streams, Depends(_one_more)]
"""For a route that answers with a stream, and has it counted."""


def event_stream(events: AsyncIterator[str]) -> StreamingResponse:
    """An answer of server-sent events, which nobody on its way is to keep, or to hold until it is whole."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)
