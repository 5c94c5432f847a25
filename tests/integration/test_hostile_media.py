"""Thousands of damaged recordings: each is refused or comes to an end with a code, and nothing breaks.

Judged and decoded in processes of their own, so that one that crashes or hangs inside FFmpeg is known by its
number; a sample goes the whole way, through the API, the bucket and the worker. BUCKETSCRIBE_TEST_SEED says
which they are. The bytes of those that did wrong are left in the test's folder.
"""

import multiprocessing
import os
import pickle
import resource
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from bucketscribe import media
from bucketscribe.errors import Problem
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.worker.ahead import windows
from bucketscribe.worker.decode import Decoder, NoAudio, Undecodable
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples
from bucketscribe.worker.main import Worker
from bucketscribe.worker.plan import Language, survey
from bucketscribe.worker.recording import RecordingFile
from fastapi.testclient import TestClient

from tests.crash.world import StandInEngine
from tests.integration.conftest import Uploader
from tests.media.mutate import Mutant, damaged, originals

SEED = int(os.environ.get("BUCKETSCRIBE_TEST_SEED", "20261121"))
PROCESSES = 2
SPAWN = multiprocessing.get_context("spawn")
WINDOW_SECONDS = 5
DECODING_FAILURES = ("undecodable", "no_audio", "too_long")
LONGEST_SECONDS = 12 * 3600 + 16 * 96_000 / 4_000
"""All the silence there may be, and the sound slowed down to the slowest rate there may be."""

MOST_SECONDS = 60.0
"""For one recording, in both passes over it, on a busy machine."""

MOST_MEMORY = 300 * 1024**2
"""What the process may need beside what it needs anyway: for recordings of 8 seconds that is much."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a recording: the code it ended with, `transcribed`, or what must not be in `wrong`."""

    number: int
    accepted: bool = False
    end: str = ""
    wrong: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


def undergo(mutant: Mutant) -> Fate:
    """Judge a recording as the API does, and, whatever comes of that, decode it as the worker does."""
    begun = time.monotonic()
    accepted, end, wrong = False, "", ""
    try:
        accepted = _is_accepted(mutant.data)
        end = _decoded(mutant.data)
    except BaseException:  # noqa: BLE001 -- told to the test
        wrong = traceback.format_exc()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Fate(mutant.number, accepted, end, wrong, time.monotonic() - begun, peak)


def _is_accepted(data: bytes) -> bool:
    try:
        media.check_content(data[: media.HEAD_BYTES])
    except Problem as refusal:
        if refusal.code != "unsupported_media":
            raise
        return False
    return True


def _decoded(data: bytes) -> str:
    """Both passes over a recording: the plan, then its windows."""

    @contextmanager
    def opened() -> Iterator[Decoder]:
        with RecordingFile(lambda start, end: data[start:end], len(data)) as file, Decoder(file) as decoder:
            yield decoder

    def listen(samples: Samples) -> Language:
        return "en", None

    try:
        with opened() as decoder:
            found = survey(decoder, WINDOW_SECONDS, listen, lambda share: None)
    except (NoAudio, Undecodable) as error:
        return error.code
    assert 0 < found.samples <= LONGEST_SECONDS * SAMPLE_RATE
    for samples in windows(opened, found.stretches, lambda: None, found.first):
        assert np.isfinite(samples).all()
    return "transcribed" if found.failure is None else found.failure.code


def _undergo_all(connection: Connection, whole: Path, numbers: Sequence[int]) -> None:
    """A child: it tells the fate of a whole recording, and then of each damaged one."""
    originals = pickle.loads(whole.read_bytes())
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # FFmpeg's complaints
    connection.send(undergo(Mutant(-1, "", "", originals["wav"])))
    for number in numbers:
        connection.send(undergo(damaged(SEED, number, originals)))


def _fates(whole: Path, numbers: Sequence[int]) -> list[Fate]:
    """The fates of recordings, in a child as long as that lives, and then in the next."""
    fates: list[Fate] = []
    while len(fates) < len(numbers):
        left = numbers[len(fates) :]
        ours, theirs = SPAWN.Pipe()
        child = SPAWN.Process(target=_undergo_all, args=(theirs, whole, left))
        child.start()
        theirs.close()
        try:
            unharmed: Fate = ours.recv()
            assert not unharmed.wrong, unharmed.wrong
            for number in left:
                fate = _next_fate(number, child, ours)
                more = fate.peak_bytes - unharmed.peak_bytes
                if more > MOST_MEMORY and not fate.wrong:
                    fate = replace(fate, wrong=f"it took {more >> 20} MiB")
                fates.append(fate)
                if fate.wrong:
                    break  # what follows gets a process without a past
        finally:
            child.kill()
            child.join()
            ours.close()
    return fates


def _next_fate(number: int, child: BaseProcess, connection: Connection) -> Fate:
    try:
        if not connection.poll(MOST_SECONDS):
            return Fate(number, wrong=f"it took longer than {MOST_SECONDS} s")
        fate: Fate = connection.recv()
    except (EOFError, ConnectionResetError):
        child.join()
        return Fate(number, wrong=f"the process ended with {child.exitcode}")
    return fate


@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [104, pytest.param(2000, marks=pytest.mark.long)])
def test_a_damaged_recording_is_refused_or_ends_with_a_code_and_breaks_nothing(
    count: int, tmp_path: Path
) -> None:
    whole = tmp_path / "originals"
    whole.write_bytes(pickle.dumps(originals()))  # too much for the pipe a child is begun by
    with ThreadPoolExecutor(PROCESSES) as threads:
        lots = [range(first, count, PROCESSES) for first in range(PROCESSES)]
        fates = [fate for lot in threads.map(partial(_fates, whole), lots) for fate in lot]
    assert len(fates) == count
    wrong = [_kept(tmp_path, fate.number, fate.wrong) for fate in fates if fate.wrong]
    assert not wrong, "\n".join(wrong)
    ends = {fate.end for fate in fates}
    assert ends <= {"transcribed", *DECODING_FAILURES}
    # Or most of this would have tried nothing.
    assert ends >= {"transcribed", "undecodable"}
    assert count / 2 < sum(fate.accepted for fate in fates) < count


def _kept(folder: Path, number: int, wrong: str) -> str:
    """Leave a recording's bytes behind; what to say of it."""
    mutant = damaged(SEED, number, originals())
    path = folder / mutant.filename
    path.write_bytes(mutant.data)
    return f"seed {SEED}, {path} ({mutant.done}): {wrong}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("count", [26, pytest.param(208, marks=pytest.mark.long)])
def test_a_damaged_recording_comes_to_its_end_through_api_and_worker(
    uploader: Uploader, api: TestClient, service: Service, count: int
) -> None:
    worker = Worker(service, StandInEngine())
    for number in range(count):
        mutant = damaged(SEED, number, originals())
        upload = uploader.begin(mutant.filename, "")
        answer = upload.complete([upload.put(1, mutant.data)])
        if answer.status_code == 200:
            claim = worker._next()
            assert claim is not None
            worker._work(claim)
        shown = api.get(f"/transcriptions/{upload.id}").json()
        told = f"seed {SEED}, number {number} ({mutant.done}): {answer.text} {shown}"
        code = shown["error"]["code"] if shown["error"] else ""
        if answer.status_code == 200:
            assert shown["state"] in (State.COMPLETED, State.FAILED), told
            assert code in ("", *DECODING_FAILURES), told
        else:
            assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media"), told
            assert (shown["state"], code) == (State.FAILED, "unsupported_media"), told
    assert api.get("/health").status_code == 200
