"""The real processes, with kill -9 and SIGTERM: the API, the worker on real speech, and the bucket itself."""

import io
import os
import signal
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx2
import pytest
from bucketscribe.records import Record, State
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.up import processes

from tests.crash.proxy import Moment, Proxy, Trap
from tests.crash.world import RECORDING, Case, World, complete
from tests.media.make import JFK
from tests.servers import Server, Servers

PATIENCE_SECONDS = 120.0
GRACE_SECONDS = 10.0
REPEATS = 25
LATER = timedelta(minutes=20)


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for something another process does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.02)


def long_speech() -> bytes:
    """Some minutes of speech, so that there is a middle to be killed in."""
    with wave.open(str(JFK)) as sound:
        parameters, frames = sound.getparams(), sound.readframes(sound.getnframes())
    file = io.BytesIO()
    with wave.open(file, "wb") as longer:
        longer.setparams(parameters)
        longer.writeframes(frames * REPEATS)
    return file.getvalue()


def environment(servers: Servers, settings: Settings, **more: str) -> dict[str, str]:
    """What a process of ours is told, with the queue of this test."""
    return {
        **servers.environment,
        "BUCKETSCRIBE_S3_ENDPOINT": settings.s3_endpoint or "",
        "BUCKETSCRIBE_S3_PUBLIC_ENDPOINT": settings.public_endpoint or "",
        "BUCKETSCRIBE_SQS_ENDPOINT": settings.sqs_endpoint or "",
        "BUCKETSCRIBE_QUEUE_URL": settings.queue_url or "",
        **more,
    }


# The API


def test_an_api_killed_in_the_middle_of_a_complete_goes_on_after_its_restart(
    world: World, servers: Servers, proxy: Proxy
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = world.settings.model_copy(update={"port": port})
    server = Server(processes.api(settings, environment(servers, proxy.before(settings))))
    server.start()
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as api:
            unharmed = begin(api)
            proxy.set(None)
            assert finish(api, unharmed) == "queued"
            requests = proxy.seen().requests
            step = next(n for n, name in enumerate(requests) if "POST" in name and "uploadId=" in name)
            harmed = begin(api)
            assert server.process is not None
            proxy.set(Trap(step, Moment.AFTER, server.process.pid))
            with pytest.raises(httpx2.TransportError):
                finish(api, harmed)
            assert proxy.seen().sprung
            case = Case("local", harmed["id"], harmed["key"])
            assert world.state(case) is State.COMPLETING
            server.kill()
            server.start()
            assert finish(api, harmed) == "queued"
    finally:
        server.kill()
    world.settle()
    for begun in (unharmed, harmed):
        ended = Case("local", begun["id"], begun["key"])
        assert world.wrongs(ended, frozenset({State.COMPLETED}), run=1) == []


def begin(api: httpx2.Client) -> dict[str, str]:
    answer = api.post("/s3/multipart", json={"filename": "talk.wav", "type": "audio/wav"})
    begun: dict[str, str] = answer.raise_for_status().json()
    signed = api.get(f"/s3/multipart/{begun['uploadId']}/1", params={"key": begun["key"]})
    sent = httpx2.put(signed.raise_for_status().json()["url"], content=RECORDING)
    return begun | {"etag": sent.raise_for_status().headers["etag"]}


def finish(api: httpx2.Client, begun: dict[str, str]) -> str:
    answer = api.post(
        f"/s3/multipart/{begun['uploadId']}/complete",
        params={"key": begun["key"]},
        json={"parts": [{"PartNumber": 1, "ETag": begun["etag"]}]},
    )
    return str(answer.raise_for_status().json()["state"])


# The worker


@contextmanager
def worker(servers: Servers, settings: Settings, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """A real worker with a short lease, until the end of the block."""
    command = [sys.executable, "-m", "bucketscribe.cli.main", "worker"]
    told = environment(
        servers,
        settings,
        BUCKETSCRIBE_MODEL="tiny.en",
        BUCKETSCRIBE_DEVICE="cpu",
        BUCKETSCRIBE_LEASE_SECONDS="3",
        BUCKETSCRIBE_HEARTBEAT_SECONDS="0.5",
        BUCKETSCRIBE_STOP_SECONDS="0",
        **more,
    )
    process = subprocess.Popen(command, env=told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def record(world: World, case: Case) -> Record:
    stored = world.read(case)
    assert stored is not None
    return stored.record


def is_transcribing(world: World, case: Case) -> bool:
    progress = record(world, case).progress
    return progress is not None and progress.stage == "transcribing"


def speaking(world: World) -> Case:
    """Some minutes of speech, queued."""
    case = world.uploading(long_speech())
    complete(world.service, case)
    return case


def is_done(world: World, case: Case) -> bool:
    return record(world, case).state in (State.COMPLETED, State.FAILED)


@pytest.mark.long
def test_a_worker_killed_while_it_transcribes_is_followed_by_another(world: World, servers: Servers) -> None:
    case = speaking(world)
    with worker(servers, world.settings) as first:
        until(lambda: is_transcribing(world, case), "the first worker transcribes")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    assert record(world, case).state is State.RUNNING
    with world.later(LATER):
        Sweep(world.service).run()
    assert (record(world, case).state, record(world, case).attempts) == (State.QUEUED, 1)
    with worker(servers, world.settings):
        until(lambda: is_done(world, case), "the second worker has the transcript")
    world.settle()
    assert world.wrongs(case, frozenset({State.COMPLETED}), run=1) == []


def test_a_worker_told_to_stop_gives_its_job_back_at_once(world: World, servers: Servers) -> None:
    case = speaking(world)
    with worker(servers, world.settings) as process:
        until(lambda: is_transcribing(world, case), "the worker transcribes")
        process.terminate()
        assert process.wait(GRACE_SECONDS) == 0
    given_back = record(world, case)
    assert (given_back.state, given_back.attempts, given_back.lease) == (State.QUEUED, 0, None)
    assert world.service.queue.count() == 1


# The bucket


def test_a_bucket_killed_in_the_middle_of_an_upload_loses_nothing(world: World, servers: Servers) -> None:
    case = world.uploading(RECORDING + bytes(5 * 1024**2))
    servers.seaweedfs.kill()
    servers.seaweedfs.start()
    world.put_part(case, bytes(1024))
    complete(world.service, case)
    servers.seaweedfs.kill()
    servers.seaweedfs.start()
    assert world.state(case) is State.QUEUED
    world.settle()
    assert world.wrongs(case, frozenset({State.COMPLETED}), run=1) == []


@pytest.mark.long
def test_a_bucket_killed_in_the_middle_of_a_run_loses_nothing(world: World, servers: Servers) -> None:
    case = speaking(world)
    with worker(servers, world.settings):
        until(lambda: is_transcribing(world, case), "the worker transcribes")
        servers.seaweedfs.kill()
        servers.seaweedfs.start()
        until(lambda: is_done(world, case), "the worker has the transcript")
    world.settle()
    assert world.wrongs(case, frozenset({State.COMPLETED}), run=1) == []
