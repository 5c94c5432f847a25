"""`bucketscribe up`: one terminal, one supervisor.

Order: the embedded servers, then bucket and queues, then API, worker and sweep; the other way round to stop,
within 10 s. Ctrl-C, SIGTERM and SIGHUP stop it. What keeps it from starting is said in a line, and the status
is 1. A supervisor that is killed takes its children along (see `tether.py`).
"""

import asyncio
import signal
import sys
from collections.abc import Sequence

from ..settings import Settings
from . import ports, processes
from .checks import CannotStart, check_host
from .child import Child, Keeper
from .home import Home, claim, remembered_ports
from .log import Log

SERVERS_READY_SECONDS = 60.0
SLOW_SECONDS = 60.0
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(settings: Settings) -> int:
    """Start everything, keep it running until told to stop; returns the exit status."""
    log = Log()
    try:
        check_host(settings)
        with claim(settings.data_dir) as home:
            ports.check_api_port(settings)
            asyncio.run(Supervisor(settings, home, log).run())
    except CannotStart as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


class Supervisor:
    """Everything that runs, in the order in which it was started."""

    def __init__(self, settings: Settings, home: Home, log: Log) -> None:
        self.settings = settings
        self.home = home
        self.log = log
        self._keepers: list[Keeper] = []

    async def run(self) -> None:
        """From start to stop. Raises CannotStart, with nothing left running."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, stop.set)
        stopping = asyncio.create_task(stop.wait())
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            for task in (starting, stopping):
                task.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._stop()

    async def _start(self) -> None:
        settings, home = self.settings, self.home
        credentials = home.credentials()
        chosen = ports.choose(settings, remembered_ports(home.path))
        home.remember_ports(chosen._asdict())

        self.log.line("up", "starting; Ctrl-C stops")
        servers = (
            processes.seaweedfs(settings, home, chosen, credentials),
            processes.sqs(settings, chosen, credentials),
        )
        for keeper in self._launch(servers):
            await self._wait_for_server(keeper)

        environment = processes.our_environment(settings, home, chosen, credentials)
        api, *_ = self._launch(
            (
                processes.api(settings, environment),
                processes.worker(environment, chosen),
                processes.sweep(environment),
            )
        )
        await self._wait_for_api(api)
        self.log.bare(f"Bucketscribe is ready: {processes.api_url(settings)}  (data in {home.path})")

    def _launch(self, children: Sequence[Child]) -> list[Keeper]:
        keepers = [Keeper(child, self.log, held=self.home.lock) for child in children]
        for keeper in keepers:
            self._keepers.append(keeper)
            keeper.start()
        return keepers

    async def _wait_for_server(self, keeper: Keeper) -> None:
        try:
            await asyncio.wait_for(keeper.ready.wait(), SERVERS_READY_SECONDS)
        except TimeoutError:
            raise CannotStart(
                f"{keeper.child.name} is not ready after {SERVERS_READY_SECONDS:g} s ({keeper.lacks}). "
                f"See the lines above and {self.home.seaweedfs_log}."
            ) from None

    async def _wait_for_api(self, keeper: Keeper) -> None:
        """However long it takes: what is wrong may be put right while we wait."""
        while True:
            try:
                await asyncio.wait_for(keeper.ready.wait(), SLOW_SECONDS)
            except TimeoutError:
                self.log.line("up", f"still waiting: {keeper.lacks}")
            else:
                return

    async def _stop(self) -> None:
        """Stop the children one after another, the last started first."""
        if self._keepers:
            self.log.line("up", "stopping")
        for keeper in reversed(self._keepers):
            await keeper.stop()
