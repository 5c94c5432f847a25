"""A recording read over ranged GETs is the recording, with few fetches and bounded memory."""

import io
import os
import random
import threading

import pytest
from bucketscribe.worker.recording import RecordingFile

BLOCK = 100
DATA = random.Random(7).randbytes(1050)


class Bucket:
    """What `fetch` talks to: counts, and can be told to fail."""

    def __init__(self, data: bytes = DATA) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []
        self.failures: list[Exception] = []

    def fetch(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        if self.failures:
            raise self.failures.pop()
        return self.data[start:end]

    def open(self) -> RecordingFile:
        return RecordingFile(self.fetch, len(self.data), block_bytes=BLOCK)


def test_it_reads_as_the_recording_from_start_to_end_and_fetches_each_block_once() -> None:
    bucket = Bucket()
    with bucket.open() as file:
        assert file.read() == DATA
        assert file.read(1) == b""
    assert sorted(bucket.asked) == [(n, min(n + BLOCK, len(DATA))) for n in range(0, len(DATA), BLOCK)]


def test_it_seeks_and_reads_as_a_file_in_memory_does() -> None:
    chance = random.Random(1)
    wanted = io.BytesIO(DATA)
    with io.BufferedReader(Bucket().open(), 64) as file:
        for _ in range(500):
            whence, offset = chance.choice(
                [(os.SEEK_SET, chance.randrange(1200)), (os.SEEK_END, -chance.randrange(1050))]
            )
            assert file.seek(offset, whence) == wanted.seek(offset, whence)
            count = chance.randrange(250)
            assert file.read(count) == wanted.read(count)
            assert file.tell() == wanted.tell()


def test_seeking_fetches_nothing() -> None:
    bucket = Bucket()
    with bucket.open() as file:
        assert file.seek(0, os.SEEK_END) == len(DATA)
        assert file.seek(-10, os.SEEK_CUR) == len(DATA) - 10
    assert bucket.asked == []


def test_a_jump_to_the_end_reads_nothing_ahead() -> None:
    bucket = Bucket()
    with bucket.open() as file:
        file.seek(720)
        file.read(10)
    assert bucket.asked == [(700, 800)]


def test_at_most_four_blocks_and_one_under_way_are_held() -> None:
    with Bucket().open() as file:
        while file.read(30):
            assert len(file._kept) <= 4
            assert file._ahead is None or file._ahead[0] * BLOCK < len(DATA)


def test_the_next_block_is_fetched_while_this_one_is_used() -> None:
    begun = threading.Event()

    def fetch(start: int, end: int) -> bytes:
        if start == BLOCK:
            begun.set()
        return DATA[start:end]

    with RecordingFile(fetch, len(DATA), block_bytes=BLOCK) as file:
        file.read(1)
        assert begun.wait(10)


def test_an_error_passes_through_and_the_next_read_asks_again() -> None:
    bucket = Bucket()
    with bucket.open() as file:
        bucket.failures = [ConnectionError("gone")]
        with pytest.raises(ConnectionError, match="gone"):
            file.read(10)
        assert file.read(10) == DATA[:10]


def test_an_error_ahead_of_time_is_raised_when_its_block_is_read() -> None:
    asked = []

    def fetch(start: int, end: int) -> bytes:
        asked.append(start)
        if start == BLOCK and asked.count(BLOCK) == 1:
            raise ConnectionError("gone")
        return DATA[start:end]

    with RecordingFile(fetch, len(DATA), block_bytes=BLOCK) as file:
        assert len(file.read(BLOCK)) == BLOCK
        with pytest.raises(ConnectionError):
            file.read(1)
        assert file.read(1) == DATA[BLOCK : BLOCK + 1]


def test_fewer_bytes_than_asked_for_is_an_error() -> None:
    with (
        RecordingFile(lambda start, end: b"short", 100, block_bytes=BLOCK) as file,
        pytest.raises(OSError, match="got 5"),
    ):
        file.read(1)


def test_closing_leaves_no_thread_and_no_fetch_behind() -> None:
    bucket = Bucket()
    file = bucket.open()
    file.read(150)
    file.close()
    asked = len(bucket.asked)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read-ahead")]
    assert len(bucket.asked) == asked
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)
    with pytest.raises(ValueError, match="closed"):
        file.seek(0)


def test_an_empty_recording_reads_as_nothing() -> None:
    with Bucket(b"").open() as file:
        assert file.read() == b""


def test_a_position_before_the_start_is_refused() -> None:
    with Bucket().open() as file, pytest.raises(ValueError, match="position"):
        file.seek(-1)
