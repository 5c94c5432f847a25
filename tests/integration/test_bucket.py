"""The bucket's calls on the real server, where others do not come by."""

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError
from bucketscribe.presign import Presigner
from bucketscribe.queue import Job, Queue
from bucketscribe.records import new_id
from bucketscribe.s3 import sdk_credentials
from bucketscribe.settings import Settings

from tests.conftest import LaterBucket


@pytest.mark.parametrize("key", ["a b/c+d", "ü/日本.wav", "100%/a%2Fb", "q?u=1&v#w", "'\"(~)*!@:;,$"])
def test_any_key_can_be_written_found_read_and_removed(bucket: LaterBucket, key: str) -> None:
    written = bucket.create(key, b"0123456789")
    assert [entry.key for entry in bucket.listing("")] == [key]
    assert bucket.read(key, 2, 5, written.etag) == b"234"
    opened = bucket.open(key, 4)
    assert opened is not None
    assert (opened[0].size, opened[0].etag, opened[1]) == (10, written.etag, b"0123")
    bucket.delete(key)
    assert (bucket.find(key), bucket.get(key), bucket.open(key, 4)) == (None, None, None)


def test_an_empty_object_opens_with_no_bytes(bucket: LaterBucket) -> None:
    bucket.put("empty", b"")
    opened = bucket.open("empty", 4096)
    assert opened is not None
    assert (opened[0].size, opened[1]) == (0, b"")


def test_all_pages_of_a_long_list_of_parts_are_read(bucket: LaterBucket, settings: Settings) -> None:
    upload_id, _ = bucket.begin_upload("long", "audio/wav")
    presigner = Presigner(settings.public_endpoint, bucket.name, settings.region, True, sdk_credentials())
    urls = presigner.parts(
        "long", upload_id, [(n, None) for n in range(1, 1003)], expires_seconds=600, now=bucket.now()
    )
    with httpx2.Client() as client:
        for url in urls.values():
            assert client.put(url, content=b"x").status_code == 200
    listed = bucket.list_parts("long", upload_id)
    assert listed is not None
    assert [part.number for part in listed[0]] == list(range(1, 1003))
    assert {part.size for part in listed[0]} == {1}


class Announcing(deque[Any]):
    """A deque of which one can wait until something was put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.appended = threading.Semaphore(0)

    def append(self, item: Any) -> None:
        super().append(item)
        self.appended.release()


class HeldQueue(Queue):
    """The real queue, whose requests wait to be let go."""

    def hold(self) -> None:
        self.waiting = self._waiting = Announcing()
        self.go = threading.Event()
        self.requests = 0
        self.client.meta.events.register("before-send.sqs.SendMessageBatch", self._hold)

    def _hold(self, **_: object) -> None:
        self.requests += 1
        assert self.go.wait(30)

    def send_together(self, jobs: list[Job]) -> list[Future[None]]:
        """Send the first, and the others while its request is on its way."""
        with ThreadPoolExecutor(len(jobs)) as threads:
            sent = []
            for job in jobs:
                sent.append(threads.submit(self.send, job))
                assert self.waiting.appended.acquire(timeout=30)
            self.go.set()
        return sent


@pytest.fixture
def held(settings: Settings) -> HeldQueue:
    queue = HeldQueue.connect(settings)
    queue.hold()
    return queue


def test_messages_sent_during_another_request_share_the_next(held: HeldQueue) -> None:
    jobs = [Job("local", new_id(), 1) for _ in range(12)]
    for sent in held.send_together(jobs):
        sent.result()
    assert held.requests <= 3
    received = [held.receive(1) for _ in jobs]
    assert {message.job for message in received if message is not None} == set(jobs)


def test_everyone_whose_message_was_not_sent_is_told(held: HeldQueue) -> None:
    held.url += "-gone"
    for sent in held.send_together([Job("local", new_id(), 1) for _ in range(3)]):
        with pytest.raises(ClientError):
            sent.result()
    assert held.requests <= 2
