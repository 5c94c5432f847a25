"""Free ports for the embedded servers, the same as last time where possible.

SeaweedFS opens port + 10000 (gRPC) beside each of its ports, so both must be free, and both must lie below
the range from which the kernel takes ports for outgoing connections: there, one can be taken at any moment.
Nothing is reserved: a port lost between the look and its use makes its server die and say so.
"""

import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..settings import Settings
from .checks import CannotStart

LOOPBACK = "127.0.0.1"
GRPC_OFFSET = 10000
LOWEST = 10240
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
USUAL_EPHEMERAL_FLOOR = 32768  # Linux; macOS and others start higher


class Ports(NamedTuple):
    """A port for each server on the loopback."""

    s3: int
    master: int
    filer: int
    volume: int
    admin: int
    sqs: int
    worker: int


SEAWEEDFS_PORTS = frozenset({"s3", "master", "filer", "volume", "admin"})


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return False
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: connections that linger after their listener has gone do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen(1)
            except OSError:
                return False
    return True


def check_api_port(settings: Settings) -> None:
    """Refuse a taken API port by name."""
    _check_free(settings.host, settings.port, "port")


def choose(settings: Settings, remembered: Mapping[str, int]) -> Ports:
    """A port for each server: the one set, else last time's, else any. CannotStart if a set one is taken."""
    fixed = {"s3": settings.s3_port, "sqs": settings.sqs_port, "worker": settings.worker_port}
    taken = {settings.port}
    chosen: dict[str, int] = {}
    if settings.sweep_port is not None:
        if settings.sweep_port in taken:
            raise CannotStart(
                f"Port {settings.sweep_port} is wanted twice: change {_variable('sweep_port')}."
            )
        _check_free(LOOPBACK, settings.sweep_port, "sweep_port")
        taken.add(settings.sweep_port)

    def take(name: str, port: int) -> None:
        chosen[name] = port
        taken.update(_needed(name, port))

    for name, port in fixed.items():
        if port is None:
            continue
        setting = f"{name}_port"
        if name in SEAWEEDFS_PORTS and port + GRPC_OFFSET > 65535:
            raise CannotStart(
                f"{_variable(setting)} is {port}, but SeaweedFS also opens that port + {GRPC_OFFSET}: "
                f"choose one up to {65535 - GRPC_OFFSET}."
            )
        for needed in _needed(name, port):
            if needed in taken:
                raise CannotStart(f"Port {needed} is wanted twice: change {_variable(setting)}.")
            _check_free(LOOPBACK, needed, setting)
        take(name, port)

    for name in Ports._fields:
        if name in chosen:
            continue
        last = remembered.get(name)
        if last is not None and _usable(name, last, taken):
            take(name, last)
        else:
            take(name, _pick(name, taken))
    return Ports(**chosen)


def _needed(name: str, port: int) -> tuple[int, ...]:
    return (port, port + GRPC_OFFSET) if name in SEAWEEDFS_PORTS else (port,)


def _usable(name: str, port: int, taken: set[int]) -> bool:
    return all(p <= 65535 and p not in taken and is_free(LOOPBACK, p) for p in _needed(name, port))


def _pick(name: str, taken: set[int]) -> int:
    candidates = list(range(LOWEST, max(_ephemeral_floor() - GRPC_OFFSET, LOWEST + 1000)))
    random.SystemRandom().shuffle(candidates)  # two starting at once should not look at the same ones
    for port in candidates:
        if _usable(name, port, taken):
            return port
    raise CannotStart(f"No free port for {name} from {LOWEST} up.")


def _ephemeral_floor() -> int:
    with suppress(OSError, ValueError, IndexError):
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    return USUAL_EPHEMERAL_FLOOR


def _check_free(host: str, port: int, setting: str) -> None:
    if not is_free(host, port):
        raise CannotStart(
            f"Port {port} on {host} is taken by another program. Stop that one, or set {_variable(setting)} "
            "to another port."
        )


def _variable(setting: str) -> str:
    return f"BUCKETSCRIBE_{setting.upper()}"
