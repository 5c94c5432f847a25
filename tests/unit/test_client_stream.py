"""Recordings of unknown length, such as standard input, against the stand-ins."""

import io
import os
import threading
import tracemalloc
from collections.abc import Iterator

import pytest
from bucketscribe.client import ServerProblem, UploadFailed, UploadProgress, recording

from tests.unit.standins import ID, PART, StandIns, cut_in_the_middle, document, no_such_upload, standing_in


@pytest.fixture
def standins() -> Iterator[StandIns]:
    with standing_in() as running:
        yield running


@pytest.mark.parametrize("length", [1, PART, 3 * PART, 5 * PART + 7])
def test_a_stream_arrives_whole(standins: StandIns, length: int) -> None:
    whole = os.urandom(length)
    told: list[UploadProgress] = []
    transcription = standins.client.upload(io.BytesIO(whole), {}, told.append, name="talk.wav")
    assert transcription.id == ID
    assert standins.bucket.arrived() == whole
    assert [part["PartNumber"] for part in standins.api.completed[0]] == list(
        range(1, -(-length // PART) + 1)
    )
    assert (told[-1].sent, told[-1].size) == (length, None)


def test_no_size_is_declared_for_a_stream(standins: StandIns) -> None:
    standins.client.upload(io.BytesIO(b"RIFF"), {"language": "en"}, name="talk.wav")
    assert standins.api.begun == [
        {
            "filename": "talk.wav",
            "type": "application/octet-stream",
            "metadata": {"language": "en", "partSize": recording.PART_BYTES},
        }
    ]


def test_a_pipe_that_gives_a_little_at_a_time_is_read_to_its_end(standins: StandIns) -> None:
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for number in range(200):
                pipe.write(bytes([number]) * 1000)

    threading.Thread(target=write).start()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        standins.client.upload(pipe, name="talk.wav")
    assert standins.bucket.arrived() == b"".join(bytes([number]) * 1000 for number in range(200))


def test_a_part_of_a_stream_that_fails_is_sent_again(standins: StandIns) -> None:
    whole = os.urandom(3 * PART)
    standins.bucket.faults = {2: [cut_in_the_middle]}
    standins.client.upload(io.BytesIO(whole), name="talk.wav")
    assert standins.bucket.arrived() == whole


def test_an_empty_stream_is_refused_before_anything_is_asked(standins: StandIns) -> None:
    with pytest.raises(UploadFailed, match="empty_file"):
        standins.client.upload(io.BytesIO(), name="talk.wav")
    assert not standins.api.calls


def test_a_stream_needs_a_name(standins: StandIns) -> None:
    with pytest.raises(ValueError, match="name"):
        standins.client.upload(io.BytesIO(b"RIFF"))


def test_a_stream_that_is_too_long_is_given_up(standins: StandIns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_BYTES", 2 * PART)
    with pytest.raises(UploadFailed, match="too_large"):
        standins.client.upload(io.BytesIO(bytes(2 * PART + 1)), name="talk.wav")
    assert (standins.api.aborted, standins.api.completed) == (1, [])


def test_a_stream_that_breaks_is_given_up(standins: StandIns) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 2 * PART:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(UploadFailed, match=r"file_unreadable: talk\.wav: Input/output error"):
        standins.client.upload(Broken(bytes(4 * PART)), name="talk.wav")
    assert standins.api.aborted == 1


def test_a_stream_whose_upload_has_ended_cannot_begin_anew(standins: StandIns) -> None:
    standins.bucket.faults = {2: [no_such_upload]}
    standins.api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(
        200, document("expired")
    )
    standins.api.routes["GET /s3/multipart/sealed%2Fid"] = lambda request: request.problem(
        410, "upload_expired"
    )
    with pytest.raises(ServerProblem, match="upload_expired"):
        standins.client.upload(io.BytesIO(bytes(3 * PART)), name="talk.wav")
    assert len(standins.api.begun) == 1


def test_of_a_stream_no_more_is_held_than_is_being_sent(standins: StandIns) -> None:
    class Zeros(io.RawIOBase):
        left = 64 * 1024**2

        def read(self, size: int = -1, /) -> bytes:
            size = min(size, self.left)
            self.left -= size
            return bytes(size)

    standins.api.part_size = 1024**2
    standins.bucket.keep_bodies = False
    tracemalloc.start()
    try:
        standins.client.upload(Zeros(), name="talk.wav")  # type: ignore[arg-type]
        # As many parts as are sent at the most, and as much again for the stand-in and the reading.
        assert tracemalloc.get_traced_memory()[1] < 2 * 16 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_stream_that_has_nothing_yet_is_not_taken_for_its_end(standins: StandIns) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(reading, "rb", buffering=0) as pipe, os.fdopen(writing, "wb", buffering=0) as other:
        other.write(b"RIFF")
        with pytest.raises(UploadFailed, match="file_unreadable"):
            standins.client.upload(pipe, name="talk.wav")
    assert not standins.api.completed
