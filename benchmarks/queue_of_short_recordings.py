"""A queue of many short recordings: what keeping the model warm is worth. WhisperX, on a CPU, int8.

    .venv/bin/python -m benchmarks.queue_of_short_recordings [--recordings 20] [--peers 5]

Ours is a worker process with the WhisperX engine, a real queue and a real bucket: fetch, decode, listen, save
six formats. The peers transcribe the same file with the same package, model, batch and voice detection, and
save nothing; they are timed for fewer recordings, as each costs them the same:

- *the command*: `whisperx` once for each recording, where ffmpeg is there, by which it decodes;
- *a process for each*: the same without the command: Python imports whisperx, loads the model, transcribes;
- *a load for each*: one process, which loads the model for each recording;
- *loaded once*: one process that loads the model once, in a loop over files: the least that whisperx takes.

Ours and the peers take turns with the machine; medians of all recordings. Words have times in ours only.
"""

import argparse
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import structlog
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.worker import models

from benchmarks.worker import BATCH_SIZE, queue, upload, wait, wait_any
from tests.media.make import JFK
from tests.servers import Servers, running

MODEL = "tiny.en"

PEER = """
import sys, time
import numpy, wave, whisperx
path, model, batch, threads, count, once = sys.argv[1:]

def load():
    return whisperx.load_model(
        model, "cpu", compute_type="int8", language="en", vad_method="pyannote", threads=int(threads)
    )

def transcribe(loaded):
    with wave.open(path) as file:
        audio = numpy.frombuffer(file.readframes(file.getnframes()), numpy.int16) / numpy.float32(32768)
    text = loaded.transcribe(audio.astype(numpy.float32), batch_size=int(batch))["segments"]
    assert "what you can do for your country" in str(text), text

loaded = load() if once == "once" else None
for _ in range(int(count)):
    begun = time.monotonic()
    transcribe(loaded or load())
    print("took", time.monotonic() - begun, flush=True)
"""


def peer(model: str, count: int, once: str) -> list[float]:
    """Seconds for each recording in one process of whisperx, its start left out."""
    words = [str(JFK), model, str(BATCH_SIZE), str(_threads()), str(count), once]
    done = subprocess.run([sys.executable, "-c", PEER, *words], capture_output=True, text=True, check=True)
    return [float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("took ")]


def peer_process(model: str) -> float:
    """Seconds for one recording in a process of its own, from its start to its end."""
    begun = time.monotonic()
    peer(model, 1, "each")
    return time.monotonic() - begun


def command(model: str) -> float:
    """Seconds for one recording by the `whisperx` command."""
    begun = time.monotonic()
    how = f"--compute_type int8 --device cpu --language en --no_align --batch_size {BATCH_SIZE}"
    with tempfile.TemporaryDirectory() as folder:
        words = ["--model", model, *how.split(), "--threads", str(_threads()), "--output_dir", folder]
        subprocess.run([sys.executable, "-m", "whisperx", str(JFK), *words], capture_output=True, check=True)
    return time.monotonic() - begun


def ours(servers: Servers, service: Service, count: int) -> tuple[float, float]:
    """Seconds from the first lease to the last transcript, and from the worker's start."""
    ids = []
    for _ in range(count):
        id, complete = upload(service, JFK.read_bytes(), "speech.wav")
        complete()
        ids.append(id)
    environment = servers.environment | {
        "BUCKETSCRIBE_ENGINE": "whisperx",
        "BUCKETSCRIBE_MODEL": MODEL,
        "BUCKETSCRIBE_BATCH_SIZE": str(BATCH_SIZE),
        "BUCKETSCRIBE_QUEUE_URL": service.queue.url,
        "HF_HUB_OFFLINE": "1",  # no alignment model: only words' own times, as the peers have none
    }
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "bucketscribe.cli.main", "worker"], env=environment, stderr=subprocess.DEVNULL
    )
    try:
        begun = wait_any(service, ids)
        ended = max(wait(service, id, State.COMPLETED) for id in ids)
    finally:
        process.kill()
        process.wait()
    return ended - begun, ended - started


def _threads() -> int:
    return os.process_cpu_count() or 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--recordings", type=int, default=20)
    parser.add_argument("--peers", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "servers") as servers:
        settings: Settings = servers.settings
        model = models.resolve(MODEL, settings.models_folder)
        warm: list[float] = []
        started: list[float] = []
        others: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            with queue(servers) as service:
                fast, whole = ours(servers, service, given.recordings)
            warm.append(fast / given.recordings)
            started.append(whole / given.recordings)
            each = others.setdefault
            each("a process for each", []).extend(peer_process(model) for _ in range(given.peers))
            each("a load for each", []).extend(peer(model, given.peers, "each"))
            each("loaded once", []).extend(peer(model, given.peers + 1, "once")[1:])
            if shutil.which("ffmpeg") is not None:
                each("the command", []).extend(command(model) for _ in range(given.peers))
    mine = statistics.median(warm)
    print(f"{given.recordings} recordings of 11 s, {MODEL}, int8, medians of {given.rounds} rounds")
    print(f"ours: {mine:.2f} s a recording; {statistics.median(started):.2f} s with the worker's start")
    for name, seconds in others.items():
        theirs = statistics.median(seconds)
        print(f"whisperx, {name}: {theirs:.2f} s a recording: ours is {theirs / mine:.1f} × as fast")


if __name__ == "__main__":
    main()
