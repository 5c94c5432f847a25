"""How many requests a second the upload routes answer: ours and Uppy's Companion, on the same bucket.

    .venv/bin/python -m benchmarks.api [rounds] [seconds]

Both speak the same wire contract and get the same requests from the same load generator, in turns, with as
many connections as `CONNECTIONS` says. Ours is one process as `make up` starts it, Companion one process of
Node; SeaweedFS, moto's SQS server and the load generator share the machine's cores with them. Companion is
installed by npm (needs Node 20) into `~/.cache/bucketscribe-benchmarks`, outside the tree, the first time.

Prints for each route the median of the rounds, and the CPU milliseconds that a request cost the API itself,
SeaweedFS and the queue. The two do not do the same on `create` and `complete`: see docs/performance.md.
"""

import http.client
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from bucketscribe.settings import Settings
from bucketscribe.up import processes
from bucketscribe.up.child import Child
from bucketscribe.up.ports import LOOPBACK, choose

from benchmarks.load import drive
from tests.servers import Server, Servers, running

ROUNDS, SECONDS = 5, 2.0
CONNECTIONS = 8
LISTED_PARTS = 320
COMPLETES = 100
"""Finished uploads that wait for each round of completes."""

RECORDING = Path("tests/media/jfk.wav").read_bytes()[: 64 * 1024]
COMPANION = Path(__file__).with_name("companion")
CACHE = Path.home() / ".cache" / "bucketscribe-benchmarks" / "companion"
GOALS = {"sign": 2, "sign 1,000": 20, "create": 1, f"list {LISTED_PARTS}": 1, "complete": 1}
HEADINGS = """\
                                                   CPU ms a request: API, SeaweedFS, SQS
a second         ours Companion     ratio   goal   ours                   Companion"""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Side:
    """One of the two APIs, and what was measured of it by route."""

    name: str
    port: int
    pid: int
    rates: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request on a connection of its own; the answer's JSON."""
        with closing(http.client.HTTPConnection(LOOPBACK, self.port)) as connection:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            told = answer.read()
        assert answer.status == 200, told
        return json.loads(told)


BEGIN = {
    "filename": "x1-talk.wav",
    "type": "audio/wav",
    "metadata": {"name": "talk.wav", "type": "audio/wav"},
}
Batch = tuple[Sequence[bytes], float | None]
"""Requests, and for how many seconds they are sent again and again; None: each once."""


def request(method: str, path: str, body: object = None) -> bytes:
    """A request's bytes."""
    text = b"" if body is None else json.dumps(body).encode()
    described = f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n" if text else ""
    return f"{method} {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\n{described}\r\n".encode() + text


class Upload:
    """One multipart upload on one side."""

    def __init__(self, side: Side) -> None:
        self.side = side
        begun = side.call("POST", "/s3/multipart", BEGIN)
        self.path = f"/s3/multipart/{quote(begun['uploadId'], safe='')}"
        self.key = f"key={quote(begun['key'], safe='')}"

    def put(self, numbers: Sequence[int], body: bytes) -> list[dict[str, Any]]:
        """Send parts to the bucket by presigned URLs; the parts as complete wants them."""
        listed = ",".join(map(str, numbers))
        urls = self.side.call("GET", f"{self.path}/batch?{self.key}&partNumbers={listed}")["presignedUrls"]
        parts = []
        with closing(http.client.HTTPConnection(urlsplit(next(iter(urls.values()))).netloc)) as bucket:
            for number in numbers:
                url = urlsplit(urls[str(number)])
                bucket.request("PUT", f"{url.path}?{url.query}", body)
                answer = bucket.getresponse()
                text = answer.read()
                assert answer.status == 200, text
                parts.append({"PartNumber": number, "ETag": answer.headers["ETag"]})
        return parts


def routes(seconds: float) -> dict[str, Callable[[Side], Batch]]:
    """What is measured: for each route, the requests of a round."""
    uploads: dict[str, Upload] = {}

    def upload(side: Side) -> Upload:
        """An upload of some parts, for what can be asked again and again."""
        if side.name not in uploads:
            uploads[side.name] = Upload(side)
            uploads[side.name].put(range(1, LISTED_PARTS + 1), bytes(1024))
        return uploads[side.name]

    def sign(side: Side) -> Batch:
        one = upload(side)
        return [request("GET", f"{one.path}/{n}?{one.key}") for n in range(1, 1001)], seconds

    def sign_many(side: Side) -> Batch:
        one, numbers = upload(side), ",".join(map(str, range(1, 1001)))
        return [request("GET", f"{one.path}/batch?{one.key}&partNumbers={numbers}")], seconds

    def create(side: Side) -> Batch:
        return [request("POST", "/s3/multipart", BEGIN)], seconds

    def listing(side: Side) -> Batch:
        one = upload(side)
        return [request("GET", f"{one.path}?{one.key}")], seconds

    def complete(side: Side) -> Batch:
        finished = [(one, one.put([1], RECORDING)) for one in (Upload(side) for _ in range(COMPLETES))]
        return [
            request("POST", f"{one.path}/complete?{one.key}", {"parts": parts}) for one, parts in finished
        ], None

    return dict(zip(GOALS, (sign, sign_many, create, listing, complete), strict=True))


def measure(side: Side, route: str, batch: Batch, pids: Sequence[int], load: Executor) -> None:
    """One round of one route on one side."""
    requests, seconds = batch
    before = [cpu_seconds(pid) for pid in (side.pid, *pids)]
    driven = load.submit(drive, side.port, requests, CONNECTIONS, seconds).result()
    after = [cpu_seconds(pid) for pid in (side.pid, *pids)]
    spent = (1000 * (end - start) / driven.requests for start, end in zip(before, after, strict=True))
    side.rates.setdefault(route, []).append(driven.requests / driven.seconds)
    side.cpu.setdefault(route, []).append(tuple(spent))


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, user and system (proc(5): fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def show(route: str, ours: Side, theirs: Side) -> None:
    """One line of the table."""
    rate, peer = (statistics.median(side.rates[route]) for side in (ours, theirs))
    costs = "   ".join(
        " ".join(f"{statistics.median(values):6.2f}" for values in zip(*side.cpu[route], strict=True))
        for side in (ours, theirs)
    )
    ratio = f"{rate / peer:7.2f} x  {GOALS[route]:3} x"
    print(f"{route:12} {rate:8.0f} {peer:9.1f} {ratio}   {costs}", flush=True)


@contextmanager
def running_api(child: Child, port: int) -> Iterator[Side]:
    """One of the two, until the end of the block."""
    server = Server(child)
    try:
        server.start()
        assert server.process is not None
        yield Side(child.name, port, server.process.pid)
    finally:
        server.kill()


def bucketscribe(servers: Servers, port: int) -> Child:
    """Our API, as `make up` starts it."""
    return processes.api(servers.settings.model_copy(update={"port": port}), servers.environment)


def companion(servers: Servers, port: int, folder: Path) -> Child:
    """Companion on the same bucket; installed if it is not yet. It keeps nothing in its folder."""
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "server.js"):
        shutil.copy(COMPANION / name, CACHE)
    install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(install, cwd=CACHE, check=True)
    settings = servers.settings
    return Child(
        name="companion",
        command=("node", "server.js"),
        environment={
            **processes.bare_environment(),
            "NODE_ENV": "production",
            "PORT": str(port),
            "S3_ENDPOINT": settings.s3_endpoint or "",
            "BUCKET": settings.bucket,
            "REGION": settings.region,
            "AWS_ACCESS_KEY_ID": servers.credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": servers.credentials.secret_key,
            "FOLDER": str(folder),
        },
        grace=1.0,
        directory=CACHE,
        make_ready=partial(processes.check_http, f"{processes.endpoint(port)}/"),
    )


def main(rounds: int, seconds: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as servers:
        free = choose(Settings(), {})
        assert servers.seaweedfs.process is not None
        assert servers.sqs.process is not None
        pids = [servers.seaweedfs.process.pid, servers.sqs.process.pid]
        spawn = multiprocessing.get_context("spawn")
        with (
            running_api(bucketscribe(servers, free.worker), free.worker) as ours,
            running_api(companion(servers, free.sqs, Path(name)), free.sqs) as theirs,
            ProcessPoolExecutor(1, spawn) as load,
        ):
            print(HEADINGS)
            for route, requests in routes(seconds).items():
                for side in (ours, theirs):
                    batch = requests(side)
                    # One short round that does not count: connections, caches and compilers are warm then.
                    load.submit(drive, side.port, batch[0][:4], 4, batch[1] and 0.5).result()
                for _ in range(rounds):
                    for side in (ours, theirs):
                        measure(side, route, requests(side), pids, load)
                show(route, ours, theirs)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS,
        float(sys.argv[2]) if len(sys.argv) > 2 else SECONDS,
    )
