"""A process kept alive: what it is, and the keeper that starts it, restarts it and stops it.

Each child runs under a tether (`tether.py`) in a session of its own, so that signals to the terminal's
process group do not reach it out of order and it cannot outlive the supervisor. One that dies comes back
after a pause that doubles from 0.5 s to 30 s, and begins anew after a minute of steady running. The keeper
itself never fails: what goes wrong is said in the log and tried again.
"""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path

from .log import Log, clean

TETHER = Path(__file__).with_name("tether.py")
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
LONGEST_LINE = 64 * 1024
LOG_FILE_BYTES = 5 * 1024 * 1024


class NotReady(Exception):
    """The child does not do its work yet; the text says what it lacks."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process to keep alive, as data.

    `make_ready` is tried after every start, in a thread, until it no longer raises NotReady; a try must end
    by itself within a few seconds. `grace` is how many seconds SIGTERM is given before SIGKILL.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    grace: float
    directory: Path | None = None
    make_ready: Callable[[], object] | None = None
    after_exit: Callable[[], None] | None = None
    worth_showing: Callable[[str], bool] | None = None
    log_file: Path | None = None


class Keeper:
    """Keeps one child alive. `ready` is set once the child's `make_ready` has gone through.

    `held` is a descriptor each tether inherits, so that what it locks stays locked until the child has gone.
    """

    def __init__(self, child: Child, log: Log, held: int) -> None:
        self.child = child
        self.ready = asyncio.Event()
        self.lacks = "it has not answered yet"
        self._log = log
        self._held = held
        self._file = _file_logger(child)
        self._stopping = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the child, and from now on start it again whenever it ends."""
        self._task = asyncio.create_task(self._keep(), name=self.child.name)

    async def stop(self) -> None:
        """End the child: SIGTERM, after its grace SIGKILL. Returns when it is gone."""
        self._stopping.set()
        if self._task is None:
            return
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()
        await asyncio.wait({self._task}, timeout=self.child.grace + 0.5)
        if self._process is not None:
            _kill_group(self._process.pid)
        await self._task
        for handler in self._file.handlers if self._file else ():
            handler.close()

    async def _keep(self) -> None:
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = clock()
            try:
                status = await self._live()
                ending = describe(status)
            except OSError as error:
                status, ending = 127, f"cannot be started: {error}"
            if self._stopping.is_set():
                if status == -signal.SIGKILL:
                    self._log.line("up", f"{self.child.name} did not stop in {self.child.grace:g} s: killed")
                return
            if clock() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            self._log.line("up", f"{self.child.name} {ending}; it comes back in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _live(self) -> int:
        """One life of the child; returns the tether's status."""
        child = self.child
        # Pipes of our own: asyncio's would keep wait() from returning while a grandchild holds one open.
        lifeline, ours = os.pipe()
        output, theirs = os.pipe()
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(TETHER), str(child.grace), *child.command),
                    stdin=lifeline,
                    stdout=theirs,
                    stderr=theirs,
                    env=dict(child.environment),
                    cwd=child.directory,
                    start_new_session=True,
                    pass_fds=(self._held,),
                )
            finally:
                os.close(lifeline)
                os.close(theirs)
        except OSError:
            os.close(output)
            os.close(ours)
            raise
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        listening = asyncio.create_task(self._listen(output))
        readying = asyncio.create_task(self._make_ready())
        try:
            status = await process.wait()
        finally:
            self._process = None
            readying.cancel()
            os.close(ours)
        _kill_group(process.pid)
        await asyncio.wait({listening}, timeout=1)
        listening.cancel()
        await asyncio.gather(listening, readying, return_exceptions=True)
        if child.after_exit is not None:
            child.after_exit()
        return status

    async def _listen(self, output: int) -> None:
        """Pass on what the child says, line by line."""
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb", buffering=0)
        )
        rest = b""
        try:
            while chunk := await reader.read(LONGEST_LINE):
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LONGEST_LINE:
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    self._say(line)
            if rest:
                self._say(rest)
        finally:
            transport.close()

    def _say(self, line: bytes) -> None:
        text = clean(line.decode(errors="replace")).rstrip()
        if self._file is not None:
            self._file.info(text)
        if text and (self.child.worth_showing is None or self.child.worth_showing(text)):
            self._log.line(self.child.name, text)

    async def _make_ready(self) -> None:
        if self.child.make_ready is None:
            return
        pause = 0.05
        while True:
            try:
                await asyncio.to_thread(self.child.make_ready)
            except NotReady as error:
                self.lacks = str(error)
                await asyncio.sleep(pause)  # nothing tells when another program begins to answer
                pause = min(pause * 1.5, 1.0)
            else:
                break
        if self.ready.is_set():
            self._log.line("up", f"{self.child.name} is back")
        self.ready.set()


def describe(status: int) -> str:
    """How a tether's child ended, in words."""
    number = -status if status < 0 else status - 128
    if number > 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
    return f"ended with status {status}"


def _kill_group(leader: int) -> None:
    # macOS answers EPERM for a group of which only zombies are left.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _file_logger(child: Child) -> logging.Logger | None:
    if child.log_file is None:
        return None
    handler = RotatingFileHandler(child.log_file, maxBytes=LOG_FILE_BYTES, backupCount=1, delay=True)
    logger = logging.Logger(child.name)
    logger.addHandler(handler)
    return logger
