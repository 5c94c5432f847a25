"""Completions that may outlast their callers.

S3 can take minutes to put a very large upload together, and an HTTP API cuts its callers off after 30 s. So
each completion runs in a thread of its own, at most one an upload, and goes on when its caller was answered.

A Lambda is frozen then, and perhaps never thawed. What its thread leaves undone is what was promised, and is
done by whoever is told that the object is there, or by the sweep; a thread that is thawed finds it done.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

import structlog
from anyio import CapacityLimiter, move_on_after, to_thread

from ..errors import Problem
from ..records import Record
from ..uploads import still_busy

log = structlog.get_logger()

TRANSCRIPTION: Final = "Bucketscribe-Transcription"
"""The header by which an answer to some other protocol names the transcription."""

WAIT_SECONDS = 20.0
PROMISE_SECONDS = 5.0
THREADS = 20


class Completions:
    """The completions under way in one application; for one event loop."""

    def __init__(self, threads: int = THREADS) -> None:
        self._tasks: set[asyncio.Task[Record]] = set()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # Never the threads of the other routes, however many callers repeat.
        self._threads = CapacityLimiter(threads)
        self._promising = CapacityLimiter(threads)

    async def run(
        self,
        id: str,
        complete: Callable[[], Record],
        promise: Callable[[], Record],
        *,
        promise_seconds: float | None = PROMISE_SECONDS,
    ) -> Record:
        """Complete an upload; or, if that takes longer than a caller waits, have it promised.

        Raises what they raise, and Problem `busy` where not even the promise can be made in time; None is all
        the time it takes.
        """
        lock = self._locks.setdefault(id, asyncio.Lock())

        async def alone() -> Record:
            async with lock:
                return await to_thread.run_sync(complete, limiter=self._threads)

        task = asyncio.create_task(alone())
        self._tasks.add(task)
        done, _ = await asyncio.wait({task}, timeout=WAIT_SECONDS)
        if done:
            self._tasks.discard(task)
            return task.result()
        task.add_done_callback(partial(self._ended, id))
        with move_on_after(promise_seconds):
            return await to_thread.run_sync(promise, abandon_on_cancel=True, limiter=self._promising)
        raise still_busy()

    def _ended(self, id: str, task: asyncio.Task[Record]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, Problem):
            log.info("completion refused", id=id, code=error.code, reason=error.detail)
        else:
            log.error("completion failed", id=id, code="internal", exc_info=error)
