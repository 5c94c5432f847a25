"""Recordings for tests, made when they are needed: the speech of `jfk.wav` in every format we take.

    encode("mp3", *speech())

Encoding is PyAV's; `ValueError` for a kind that is not in `KINDS`.
"""

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray

JFK = Path(__file__).with_name("jfk.wav")
"""11 seconds of speech: "And so, my fellow Americans, ask not what your country can do for you …"."""

BIT_RATE = 64_000
"""Of one or two channels, where the codec has one; some have no default."""

Samples = NDArray[np.float32]
"""One channel, -1 to 1."""


class Kind(NamedTuple):
    """What a file name extension stands for: a container of ffmpeg's and a codec in it."""

    container: str
    codec: str
    options: Mapping[str, str] = {}
    layout: str = "mono"
    rate: int | None = None  # of the encoded sound; None: like the samples, or the nearest there is


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
    # Its own codec is AMR-WB, in the same container; there is no free encoder for that.
    "awb": Kind("amr", "libopencore_amrnb"),
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
    "3gp with AAC": Kind("3gp", "aac"),
    "aif of floats": Kind("aiff", "pcm_f32be"),
    "aac at 44.1 kHz in stereo": Kind("adts", "aac", layout="stereo", rate=44_100),
    "avi with PCM": Kind("avi", "pcm_s16le"),
    "flac at 96 kHz": Kind("flac", "flac", rate=96_000),
    "flac in 5.1": Kind("flac", "flac", layout="5.1", rate=48_000),
    "m4a at 8 kHz": Kind("ipod", "aac", rate=8_000),
    "m4a at 96 kHz in stereo": Kind("ipod", "aac", layout="stereo", rate=96_000),
    "m4a in 5.1": Kind("ipod", "aac", layout="5.1", rate=48_000),
    "m4a with its index first": Kind("ipod", "aac", {"movflags": "faststart"}),
    "mkv with E-AC-3": Kind("matroska", "eac3", layout="5.1", rate=48_000),
    "mkv with FLAC": Kind("matroska", "flac", layout="stereo", rate=48_000),
    "mp3 at 8 kHz": Kind("mp3", "libmp3lame", rate=8_000),
    "mp3 at 44.1 kHz in stereo": Kind("mp3", "libmp3lame", layout="stereo", rate=44_100),
    "mp3 with ID3 2.3": Kind("mp3", "libmp3lame", {"id3v2_version": "3"}),
    "mp3 without ID3": Kind("mp3", "libmp3lame", {"id3v2_version": "0", "write_xing": "0"}),
    "mp4 with its index last": Kind("mp4", "aac"),
    "ogg with Vorbis": Kind("ogg", "vorbis", layout="stereo"),
    "opus in 5.1": Kind("opus", "libopus", layout="5.1", rate=48_000),
    "ts with AC-3 in 5.1": Kind("mpegts", "ac3", layout="5.1", rate=48_000),
    "wav at 8 kHz": Kind("wav", "pcm_u8", rate=8_000),
    "wav in A-law": Kind("wav", "pcm_alaw"),
    "wav in ADPCM": Kind("wav", "adpcm_ms"),
    "wav in mu-law": Kind("wav", "pcm_mulaw"),
    "wav of 24 bits": Kind("wav", "pcm_s24le", layout="stereo", rate=48_000),
    "wav of 32 bits": Kind("wav", "pcm_s32le"),
    "wav of floats": Kind("wav", "pcm_f32le"),
    "wav of over 4 GB": Kind("wav", "pcm_s16le", {"rf64": "always"}),
    "webm with Vorbis": Kind("webm", "vorbis", layout="stereo"),
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
    """Return samples as a file of this kind; of many channels, the one in the centre has them."""
    if kind not in KINDS:
        raise ValueError(f"no such kind: {kind!r}")
    with TemporaryDirectory() as folder:
        path = Path(
            folder, "recording"
        )  # a real one, for an index is moved by reading again what was written
        _write(path, KINDS[kind], samples, rate)
        return path.read_bytes()


def _write(path: Path, kind: Kind, samples: Samples, rate: int) -> None:
    container_format, codec, options, layout, wanted_rate = kind
    with av.open(path, "w", format=container_format, options=dict(options)) as container:
        stream = container.add_stream(codec, rate=_nearest_rate(codec, wanted_rate or rate))
        assert isinstance(stream.codec_context, AudioCodecContext)
        stream.codec_context.layout = layout
        stream.codec_context.bit_rate = BIT_RATE * ((stream.codec_context.layout.nb_channels + 1) // 2)
        stream.codec_context.options = {"strict": "experimental"}  # as FFmpeg calls its Vorbis
        stream.codec_context.open()
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=stream.codec_context.sample_rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="flt", layout="mono")
        frame.sample_rate = rate
        frame.time_base, frame.pts = Fraction(1, rate), 0  # else no container learns of the codec's delay
        for resampled in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))


def _nearest_rate(codec: str, rate: int) -> int:
    if codec == "libopencore_amrnb":
        return 8000  # the only one, though the encoder does not say so
    rates = av.Codec(codec, "w").audio_rates
    return min(rates, key=lambda offered: abs(offered - rate)) if rates else rate
