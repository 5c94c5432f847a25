"""Decoding: every kind of recording gives its sound, in its place, and nothing else is ever opened."""

import contextlib
import io
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from bucketscribe.worker.decode import Decoder, NoAudio, Track
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples
from bucketscribe.worker.recording import RecordingFile

from tests.media.make import JFK, KINDS, encode, speech
from tests.media.odd import (
    FRAME,
    earlier,
    floats,
    referring,
    timed,
    tracks,
    wav,
    with_picture,
    without_times,
    written,
)
from tests.media.read import Given, decoded, read

SAMPLES, RATE = speech()
SECONDS = len(SAMPLES) / RATE
IN_5_1 = [kind for kind in KINDS if KINDS[kind].layout == "5.1"]
# One of each way in which FFmpeg makes samples of bytes
DIFFERENT = ["mp3", "m4a", "flac", "opus", "ogg with Vorbis", "wma", "amr", "mts", "mpg", "wav of 24 bits"]


@cache
def made(kind: str) -> bytes:
    return encode(kind, SAMPLES, RATE)


def loudness(samples: Samples) -> float:
    return float(np.sqrt(np.mean(np.square(samples))))


def loudest(given: Given, start: float, end: float) -> float:
    return float(np.abs(given.samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]).max())


def likeness(found: Samples, wanted: Samples) -> tuple[float, float]:
    """How alike two sounds are where they fit best, 0 to 1, and the seconds the first is late there."""
    size = 1 << (len(found) + len(wanted)).bit_length()
    product = np.fft.irfft(np.fft.rfft(found, size) * np.conj(np.fft.rfft(wanted, size)), size)
    place = int(product.argmax())
    energy = float(np.sqrt(np.square(found).sum() * np.square(wanted).sum()))
    return float(product[place]) / energy, (place if place < size // 2 else place - size) / SAMPLE_RATE


# The kinds


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_sound(kind: str) -> None:
    given = read(made(kind))
    assert given.trouble is None
    assert given.skipped == 0
    assert given.track == Track(1, 1, None)
    assert given.duration == pytest.approx(SECONDS, abs=0.1)
    alike, late = likeness(given.samples, SAMPLES)
    assert alike > 0.93
    assert abs(late) < 0.08


@pytest.mark.parametrize("kind", IN_5_1)
def test_who_speaks_in_the_centre_alone_is_heard_in_the_mix(kind: str) -> None:
    given = read(made(kind))
    assert np.abs(given.samples).max() > 0.2
    assert likeness(given.samples, SAMPLES)[0] > 0.99


@pytest.mark.parametrize("channels", [2, 3, 6, 9, 32])
def test_of_channels_without_a_place_none_is_left_out(channels: int) -> None:
    one = (SAMPLES * 32_767).astype("<i2")
    for speaking in {0, 2 % channels, 3 % channels, channels - 1}:
        sound = np.zeros((len(one), channels), "<i2")
        sound[:, speaking] = one
        given = read(wav(sound.tobytes(), channels=channels))
        assert np.allclose(given.samples, SAMPLES / channels, atol=1e-4)


def test_a_mix_of_loud_channels_is_not_clipped() -> None:
    one = (SAMPLES / np.abs(SAMPLES).max() * 32_767).astype("<i2")
    given = read(wav(np.stack([one, one], 1).tobytes(), channels=2))
    assert np.allclose(given.samples, one / 32_768, atol=1e-4)


def test_a_wav_comes_through_exactly() -> None:
    assert np.allclose(read(JFK.read_bytes()).samples, SAMPLES, atol=1e-4)


@pytest.mark.parametrize("version", [3, 4])
def test_an_mp3_with_a_large_picture_before_it_is_whole(version: int) -> None:
    given = read(with_picture(made("mp3 without ID3"), version, 1_000_000))
    assert given.trouble is None
    assert given.duration == pytest.approx(SECONDS, abs=0.1)
    assert likeness(given.samples, SAMPLES)[0] > 0.99


def test_wideband_amr_is_read_though_nothing_here_writes_it() -> None:
    # Frames of 20 ms with chance in them, which is some sound (3GPP TS 26.201, RFC 4867).
    chance = np.random.default_rng(5)
    data = b"#!AMR-WB\n" + b"".join(b"\x44" + chance.bytes(60) for _ in range(250))
    given = read(data)
    assert given.trouble is None
    assert given.duration == pytest.approx(5)
    assert loudest(given, 0, 5) > 0


def test_titles_that_are_not_utf_8_are_no_reason_to_fail() -> None:
    title = "Größe".encode("latin-1") + b"\0"
    info = b"INFOINAM" + struct.pack("<I", len(title)) + title
    given = read(
        wav((SAMPLES * 32_767).astype("<i2").tobytes(), b"LIST" + struct.pack("<I", len(info)) + info)
    )
    assert given.trouble is None
    assert given.duration == pytest.approx(SECONDS)


@pytest.mark.parametrize("kind", ["mp3", "aac"])
def test_rate_and_channels_may_change_in_the_middle(kind: str) -> None:
    given = read(made(f"{kind} at 44.1 kHz in stereo") + made(kind))
    assert given.duration == pytest.approx(2 * SECONDS, abs=0.3)
    middle = int((SECONDS + 0.05) * SAMPLE_RATE)
    for half in (given.samples[:middle], given.samples[middle:]):
        assert likeness(half, SAMPLES)[0] > 0.95


@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
def test_samples_of_a_broken_float_recording_are_finite_and_within_bounds(rate: int) -> None:
    broken = SAMPLES.copy()
    broken[1000:1005] = np.nan, np.inf, -np.inf, 3e38, -7
    given = read(floats(broken, rate))  # which looks at every sample
    whole = read(floats(SAMPLES, rate))
    assert given.trouble is None
    assert len(given.samples) == len(whole.samples)
    assert np.count_nonzero(given.samples != whole.samples) < 100


@pytest.mark.parametrize("rate", [1, 500, 2_000_000, 2**31 - 1])
def test_a_sample_rate_that_cannot_be_is_told(rate: int) -> None:
    given = read(wav(bytes(100_000), rate=rate))
    assert given.trouble is not None
    assert given.trouble.at_seconds == 0


# The tracks


@pytest.mark.parametrize("container", ["matroska", "mp4"])
def test_of_several_tracks_the_default_one_is_taken(container: str) -> None:
    wanted = [(192_000, False, "deu"), (48_000, True, "eng"), (64_000, False, "fra")]
    given = read(tracks(container, SAMPLES, RATE, wanted))
    assert given.trouble is None
    assert given.track == Track(number=2, of=3, language="eng")
    assert loudness(given.samples) == pytest.approx(loudness(SAMPLES) / 2, rel=0.05)


def test_without_a_default_the_first_of_equal_tracks_is_taken() -> None:
    given = read(tracks("mpegts", SAMPLES, RATE, [(48_000, False, "und"), (48_000, False, "fra")]))
    assert given.track == Track(number=1, of=2, language=None)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_silent_film_has_no_audio(container: str) -> None:
    with pytest.raises(NoAudio):
        read(written(container, "aac", [], RATE, video_seconds=2))


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("avi", "libmp3lame"), ("mpegts", "aac")]
)
def test_a_picture_longer_than_its_sound_is_no_damage(container: str, codec: str) -> None:
    given = read(written(container, codec, [(0, SAMPLES)], RATE, video_seconds=SECONDS + 10))
    assert given.trouble is None
    assert given.duration == pytest.approx(SECONDS, abs=0.2)


# The times


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_sound_that_begins_late_or_has_a_gap_keeps_its_place(container: str) -> None:
    given = read(
        written(container, "aac", [(3, SAMPLES), (3 + SECONDS + 5, SAMPLES)], RATE, video_seconds=40)
    )
    assert given.trouble is None
    assert given.duration == pytest.approx(3 + SECONDS + 5 + SECONDS, abs=0.3)
    assert loudest(given, 0, 2.9) < 0.01
    assert loudest(given, 3.2, 3 + SECONDS) > 0.1
    assert loudest(given, 3 + SECONDS + 0.3, 3 + SECONDS + 4.8) < 0.01
    assert likeness(given.samples[-int((SECONDS + 0.3) * SAMPLE_RATE) :], SAMPLES)[0] > 0.99


def test_an_hour_without_sound_within_the_stated_length_is_an_hour_of_silence() -> None:
    given = read(written("matroska", "aac", [(0, SAMPLES), (3600, SAMPLES)], RATE))
    assert given.trouble is None
    assert given.duration == pytest.approx(3600 + SECONDS, abs=0.3)
    assert likeness(given.samples[-int((SECONDS + 0.3) * SAMPLE_RATE) :], SAMPLES)[0] > 0.99


@pytest.mark.parametrize("leap", [3e5, 3.6e9])
def test_a_leap_of_days_is_a_clock_set_anew(leap: float) -> None:
    def times(number: int) -> float:
        return number * FRAME / RATE + (leap if number > 80 else 0)

    given = read(timed("matroska", SAMPLES, RATE, times))
    assert given.duration == pytest.approx(SECONDS, abs=0.2)
    assert likeness(given.samples, SAMPLES)[0] > 0.99


@pytest.mark.parametrize(
    "disorder",
    [
        pytest.param([0, 0.3, -0.3], id="jitter"),
        pytest.param([0, 0, 0, -2], id="backwards"),
    ],
)
def test_times_out_of_order_lose_no_sound(disorder: list[float]) -> None:
    def times(number: int) -> float:
        return 5 + number * FRAME / RATE + disorder[number % len(disorder)]

    given = read(timed("matroska", SAMPLES, RATE, times))
    # Once pushed back by the worst of them, what follows fits.
    assert SECONDS - 0.1 <= given.duration <= SECONDS + max(disorder) - min(disorder) + 0.1
    assert sum(np.square(given.samples)) == pytest.approx(sum(np.square(SAMPLES)), rel=0.02)


def test_sound_without_times_is_taken_as_it_comes() -> None:
    given = read(without_times(made("ts")))
    assert given.duration == pytest.approx(SECONDS, abs=0.1)
    assert likeness(given.samples, SAMPLES)[0] > 0.99


def test_a_start_before_nought_moves_nothing() -> None:
    data = earlier(timed("matroska", SAMPLES, RATE, lambda number: number * FRAME / RATE), 2)
    given = read(data)
    assert given.trouble is None
    assert given.duration == pytest.approx(SECONDS, abs=0.1)
    assert likeness(given.samples, SAMPLES)[0] > 0.99


# The reading


def test_a_recording_is_read_straight_from_the_bucket() -> None:
    data = made("m4a")
    with RecordingFile(lambda start, end: data[start:end], len(data), block_bytes=10_000) as file:
        assert np.array_equal(decoded(file).samples, read(data).samples)
        assert not file.closed


@pytest.mark.parametrize("kind", DIFFERENT)
def test_the_same_bytes_give_the_same_samples(kind: str) -> None:
    data = made(kind)
    assert read(data).samples.tobytes() == read(data).samples.tobytes()


def test_progress_runs_forward_to_all() -> None:
    with Decoder(io.BytesIO(made("mp3"))) as decoder:
        done = [decoder.fraction, *(decoder.fraction for _ in decoder.blocks()), decoder.fraction]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 1
    assert len(set(done)) > 5


@pytest.mark.parametrize("kind", ["mp3", "m4a", "mkv", "flac", "wav", "ogg"])
@pytest.mark.parametrize("after", [0, 1, 3, 9])
def test_a_failed_read_is_no_fault_of_the_recording(kind: str, after: int) -> None:
    data = made(kind)
    whole = read(data).samples
    left = after

    def fetch(start: int, end: int) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("the bucket went away")
        return data[start:end]

    given: list[Samples] = []
    with (
        RecordingFile(fetch, len(data), block_bytes=len(data) // 12) as file,
        pytest.raises(ConnectionError, match="went away"),
        Decoder(file) as decoder,
    ):
        given.extend(decoder.blocks())
    # What came before is right, and the next recording has nothing to do with it.
    assert all(np.array_equal(block, whole[n * SAMPLE_RATE :][: len(block)]) for n, block in enumerate(given))
    assert np.array_equal(read(data).samples, whole)


@pytest.mark.long
def test_three_hours_are_decoded_in_little_memory(tmp_path: Path) -> None:
    hours = tmp_path / "hours.mp3"
    minutes = encode("mp3 without ID3", np.tile(SAMPLES, 6), RATE)
    with hours.open("wb") as file:
        for _ in range(3 * 3600 // 66 + 1):
            file.write(minutes)
    report = subprocess.run(
        [sys.executable, "-c", MEASURED, hours], capture_output=True, text=True, check=True
    ).stdout.split()
    seconds, before, after = (float(number) for number in report)
    assert seconds > 3 * 3600
    assert after - before < 40_000  # KiB


MEASURED = """
import resource, sys
from bucketscribe.worker.decode import Decoder

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open(sys.argv[1], "rb") as file, Decoder(file) as decoder:
    blocks = decoder.blocks()
    next(blocks)
    before, samples = peak(), 16_000
    samples += sum(len(block) for block in blocks)
print(samples / 16_000, before, peak())
"""


# What is not to be opened


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile://{path}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{path}'\n",
        "ffconcat version 1.0\nfile 'file:{path}'\n",
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet>'
        "<Representation><BaseURL>{path}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
    ],
)
def test_a_playlist_opens_nothing(playlist: str) -> None:
    given = read(playlist.format(path=JFK).encode())
    assert given.trouble is not None
    assert not len(given.samples)


def test_a_movie_that_keeps_its_sound_in_another_file_does_not_get_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(struct.pack("<h", 32_000) * len(SAMPLES) * 2)
    movie = referring(encode("mov", SAMPLES * 0, RATE), secret)

    # FFmpeg itself follows the reference once it is told to:
    asked: list[str] = []

    def spy(url: str, flags: int, options: dict[str, str]) -> object:
        asked.append(url)
        raise PermissionError

    follow = {"enable_drefs": "1", "use_absolute_path": "1"}
    with (
        contextlib.suppress(PermissionError),
        av.open(io.BytesIO(movie), container_options=follow, io_open=spy),
    ):
        pass
    assert any(str(secret) in url for url in asked)

    assert "no sound" in str(read(movie).trouble)
