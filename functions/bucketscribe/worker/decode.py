"""From a recording's bytes to samples: the whole sound track, mono, 16 kHz, float32.

PyAV reads straight from the file object. A recording can name other files (playlists, `ffconcat`, data
references of QuickTime), so only the demuxers in `DEMUXERS` may look at it, no protocol is allowed, and
whatever FFmpeg asks to open besides is refused. Sound keeps its place in time: a late start, and a gap of up
to a minute or within the length the file states, become silence.

Memory: the samples, 230 MB an hour, and at most an eighth more while they grow.

`NoAudio`: media without a sound track. `Undecodable`: not media we know, damaged, cut short, or without a
single sample. A few bad packets are skipped, and counted: 20, or 5 % of the track where that is more.
A recording is taken to be cut short where

* it ends before the length its header states (mp4, mov, matroska, webm, flac, aiff, au, avi, flv, and mp3
  whose first frame counts the frames),
* RIFF says there are more bytes (wav, avi), or the last Ogg page is not whole,
* its last packet is not whole (aac, amr, fragmented mp4, transport streams, w64, caf).

What cannot be told: mp3 without a count, aac, ac3, amr, Ogg, and what was written live (webm and fragmented
mp4 of unknown length), when cut between two frames, pages or fragments; program and transport streams, whose
length is only ever guessed from their ends (garbage in their second half is told); and garbage that stands
for PCM samples, which is noise like any other.

Whatever `report` raises, and whatever reading the file raises, passes through unchanged.
"""

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import av
import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

from bucketscribe.worker.engines.base import SAMPLE_RATE, Report, Samples

DEMUXERS = (
    *("wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb", "ogg"),
    *("mov", "mp4", "m4a", "3gp", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg"),
)
"""Those of FFmpeg's formats that may be tried, none of which needs a second file."""

_STATES_TRACK_LENGTH = frozenset({"mov", "flac", "aiff", "au", "avi"})
_STATES_LENGTH = frozenset({"matroska", "flv"})  # of the whole; FFmpeg then gives it to every track
_BARE_FRAMES = frozenset({"mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb"})
_MAX_BAD_PACKETS = 20
_BAD_SHARE = 0.05
_BROADCAST = frozenset({"mpegts", "mpeg"})
_JUNK_SHARE = 0.10  # of the bytes in a file that is nothing but frames
_GAP_SECONDS = 0.1
_LONGEST_GAP_SECONDS = 60.0
_RIFF_SLACK_BYTES = 1024  # some writers miscount by a chunk
_RIFF_UNKNOWN = 0x7FFF0000  # sizes from here on, and 0, are what writers to a pipe put
_REPORT_EVERY = 32  # packets


type _Packet = Packet[Any]  # generic to type checkers only


class Seekable(Protocol):
    """What is asked of a file: an open binary file, `BytesIO` and `RecordingFile` all do."""

    def read(self, size: int, /) -> bytes | None: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def tell(self) -> int: ...


class NoAudio(Exception):
    """Media without a sound track."""

    code: ClassVar[str] = "no_audio"


class Undecodable(Exception):
    """Damaged, cut short, or not media at all. `at_seconds`: where the trouble is, if that is known."""

    code: ClassVar[str] = "undecodable"

    def __init__(self, message: str, at_seconds: float | None = None) -> None:
        super().__init__(message)
        self.at_seconds = at_seconds


@dataclass(frozen=True, slots=True)
class Audio:
    """A sound track. `skipped`: bad packets left out."""

    samples: Samples
    skipped: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE


def decode(file: Seekable, report: Report) -> Audio:
    """The whole sound track of a recording. `report` is given the share of the file that was read."""
    watched = _Watched(file)
    try:
        with av.open(
            watched,
            mode="r",
            container_options={"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": ""},
            io_open=_refuse,
        ) as container:
            audio = _decode(container, watched, report)
    except (av.error.FFmpegError, Undecodable) as error:
        if watched.error is not None:
            raise watched.error from None
        if isinstance(error, Undecodable):
            raise
        raise Undecodable(f"The recording cannot be read as audio or video: {error.strerror}") from error
    if watched.error is not None:
        raise watched.error  # FFmpeg takes a failed read for the file's end
    return audio


def _decode(container: InputContainer, watched: "_Watched", report: Report) -> Audio:
    if not container.streams:
        raise Undecodable("Nothing in the recording can be decoded.", 0.0)
    stream = container.streams.best("audio")
    if not isinstance(stream, AudioStream):
        raise NoAudio("The recording has no sound track.")
    if stream.codec_context is None:
        raise Undecodable("The recording's sound is in a coding we cannot decode.")
    track = _Track(container, stream, watched.size)
    track.run(report)
    track.check_whole(_lacks(watched))
    track.check(_mp3_frames(watched) if container.format.name == "mp3" else None)
    report(1.0)
    return Audio(np.frombuffer(track.output, np.float32), track.bad)


class _Track:
    """One sound track on its way from packets to samples, with what is needed to judge it afterwards."""

    def __init__(self, container: InputContainer, stream: AudioStream, size: int) -> None:
        self._container = container
        self._stream = stream
        self._size = size
        self._kind = container.format.name.split(",")[0]
        self._origin = (container.start_time or 0) / av.time_base
        self._length = container.duration / av.time_base if container.duration else None
        self._resampler: AudioResampler | None = None
        self._setup: tuple[str, str, int] | None = None
        self.output = bytearray()
        self._end = 0.0  # of the sound, in the container's time
        self._end_of_all = 0.0  # of sound and picture
        self._packets = 0
        self._bytes = 0
        self._first_byte: int | None = None
        self._last_byte = 0
        self.bad = 0
        self._bad_bytes = 0
        self._last_is_bad = False

    def run(self, report: Report) -> None:
        fraction = 0.0
        report(fraction)
        for number, packet in enumerate(self._demux()):
            if packet.pos is not None and packet.pos >= 0:
                fraction = max(fraction, min(packet.pos / max(self._size, 1), 1.0))
            if number % _REPORT_EVERY == 0:
                report(fraction)
            if packet.stream_index != self._stream.index:
                self._end_of_all = max(self._end_of_all, _end_of(packet))
            else:
                self._take(packet)
        self._resample(None)

    def _demux(self) -> Iterator[_Packet]:
        # Where only the whole file's length is stated, the picture may be what makes it that long.
        whole = self._kind in _STATES_LENGTH
        try:
            yield from self._container.demux() if whole else self._container.demux(self._stream)
        except av.error.FFmpegError as error:
            raise self._damaged(f"The recording is damaged: {error.strerror}.") from error

    def _take(self, packet: _Packet) -> None:
        if packet.size:
            self._packets += 1
            self._bytes += packet.size
            self._last_is_bad = (
                packet.is_corrupt and self._kind != "wav"
            )  # a wav of unknown size always ends so
            if self._first_byte is None:
                self._first_byte = packet.pos
            self._last_byte = max(self._last_byte, packet.pos or 0)
        try:
            frames = packet.decode()
        except av.error.FFmpegError as error:
            if isinstance(error, av.error.EOFError):
                return
            self._last_is_bad = True
            self.bad += 1
            self._bad_bytes += packet.size
            if self.bad > _MAX_BAD_PACKETS and self.bad > self._packets * _BAD_SHARE:
                raise self._damaged("The recording is damaged: too much of it cannot be decoded.") from error
            return
        for frame in frames:
            if isinstance(frame, AudioFrame):
                self._place(frame)

    def _place(self, frame: AudioFrame) -> None:
        seconds = frame.samples / frame.sample_rate
        begin = float(frame.pts * frame.time_base) if frame.pts is not None and frame.time_base else self._end
        self._end = max(self._end, begin + seconds)
        gap = begin - self._origin - len(self.output) / 4 / SAMPLE_RATE
        within = self._length is not None and begin - self._origin <= self._length
        if gap > _GAP_SECONDS and (within or gap <= _LONGEST_GAP_SECONDS):
            self.output.extend(bytes(4 * round(gap * SAMPLE_RATE)))
        frame.pts = None  # the resampler would mend what has just been mended
        setup = (frame.format.name, frame.layout.name, frame.sample_rate)
        if setup != self._setup:
            self._resample(None)
            self._resampler = AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
            self._setup = setup
        self._resample(frame)

    def _resample(self, frame: AudioFrame | None) -> None:
        if self._resampler is not None:
            for made in self._resampler.resample(frame):
                self.output += memoryview(made.planes[0])[: made.samples * 4]

    def check_whole(self, lacks: str | None) -> None:
        """Judge a file that says itself how long it is; `lacks`: what is not there of it."""
        if lacks is not None:
            raise self._damaged(f"The recording is cut short: {lacks}.")

    def check(self, frames: int | None) -> None:
        """Judge a track that was read to its end; `frames`: how many the file says it has."""
        if not self.output:
            raise Undecodable("There is no sound in the recording.", 0.0)
        if self.bad and self._bad_bytes > self._bytes * _BAD_SHARE and self.bad > 1:
            raise self._damaged("The recording is damaged: too much of it cannot be decoded.")
        if self._kind in _BARE_FRAMES:
            good = self._bytes - self._bad_bytes
            if good < (self._size - (self._first_byte or 0)) * (1 - _JUNK_SHARE):
                raise self._damaged("The recording is damaged: too much of it is not sound.")
        if self._kind in _BROADCAST and self._last_byte < self._size / 2:
            raise self._damaged("The recording is damaged: there is no sound in its second half.")
        if self._last_is_bad and self._kind != "mp3":  # an mp3 may end in tags of many makes
            raise self._damaged("The recording is cut short: its last packet is not whole.")
        missing = self._missing(frames)
        if missing is not None:
            raise self._damaged(f"The recording is cut short or damaged: {missing:.1f} seconds are missing.")

    def _missing(self, frames: int | None) -> float | None:
        if frames is not None and self._packets:
            wanted, found = frames * self._end / self._packets, self._end
        elif self._kind in _STATES_TRACK_LENGTH and self._stream.duration and self._stream.time_base:
            start = self._stream.start_time or 0
            wanted, found = float((start + self._stream.duration) * self._stream.time_base), self._end
        elif self._kind in _STATES_LENGTH and self._length is not None:
            wanted, found = self._origin + self._length, max(self._end, self._end_of_all)
        else:
            return None
        missing = wanted - found
        return missing if missing > 0.5 + 0.002 * wanted else None

    def _damaged(self, message: str) -> Undecodable:
        return Undecodable(message, round(max(self._end - self._origin, 0.0), 3))


class _Watched:
    """The file as FFmpeg may use it: no closing. It keeps the first exception, which FFmpeg may swallow."""

    def __init__(self, file: Seekable) -> None:
        self._file = file
        self.error: Exception | None = None
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, count: int) -> bytes:
        try:
            return self._file.read(count) or b""
        except Exception as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`, with the position left where it was."""
        before = self.tell()
        self.seek(offset)
        found = bytearray()
        while len(found) < count and (more := self.read(count - len(found))):
            found += more
        self.seek(before)
        return bytes(found)


def _refuse(url: str, flags: int, options: dict[str, str]) -> object:
    raise PermissionError("A recording may not open other files.")


def _end_of(packet: _Packet) -> float:
    if packet.pts is None or packet.time_base is None:
        return 0.0
    return float((packet.pts + (packet.duration or 0)) * packet.time_base)


def _lacks(watched: _Watched) -> str | None:
    """What is missing of a container that says how many bytes it has; None if nothing is, or it does not."""
    head = watched.at(0, 12)
    if head[:4] == b"RIFF":
        (size,) = struct.unpack("<I", head[4:8])
        if 0 < size < _RIFF_UNKNOWN and size + 8 > watched.size + _RIFF_SLACK_BYTES:
            return f"{size + 8 - watched.size} bytes are missing"
    elif head[:4] == b"OggS":
        # A page is at most 65,307 bytes, so the last one begins in here.
        tail = watched.at(max(watched.size - 65_307, 0), 65_307)
        page = tail[tail.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
            return "its last page is not whole"
    return None


def _mp3_frames(watched: _Watched) -> int | None:
    """How many frames an mp3 has by its Xing or Info tag, which is in the first frame after ID3."""
    head = watched.at(0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
    first = watched.at(start, 512)
    for tag in (b"Xing", b"Info"):
        at = first.find(tag)
        if at >= 0 and len(first) >= at + 12 and first[at + 7] & 1:
            return int.from_bytes(first[at + 8 : at + 12])
    return None
