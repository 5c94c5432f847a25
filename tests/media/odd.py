"""Recordings for tests that no encoder makes unasked: odd times, several tracks, headers and tags by hand."""

import io
import os
import struct
import wave
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.stream import AudioStream
from av.stream import Disposition

from tests.media.make import Samples

MIB = 1024**2

FRAME = 1024
"""Samples in a packet of most of these."""


def wav(
    data: bytes,
    before: bytes = b"",
    *,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    form: int = 1,
) -> bytes:
    """A plain wav of this form (1: integers, 3: floats); `before`: chunks that come before the samples."""
    step = channels * bits // 8
    head = struct.pack("<HHIIHH", form, channels, rate, rate * step % 2**32, step, bits)
    chunks = b"fmt " + struct.pack("<I", len(head)) + head + before + b"data" + struct.pack("<I", len(data))
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + len(data)) + b"WAVE" + chunks + data


def floats(samples: Samples, rate: int = 16_000) -> bytes:
    """A wav of floats, as they are."""
    return wav(samples.astype("<f4").tobytes(), rate=rate, bits=32, form=3)


def silent_recording(file: Path, size: int) -> Path:
    """Make a WAV file of exactly this size: silence, but for a number in each MiB to tell them apart."""
    with wave.open(str(file), "wb") as writer:
        writer.setparams((1, 2, 16000, 0, "NONE", ""))
        writer.writeframes(b"")
    head = bytearray(file.read_bytes())
    # RIFF's own length, and that of its one chunk of samples.
    head[4:8] = (size - 8).to_bytes(4, "little")
    head[40:44] = (size - len(head)).to_bytes(4, "little")
    file.write_bytes(head)
    os.truncate(file, size)
    with file.open("r+b") as stream:
        for number in range(1, size // MIB):
            stream.seek(number * MIB)
            stream.write(number.to_bytes(4, "little"))
    return file


def with_unknown_chunk(recording: bytes, unknown: bytes) -> bytes:
    """A WAV with a chunk before its sound that readers skip (RIFF, Multimedia Programming Interface 1.0)."""
    chunk = b"JUNK" + len(unknown).to_bytes(4, "little") + unknown
    size = (len(recording) + len(chunk) - 8).to_bytes(4, "little")
    format_end = 12 + 8 + int.from_bytes(recording[16:20], "little")
    return recording[:4] + size + recording[8:format_end] + chunk + recording[format_end:]


def with_picture(mp3: bytes, version: int, size: int) -> bytes:
    """The mp3 behind a tag with a picture of this size (ID3 2.3 and 2.4, id3.org)."""

    def synchsafe(number: int) -> bytes:
        return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))

    jpeg = b"\xff\xd8\xff\xe0" + np.random.default_rng(7).bytes(size) + b"\xff\xd9"
    picture = b"\0image/jpeg\0\3\0" + jpeg
    length = synchsafe(len(picture)) if version == 4 else struct.pack(">I", len(picture))
    frame = b"APIC" + length + b"\0\0" + picture
    return b"ID3" + bytes([version, 0, 0]) + synchsafe(len(frame)) + frame + mp3


def without_times(transport_stream: bytes) -> bytes:
    """The stream with no time at any piece of sound (ISO/IEC 13818-1, 2.4.3.7)."""
    data = bytearray(transport_stream)
    at = data.find(b"\0\0\1\xc0")
    while at >= 0:
        data[at + 7] &= 0x3F
        at = data.find(b"\0\0\1\xc0", at + 4)
    return bytes(data)


def timed(container: str, samples: Samples, rate: int, times: Callable[[int], float]) -> bytes:
    """Whole packets of `FRAME` samples with times of one's own, in seconds, by their number."""
    sound = (samples * 32_767).astype("<i2")
    packets = [sound[at : at + FRAME].tobytes() for at in range(0, len(sound) - FRAME, FRAME)]
    shown = [round(times(number) * 1000) for number in range(len(packets))]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream("pcm_s16le", rate=rate, layout="mono")
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 1000)
            packet.pts, packet.dts = shown[number], min(shown[number:])
            packet.duration = round(len(content) / 2 / rate * 1000)
            output.mux(packet)
    return file.getvalue()


def earlier(matroska: bytes, seconds: float) -> bytes:
    """What `timed` made, with every packet that much earlier, before nought too (RFC 9559, 10.2)."""
    data = bytearray(matroska)
    whole = b"\xa3\x48\x04\x81"  # a SimpleBlock of `FRAME` samples on track 1
    at = data.find(whole)
    while at >= 0:
        (since_cluster,) = struct.unpack_from(">h", data, at + 4)
        struct.pack_into(">h", data, at + 4, since_cluster - round(seconds * 1000))
        at = data.find(whole, at + 4 + FRAME)
    return bytes(data)


def tracks(container: str, samples: Samples, rate: int, wanted: Sequence[tuple[int, bool, str]]) -> bytes:
    """Tracks of a bit rate, default or not, and a language: the samples, halved from track to track."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        streams = []
        for bit_rate, default, language in wanted:
            stream = output.add_stream("aac", rate=rate, layout="mono")
            stream.codec_context.bit_rate = bit_rate
            stream.metadata["language"] = language
            stream.disposition = Disposition.default if default else Disposition(0)
            streams.append(stream)
        levels = [samples * np.float32(0.5**number) for number in range(len(streams))]
        frames = [_frames(level, rate, 0, streams[0].codec_context) for level in levels]
        for together in zip(*frames, strict=True):
            for stream, frame in zip(streams, together, strict=True):
                output.mux(stream.encode(frame))
        for stream in streams:
            output.mux(stream.encode(None))
    return file.getvalue()


def written(
    container: str,
    codec: str,
    pieces: Sequence[tuple[float, Samples]],
    rate: int,
    *,
    video_seconds: float = 0,
) -> bytes:
    """A file with pieces of sound at their times, and a black picture if asked for."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        video = output.add_stream("mpeg4", rate=10) if video_seconds else None
        audio = output.add_stream(codec, rate=rate, layout="mono") if pieces else None
        assert audio is None or isinstance(audio, AudioStream)
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for number in range(int(video_seconds * 10)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                picture.pts = number
                output.mux(video.encode(picture))
            output.mux(video.encode(None))
        if audio is not None:
            for begin, samples in pieces:
                for frame in _frames(samples, rate, begin, audio.codec_context):
                    output.mux(audio.encode(frame))
            output.mux(audio.encode(None))
    return file.getvalue()


def _frames(samples: Samples, rate: int, begin: float, codec: AudioCodecContext) -> Iterator[av.AudioFrame]:
    for at in range(0, len(samples), FRAME):
        piece = samples[None, at : at + FRAME].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
        frame.sample_rate = rate
        frame.pts = int(begin * rate) + at
        yield from av.AudioResampler(format=codec.format, layout="mono", rate=rate).resample(frame)


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
