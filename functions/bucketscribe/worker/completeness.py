"""Whether a recording is whole: what it says of itself, against what was found in it.

A few bad packets are no damage: 20, or 5 % of the track where that is more. A recording is taken to be cut
short where

* it ends before the length its header states (mp4, mov, matroska, webm, flac, aiff, au, avi, flv, and mp3
  whose first frame counts the frames),
* its header says there are more bytes (RIFF and RF64: wav, avi; ASF: wma, wmv), or the last Ogg page is not
  whole,
* its last packet is not whole (aac, amr, fragmented mp4, transport streams, w64, caf).

What cannot be told: mp3 without a count, aac, ac3, amr, Ogg, and what was written live (webm and fragmented
mp4 of unknown length), when cut between two frames, pages or fragments; program and transport streams, whose
length is only ever guessed from their ends (garbage in their second half is told); garbage that stands for
PCM samples, which is noise like any other; and what Ogg, matroska, ASF and the streams pass over to find the
next page, cluster or packet, which leaves a gap like any other.

Nothing here raises: the verdict is a sentence.
"""

import struct
from collections.abc import Callable
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet

type AnyPacket = Packet[Any]  # generic to type checkers only

type ReadAt = Callable[[int, int], bytes]
"""Gives up to so many bytes (the second) from an offset (the first)."""

_STATES_TRACK_LENGTH = frozenset({"mov", "flac", "aiff", "au", "avi"})
_STATES_LENGTH = frozenset({"matroska", "flv"})  # of the whole; FFmpeg then gives it to every track
_BARE_FRAMES = frozenset({"mp3", "aac", "ac3", "eac3", "amr", "amrnb", "amrwb"})
_BROADCAST = frozenset({"mpegts", "mpeg"})
_MAX_BAD_PACKETS = 20
_BAD_SHARE = 0.05
_JUNK_SHARE = 0.10  # of the bytes in a file that is nothing but frames
_HEAD_BYTES = 4096
_SLACK_BYTES = 1024  # some writers miscount by a chunk
_RIFF_UNKNOWN = 0x7FFF0000  # sizes from here on, and 0, are what writers to a pipe put
_LONGEST_OGG_PAGE = 65_307
_ASF_HEADER = bytes.fromhex("3026b275")
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1

TOO_MUCH = "The recording is damaged: too much of it cannot be decoded."


class Evidence:
    """What is seen of one sound track while it is read, and the verdict on it in the end."""

    def __init__(self, container: InputContainer, stream: AudioStream, size: int, at: ReadAt) -> None:
        self._stream = stream
        self._size = size
        self._kind = container.format.name.split(",")[0]
        self._origin = (container.start_time or 0) / av.time_base
        self._length = container.duration / av.time_base if container.duration else None
        self._lacks = _lacks(size, at)
        self._mp3_frames = _mp3_frames(at) if self._kind == "mp3" else None
        self._end_of_others = 0.0
        self._packets = 0
        self._bytes = 0
        self._first_byte: int | None = None
        self._last_byte = 0
        self._bad_bytes = 0
        self._last_is_bad = False
        self.bad = 0
        """Packets that could not be decoded."""

    @property
    def wants_all_tracks(self) -> bool:
        """Where only the whole file's length is stated, the picture may be what makes it that long."""
        return self._kind in _STATES_LENGTH

    def saw_other(self, packet: AnyPacket) -> None:
        """Take note of a packet of another track."""
        if packet.pts is not None and packet.time_base is not None:
            end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
            self._end_of_others = max(self._end_of_others, end)

    def saw(self, packet: AnyPacket) -> None:
        """Take note of a packet of the track, before it is decoded."""
        if not packet.size:
            return
        self._packets += 1
        self._bytes += packet.size
        self._last_is_bad = packet.is_corrupt and self._kind != "wav"  # a wav of unknown size always ends so
        if self._first_byte is None:
            self._first_byte = packet.pos
        self._last_byte = max(self._last_byte, packet.pos or 0)

    def saw_bad(self, packet: AnyPacket) -> bool:
        """Take note that it could not be decoded; False where that is once too often."""
        self._last_is_bad = True
        self.bad += 1
        self._bad_bytes += packet.size
        return self.bad <= max(_MAX_BAD_PACKETS, self._packets * _BAD_SHARE)

    def verdict(self, seconds: float) -> str | None:
        """What is wrong with a track read to its end, of which so much was heard; None if nothing is."""
        if self._lacks is not None:
            return f"The recording is cut short: {self._lacks}."
        if self.bad > 1 and self._bad_bytes > self._bytes * _BAD_SHARE:
            return TOO_MUCH
        if self._kind in _BARE_FRAMES:
            good = self._bytes - self._bad_bytes
            if good < (self._size - (self._first_byte or 0)) * (1 - _JUNK_SHARE):
                return "The recording is damaged: too much of it is not sound."
        if self._kind in _BROADCAST and self._last_byte < self._size / 2:
            return "The recording is damaged: there is no sound in its second half."
        if self._last_is_bad and self._kind != "mp3":  # an mp3 may end in tags of many makes
            return "The recording is cut short: its last packet is not whole."
        missing = self._missing(seconds)
        if missing is not None:
            return f"The recording is cut short or damaged: {missing:.1f} seconds are missing."
        return None

    def _missing(self, seconds: float) -> float | None:
        end = self._origin + seconds
        if self._mp3_frames is not None and self._packets:
            wanted, found = self._mp3_frames * seconds / self._packets, seconds
        elif self._kind in _STATES_TRACK_LENGTH and self._stream.duration and self._stream.time_base:
            start = self._stream.start_time or 0
            wanted, found = float((start + self._stream.duration) * self._stream.time_base), end
        elif self._kind in _STATES_LENGTH and self._length is not None:
            wanted, found = self._origin + self._length, max(end, self._end_of_others)
        else:
            return None
        missing = wanted - found
        return missing if missing > 0.5 + 0.002 * wanted else None


def _lacks(size: int, at: ReadAt) -> str | None:
    """What is missing of a container that says how many bytes it has; None if nothing is, or it does not."""
    head = at(0, _HEAD_BYTES)
    stated = _stated_size(head)
    if stated is not None and stated > size + _SLACK_BYTES:
        return f"{stated - size} bytes are missing"
    if head[:4] == b"OggS":
        tail = at(max(size - _LONGEST_OGG_PAGE, 0), _LONGEST_OGG_PAGE)  # the last page begins in here
        page = tail[tail.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
            return "its last page is not whole"
    return None


def _stated_size(head: bytes) -> int | None:
    """The size of the whole file by its header: RIFF, RF64 (EBU Tech 3306), ASF (its specification, 3.2)."""
    if head[:4] == b"RIFF" and len(head) >= 8:
        (stated,) = struct.unpack_from("<I", head, 4)
        return int(stated) + 8 if 0 < stated < _RIFF_UNKNOWN else None
    if head[:4] == b"RF64" and head[12:16] == b"ds64" and len(head) >= 28:
        (stated,) = struct.unpack_from("<Q", head, 20)
        return int(stated) + 8 if stated else None
    place = head.find(_ASF_FILE_PROPERTIES)
    if head[:4] == _ASF_HEADER and place >= 0 and len(head) >= place + 92:
        (stated,) = struct.unpack_from("<Q", head, place + 40)
        (flags,) = struct.unpack_from("<I", head, place + 88)
        return None if flags & _ASF_BROADCAST else int(stated)
    return None


def _mp3_frames(at: ReadAt) -> int | None:
    """How many frames an mp3 has by its Xing or Info tag, which is in the first frame after ID3."""
    head = at(0, 10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(
            (byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
        )
    first = at(start, 512)
    for tag in (b"Xing", b"Info"):
        place = first.find(tag)
        if place >= 0 and len(first) >= place + 12 and first[place + 7] & 1:
            return int.from_bytes(first[place + 8 : place + 12])
    return None
