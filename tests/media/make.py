"""Recordings for tests, made when they are needed: the speech of `jfk.wav` in every format we take.

    encode("mp3", *speech())

Encoding is PyAV's; `ValueError` for a kind that is not in `KINDS`.
"""

import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

JFK = Path(__file__).with_name("jfk.wav")
"""11 seconds of speech: "And so, my fellow Americans, ask not what your country can do for you …"."""

BIT_RATE = 64_000
"""Where the codec has one; some have no default."""

Samples = NDArray[np.float32]
"""One channel, -1 to 1."""


class Kind(NamedTuple):
    """What a file name extension stands for: a container of ffmpeg's and a codec in it."""

    container: str
    codec: str
    options: Mapping[str, str] = {}


KINDS: dict[str, Kind] = {
    "3g2": Kind("3g2", "aac"),
    "3gp": Kind("3gp", "libopencore_amrnb"),
    "aac": Kind("adts", "aac"),
    "aif": Kind("aiff", "pcm_s16be"),
    "aifc": Kind("aiff", "pcm_s16le"),
    "aiff": Kind("aiff", "pcm_s24be"),
    "amr": Kind("amr", "libopencore_amrnb"),
    "asf": Kind("asf", "wmav2"),
    "au": Kind("au", "pcm_mulaw"),
    "avi": Kind("avi", "libmp3lame"),
    "caf": Kind("caf", "alac"),
    "flac": Kind("flac", "flac"),
    "m2ts": Kind("mpegts", "aac", {"mpegts_m2ts_mode": "1"}),
    "m4a": Kind("ipod", "aac"),
    "m4b": Kind("ipod", "alac"),
    "m4v": Kind("mp4", "aac", {"brand": "M4V "}),
    "mka": Kind("matroska", "libmp3lame"),
    "mkv": Kind("matroska", "aac"),
    "mov": Kind("mov", "pcm_s16le"),
    "mp2": Kind("mp2", "mp2"),
    "mp3": Kind("mp3", "libmp3lame"),
    "mp4": Kind("mp4", "aac", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mpeg": Kind("vob", "mp2"),
    "mpg": Kind("mpeg", "mp2"),
    "mts": Kind("mpegts", "ac3", {"mpegts_m2ts_mode": "1"}),
    "oga": Kind("oga", "libopus"),
    "ogg": Kind("ogg", "libopus"),
    "ogv": Kind("ogv", "libopus"),
    "opus": Kind("opus", "libopus"),
    "ts": Kind("mpegts", "mp2"),
    "wav": Kind("wav", "pcm_s16le"),
    "weba": Kind("webm", "libopus"),
    "webm": Kind("webm", "libopus", {"live": "1"}),
    "wma": Kind("asf", "wmav2"),
    "wmv": Kind("asf", "wmav1"),
    # Not extensions, but forms these files also come in
    "mp3 without ID3": Kind("mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}),
    "mp4 with its index last": Kind("mp4", "aac"),
    "wav of over 4 GB": Kind("wav", "pcm_s16le", {"rf64": "always"}),
}
"""What `encode` can make. The first word of a kind is the extension of its files."""


@cache
def speech(seconds: float | None = None) -> tuple[Samples, int]:
    """Return the speech of `jfk.wav`, or its first seconds, and the sample rate."""
    with av.open(JFK) as container:
        rate = container.streams.audio[0].rate
        resampler = av.AudioResampler(format="flt", layout="mono")
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    samples: Samples = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(np.float32)
    return samples if seconds is None else samples[: int(seconds * rate)], rate


def encode(kind: str, samples: Samples, rate: int) -> bytes:
    """Return samples as a file of this kind."""
    if kind not in KINDS:
        raise ValueError(f"no such kind: {kind!r}")
    container_format, codec, options = KINDS[kind]
    file = io.BytesIO()
    with av.open(file, "w", format=container_format, options=dict(options)) as container:
        stream = container.add_stream(codec, rate=_nearest_rate(codec, rate))
        assert isinstance(stream.codec_context, AudioCodecContext)
        stream.codec_context.bit_rate = BIT_RATE
        stream.codec_context.layout = "mono"
        stream.codec_context.open()
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=stream.codec_context.sample_rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        for resampled in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))
    return file.getvalue()


def _nearest_rate(codec: str, rate: int) -> int:
    if codec == "libopencore_amrnb":
        return 8000  # the only one, though the encoder does not say so
    rates = av.Codec(codec, "w").audio_rates
    return min(rates, key=lambda offered: abs(offered - rate)) if rates else rate
