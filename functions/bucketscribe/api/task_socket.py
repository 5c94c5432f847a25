"""A task's progress by WebSocket, as the older service told it: `/ws/tasks/{id}`.

JSON messages of the types `progress`, `error` and `heartbeat`; a `ping` is answered by a `pong`. After the
last one the socket is closed with 1000, by which its client knows not to come again. A socket lasts an hour
at most, and is closed with 1012 then: come again. Who may not is turned away with 1008, unknown tasks too.
"""

import asyncio
import json
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from anyio import to_thread
from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette import status

from .. import tasks
from ..auth import Scope
from ..bucket import StorageError
from ..errors import Problem
from ..records import NoRecord, Record
from ..service import Service
from .guard import Guard
from .streams import Streams

log = structlog.get_logger()

router = APIRouter()

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 30.0
LASTS_SECONDS = 3600.0
MOST_HEARD: Final = 1024
"""Characters of a message that is read."""

FAILED: Final = "PROCESSING_FAILED"
"""The older service's one code; ours stands in `technical_detail`."""


@router.websocket("/ws/tasks/{id}")
async def follow_task(socket: WebSocket, id: str) -> None:
    service: Service = socket.app.state.service
    guard: Guard = socket.app.state.guard
    streams: Streams = socket.app.state.streams
    try:
        principal = await guard.admit(socket, [Scope.READ])
        socket.state.principal = principal
        record = await _read(service, principal.owner, id, streams)
    except (Problem, *StorageError) as error:
        log.info("socket refused", reason=str(error))
        await socket.close(status.WS_1008_POLICY_VIOLATION)
        return
    try:
        with streams.counted(principal.owner):
            await socket.accept()
            follower = _Follower(socket, id, principal.owner, service, streams)
            telling = asyncio.create_task(follower.tell(guard, record))
            hearing = asyncio.create_task(_hear(socket))
            try:
                await asyncio.wait({telling, hearing}, return_when=asyncio.FIRST_COMPLETED)
                # Where its reader has gone, there is nobody to be told.
                with suppress(RuntimeError, WebSocketDisconnect):
                    if telling.done():
                        await socket.close(telling.result())
            finally:
                telling.cancel()
                hearing.cancel()
    except Problem:
        await socket.close(status.WS_1013_TRY_AGAIN_LATER)


async def _hear(socket: WebSocket) -> None:
    """Answer pings, until the reader goes."""
    with suppress(RuntimeError, WebSocketDisconnect):
        while True:
            try:
                text = await socket.receive_text()
                # What is longer is no ping, and may take long to read.
                said = json.loads(text) if len(text) <= MOST_HEARD else None
            except (KeyError, ValueError):
                # Bytes, or no JSON: it is not for us.
                continue
            if isinstance(said, dict) and said.get("type") == "ping":
                await socket.send_json({"type": "pong"})


async def _read(service: Service, owner: str, id: str, streams: Streams) -> Record:
    stored = await to_thread.run_sync(tasks.find, service.transcriptions, owner, id, limiter=streams.threads)
    return stored.record


class _Follower:
    """Tells one reader of one task."""

    def __init__(self, socket: WebSocket, task: str, owner: str, service: Service, streams: Streams) -> None:
        self._socket = socket
        self._task = task
        self._owner = owner
        self._service = service
        self._streams = streams
        self._told: tuple[str, int] | None = None

    async def tell(self, guard: Guard, record: Record) -> int:
        """Tell of progress until there is no more; return what to close the socket with."""
        begun = heard = time.monotonic()
        while True:
            if await self._tell(record):
                return status.WS_1000_NORMAL_CLOSURE
            now = time.monotonic()
            if now - begun > LASTS_SECONDS:
                return status.WS_1012_SERVICE_RESTART
            if now - heard > HEARTBEAT_SECONDS:
                heard = now
                await self._send({"type": "heartbeat"})
            await asyncio.sleep(POLL_SECONDS)
            try:
                if not await guard.still_admits(self._socket):
                    return status.WS_1008_POLICY_VIOLATION
                record = await _read(self._service, self._owner, record.id, self._streams)
            except (Problem, NoRecord):
                return status.WS_1008_POLICY_VIOLATION
            except StorageError as error:
                log.warning("cannot follow", id=record.id, code="storage_unavailable", reason=str(error))

    async def _tell(self, record: Record) -> bool:
        """Tell what is new; True if that was the last."""
        progress = tasks.progress(record)
        if progress.error is not None:
            await self._send(
                {
                    "type": "error",
                    "task_id": self._task,
                    "error_code": FAILED,
                    "user_message": progress.error,
                    "technical_detail": record.state.value if record.error is None else record.error.code,
                }
            )
            return True
        now = (progress.progress_stage or "queued", progress.progress_percentage)
        if now != self._told:
            self._told = now
            await self._send(
                {
                    "type": "progress",
                    "task_id": self._task,
                    "stage": now[0],
                    "percentage": now[1],
                    "message": "",
                }
            )
        return progress.status == "completed"

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_json(message | {"timestamp": datetime.now(UTC).isoformat()})
