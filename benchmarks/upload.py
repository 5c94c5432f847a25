"""How fast a large file gets into the bucket: our client, and boto3's TransferManager, taking turns.

    .venv/bin/python -m benchmarks.upload [rounds] [MiB]

Bucket, queue and API are real processes on this machine, and each upload a process of its own, timed from
before the first request until the object is complete. boto3 has its own defaults, but for the size of its
parts, which is ours. Bucket and client share the cores: most of the time is the bucket's. Prints for both
the median speed, the client's own CPU time and its peak memory.
"""

import json
import os
import resource
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from bucketscribe.bucket import Bucket
from bucketscribe.client import Client
from bucketscribe.up import processes
from bucketscribe.up.ports import is_free

from tests.servers import Server, Servers, running

MIB = 1024**2
PART_BYTES = 8 * MIB
WAV_HEAD = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 2**32 - 1, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16)


def send_by_us(file: Path, server: str) -> None:
    """Upload through the API's presigned URLs."""
    with Client(server) as client:
        client.upload(file)


def send_by_boto3(file: Path, endpoint: str, bucket: str) -> None:
    """Upload with keys of one's own."""
    s3 = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", config=Config(s3={"addressing_style": "path"})
    )
    s3.upload_file(str(file), bucket, "by-boto3.wav", Config=TransferConfig(multipart_chunksize=PART_BYTES))


SENDERS: dict[str, Callable[..., None]] = {"bucketscribe": send_by_us, "boto3": send_by_boto3}


def send(name: str, *given: str) -> None:
    """What a child does: one upload; prints its cost as JSON."""
    file, *rest = given
    begun = time.perf_counter()
    SENDERS[name](Path(file), *rest)
    seconds = time.perf_counter() - begun
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))


def measure(name: str, file: Path, *where: str) -> list[float]:
    """Seconds, CPU seconds and peak MiB of one upload in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.upload", "send", name, str(file), *where],
        stdout=subprocess.PIPE,
        check=True,
    )
    return list(map(float, json.loads(done.stdout)))


def compare(servers: Servers, server: str, rounds: int, mib: int, folder: Path) -> None:
    """Take turns, and print."""
    file = folder / "recording.wav"
    block = os.urandom(MIB)
    with file.open("wb") as writing:
        writing.write(WAV_HEAD + block[len(WAV_HEAD) :])
        for _ in range(mib - 1):
            writing.write(block)
    settings = servers.settings
    where = {"bucketscribe": (server,), "boto3": (settings.s3_endpoint or "", settings.bucket)}
    bucket = Bucket.connect(settings)
    costs: dict[str, list[list[float]]] = {name: [] for name in SENDERS}
    for turn in range(rounds + 1):
        for name in SENDERS if turn % 2 else reversed(SENDERS):
            cost = measure(name, file, *where[name])
            print(f"  {name:14} {mib / cost[0]:6.1f} MiB/s {'(to warm up)' if not turn else ''}", flush=True)
            # The first turn only warms the page cache and the bucket's volumes up.
            if turn:
                costs[name].append(cost)
            for entry in list(bucket.listing("")):
                bucket.delete(entry.key)
    speeds = {name: mib / statistics.median(cost[0] for cost in costs[name]) for name in SENDERS}
    for name in SENDERS:
        cpu = statistics.median(cost[1] for cost in costs[name])
        memory = max(cost[2] for cost in costs[name])
        print(f"{name:14} {speeds[name]:6.1f} MiB/s   {cpu:5.2f} s of CPU   {memory:4.0f} MiB at the most")
    print(f"ratio of medians {speeds['bucketscribe'] / speeds['boto3']:.2f}")


def main(rounds: int, mib: int) -> None:
    """Start the servers, measure and print."""
    with tempfile.TemporaryDirectory() as name, running(Path(name) / "data") as servers:
        port = next(port for port in range(18100, 20000) if is_free("127.0.0.1", port))
        settings = servers.settings.model_copy(update={"port": port})
        os.environ |= {key: value for key, value in servers.environment.items() if key.startswith("AWS_")}
        api = Server(processes.api(settings, servers.environment))
        try:
            api.start()
            compare(servers, processes.api_url(settings), rounds, mib, Path(name))
        finally:
            api.kill()


if __name__ == "__main__":
    if sys.argv[1:2] == ["send"]:
        send(*sys.argv[2:])
    else:
        main(*map(int, (*sys.argv[1:], *("5", "1024")[len(sys.argv) - 1 :])))
