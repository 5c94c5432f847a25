"""What came of a transcription that somebody waits for, in one request.

Nothing is held meanwhile but the request: the record is read again and again, as for an event stream. Who
waits no longer changes nothing.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from anyio import to_thread

from ..bucket import StorageError
from ..errors import FAILURES, Problem
from ..records import FINAL, Failure, Record, State
from ..service import Service
from ..transcriptions import no_longer_kept
from ..uploads import REFUSALS
from .streams import Streams
from .transcriptions import POLL_SECONDS

log = structlog.get_logger()

UNUSABLE: Final = frozenset({"no_audio", "too_long", "undecodable"})
"""Failures that are the recording's fault."""

WORTH_REPEATING: Final = frozenset({"upload_lost", "recording_lost", "recording_changed"})
"""Failures that another upload may mend."""


async def followed(
    service: Service,
    owner: str,
    id: str,
    until: float,
    admitted: Callable[[], Awaitable[bool]],
    streams: Streams,
) -> AsyncIterator[Record]:
    """The record at each look, to the one with a transcript. `until` is of the monotonic clock.

    Raises Problem `takes_longer`, `bad_credentials`, and why there is no transcript.
    """
    state = State.COMPLETING
    while True:
        try:
            if not await admitted():
                raise Problem("bad_credentials", "These credentials are not good any more.", {"id": id})
            stored = await to_thread.run_sync(service.records.read, owner, id, limiter=streams.threads)
        except StorageError as error:
            log.warning("cannot wait", id=id, code="storage_unavailable", reason=str(error))
        else:
            if stored is None:
                raise _stopped(id, State.DELETED)
            record, state = stored.record, stored.record.state
            if state in FINAL and state is not State.COMPLETED:
                raise why_not(record)
            yield record
            if state is State.COMPLETED:
                return
        if time.monotonic() >= until:
            raise Problem(
                "takes_longer",
                f"The transcription is {state}, and goes on: do not send the recording again. Follow it at "
                f"/transcriptions/{id}; its transcript will be at /transcriptions/{id}/transcript.json.",
                {"id": id, "state": state},
            )
        await asyncio.sleep(POLL_SECONDS)


def why_not(record: Record) -> Problem:
    """Why there is no transcript of what has ended."""
    if record.state is not State.FAILED:
        return _stopped(record.id, record.state)
    failure = record.error or Failure(code="engine_failed", message=FAILURES["engine_failed"])
    if failure.code in REFUSALS:
        return Problem(failure.code, failure.message, {"id": record.id})
    told = {"id": record.id, "failure": failure.code}
    there = f"/transcriptions/{record.id}"
    detail = failure.message
    if record.partial:
        detail += f" What was said up to there is at {there}/transcript.json."
    if failure.code in UNUSABLE:
        return Problem("not_transcribable", detail, told)
    if failure.code in WORTH_REPEATING:
        return Problem("transcription_failed", f"{detail} Send the recording again.", told)
    return Problem("transcription_failed", f"{detail} The recording is kept: POST {there}/retry.", told)


def _stopped(id: str, state: State) -> Problem:
    detail = f"The transcription {id} was {state} while it was waited for."
    return Problem("not_ready", detail, {"id": id, "state": state})


def transcript_file(service: Service, record: Record, format: str) -> bytes:
    """A file of a finished transcription. Raises Problem `no_longer_kept`, `no_such_transcription`."""
    for _ in range(2):
        found = service.bucket.get(f"{record.transcript_prefix}transcript.{format}")
        if found is not None:
            return found.body
        # Speakers may just have been renamed, and the files with the names before be gone.
        record = service.transcriptions.get(record.owner, record.id).record
    raise no_longer_kept("transcript")
