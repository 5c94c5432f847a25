"""A thousand uploads at once, each from begin to complete: how long each request of theirs takes.

    .venv/bin/python -m benchmarks.begin_to_complete [uploads] [rounds]

A thousand clients, each with a kept-alive connection to the API and one to the bucket, take every step at the
same moment: all begin, then all sign a part, and so on; so all uploads are open together, and of each step a
thousand requests wait for their answers. The part is real sound, PUT straight into the bucket. The same story
is told to Uppy's Companion, in turns. The servers are those of `benchmarks.api`, one process each: SeaweedFS,
moto's SQS and our API as `make up` starts them (no worker), Companion in Express.

Prints for each step p50 and p99 in milliseconds from the request's first byte to the answer's last one, of
all rounds together, and how many uploads a second went the whole way. Exits with 1 if a single answer was not
a 200; those are counted by step, status and code.
"""

import asyncio
import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import uvloop
from bucketscribe.queue import Queue
from bucketscribe.settings import Settings
from bucketscribe.up.ports import LOOPBACK, choose

from benchmarks.api import BEGIN, RECORDING, bucketscribe, companion, request, running_api
from tests.servers import Servers, running, wait_ready

UPLOADS, ROUNDS = 1000, 3
BATCH = 10
"""Parts signed in one request."""

STEPS = ("create", "sign", f"sign {BATCH}", "put", "complete")
ANSWER_SECONDS = 120.0
IDLE_SECONDS = 2.0
"""How long a connection is kept: both APIs hang up after 5 s."""


@dataclass
class Told:
    """What came of a side: seconds by step, what went wrong by step, status and code, seconds in all."""

    took: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})
    wrong: Counter[tuple[str, str]] = field(default_factory=Counter)
    whole: float = 0.0
    finished: int = 0

    def add(self, other: "Told") -> None:
        """Another round's."""
        for step, took in other.took.items():
            self.took[step] += took
        self.wrong += other.wrong
        self.whole += other.whole
        self.finished += other.finished


class Refused(Exception):
    """An answer was not a 200; the message is its status and code."""


class Line:
    """A kept-alive connection; HTTP/1.1 with lengths only."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._used = 0.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def open(self) -> None:
        """Connect, if it is not, or may be hung up on."""
        if self._streams is None or time.perf_counter() - self._used > IDLE_SECONDS:
            self.close()
            self._streams = await asyncio.open_connection(LOOPBACK, self._port)
            self._used = time.perf_counter()

    async def ask(self, sent: bytes) -> tuple[dict[str, str], bytes]:
        """The headers of an answer, their names in small letters, and its body. Raises Refused."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self.open()
                assert self._streams is not None
                reader, writer = self._streams
                writer.write(sent)
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                first, *lines = head.rstrip().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
                }
                body = await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, TimeoutError) as error:
            raise Refused(type(error).__name__) from error
        self._used = time.perf_counter()
        status = first.split()[1]
        if status != "200":
            raise Refused(f"{status} {_code(body)}")
        return headers, body

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()


def _code(body: bytes) -> str:
    try:
        return str(json.loads(body).get("code", ""))
    except (ValueError, AttributeError):
        return body[:80].decode(errors="replace")


class Upload:
    """One client's upload, a step a method."""

    def __init__(self, api: Line, bucket: Line) -> None:
        self.api, self.bucket = api, bucket
        self.path = self.key = self.url = ""
        self.part: dict[str, Any] = {}

    async def create(self) -> None:
        begun = await self._json("POST", "/s3/multipart", BEGIN)
        self.path = f"/s3/multipart/{quote(begun['uploadId'], safe='')}"
        self.key = f"key={quote(begun['key'], safe='')}"

    async def sign(self) -> None:
        self.url = (await self._json("GET", f"{self.path}/1?{self.key}"))["url"]

    async def sign_batch(self) -> None:
        numbers = ",".join(map(str, range(1, BATCH + 1)))
        urls = (await self._json("GET", f"{self.path}/batch?{self.key}&partNumbers={numbers}"))[
            "presignedUrls"
        ]
        assert len(urls) == BATCH

    async def put(self) -> None:
        url = urlsplit(self.url)
        head = (
            f"PUT {url.path}?{url.query} HTTP/1.1\r\nHost: {url.netloc}\r\nContent-Length: {len(RECORDING)}"
        )
        headers, _ = await self.bucket.ask(f"{head}\r\n\r\n".encode() + RECORDING)
        self.part = {"PartNumber": 1, "ETag": headers["etag"]}

    async def complete(self) -> None:
        await self._json("POST", f"{self.path}/complete?{self.key}", {"parts": [self.part]})

    async def _json(self, method: str, path: str, body: object = None) -> Any:
        return json.loads((await self.api.ask(request(method, path, body)))[1])


def tell(api_port: int, bucket_port: int, uploads: int) -> Told:
    """One round on one side, in a process of its own."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return uvloop.run(_tell(api_port, bucket_port, uploads))


async def _tell(api_port: int, bucket_port: int, uploads: int) -> Told:
    clients = [Upload(Line(api_port), Line(bucket_port)) for _ in range(uploads)]
    lines = [line for client in clients for line in (client.api, client.bucket)]
    for line in lines:
        await line.open()
    told = Told()
    begun = time.perf_counter()
    steps: Iterable[Callable[[Upload], Awaitable[None]]]
    steps = (Upload.create, Upload.sign, Upload.sign_batch, Upload.put, Upload.complete)
    for name, step in zip(STEPS, steps, strict=True):
        for line in lines:
            await line.open()  # connecting is not what is measured
        went = await asyncio.gather(*(_timed(told, name, step, client) for client in clients))
        clients = [client for client, well in zip(clients, went, strict=True) if well]
    told.whole, told.finished = time.perf_counter() - begun, len(clients)
    for line in lines:
        line.close()
    return told


async def _timed(told: Told, name: str, step: Callable[[Upload], Awaitable[None]], client: Upload) -> bool:
    begun = time.perf_counter()
    try:
        await step(client)
    except Refused as refused:
        told.wrong[name, str(refused)] += 1
        return False
    told.took[name].append(time.perf_counter() - begun)
    return True


def _empty(servers: Servers) -> None:
    """A new job queue: no worker takes from it, and moto's needs 8 ms more for each 1,000 messages in it."""
    queue = Queue.connect(servers.settings)
    queue.client.delete_queue(QueueUrl=queue.url)
    wait_ready(servers.sqs.child)


def show(ours: Told, theirs: Told) -> None:
    """The table."""
    print("ms            ours: p50      p99   Companion: p50      p99   ratio: p50    p99")
    for step in STEPS:
        (ours_50, ours_99), (their_50, their_99) = _quantiles(ours.took[step]), _quantiles(theirs.took[step])
        ratios = f"{ours_50 / their_50:12.2f} {ours_99 / their_99:6.2f}"
        print(f"{step:10} {ours_50:13.0f} {ours_99:8.0f} {their_50:16.0f} {their_99:8.0f} {ratios}")
    rates = [told.finished / told.whole for told in (ours, theirs)]
    print(f"whole way, a second {rates[0]:.0f} {rates[1]:.0f}, ratio {rates[0] / rates[1]:.2f}")


def _quantiles(took: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(took, n=100, method="inclusive") if len(took) > 1 else [float("nan")] * 99
    return cuts[49] * 1000, cuts[98] * 1000


def main(uploads: int, rounds: int) -> int:
    """Measure and print; the exit status."""
    told = {"ours": Told(), "Companion": Told()}
    with tempfile.TemporaryDirectory() as name, running(Path(name)) as servers:
        free = choose(Settings(), {})
        bucket_port = urlsplit(servers.settings.s3_endpoint or "").port or 0
        spawn = multiprocessing.get_context("spawn")
        with (
            running_api(bucketscribe(servers, free.worker), free.worker) as ours,
            running_api(companion(servers, free.sqs, Path(name)), free.sqs) as theirs,
            ProcessPoolExecutor(1, spawn) as load,
        ):
            sides = {"ours": ours.port, "Companion": theirs.port}
            for port in sides.values():
                load.submit(tell, port, bucket_port, 20).result()  # does not count: all is warm then
            for _ in range(rounds):
                _empty(servers)
                for side, port in sides.items():
                    told[side].add(load.submit(tell, port, bucket_port, uploads).result())
    show(*told.values())
    for side, one in told.items():
        for (step, what), count in one.wrong.most_common():
            print(f"{side}: {step} went wrong {count} times: {what}")
    print(f"errors: {', '.join(f'{side} {one.wrong.total()}' for side, one in told.items())}")
    return 1 if any(one.wrong for one in told.values()) else 0


if __name__ == "__main__":
    sys.exit(
        main(
            int(sys.argv[1]) if len(sys.argv) > 1 else UPLOADS,
            int(sys.argv[2]) if len(sys.argv) > 2 else ROUNDS,
        )
    )
