"""Parts cut from a stream: what is in the bucket afterwards, and what a refusal leaves."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from bucketscribe.bucket import Bucket, UploadGone
from bucketscribe.part_writer import AT_ONCE, PART_BYTES, PartWriter, TooMuch
from bucketscribe.s3 import Bytes

KEY = "uploads/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.wav"
BYTES = os.urandom(3 * PART_BYTES + 12345)


def begun(bucket: Bucket) -> str:
    return bucket.begin_upload(KEY, "audio/wav")[0]


def whole(bucket: Bucket, size: int) -> bytes:
    found = bucket.find(KEY)
    assert found is not None
    return bucket.read(KEY, 0, size, found.etag)


@pytest.mark.parametrize("piece", [65_537, PART_BYTES, 2 * PART_BYTES + 1])
def test_what_was_written_in_pieces_of_any_size_is_the_object(bucket: Bucket, piece: int) -> None:
    upload_id = begun(bucket)
    writer = PartWriter(bucket, KEY, upload_id)
    for start in range(0, len(BYTES), piece):
        writer.bwrite(memoryview(BYTES)[start : start + piece])
    parts = writer.end()
    bucket.complete_upload(KEY, upload_id, [(part.number, part.etag) for part in parts])
    assert [part.number for part in parts] == [1, 2, 3, 4]
    assert writer.size == len(BYTES)
    assert whole(bucket, len(BYTES)) == BYTES


def test_one_who_goes_on_begins_with_the_rest_of_the_one_before(bucket: Bucket) -> None:
    upload_id = begun(bucket)
    first = PartWriter(bucket, KEY, upload_id)
    first.bwrite(BYTES[: PART_BYTES + 100])
    rest = first.flush()
    assert rest == BYTES[PART_BYTES : PART_BYTES + 100]
    second = PartWriter(bucket, KEY, upload_id, held=1, head=rest)
    asyncio.run(second.awrite(BYTES[PART_BYTES + 100 :]))
    second.end()
    listed = bucket.list_parts(KEY, upload_id)
    assert listed is not None
    bucket.complete_upload(KEY, upload_id, [(part.number, part.etag) for part in listed[0]])
    assert whole(bucket, len(BYTES)) == BYTES


def test_of_a_piece_that_would_be_too_much_nothing_is_taken(bucket: Bucket) -> None:
    writer = PartWriter(bucket, KEY, begun(bucket), held=1, most=PART_BYTES + 10)
    writer.bwrite(b"0123456789")
    with pytest.raises(TooMuch):
        writer.bwrite(b"!")
    assert writer.size == PART_BYTES + 10
    assert bytes(writer.flush()) == b"0123456789"


def test_parts_of_an_upload_that_is_gone_are_refused_from_then_on(bucket: Bucket) -> None:
    upload_id = begun(bucket)
    bucket.abort_uploads(KEY, upload_id)
    writer = PartWriter(bucket, KEY, upload_id)
    writer.bwrite(BYTES[:PART_BYTES])
    with pytest.raises(UploadGone):
        writer.flush()
    with pytest.raises(UploadGone):
        writer.write(b"more")


class Slow(Bucket):
    """A bucket that takes no part before it is told to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.go = Event()
        self.sending = 0

    def put_part(self, key: str, upload_id: str, number: int, body: Bytes) -> str:
        self.sending += 1
        self.go.wait()
        return super().put_part(key, upload_id, number, body)


def test_so_many_parts_are_under_way_and_the_writer_waits(bucket: Bucket) -> None:
    slow = Slow(bucket.client, bucket.name)
    writer = PartWriter(slow, KEY, begun(bucket))
    for _ in range(AT_ONCE):
        writer.bwrite(bytes(PART_BYTES))
    waiting = writer.write(bytes(PART_BYTES))
    assert waiting is not None
    assert not waiting.done()
    assert slow.sending == AT_ONCE
    slow.go.set()
    assert waiting.result() is None
    assert len(writer.end()) == AT_ONCE + 1


def test_one_that_is_canceled_sends_nothing_more_and_keeps_nobody_waiting(bucket: Bucket) -> None:
    slow = Slow(bucket.client, bucket.name)
    upload_id = begun(bucket)
    writer = PartWriter(slow, KEY, upload_id)
    for _ in range(AT_ONCE):
        writer.bwrite(bytes(PART_BYTES))
    waiting = writer.write(bytes(PART_BYTES))
    assert waiting is not None
    with ThreadPoolExecutor() as threads:
        canceled = threads.submit(writer.cancel)
        assert waiting.result() is None
        slow.go.set()
        canceled.result()
    listed = bucket.list_parts(KEY, upload_id)
    assert listed is not None
    assert [part.number for part in listed[0]] == [*range(1, AT_ONCE + 1)]
