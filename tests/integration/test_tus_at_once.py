"""Several at one tus upload at once: one writer at a time, nobody locked out for long, nothing mixed up."""

import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta

import httpx2
import pytest
from bucketscribe.queue import Queue
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.up import processes

from tests.conftest import LaterBucket
from tests.crash.test_processes import environment, until
from tests.integration.test_sweep import IDLE
from tests.integration.test_tus_protocol import arrived, record_of, serving
from tests.integration.test_uploading import leftovers, refused
from tests.servers import Server, Servers
from tests.tus import BYTES, MIB, TusUpload, checksum, create, in_time, recording

BODY = recording(8 * MIB)
WRITERS = 3
SECONDS = 10.0
"""Within which somebody gets in whom a dead client's request is in the way of."""


class Trickle:
    """A body that comes block after block, for ever slower than it could, until it may go on."""

    def __init__(self, body: bytes, at_once: int) -> None:
        self._body = body
        self._at_once = at_once
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield self._body[: self._at_once]
        sent = self._at_once
        self.begun.set()
        while not self.go_on.wait(0.1):
            yield self._body[sent : sent + 1024]
            sent += 1024
        yield self._body[sent:]


def test_a_second_writer_is_told_to_wait_and_the_first_one_finishes(
    wire: httpx2.Client, service: Service
) -> None:
    upload = create(wire, len(BODY))
    slow = Trickle(BODY, MIB)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(upload.patch, 0, slow)
        assert slow.begun.wait(SECONDS)
        until(lambda: is_held(service, upload), "the first one writes")
        problem = refused(second := upload.patch(0, BODY), 423, "upload_locked")
        assert (second.headers["retry-after"], problem["retryAfter"]) == ("1", 1)
        slow.go_on.set()
        answer = first.result()
    assert (answer.status_code, answer.headers["bucketscribe-transcription"]) == (204, upload.id)
    arrived(service, upload, BODY)


def test_an_upload_can_be_asked_how_far_it_is_while_it_is_written(
    wire: httpx2.Client, service: Service
) -> None:
    upload = create(wire, len(BODY))
    slow = Trickle(BODY, 6 * MIB)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(upload.patch, 0, slow)
        seen = [0]

        def part_is_there() -> bool:
            seen.append(upload.offset())
            return seen[-1] >= 5 * MIB

        until(part_is_there, "a part is there")
        assert seen == sorted(seen)
        slow.go_on.set()
        assert first.result().status_code == 204
    arrived(service, upload, BODY)


def is_held(service: Service, upload: TusUpload) -> bool:
    """Whether somebody has its lock. Who asks by a PATCH may be the one."""
    return service.bucket.find(f"tus/local/{upload.id}/lock") is not None


def has_parts(service: Service, upload: TusUpload) -> bool:
    """Whether parts of it are in the bucket; those whose checksum is not known yet do not count as bytes."""
    record = record_of(service, upload)
    listed = service.bucket.list_parts(record.key, record.upload_id or "")
    return listed is not None and listed[0] != []


def silent(wire: httpx2.Client, upload: TusUpload, body: bytes) -> socket.socket:
    """A PATCH that stops in the middle and says nothing more, with its connection open."""
    host, port = wire.base_url.host, wire.base_url.port or 80
    connection = socket.create_connection((host, port), timeout=SECONDS)
    connection.sendall(
        f"PATCH {upload.path} HTTP/1.1\r\nHost: {host}:{port}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: {BYTES}\r\nUpload-Offset: 0\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    )
    connection.sendall(body)
    return connection


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(MIB, id="short of a part", marks=pytest.mark.long),
        pytest.param(6 * MIB, id="a part and more"),
    ],
)
def test_a_client_whose_connection_hangs_gets_in_by_another_one(
    wire: httpx2.Client, service: Service, sent: int
) -> None:
    upload = create(wire, len(BODY))
    with silent(wire, upload, BODY[:sent]) as hanging:
        until(lambda: is_held(service, upload), "the one that hangs has the lock")
        begun = time.monotonic()
        # The one that waits says so by being refused.
        in_time(lambda: upload.patch(sent), SECONDS)
        until(lambda: upload.offset() == sent, "what it sent is kept")
        answer = in_time(lambda: upload.patch(sent, BODY[sent:]), SECONDS)
        assert time.monotonic() - begun < SECONDS
        assert answer.status_code == 204, answer.text
        # What it says now is nobody's any more.
        with suppress(OSError):
            hanging.sendall(BODY[sent:])
            hanging.recv(65536)
    arrived(service, upload, BODY)


@pytest.mark.parametrize("sums", [{}, checksum(BODY)], ids=["", "with a checksum"])
def test_a_lock_that_is_taken_over_mixes_nothing_up(
    service: Service, settings: Settings, queue: Queue, sums: dict[str, str]
) -> None:
    """Here by somebody whose clock is wrong, so that both are sure that it is theirs."""
    ahead = LaterBucket.connect(settings)
    ahead.later = timedelta(seconds=20)
    with (
        serving(service) as here,
        serving(Service.of(settings, ahead, queue)) as there,
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(here, len(BODY))
        other = TusUpload(there, upload.path)
        slow = Trickle(BODY, 6 * MIB)
        first = threads.submit(upload.patch, 0, slow, **sums)
        until(lambda: has_parts(service, upload), "a part is there")
        offset = other.offset()
        answer = in_time(lambda: other.patch(offset, BODY[offset : 7 * MIB]))
        assert answer.status_code == 204, answer.text
        slow.go_on.set()
        assert first.result().status_code in (204, 409, 423)
        assert upload.offset() >= 7 * MIB
        other.append(BODY)
    arrived(service, upload, BODY)


@pytest.mark.long
@pytest.mark.parametrize("sums", [{}, checksum(BODY)], ids=["", "with a checksum"])
def test_a_writer_that_was_frozen_for_longer_than_its_lease_does_no_harm(
    service: Service, settings: Settings, servers: Servers, queue: Queue, sums: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        told = settings.model_copy(update={"port": free.getsockname()[1]})
    server = Server(processes.api(told, environment(servers, told)))
    server.start()
    try:
        assert server.process is not None
        with (
            httpx2.Client(base_url=f"http://127.0.0.1:{told.port}", timeout=60) as here,
            serving(service) as there,
            ThreadPoolExecutor(1) as threads,
        ):
            upload = create(here, len(BODY))
            other = TusUpload(there, upload.path)
            slow = Trickle(BODY, 6 * MIB)
            first = threads.submit(upload.patch, 0, slow, **sums)
            until(lambda: has_parts(service, upload), "a part is there")
            server.process.send_signal(signal.SIGSTOP)
            offset = other.offset()
            answer = in_time(lambda: other.patch(offset, BODY[offset : 7 * MIB]))
            assert answer.status_code == 204, answer.text
            slow.go_on.set()
            server.process.send_signal(signal.SIGCONT)
            refused(first.result(), 423, "upload_locked")
            assert other.offset() == 7 * MIB
            other.append(BODY)
    finally:
        server.kill()
    arrived(service, upload, BODY)


def test_giving_up_while_it_is_written_leaves_nothing(
    wire: httpx2.Client, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = create(wire, len(BODY))
    slow = Trickle(BODY, 6 * MIB)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(upload.patch, 0, slow)
        until(lambda: upload.offset() >= 5 * MIB, "a part is there")
        assert upload.delete().status_code == 204
        slow.go_on.set()
        refused(first.result(), 404, "no_such_upload")
    assert record_of(service, upload).state is State.CANCELED
    bucket.later = 2 * IDLE
    sweep.run()
    assert leftovers(service.bucket, upload.id) == []


def hectic(api: httpx2.Client, path: str, seed: int) -> list[str]:
    """A client that knows nothing of others: asks, sends some, sometimes hangs up; what went wrong."""
    dice, upload, highest = random.Random(seed), TusUpload(api, path), 0

    def hanging_up(body: bytes) -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise ConnectionAbortedError

    while True:
        head = upload.head()
        if head.status_code == 503:
            # The bucket is completing it, and knows of neither upload nor object.
            continue
        if head.status_code != 200:
            return [f"HEAD {head.status_code}"]
        offset = int(head.headers["upload-offset"])
        if offset < highest:
            return [f"went back from {highest} to {offset}"]
        highest = offset
        if offset == len(BODY):
            return []
        piece = BODY[offset : offset + dice.randrange(1, 3 * MIB)]
        if dice.random() < 0.3:
            with suppress(ConnectionAbortedError):
                upload.patch(offset, hanging_up(piece))
            continue
        answer = upload.patch(offset, piece)
        match answer.status_code:
            case 204:
                highest = int(answer.headers["upload-offset"])
                if highest != offset + len(piece):
                    return [f"{len(piece)} bytes from {offset} led to {highest}"]
            case 409 | 423 | 503:
                pass
            case status:
                return [f"{status} {answer.text}"]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 4))])
def test_however_many_write_at_once_the_bytes_are_those_of_the_file(
    service: Service, settings: Settings, bucket: LaterBucket, queue: Queue, seed: int
) -> None:
    with (
        serving(service) as one,
        serving(Service.of(settings, bucket, queue)) as other,
        ThreadPoolExecutor(WRITERS) as threads,
    ):
        upload = create(one, len(BODY))
        writers = [
            threads.submit(hectic, (one, other)[number % 2], upload.path, 1000 * seed + number)
            for number in range(WRITERS)
        ]
        assert [wrong for writer in writers for wrong in writer.result()] == []
    arrived(service, upload, BODY)
