"""A tus request that is held up, just before it asks the bucket for something, while others go on."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from bucketscribe.errors import Problem
from bucketscribe.queue import Queue
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.tus_lock import read_lock

from tests.conftest import LaterBucket
from tests.crash.test_processes import until
from tests.integration.test_sweep import IDLE
from tests.integration.test_tus_protocol import arrived, record_of, serving
from tests.integration.test_uploading import leftovers, refused
from tests.tus import MIB, TusUpload, checksum, create, in_time, recording

BODY = recording(13 * MIB)
WAIT_SECONDS = 30.0
OVER = timedelta(seconds=20)
"""So far ahead, every lease is over."""


class Gate:
    """The first call of one of a bucket's methods with a key like this waits until it is opened."""

    def __init__(self, bucket: LaterBucket, method: str, key: str) -> None:
        self._reached, self._opened = threading.Event(), threading.Event()
        asks: Callable[..., Any] = getattr(bucket, method)

        def ask(at: str, *rest: Any, **more: Any) -> Any:
            if key in at and not self._reached.is_set():
                self._reached.set()
                assert self._opened.wait(WAIT_SECONDS)
            return asks(at, *rest, **more)

        setattr(bucket, method, ask)

    def wait(self) -> None:
        """Until somebody stands before it."""
        assert self._reached.wait(WAIT_SECONDS)

    def open(self) -> None:
        """Let it through."""
        self._opened.set()


@contextmanager
def held_up(
    settings: Settings, queue: Queue, method: str, key: str, later: timedelta = timedelta()
) -> Iterator[tuple[httpx2.Client, Gate]]:
    """Another process of the API, with a gate in it."""
    bucket = LaterBucket.connect(settings)
    bucket.later = later
    gate = Gate(bucket, method, key)
    with serving(Service.of(settings, bucket, queue)) as client:
        try:
            yield client, gate
        finally:
            gate.open()


@contextmanager
def impatient(settings: Settings, queue: Queue) -> Iterator[httpx2.Client]:
    """Another process, for which every lease is over."""
    bucket = LaterBucket.connect(settings)
    bucket.later = timedelta(seconds=20)
    with serving(Service.of(settings, bucket, queue)) as client:
        yield client


def token(service: Service, upload: TusUpload) -> str | None:
    """Who has the lock of an upload."""
    content = read_lock(service.bucket, f"tus/local/{upload.id}/lock")
    return None if content is None else content.token


def test_a_tail_that_comes_late_is_in_nobodys_way(service: Service, settings: Settings, queue: Queue) -> None:
    first = BODY[MIB : 8 * MIB]
    with (
        held_up(settings, queue, "create", f"tail-{5 * MIB}") as (here, gate),
        impatient(settings, queue) as there,
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(here, len(BODY))
        other = TusUpload(there, upload.path)
        upload.append(BODY[:MIB])
        late = threads.submit(upload.patch, MIB, first, **checksum(first))
        gate.wait()
        its_token = token(service, upload)

        def slowly() -> Iterator[bytes]:
            yield BODY[MIB : 2 * MIB]
            until(lambda: token(service, upload) != its_token, "the other one is the writer")
            gate.open()
            refused(late.result(), 423, "upload_locked")
            yield BODY[2 * MIB : 6 * MIB]

        assert other.patch(MIB, slowly()).status_code == 204
        assert other.offset() == 6 * MIB
        other.append(BODY)
    arrived(service, upload, BODY)


def test_a_corrupt_part_that_comes_late_is_not_in_the_recording(
    service: Service, settings: Settings, queue: Queue
) -> None:
    """Its checksum would have told, had its writer not been held up."""
    with (
        held_up(settings, queue, "put_part", "talk.wav") as (here, gate),
        impatient(settings, queue) as there,
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(here, len(BODY))
        other = TusUpload(there, upload.path)
        late = threads.submit(upload.patch, 0, bytes(6 * MIB), **checksum(BODY[: 6 * MIB]))
        gate.wait()
        assert in_time(lambda: other.patch(0, BODY[: 6 * MIB])).status_code == 204
        gate.open()
        refused(late.result(), 423, "upload_locked")
        other.append(BODY)
    arrived(service, upload, BODY)


def test_what_is_saved_while_its_upload_is_ended_is_refused_and_leaves_nothing(
    service: Service, settings: Settings, queue: Queue, bucket: LaterBucket
) -> None:
    """The sweep has looked, and ends it; its client comes back just then."""
    later = IDLE + timedelta(minutes=2)
    sweeping = LaterBucket.connect(settings)
    sweeping.later = bucket.later = 2 * later
    ending = Gate(sweeping, "replace", "records/")
    with (
        held_up(settings, queue, "create", f"tail-{5 * MIB}", later) as (api, gate),
        ThreadPoolExecutor(2) as threads,
    ):
        upload = create(api, len(BODY))
        upload.append(BODY[: 5 * MIB])
        swept = threads.submit(Sweep(Service.of(settings, sweeping, queue)).run)
        ending.wait()
        late = threads.submit(upload.patch, 5 * MIB, BODY[5 * MIB : 6 * MIB])
        gate.wait()
        ending.open()
        swept.result()
        gate.open()
        refused(late.result(), 410, "upload_expired")
        assert upload.head().status_code == 410
    assert record_of(service, upload).state is State.EXPIRED
    assert leftovers(service.bucket, upload.id) == []
    assert [entry.key for entry in service.bucket.listing("tus/")] == []


def test_a_tail_that_comes_after_others_have_completed_the_upload_does_not_stay(
    service: Service, settings: Settings, queue: Queue
) -> None:
    with (
        held_up(settings, queue, "create", "tail-0") as (here, gate),
        impatient(settings, queue) as there,
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(here, len(BODY))
        late = threads.submit(upload.patch, 0, BODY[:MIB])
        gate.wait()
        other = TusUpload(there, upload.path)
        assert in_time(lambda: other.patch(0, BODY)).status_code == 204
        gate.open()
        refused(late.result(), 423, "upload_locked")
        assert upload.offset() == len(BODY)
    arrived(service, upload, BODY)


def test_who_asks_while_bytes_become_a_part_is_not_told_less_than_was_acknowledged(
    service: Service, settings: Settings, queue: Queue
) -> None:
    with (
        serving(service) as api,
        held_up(settings, queue, "find", "tail-0") as (there, gate),
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(api, len(BODY))
        upload.append(BODY[: 3 * MIB])
        asked = threads.submit(TusUpload(there, upload.path).offset)
        gate.wait()
        upload.append(BODY[: 7 * MIB])
        gate.open()
        assert asked.result() == 7 * MIB


@pytest.mark.parametrize("kind", [{}, {"Upload_Concat": "partial", "Upload_Metadata": None}])
def test_of_two_who_tell_different_lengths_the_first_counts(
    service: Service, settings: Settings, queue: Queue, kind: dict[str, str | None]
) -> None:
    with (
        serving(service) as api,
        held_up(settings, queue, "create", "/lock") as (there, gate),
        ThreadPoolExecutor(1) as threads,
    ):
        upload = create(api, None, **kind)
        upload.append(BODY[:MIB])
        second = threads.submit(
            TusUpload(there, upload.path).patch, MIB, BODY[MIB : 2 * MIB], Upload_Length=str(2 * MIB)
        )
        gate.wait()
        assert upload.patch(MIB, b"", Upload_Length=str(8 * MIB)).status_code == 204
        gate.open()
        refused(second.result(), 400, "invalid_tus_request")
        head = upload.head().headers
        assert (head["upload-length"], head["upload-offset"]) == (str(8 * MIB), str(MIB))


def test_a_part_behind_a_gap_keeps_no_upload_from_its_end(
    service: Service, settings: Settings, queue: Queue
) -> None:
    """As it stands there after a kill, when a part was sent and the one before it was not."""
    with serving(service) as api:
        upload = create(api, None)
        upload.append(BODY[:MIB])
        record = record_of(service, upload)
        assert record.upload_id is not None
        service.bucket.put_part(record.key, record.upload_id, 2, BODY[5 * MIB : 10 * MIB])
        assert upload.offset() == MIB
        assert upload.patch(MIB, b"", Upload_Length=str(MIB)).status_code == 204
    arrived(service, upload, BODY[:MIB])


def test_what_the_bucket_knows_nothing_of_is_called_gone_only_once_it_has_ended(
    service: Service, bucket: LaterBucket
) -> None:
    """So it is for a moment with some servers, while they put an object together."""
    with serving(service) as api:
        upload = create(api, len(BODY))
        upload.append(BODY[:MIB])
        record = record_of(service, upload)
        bucket.abort_upload(record.key, record.upload_id or "")
        assert upload.head().status_code == 503
        refused(upload.patch(MIB, BODY[MIB:]), 503, "busy")
        bucket.later = 2 * IDLE
        Sweep(service).run()
        assert upload.head().status_code == 410


def test_what_is_whole_is_not_ended_as_idle_because_somebody_is_busy(
    service: Service, sweep: Sweep, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(service) as api:
        upload = create(api, None)
        upload.append(BODY[: 6 * MIB])
    # As if the server had died before it completed it.
    service.records.change("local", upload.id, lambda record, now: record.to(record.state, size=6 * MIB))
    bucket.later = 2 * IDLE

    def busy(*_: object) -> None:
        raise Problem("busy", "Too many change it at once.")

    with monkeypatch.context() as patched:
        patched.setattr(service.uploads, "finish", busy)
        sweep.run()
    assert record_of(service, upload).state is State.UPLOADING
    bucket.later = 3 * IDLE
    sweep.run()
    arrived(service, upload, BODY[: 6 * MIB])
