"""Uploads by tus through a server into a bucket: ours, and tuspyserver with its S3 backend, taking turns.

    .venv/bin/python -m benchmarks.tus [rounds] [MiB]

One recording of that size, sent in three ways: in chunks of 5 MiB, of 50 MiB, and by one PATCH. Both servers
are one process of the same uvicorn, event loop and HTTP parser, before the same SeaweedFS. Each upload gets
one that has just been started, so that its memory and its delays are of this upload alone; a small upload
before it makes the server warm, and counts for its memory. The client is the same, in a process of its own,
and has the kernel hand the file to the socket. A third process asks `/health` every 20 ms meanwhile. All
share the machine's cores.

A virtual machine's host takes the processor away at times, and then everybody waits: an upload during which
it took more than a little is measured again.

An upload is timed from its POST until the last PATCH is answered: then both have completed the object, and
ours has judged and queued it. After that it is read back and compared. tuspyserver is installed by uv into
`.tools/tuspyserver`. Prints Markdown tables; exits with 1 where a goal is missed.
"""

import hashlib
import http.client
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

from bucketscribe.bucket import Bucket
from bucketscribe.settings import Settings
from bucketscribe.up import processes
from bucketscribe.up.child import Child
from bucketscribe.up.ports import LOOPBACK, choose

from benchmarks.api import cpu_seconds
from benchmarks.upload import WAV_HEAD
from tests.servers import Server, Servers, running

ROUNDS, SIZE_MIB = 3, 1024
MIB = 1024**2
WAYS = {"5 MiB chunks": 5 * MIB, "50 MiB chunks": 50 * MIB, "one PATCH": None}
SMALL_MIB = 12
"""What a server takes before it is measured: two parts and a rest."""

RATIO_GOAL = 1.3
MEMORY_GOAL_MIB = 64.0
HEALTH_GOAL_MS = 25.0
ASK_EVERY_SECONDS = 0.02
MOST_STOLEN_SECONDS = 0.05
MOST_TRIES = 5
SPAWN = multiprocessing.get_context("spawn")

ROOT = Path(__file__).parents[1]
PEER = Path(__file__).with_name("tuspyserver")
PEER_BIN = ROOT / ".tools" / "tuspyserver" / "bin"
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers: how it is started, where it takes uploads, where their objects lie."""

    name: str
    child: Child
    port: int
    uploads: str
    prefix: str


@dataclass
class Costs:
    """What the uploads of one way by one side took; a list has an entry an upload, but for `delays`."""

    rates: list[float] = field(default_factory=list)
    """MiB a second."""
    memory: list[float] = field(default_factory=list)
    """MiB of the server at its peak, above those it had when it was ready."""
    cpu: list[tuple[float, ...]] = field(default_factory=list)
    """CPU seconds of the server and of SeaweedFS."""
    delays: list[float] = field(default_factory=list)
    """Milliseconds of each answer of `/health`."""

    def add(self, more: "Costs") -> None:
        """Another upload of this way by this side."""
        self.rates += more.rates
        self.memory += more.memory
        self.cpu += more.cpu
        self.delays += more.delays

    def percentile(self, hundredth: int) -> float:
        """Of the delays, in milliseconds."""
        return statistics.quantiles(self.delays, n=100)[hundredth - 1]


def send(port: int, uploads: str, file: Path, size: int, chunk: int | None) -> float:
    """Upload the first `size` bytes of a file; the seconds it took."""
    metadata = ",".join(
        f"{name} {b64encode(value.encode()).decode()}"
        for name, value in (("filename", "talk.wav"), ("filetype", "audio/wav"))
    )
    created = {**TUS, "Upload-Length": str(size), "Upload-Metadata": metadata, "Content-Length": "0"}
    with closing(http.client.HTTPConnection(LOOPBACK, port)) as server, file.open("rb") as recording:
        begun = time.perf_counter()
        server.request("POST", uploads, headers=created)
        location = urlsplit(_answer(server, 201).headers["Location"]).path
        offset = 0
        while offset < size:
            count = min(chunk or size, size - offset)
            server.putrequest("PATCH", location, skip_accept_encoding=True)
            patch = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": str(offset)}
            for name, value in {**TUS, **patch, "Content-Length": str(count)}.items():
                server.putheader(name, value)
            server.endheaders()
            # Files go to the socket by the kernel: the client costs next to nothing.
            server.sock.sendfile(recording, offset, count)
            told = int(_answer(server, 204).headers["Upload-Offset"])
            assert told == offset + count, (told, offset, count)
            offset = told
        return time.perf_counter() - begun


def _answer(server: http.client.HTTPConnection, status: int) -> http.client.HTTPResponse:
    answer = server.getresponse()
    text = answer.read()
    assert answer.status == status, (answer.status, text[:1000])
    return answer


def ask_health(port: int, end: Connection) -> None:
    """Ask every 20 ms until told to end; then tell the milliseconds that each answer took.

    One that was not asked in time, as the one before had no answer yet, is counted from when it was due.
    """
    # Where the system lets it, it does not wait for the processor itself: that is not the server's doing.
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    delays = []
    with closing(http.client.HTTPConnection(LOOPBACK, port)) as server:
        end.send(None)
        due = time.perf_counter()
        while not end.poll(early := max(0.0, due - time.perf_counter())):
            begun = time.perf_counter() if early else due
            server.request("GET", "/health")
            _answer(server, 200)
            delays.append((time.perf_counter() - begun) * 1000)
            due = begun + ASK_EVERY_SECONDS
    end.send(delays)


def memory(pid: int, line: str) -> float:
    """MiB of a process as proc(5) tells them: `VmRSS` now, `VmHWM` at the most since it was last reset."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{line}:")[2].split()[0]) / 1024


def stolen_seconds() -> float:
    """CPU seconds that a virtual machine's host has had for others so far (proc(5), stat: steal)."""
    fields = Path("/proc/stat").read_text().split(maxsplit=9)
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


class Comparison:
    """The recording, and where its copies come to lie."""

    def __init__(self, servers: Servers, recording: Path) -> None:
        self._bucket = Bucket.connect(servers.settings)
        assert servers.seaweedfs.process is not None
        self._seaweedfs = servers.seaweedfs.process.pid
        self._recording = recording
        self._load = ProcessPoolExecutor(1, SPAWN)
        self._digest = cache(self._digest_of)

    def measure(self, side: Side, size: int, chunk: int | None) -> Costs:
        """What one upload to a server of its own took: the first undisturbed one, or the last tried."""
        for _ in range(MOST_TRIES):
            costs, stolen = self._measure(side, size, chunk)
            if stolen <= MOST_STOLEN_SECONDS:
                break
            print(f"  {side.name}: the host took {stolen:.2f} s of the processor", flush=True)
        return costs

    def _measure(self, side: Side, size: int, chunk: int | None) -> tuple[Costs, float]:
        """What an upload took, and the CPU seconds that the machine's host had for others meanwhile."""
        costs = Costs()
        with _running(side.child) as pid:
            # The peak begins anew (proc(5): clear_refs, 5).
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            began_with = memory(pid, "VmRSS")
            self._send(side, SMALL_MIB * MIB, chunk)
            self._check_and_empty(side, SMALL_MIB * MIB)
            before = [stolen_seconds(), *(cpu_seconds(each) for each in (pid, self._seaweedfs))]
            with asking(side.port, costs.delays):
                seconds = self._send(side, size, chunk)
            after = [stolen_seconds(), *(cpu_seconds(each) for each in (pid, self._seaweedfs))]
            stolen, *used = (end - start for start, end in zip(before, after, strict=True))
            costs.rates.append(size / MIB / seconds)
            costs.memory.append(memory(pid, "VmHWM") - began_with)
            costs.cpu.append(tuple(used))
            self._check_and_empty(side, size)
        return costs, stolen

    def _send(self, side: Side, size: int, chunk: int | None) -> float:
        return self._load.submit(send, side.port, side.uploads, self._recording, size, chunk).result()

    def _check_and_empty(self, side: Side, size: int) -> None:
        """Compare what the bucket holds with what was sent."""
        (key,) = (each.key for each in self._bucket.listing(side.prefix) if each.size == size)
        body = self._bucket.client.get_object(Bucket=self._bucket.name, Key=key)["Body"]
        digest = hashlib.sha256()
        for block in body.iter_chunks(MIB):
            digest.update(block)
        assert digest.digest() == self._digest(size), f"{side.name}: another object than was sent"
        self._bucket.delete_keys([entry.key for entry in self._bucket.listing("")])

    def _digest_of(self, size: int) -> bytes:
        digest = hashlib.sha256()
        with self._recording.open("rb") as recording:
            for _ in range(0, size, MIB):
                digest.update(recording.read(MIB))
        return digest.digest()


@contextmanager
def asking(port: int, delays: list[float]) -> Iterator[None]:
    """Have `/health` asked meanwhile, by a process of its own."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=ask_health, args=(port, theirs))
    process.start()
    # Once it has begun: a new interpreter takes long, and much of the processor.
    ours.recv()
    try:
        yield
    finally:
        ours.send(None)
        delays += ours.recv()
        process.join()


@contextmanager
def _running(child: Child) -> Iterator[int]:
    """A server, until the end of the block; its process id."""
    server = Server(child)
    try:
        server.start()
        assert server.process is not None
        yield server.process.pid
    finally:
        server.kill()


def bucketscribe(servers: Servers, port: int) -> Side:
    """Our API, as `make up` starts it."""
    child = processes.api(servers.settings.model_copy(update={"port": port}), servers.environment)
    return Side("bucketscribe", child, port, "/uploads/files/", "uploads/")


def tuspyserver(servers: Servers, port: int) -> Side:
    """The peer, as its documentation has it, by the uvicorn that ours has."""
    subprocess.run(["make", "-s", ".tools/tuspyserver/.installed"], cwd=ROOT, check=True)
    settings = servers.settings
    where = ("--host", LOOPBACK, "--port", str(port))
    how = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
    child = Child(
        name="tuspyserver",
        command=(str(PEER_BIN / "uvicorn"), "server:app", *where, *how),
        environment={
            **processes.bare_environment(),
            "S3_ENDPOINT": settings.s3_endpoint or "",
            "BUCKET": settings.bucket,
            "REGION": settings.region,
            "AWS_ACCESS_KEY_ID": servers.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": servers.credentials.secret_key,
        },
        grace=1.0,
        directory=PEER,
        make_ready=partial(processes.check_http, f"{processes.endpoint(port)}/health"),
    )
    return Side("tuspyserver", child, port, "/files/", "tus/")


def write_recording(file: Path, mib: int) -> None:
    """A WAV file of noise: no two of its parts are the same."""
    with file.open("wb") as writing:
        writing.write(WAV_HEAD + os.urandom(MIB - len(WAV_HEAD)))
        for _ in range(mib - 1):
            writing.write(os.urandom(MIB))


def show(ways: dict[str, tuple[Costs, Costs]]) -> bool:
    """The tables, as docs/performance.md has them; whether all goals are reached."""
    reached = True
    print("\n| way | ours | tuspyserver | ratio | goal | CPU s: ours | SeaweedFS | theirs | SeaweedFS |")
    print("|---" * 9 + "|")
    for way, sides in ways.items():
        ours, theirs = (statistics.median(costs.rates) for costs in sides)
        cpu = (f"{statistics.median(used):.1f}" for costs in sides for used in zip(*costs.cpu, strict=True))
        told = (f"{ours:.0f} MiB/s", f"{theirs:.0f} MiB/s", f"{ours / theirs:.2f} ×", f"{RATIO_GOAL} ×", *cpu)
        print(f"| {way} | {' | '.join(told)} |")
        reached &= ours / theirs >= RATIO_GOAL
    print("\n| way | memory: ours | tuspyserver | `/health`: ours, p50 / p99 / longest | tuspyserver |")
    print("|---" * 5 + "|")
    for way, sides in ways.items():
        grown = (f"{max(costs.memory):.0f} MiB" for costs in sides)
        delays = (
            f"{costs.percentile(50):.1f} / {costs.percentile(99):.1f} / {max(costs.delays):.0f} ms"
            for costs in sides
        )
        print(f"| {way} | {' | '.join((*grown, *delays))} |")
        reached &= max(sides[0].memory) <= MEMORY_GOAL_MIB and sides[0].percentile(99) < HEALTH_GOAL_MS
    return reached


def main(rounds: int, mib: int) -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "servers") as servers:
        recording = Path(name) / "talk.wav"
        write_recording(recording, max(mib, SMALL_MIB))
        free = choose(Settings(), {})
        sides = (bucketscribe(servers, free.worker), tuspyserver(servers, free.sqs))
        comparison = Comparison(servers, recording)
        ways = {way: (Costs(), Costs()) for way in WAYS}
        for turn in range(rounds):
            for way, chunk in WAYS.items():
                # Who goes first takes turns, too.
                for side, costs in list(zip(sides, ways[way], strict=True))[:: -1 if turn % 2 else 1]:
                    costs.add(comparison.measure(side, mib * MIB, chunk))
                    print(
                        f"  {way:14} {side.name:12} {costs.rates[-1]:6.1f} MiB/s {costs.memory[-1]:6.0f} MiB",
                        f"  load {os.getloadavg()[0]:.1f}",
                        flush=True,
                    )
        return 0 if show(ways) else 1


if __name__ == "__main__":
    sys.exit(main(*map(int, (*sys.argv[1:], *map(str, (ROUNDS, SIZE_MIB)[len(sys.argv) - 1 :])))))
