"""Recordings cut short, damaged or made up: what can be heard is given, then the trouble is told."""

import struct
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from bucketscribe.worker.decode import NoAudio
from bucketscribe.worker.engines.base import SAMPLE_RATE
from hypothesis import given as having
from hypothesis import settings
from hypothesis import strategies as st

from tests.media.make import JFK, encode, speech
from tests.media.odd import FRAME, timed, wav, written
from tests.media.read import length, read

SAMPLES, RATE = speech()
SECONDS = len(SAMPLES) / RATE
CHANCE = np.random.default_rng(11)

# Those that state their length, and give what is there of it.
STATED = ["mp3", "mp3 at 44.1 kHz in stereo", "flac", "wav", "wav of floats", "wav of over 4 GB", "wma"]
STATED += ["wmv", "aiff", "aif", "au", "avi", "mkv", "mka", "weba", "mkv with FLAC"]
STATED += ["m4a with its index first"]
# Those of which only the last frame, page or fragment tells that it is not whole.
NOT_WHOLE = ["ogg", "opus", "oga", "ogg with Vorbis", "mp4", "aac", "w64"]
# Those that cannot be read without what comes last.
INDEX_LAST = ["m4a", "m4b", "mov", "3gp", "mp4 with its index last"]
# Garbage cannot be told from PCM samples.
GARBAGE = ["m4a", "m4a with its index first", "mp4", "mp3", "mp3 without ID3", "mp2", "aac", "flac", "ogg"]
GARBAGE += ["mkv", "ts", "mpg", "amr", "avi"]
# One of each container and each codec's decoder
FUZZED = ["mp3", "m4a", "mp4", "aac", "flac", "ogg", "ogg with Vorbis", "mkv", "webm", "wma", "amr", "ts"]
FUZZED += [
    "mpg",
    "avi",
    "aiff",
    "caf",
    "au",
    "m4b",
    "mts",
    "wav of floats",
    "wav in ADPCM",
    "mkv with E-AC-3",
]


@cache
def made(kind: str) -> bytes:
    if kind == "w64":
        return written("w64", "pcm_s16le", [(0, SAMPLES)], RATE)
    return encode(kind, SAMPLES, RATE)


# Cut short


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", STATED + NOT_WHOLE)
def test_of_a_recording_cut_short_comes_what_is_there(kind: str, share: float) -> None:
    data, whole = made(kind), read(made(kind))
    given = read(data[: int(len(data) * share) + 1])
    assert given.trouble is not None
    assert given.duration == pytest.approx(share * SECONDS, abs=1.2)  # an Ogg page may hold a second
    assert given.trouble.at_seconds == pytest.approx(given.duration, abs=0.1)
    # It is the same sound, but for the end, where the resampler had no more to go on.
    same = len(given.samples) - SAMPLE_RATE // 5
    assert np.array_equal(given.samples[:same], whole.samples[:same])


@pytest.mark.parametrize("kind", INDEX_LAST)
def test_without_its_index_nothing_of_it_can_be_read(kind: str) -> None:
    given = read(made(kind)[: int(len(made(kind)) * 0.9)])
    assert given.trouble is not None
    assert given.trouble.at_seconds == 0
    assert not len(given.samples)


# Damaged


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_behind_a_good_quarter_comes_after_its_sound(kind: str) -> None:
    data, whole = made(kind), read(made(kind))
    given = read(data[: len(data) // 4] + CHANCE.bytes(len(data) * 3 // 4))
    assert given.trouble is not None
    if kind != "m4a":  # which has lost its index
        good = int((SECONDS / 4 - 1) * SAMPLE_RATE)
        assert np.array_equal(given.samples[:good], whole.samples[:good])


@pytest.mark.parametrize("kind", ["mp3", "aac", "flac", "mkv", "ogg", "mp4 with its index last", "ts"])
def test_a_scratch_in_the_middle_is_passed_over(kind: str) -> None:
    long = np.tile(SAMPLES, 6)
    data = bytearray(encode(kind, long, RATE))
    data[len(data) // 2 : len(data) // 2 + 40] = CHANCE.bytes(40)
    given = read(bytes(data))
    assert given.trouble is None
    assert given.duration == pytest.approx(len(long) / RATE, abs=0.2)


def test_bad_packets_are_counted() -> None:
    data = bytearray(made("m4a"))
    middle = len(data) // 2
    data[middle : middle + 2000] = bytes(2000)
    given = read(bytes(data))
    assert given.trouble is None
    assert 1 <= given.skipped <= 20
    assert given.duration == pytest.approx(SECONDS, abs=0.1)


def test_where_too_much_cannot_be_decoded_what_came_before_is_given() -> None:
    data = bytearray(made("mp4 with its index last"))
    data[len(data) // 2 : len(data) * 9 // 10] = CHANCE.bytes(len(data) * 9 // 10 - len(data) // 2)
    given = read(bytes(data))
    assert given.trouble is not None
    assert "too much" in str(given.trouble)
    assert given.duration == pytest.approx(SECONDS / 2, abs=1.5)
    assert given.trouble.at_seconds == pytest.approx(given.duration, abs=0.1)


# No recordings


@pytest.mark.parametrize("data", [b"", b"hello\n" * 1000, bytes(10_000), CHANCE.bytes(10_000)])
def test_what_is_not_media_is_undecodable(data: bytes) -> None:
    given = read(data)
    assert given.trouble is not None
    assert given.trouble.at_seconds == 0
    assert not len(given.samples)


def test_a_header_without_a_sample_is_undecodable() -> None:
    given = read(JFK.read_bytes()[:36] + b"data" + bytes(4))
    assert given.trouble is not None
    assert given.trouble.at_seconds == 0


# Wrong about themselves


def test_a_wav_written_to_a_pipe_is_whole_though_its_sizes_are_unknown() -> None:
    data = bytearray(JFK.read_bytes())
    data[4:8] = b"\xff" * 4
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff" * 4
    given = read(bytes(data))
    assert given.trouble is None
    assert given.duration == pytest.approx(SECONDS, abs=0.01)


def test_a_length_of_a_billion_hours_makes_no_endless_silence() -> None:
    # The last packets are said to come a billion hours later, and the file to last so long.
    def times(number: int) -> float:
        return number * FRAME / RATE + (3.6e12 if number > 160 else 0)

    data = timed("matroska", SAMPLES, RATE, times)
    at = data.index(b"\x44\x89\x88")  # Duration (RFC 9559, 5.1.2.10)
    (milliseconds,) = struct.unpack_from(">d", data, at + 3)
    assert milliseconds >= 3.6e15
    assert read(data).duration < SECONDS + 1


def test_there_is_no_more_than_half_a_day_of_silence_in_all() -> None:
    # Every packet five hours after the last one, within the stated length.
    data = timed("matroska", SAMPLES[: 10 * FRAME], RATE, lambda number: number * 5 * 3600.0)
    assert length(data) == pytest.approx(10 * 3600, abs=2)


# Anything


@pytest.mark.parametrize("kind", FUZZED)
@settings(max_examples=15)
@having(data=st.data())
def test_chance_in_a_recording_gives_sound_or_a_plain_answer(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(short(kind))
    for _ in range(data.draw(st.integers(1, 8), label="scratches")):
        at = data.draw(st.integers(0, len(damaged) - 1), label="at")
        if data.draw(st.booleans(), label="near the beginning"):
            at = at % 600
        damaged[at : at + 64] = data.draw(st.binary(min_size=1, max_size=64), label="bytes")
    damaged = damaged[: data.draw(st.integers(1, len(damaged)), label="length")]
    with suppress(NoAudio):
        # All the silence there may be, and three seconds slowed down to the slowest rate there may be
        assert length(bytes(damaged)) < 12 * 3600 + 3 * 96_000 / 4_000


@cache
def short(kind: str) -> bytes:
    return encode(kind, SAMPLES[: 3 * RATE], RATE)


def test_bytes_after_a_wav_header_are_sound_whatever_they_are() -> None:
    given = read(wav(CHANCE.bytes(64_000), bits=32, form=3))
    assert given.trouble is None
    assert given.duration == 1
