"""Decoding: every kind of recording gives its sound; what is damaged says so; nothing else is ever opened."""

import contextlib
import io
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from bucketscribe.worker.decode import Audio, NoAudio, Undecodable, decode
from bucketscribe.worker.engines.base import SAMPLE_RATE
from bucketscribe.worker.recording import RecordingFile

from tests.media.make import JFK, KINDS, encode, speech

CHANCE = np.random.default_rng(11)
SAMPLES, RATE = speech()
SECONDS = len(SAMPLES) / RATE

# Garbage cannot be told from PCM samples, nor what is missing where no length is stated.
CUT_SHORT = ["m4a", "m4b", "mov", "mp4", "mp4 with its index last", "mp3", "flac", "wav", "avi", "aiff", "au"]
CUT_SHORT += ["mkv", "mka", "weba", "ogg", "opus", "oga", "aac", "w64"]
GARBAGE = [
    "m4a",
    "mp4",
    "mp3",
    "mp3 without ID3",
    "mp2",
    "aac",
    "flac",
    "ogg",
    "mkv",
    "ts",
    "mpg",
    "amr",
    "avi",
]


class Canceled(Exception):
    """What a worker's `report` raises."""


def ignore(fraction: float) -> None:
    """A report nobody reads."""


def read(data: bytes, report: Callable[[float], None] = ignore) -> Audio:
    return decode(io.BytesIO(data), report)


def made(kind: str) -> bytes:
    if kind == "w64":
        return written("w64", "pcm_s16le", [(0, SAMPLES)])
    return encode(kind, SAMPLES, RATE)


def written(
    container: str,
    codec: str,
    pieces: Sequence[tuple[float, np.ndarray]],
    *,
    video_seconds: float = 0,
) -> bytes:
    """A file with pieces of sound at their times, and a picture if asked for."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=10) if video_seconds else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = output.add_stream(codec, rate=RATE, layout="mono") if pieces else None
        assert audio is None or isinstance(audio, av.AudioStream)
        if video is not None:
            for number in range(int(video_seconds * 10)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                picture.pts = number
                output.mux(video.encode(picture))
            output.mux(video.encode(None))
        if audio is not None:
            for begin, samples in pieces:
                for at in range(0, len(samples), 1024):
                    frame = av.AudioFrame.from_ndarray(
                        samples[None, at : at + 1024].astype(np.float32), format="flt", layout="mono"
                    )
                    frame.sample_rate = RATE
                    frame.pts = int(begin * RATE) + at
                    for fitting in av.AudioResampler(format=audio.format, layout="mono", rate=RATE).resample(
                        frame
                    ):
                        output.mux(audio.encode(fitting))
            output.mux(audio.encode(None))
    return file.getvalue()


def loudest(audio: Audio, start: float, end: float) -> float:
    stretch = audio.samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]
    return float(np.abs(stretch).max())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_its_sound(kind: str) -> None:
    audio = read(encode(kind, SAMPLES, RATE))
    assert audio.samples.dtype == np.float32
    assert audio.samples.ndim == 1
    assert audio.duration == pytest.approx(SECONDS, abs=0.2)
    assert audio.skipped == 0
    # The same envelope, quarter of a second by quarter of a second.
    steps = int(SECONDS * 4) - 1
    wanted = [float(np.sqrt(np.mean(s**2))) for s in np.array_split(SAMPLES[: steps * RATE // 4], steps)]
    found = [
        float(np.sqrt(np.mean(s**2)))
        for s in np.array_split(audio.samples[: steps * SAMPLE_RATE // 4], steps)
    ]
    assert np.corrcoef(wanted, found)[0, 1] > 0.9


def test_wav_comes_through_exactly() -> None:
    assert np.allclose(read(JFK.read_bytes()).samples, SAMPLES, atol=1e-4)


def test_a_recording_is_read_straight_from_the_bucket() -> None:
    data = made("m4a")
    with RecordingFile(lambda start, end: data[start:end], len(data), block_bytes=10_000) as file:
        assert np.array_equal(decode(file, ignore).samples, read(data).samples)
        assert not file.closed


@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("kind", CUT_SHORT)
def test_a_recording_cut_short_is_undecodable(kind: str, share: float) -> None:
    data = made(kind)
    with pytest.raises(Undecodable):
        read(data[: int(len(data) * share) + 1])


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_behind_a_valid_beginning_is_undecodable(kind: str) -> None:
    data = made(kind)
    with pytest.raises(Undecodable):
        read(data[: len(data) // 4] + CHANCE.bytes(len(data) * 3 // 4))


@pytest.mark.parametrize("kind", ["mp3", "aac", "flac", "mkv", "ogg", "mp4 with its index last", "ts"])
def test_a_scratch_in_the_middle_is_passed_over(kind: str) -> None:
    long = np.tile(SAMPLES, 6)
    data = bytearray(encode(kind, long, RATE))
    data[len(data) // 2 : len(data) // 2 + 40] = CHANCE.bytes(40)
    assert read(bytes(data)).duration == pytest.approx(len(long) / RATE, abs=0.2)


@pytest.mark.parametrize("kind", ["mp3", "wav", "flac", "mp4"])
def test_where_it_breaks_is_told(kind: str) -> None:
    data = made(kind)
    with pytest.raises(Undecodable) as caught:
        read(data[: len(data) // 2])
    assert caught.value.at_seconds == pytest.approx(SECONDS / 2, abs=0.5)


@pytest.mark.parametrize("data", [b"", b"hello\n" * 1000, bytes(10_000), CHANCE.bytes(10_000)])
def test_what_is_not_media_is_undecodable(data: bytes) -> None:
    with pytest.raises(Undecodable):
        read(data)


def test_a_header_without_a_sample_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        read(JFK.read_bytes()[:36] + b"data" + bytes(4))


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_silent_film_has_no_audio(container: str) -> None:
    with pytest.raises(NoAudio):
        read(written(container, "aac", [], video_seconds=2))


@pytest.mark.parametrize(("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("avi", "libmp3lame")])
def test_a_picture_longer_than_its_sound_is_no_damage(container: str, codec: str) -> None:
    audio = read(written(container, codec, [(0, SAMPLES)], video_seconds=SECONDS + 10))
    assert audio.duration == pytest.approx(SECONDS, abs=0.2)


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_sound_that_begins_late_or_has_a_gap_keeps_its_place(container: str) -> None:
    audio = read(written(container, "aac", [(3, SAMPLES), (3 + SECONDS + 5, SAMPLES)], video_seconds=40))
    assert audio.duration == pytest.approx(3 + SECONDS + 5 + SECONDS, abs=0.3)
    assert loudest(audio, 0, 2.9) < 0.01
    assert loudest(audio, 3.2, 3 + SECONDS) > 0.1
    assert loudest(audio, 3 + SECONDS + 0.3, 3 + SECONDS + 4.8) < 0.01


def test_a_wav_written_to_a_pipe_is_whole_though_its_sizes_are_unknown() -> None:
    data = bytearray(JFK.read_bytes())
    data[4:8] = b"\xff" * 4
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff" * 4
    assert read(bytes(data)).duration == pytest.approx(SECONDS, abs=0.01)


def test_progress_runs_forward_to_all() -> None:
    done: list[float] = []
    read(made("mp3"), done.append)
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 1
    assert len(done) > 5


def test_what_report_raises_stops_it_and_passes_through() -> None:
    def report(fraction: float) -> None:
        if fraction > 0.3:
            raise Canceled

    with pytest.raises(Canceled):
        read(made("mp3"), report)


@pytest.mark.parametrize("kind", ["mp3", "m4a", "mkv", "flac", "wav", "ogg"])
@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_failed_read_is_no_fault_of_the_recording(kind: str, after: int) -> None:
    data = made(kind)
    left = after

    def fetch(start: int, end: int) -> bytes:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("the bucket went away")
        return data[start:end]

    with (
        RecordingFile(fetch, len(data), block_bytes=len(data) // 12) as file,
        pytest.raises(ConnectionError, match="went away"),
    ):
        decode(file, ignore)


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
    with pytest.raises(Undecodable):
        read(playlist.format(path=JFK).encode())


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

    with pytest.raises(Undecodable, match="no sound"):
        read(movie)


def referring(movie: bytes, path: Path) -> bytes:
    """The movie with its sound said to be in another file, as QuickTime's aliases do."""
    name = str(path).encode()
    body = bytes(4) + bytes(10) + b"\x04disk" + bytes(27 - 4) + bytes(12)
    body += bytes([len(path.name)]) + path.name.encode().ljust(63, b"\0") + bytes(16)
    body += struct.pack(">hh", 1, len(path.parts)) + bytes(16)
    body += struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">h", -1) + bytes(2)
    alias = struct.pack(">I4s", len(body) + 8, b"alis") + body
    inside = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")

    def rewritten(box: bytes, depth: int) -> bytes:
        if depth == len(inside):
            return alias
        out, at = b"", 0
        while at < len(box):
            size, kind = struct.unpack(">I4s", box[at : at + 8])
            size = size or len(box) - at
            content = box[at + 8 : at + size]
            if kind == inside[depth]:
                head = content[:8] if kind == b"dref" else b""
                content = head + rewritten(content[len(head) :], depth + 1)
            out += struct.pack(">I4s", len(content) + 8, kind) + content
            at += size
        return out

    return rewritten(movie, 0)
