"""A slow, long or bad line between two network namespaces, made by `line.c`: the same on every machine.

Servers are at its far end, in this process's own namespace and all its children's; clients at the near one,
where `Line.near` takes a command. Needs Linux, root, `ip`, `nsenter`, a C compiler and /dev/net/tun. Nothing
of it outlives the processes in it: namespaces and devices have no names outside.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

FAR, NEAR = "10.77.0.2", "10.77.0.1"
"""Addresses of the ends."""

ONE_WAY_SECONDS = 0.025
SOURCE = Path(__file__).with_name("line.c")
SYSCTL = Path("/proc/sys/net")
DEVICE_QUEUE = 20000
"""Packets that a device holds for us: so many that only the line's own queue is ever full."""


class NoLine(Exception):
    """A line cannot be made here; the text says why."""


@dataclass(frozen=True)
class Kind:
    """What a line is like, the same in both directions."""

    bits_per_second: float
    lost: float = 0.0
    """Share of the packets, by chance."""

    @property
    def queue_bytes(self) -> int:
        """Room before the line: as much as is under way when it is full, and 1 MB at least."""
        return max(1_000_000, int(self.bits_per_second * 2 * ONE_WAY_SECONDS / 8))


KINDS: Mapping[str, Kind] = {
    "200mbit": Kind(200e6),
    "1gbit": Kind(1e9),
    "200mbit-lossy": Kind(200e6, lost=0.01),
}


@dataclass(frozen=True)
class Line:
    """A line that carries packets."""

    kind: Kind
    process: subprocess.Popen[str]

    def near(self, *command: str) -> tuple[str, ...]:
        """A command, at the near end."""
        return ("nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command)

    def counts(self) -> dict[str, dict[str, int]]:
        """Packets and bytes that came out so far at either end, and what did not."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(file=self.process.stdin, flush=True)
        counts: dict[str, dict[str, int]] = json.loads(self.process.stdout.readline())
        return counts


def compiled(folder: Path) -> Path:
    """The program. Raises NoLine where something it needs is missing."""
    if os.geteuid() != 0:
        raise NoLine("Network namespaces and tun devices need root: run this as root (with `sudo`).")
    for name in ("cc", "ip", "nsenter", "sysctl"):
        if shutil.which(name) is None:
            raise NoLine(f"There is no `{name}`: on Debian and Ubuntu, apt install gcc iproute2 procps")
    program = folder / "line"
    subprocess.run(["cc", "-Wall", "-Wextra", "-O2", "-o", str(program), str(SOURCE)], check=True)
    return program


def move_to_the_far_end() -> None:
    """Give this process, and whatever it starts from now on, a network of its own: there is no way back."""
    os.unshare(os.CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def drawn(program: Path, kind: Kind, seed: int = 1) -> Iterator[Line]:
    """A line to here, until the end of the block."""
    given = (kind.bits_per_second, ONE_WAY_SECONDS * 1e6, kind.queue_bytes, kind.lost * 1e6, seed)
    with subprocess.Popen(
        [str(program), *(str(int(value)) for value in given)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = Line(kind, process)
        try:
            if process.stdout.readline() != "ready\n":
                raise NoLine("The line does not start; it has said why.")
            for command in _configuration("far", FAR):
                subprocess.run(command, check=True)
            for command in _configuration("near", NEAR):
                subprocess.run(line.near(*command), check=True)
            yield line
        finally:
            process.stdin.close()
            process.wait()


def _configuration(device: str, address: str) -> Iterator[tuple[str, ...]]:
    yield ("ip", "link", "set", "lo", "up")
    yield ("ip", "link", "set", device, "up", "mtu", "1500", "txqueuelen", str(DEVICE_QUEUE))
    yield ("ip", "addr", "add", f"{address}/24", "dev", device)
    # What one connection learned of the line would give the next one another start.
    yield ("sysctl", "-q", "-w", "net.ipv4.tcp_no_metrics_save=1")


def tcp_settings() -> dict[str, str]:
    """What the kernel's TCP does here, which is most of what one connection gets out of a line."""
    names = ("tcp_congestion_control", "tcp_wmem", "tcp_rmem")
    return {name: " ".join((SYSCTL / "ipv4" / name).read_text().split()) for name in names}
