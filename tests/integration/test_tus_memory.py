"""A gigabyte by tus, or many clients at once, and how much memory the API takes for it."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx2
import pytest
from bucketscribe.api import room
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.up import processes

from tests.crash.test_processes import environment, until
from tests.integration.test_tus_at_once import silent
from tests.integration.test_tus_protocol import record_of
from tests.servers import Server, Servers
from tests.tus import MIB, SPEECH, TusUpload, create

BLOCKS = 1024
CHUNK = 4
MORE_KIB = 50 * 1024

CLIENTS = 200
CROWD = 60
CROWD_BLOCKS = 14
GIVEN_KIB = 512 * 1024
"""What infra/compose gives the API."""

_NOISE = random.Random(0).randbytes(MIB)


def block(number: int) -> bytes:
    """A mebibyte like no other; the first one begins as a recording does."""
    return (SPEECH if number == 0 else number.to_bytes(8)) + _NOISE[len(SPEECH) if number == 0 else 8 :]


@dataclass
class Api:
    """A real API in a process of its own."""

    client: httpx2.Client
    pid: int

    def memory(self, name: str) -> int:
        """VmRSS, what it has, or VmHWM, the most it had, in KiB."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(name))

    def measure_anew(self) -> None:
        """Forget the most it had: proc(5), clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")


@pytest.fixture
def api(settings: Settings, service: Service, servers: Servers) -> Iterator[Api]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = settings.model_copy(update={"port": port})
    server = Server(processes.api(settings, environment(servers, settings)))
    server.start()
    try:
        assert server.process is not None
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            yield Api(client, server.process.pid)
    finally:
        server.kill()


def in_one_patch(upload: TusUpload) -> None:
    assert upload.patch(0, map(block, range(BLOCKS))).status_code == 204


def in_chunks(upload: TusUpload) -> None:
    for start in range(0, BLOCKS, CHUNK):
        piece = b"".join(map(block, range(start, start + CHUNK)))
        assert upload.patch(start * MIB, piece).status_code == 204


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("send", [in_one_patch, in_chunks])
def test_a_gigabyte_takes_no_more_memory_than_a_few_parts(
    api: Api, service: Service, send: Callable[[TusUpload], None]
) -> None:
    create(api.client, len(SPEECH)).append(SPEECH)
    before = api.memory("VmRSS")
    api.measure_anew()
    upload = create(api.client, BLOCKS * MIB)
    send(upload)
    more = api.memory("VmHWM") - before
    assert more < MORE_KIB, f"{more // 1024} MiB more than {before // 1024} MiB"
    record = record_of(service, upload)
    assert record.state is State.QUEUED
    sent, held = sha256(), sha256()
    for number in range(BLOCKS):
        sent.update(block(number))
    body = service.bucket.client.get_object(Bucket=service.bucket.name, Key=record.key)["Body"]
    for piece in body.iter_chunks(MIB):
        held.update(piece)
    assert held.digest() == sent.digest()


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


@needs_proc
def test_many_that_have_sent_little_take_little(api: Api, service: Service) -> None:
    create(api.client, len(SPEECH)).append(SPEECH)
    uploads = [create(api.client, 100 * MIB) for _ in range(CLIENTS)]
    before = api.memory("VmRSS")
    with ExitStack() as connections:
        for upload in uploads:
            connections.enter_context(silent(api.client, upload, SPEECH[:10]))
        until(lambda: locks(service) == room.MOST, "as many are let in as there is room for")
        more = api.memory("VmRSS") - before
    assert more < MORE_KIB, f"{more // 1024} MiB more than {before // 1024} MiB"


def locks(service: Service) -> int:
    return sum(entry.key.endswith("/lock") for entry in service.bucket.listing("tus/"))


@pytest.mark.long
@needs_proc
def test_a_crowd_stays_within_what_the_api_is_given_and_takes_nothing_with_it(api: Api) -> None:
    def send(upload: TusUpload) -> int:
        def slowly() -> Iterator[bytes]:
            for number in range(CROWD_BLOCKS):
                time.sleep(0.1)
                yield block(number)

        while True:
            answer = upload.patch(upload.offset(), slowly())
            if answer.status_code != 503:
                return answer.status_code
            time.sleep(1)

    create(api.client, len(SPEECH)).append(SPEECH)
    before = api.memory("VmRSS")
    with ThreadPoolExecutor(CROWD) as threads:
        for _ in range(2):
            uploads = [create(api.client, CROWD_BLOCKS * MIB) for _ in range(CROWD)]
            assert {*threads.map(send, uploads)} == {204}
    most, left = api.memory("VmHWM"), api.memory("VmRSS") - before
    assert most < GIVEN_KIB, f"{most // 1024} MiB"
    assert left < 2 * MORE_KIB, f"{left // 1024} MiB more than {before // 1024} MiB stay"
