"""The worker against raw faster-whisper: the same recordings, model and batch, in the same run.

    .venv/bin/python -m benchmarks.worker [--model base] [--rounds 3]

Real servers, a real worker process; the peer is a process of its own that has loaded the model once and calls
`BatchedInferencePipeline.transcribe` on a file. Both take turns. What is told are medians of the rounds.

- *10 minutes of speech*: from the call of complete until the record says completed; the peer's goal is 0.97,
  that is, the worker may take 1/0.97 of its time.
- *ten recordings of 11 s*: from the first lease to the last transcript. At most 1.05 × the peer's time.
- *complete → begun*: until the record says that a worker holds it. At most 1 s.
"""

import argparse
import logging
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import structlog
from bucketscribe.queue import Queue
from bucketscribe.records import Part, State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.worker import models

from tests.media.make import JFK, encode, speech
from tests.servers import Servers, running

OWNER = "local"
BATCH_SIZE = 2  # ours on a CPU
LOOK_SECONDS = 0.1
"""Looking costs CPU that the worker needs."""
SHARP_LOOK_SECONDS = 0.005
WAIT_SECONDS = 600.0


def upload(service: Service, body: bytes, name: str) -> tuple[str, Callable[[], object]]:
    """Send a recording; its id, and what completes it."""
    begun = service.intake.begin(OWNER, name, None, {})
    stored = service.records.read(OWNER, begun.id)
    assert stored is not None
    answer = service.bucket.client.upload_part(
        Bucket=service.bucket.name,
        Key=begun.key,
        UploadId=stored.record.upload_id or "",
        PartNumber=1,
        Body=body,
    )
    parts = [Part(number=1, etag=answer["ETag"])]
    return begun.id, lambda: service.uploads.complete(OWNER, begun.key, begun.upload_id, parts)


def wait(service: Service, id: str, *states: State, look: float = LOOK_SECONDS) -> float:
    """Wait for one of the states; when it was seen."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        stored = service.records.read(OWNER, id)
        if stored is not None and stored.record.state in states:
            return time.monotonic()
        time.sleep(look)
    raise TimeoutError(id)


@contextmanager
def queue(servers: Servers) -> Iterator[Service]:
    """The service with a queue of its own: a worker that was killed may yet take a message from the last."""
    client = Queue.connect(servers.settings).client
    url = client.create_queue(QueueName=f"jobs-{uuid.uuid4()}")["QueueUrl"]
    yield Service.connect(servers.settings.model_copy(update={"queue_url": url}))
    client.delete_queue(QueueUrl=url)


@contextmanager
def worker(servers: Servers, service: Service, model: str) -> Iterator[None]:
    """A worker process."""
    environment = servers.environment | {
        "BUCKETSCRIBE_MODEL": model,
        "BUCKETSCRIBE_QUEUE_URL": service.queue.url,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bucketscribe.cli.main", "worker"],
        env=environment,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Raw:
    """faster-whisper in a process of its own, with the model loaded."""

    def __init__(self, model: str, batch: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        context.Process(target=_transcribe, args=(model, batch, theirs), daemon=True).start()
        self._ours.recv()

    def seconds(self, paths: list[Path]) -> float:
        """How long it takes for these files, one after the other."""
        self._ours.send(paths)
        taken: float = self._ours.recv()
        return taken


def _transcribe(model: str, batch: int, parent: Connection) -> None:
    from faster_whisper import BatchedInferencePipeline, WhisperModel  # type: ignore[import-untyped]

    cores = os.process_cpu_count() or 1
    pipeline = BatchedInferencePipeline(
        WhisperModel(model, device="cpu", compute_type="int8", cpu_threads=cores)
    )
    parent.send("ready")
    while True:
        paths = parent.recv()
        begun = time.monotonic()
        for path in paths:
            segments, _ = pipeline.transcribe(str(path), batch_size=batch, word_timestamps=True)
            list(segments)
        parent.send(time.monotonic() - begun)


def one_recording(service: Service, body: bytes) -> float:
    """Seconds from complete to completed."""
    id, complete = upload(service, body, "speech.mp3")
    begun = time.monotonic()
    complete()
    return wait(service, id, State.COMPLETED) - begun


def several_recordings(servers: Servers, service: Service, body: bytes, count: int, model: str) -> float:
    """Seconds from the first lease to the last transcript; all are queued before the worker starts."""
    ids = []
    for _ in range(count):
        id, complete = upload(service, body, "speech.wav")
        complete()
        ids.append(id)
    with worker(servers, service, model):
        begun = wait_any(service, ids)
        return max(wait(service, id, State.COMPLETED) for id in reversed(ids)) - begun


def wait_any(service: Service, ids: list[str]) -> float:
    """Wait until one of them is begun; when that was seen."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for id in ids:
            stored = service.records.read(OWNER, id)
            if stored is not None and stored.record.state is not State.QUEUED:
                return time.monotonic()
        time.sleep(SHARP_LOOK_SECONDS)
    raise TimeoutError


def begun_after(service: Service, body: bytes) -> float:
    """Seconds from the call of complete until a worker holds it."""
    id, complete = upload(service, body, "speech.wav")
    begun = time.monotonic()
    complete()
    seen = wait(service, id, State.RUNNING, State.COMPLETED, look=SHARP_LOOK_SECONDS)
    wait(service, id, State.COMPLETED)
    return seen - begun


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="base")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    samples, rate = speech()
    ten_minutes = encode("mp3", np.tile(samples, (1, 55)), rate)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "servers") as servers:
        settings: Settings = servers.settings
        long = Path(folder) / "speech.mp3"
        long.write_bytes(ten_minutes)
        raw = Raw(models.resolve(given.model, settings.models_folder), BATCH_SIZE)
        ours: dict[str, list[float]] = {"ten minutes": [], "ten recordings": [], "begun": []}
        peer: dict[str, list[float]] = {"ten minutes": [], "ten recordings": []}
        for _ in range(given.rounds):
            peer["ten minutes"].append(raw.seconds([long]))
            with queue(servers) as service, worker(servers, service, given.model):
                begun_after(service, JFK.read_bytes())  # the model is loaded then
                ours["ten minutes"].append(one_recording(service, ten_minutes))
                ours["begun"] += [begun_after(service, JFK.read_bytes()) for _ in range(5)]
            peer["ten recordings"].append(raw.seconds([JFK] * 10))
            with queue(servers) as service:
                ours["ten recordings"].append(
                    several_recordings(servers, service, JFK.read_bytes(), 10, given.model)
                )
    medians = {name: (statistics.median(ours[name]), statistics.median(peer[name])) for name in peer}
    long_ours, long_peer = medians["ten minutes"]
    short_ours, short_peer = medians["ten recordings"]
    begun = ours["begun"]
    print(f"{given.model}, batch {settings.batch_size}, medians of {given.rounds} rounds")
    print(f"10 minutes: {long_ours:.2f} s, raw {long_peer:.2f} s: {long_peer / long_ours:.3f} of its speed")
    print(f"10 × 11 s: {short_ours:.2f} s, raw {short_peer:.2f} s: {short_ours / short_peer:.3f} × its time")
    print(f"complete → begun: {statistics.median(begun) * 1000:.0f} ms, at most {max(begun) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
