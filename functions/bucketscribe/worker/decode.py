"""From a recording's bytes to samples: its sound track, mono, 16 kHz, float32, a second at a time.

    with Decoder(file) as decoder:
        for samples in decoder.blocks():
            ...

PyAV reads straight from the file object. A recording can name other files (playlists, `ffconcat`, data
references of QuickTime), so only the demuxers in `DEMUXERS` may look at it, no protocol is allowed, and
whatever FFmpeg asks to open besides is refused. Where sound belongs in time is `timeline`'s; whether all of
it was there, `completeness`'s. A few bad packets are skipped, and counted.

Memory: what FFmpeg needs and a few seconds of samples, whatever the recording's length. The same bytes give
the same samples, so that a second decoder can go on where a first one stopped.

Fails with `NoAudio` (media without a sound track) and `Undecodable` (not media we know, damaged, cut short,
or without a single sample), the latter only after everything that could be decoded was given. Whatever
reading the file raises passes through unchanged.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Protocol, Self

import av
import av.error
from av import library_versions
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Discard

from .completeness import TOO_MUCH, AnyPacket, Evidence
from .engines.base import Samples
from .timeline import Timeline, Unplaceable

VERSION = f"PyAV {av.__version__}, libavcodec {'.'.join(map(str, library_versions['libavcodec']))}"
"""What decodes: another version may give a sample more or less of the same bytes."""

DEMUXERS = (
    *("wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb", "ogg"),
    *("mov", "mp4", "m4a", "3gp", "matroska", "webm", "avi", "asf", "flv", "mpegts", "mpeg"),
)
"""Those of FFmpeg's formats that may be tried, none of which needs a second file."""


class Seekable(Protocol):
    """What is asked of a file: an open binary file, `BytesIO` and `RecordingFile` all do."""

    def read(self, size: int, /) -> bytes | None: ...
    def seek(self, offset: int, whence: int = ..., /) -> int: ...
    def tell(self) -> int: ...


class NoAudio(Exception):
    """Media without a sound track."""

    code: ClassVar[str] = "no_audio"


class Undecodable(Exception):
    """Damaged, cut short, or not media at all. `at_seconds`: how much of it came before the trouble."""

    code: ClassVar[str] = "undecodable"

    def __init__(self, message: str, at_seconds: float) -> None:
        super().__init__(message)
        self.at_seconds = at_seconds


@dataclass(frozen=True, slots=True)
class Track:
    """The sound track that is decoded, counted from 1, and its language tag if there is one."""

    number: int
    of: int
    language: str | None


class Decoder:
    """One pass over a recording. Raises `NoAudio`, `Undecodable`, and what reading the file raises.

    Of several sound tracks it takes the one FFmpeg takes: the one marked as the default, then the one with
    the highest bit rate.
    """

    def __init__(self, file: Seekable) -> None:
        self._file = _Watched(file)
        self._container = _opened(self._file)
        try:
            self._file.check()
            self._stream = _sound_of(self._container)
            tracks = self._container.streams.audio
            language = self._stream.language
            self.track = Track(
                number=tracks.index(self._stream) + 1,
                of=len(tracks),
                language=None if language in ("", "und") else language,
            )
            self._evidence = Evidence(self._container, self._stream, self._file.size, self._file.at)
            self._file.check()
        except BaseException:
            self._container.close()
            raise
        if not self._evidence.wants_all_tracks:
            for other in self._container.streams:
                if other.index != self._stream.index:
                    other.discard = Discard.all  # or FFmpeg takes every picture apart
        length = self._container.duration
        self._timeline = Timeline(
            origin=(self._container.start_time or 0) / av.time_base,
            length=length / av.time_base if length else None,
        )
        self.fraction = 0.0
        """The share of the file that was read, 0 to 1."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def skipped(self) -> int:
        """Bad packets left out so far."""
        return self._evidence.bad

    def blocks(self) -> Iterator[Samples]:
        """All of the sound, once, in blocks of at most a second. Raises `Undecodable` behind the last one."""
        trouble: Undecodable | None = None
        try:
            for frame in self._frames():
                yield from self._timeline.place(frame)
        except Undecodable as error:
            trouble = error
        except Unplaceable as error:
            trouble = self._damaged(f"The recording's sound is in a form we cannot use: {error}.")
        yield from self._timeline.rest()
        if trouble is None and not self._timeline.seconds:
            raise Undecodable("There is no sound in the recording.", 0.0)
        if trouble is None and (verdict := self._evidence.verdict(self._timeline.seconds)):
            trouble = self._damaged(verdict)
        if trouble is not None:
            raise trouble
        self.fraction = 1.0

    def _frames(self) -> Iterator[AudioFrame]:
        for packet in self._packets():
            self._evidence.saw(packet)
            try:
                frames = packet.decode()
            except av.error.EOFError:
                continue
            except av.error.FFmpegError as error:
                if not self._evidence.saw_bad(packet):
                    raise self._damaged(TOO_MUCH) from error
                continue
            for frame in frames:
                if isinstance(frame, AudioFrame):
                    yield frame

    def _packets(self) -> Iterator[AnyPacket]:
        """The track's packets, and at the end an empty one, which asks for what the codec still holds."""
        wanted = () if self._evidence.wants_all_tracks else (self._stream,)
        packets = self._container.demux(*wanted)
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:
                self._file.check()
                raise self._damaged(f"The recording is damaged: {error.strerror}.") from error
            except IndexError:  # PyAV's, at the very end, where tracks turned up on the way
                packet = None
            self._file.check()  # FFmpeg takes a failed read for the file's end
            if packet is None:
                return
            if packet.pos is not None and packet.pos >= 0:
                self.fraction = max(self.fraction, min(packet.pos / max(self._file.size, 1), 1.0))
            if packet.stream_index == self._stream.index:
                yield packet
            else:
                self._evidence.saw_other(packet)

    def _damaged(self, message: str) -> Undecodable:
        return Undecodable(message, round(self._timeline.seconds, 3))


class _Watched:
    """The file as FFmpeg may use it: no closing, and a failure is the end of it.

    FFmpeg would swallow an exception, or PyAV keep it for a later and unrelated call; so the first is kept
    here, and raised by `check`.
    """

    def __init__(self, file: Seekable) -> None:
        self._file = file
        self._error: Exception | None = None
        self.size = file.seek(0, io.SEEK_END)
        file.seek(0)

    def read(self, count: int) -> bytes:
        if self._error is None:
            try:
                return self._file.read(count) or b""
            except Exception as error:  # noqa: BLE001 - raised by `check`
                self._error = error
        return b""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def check(self) -> None:
        """Raise what reading raised."""
        if self._error is not None:
            raise self._error

    def at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`, with the position left where it was."""
        before = self.tell()
        self.seek(offset)
        found = bytearray()
        while len(found) < count and (more := self.read(count - len(found))):
            found += more
        self.seek(before)
        return bytes(found)


def _opened(file: _Watched) -> InputContainer:
    try:
        container = av.open(
            file,
            mode="r",
            metadata_errors="replace",  # titles in Latin-1 are no reason to fail
            container_options={"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": ""},
            io_open=_refuse,
        )
    except (av.error.FFmpegError, PermissionError) as error:
        file.check()
        why = getattr(error, "strerror", None) or error
        raise Undecodable(f"The recording cannot be read as audio or video: {why}", 0.0) from error
    return container


def _sound_of(container: InputContainer) -> AudioStream:
    if not container.streams:
        raise Undecodable("Nothing in the recording can be decoded.", 0.0)
    # FFmpeg finds none "best" of which it has not seen a packet yet.
    stream = container.streams.best("audio") or next(iter(container.streams.audio), None)
    if not isinstance(stream, AudioStream):
        raise NoAudio("The recording has no sound track.")
    if stream.codec_context is None:
        raise Undecodable("The recording's sound is in a coding we cannot decode.", 0.0)
    return stream


def _refuse(url: str, flags: int, options: dict[str, str]) -> object:
    raise PermissionError("A recording may not open other files.")
