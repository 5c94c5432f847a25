"""Sound in its place in time: decoded frames of any form in, blocks of mono float32 at 16 kHz out.

A late start and a gap become silence where they are up to a minute long or lie within the length the file
states, but at most twelve hours of it in all; a leap beyond that is a clock set anew, and only counts from
there. A time that lies behind what was already heard moves nothing. Changes of rate, layout and sample
format in the middle are followed.

All channels but the subwoofer's are mixed, with FFmpeg's weights scaled so that no mix can exceed 1: what is
said in the centre of six channels alone comes out at 0.29 of its level. Samples are finite, from −1 to 1.

Memory: a second or two of samples, however long the silence. Fails with `Unplaceable`.
"""

from collections.abc import Iterator
from contextlib import suppress

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.filter import Graph

from .engines.base import SAMPLE_RATE, Samples

BLOCK_SAMPLES = SAMPLE_RATE
"""The most that comes at a time."""

_GAP_SECONDS = 0.1
_LONGEST_GAP_SECONDS = 60.0
_MOST_SILENCE_SECONDS = 12 * 3600.0
_RATES = range(4_000, 768_001)  # what is slower holds no speech, what is faster only a broken header states
_BLOCK_BYTES = BLOCK_SAMPLES * 4


class Unplaceable(Exception):
    """The sound is of a form that cannot be brought to mono at 16 kHz."""


class Timeline:
    """The sound so far. `origin`: the time of its beginning; `length`: what the file states, if it does."""

    def __init__(self, origin: float, length: float | None) -> None:
        self._origin = origin
        self._length = length
        self._silence = 0.0
        self._mixer: Graph | None = None
        self._form: tuple[str, str, int] | None = None
        self._held = bytearray()
        self.seconds = 0.0
        """How much was placed, silence included."""

    def place(self, frame: AudioFrame) -> Iterator[Samples]:
        """Add a frame, and what is missing before it; give the blocks that are full."""
        if frame.sample_rate not in _RATES:
            raise Unplaceable(f"{frame.sample_rate} samples a second are no speech")
        gap = self._gap(frame)
        if gap:
            self._drain()
            yield from self._silent(gap)
        frame.pts = None  # the mixer would mend what has just been mended
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._mixer is None or form != self._form:
            self._drain()
            self._mixer = _mixer(frame)
            self._form = form
        self.seconds += frame.samples / frame.sample_rate
        self._mix(self._mixer, frame)
        yield from self._full()

    def rest(self) -> Iterator[Samples]:
        """Give what is still held, the last block shorter than the others."""
        self._drain()
        yield from self._full()
        if self._held:
            yield _clean(self._held)
            self._held = bytearray()

    def _gap(self, frame: AudioFrame) -> float:
        """The seconds of silence that belong before a frame."""
        if frame.pts is None or not frame.time_base:
            return 0.0
        begin = float(frame.pts * frame.time_base) - self._origin
        gap = begin - self.seconds
        if gap <= _GAP_SECONDS:
            return 0.0
        within = self._length is not None and begin <= self._length
        if not (within or gap <= _LONGEST_GAP_SECONDS) or self._silence + gap > _MOST_SILENCE_SECONDS:
            self._origin += gap
            return 0.0
        return gap

    def _silent(self, seconds: float) -> Iterator[Samples]:
        self._silence += seconds
        self.seconds += seconds
        left = 4 * round(seconds * SAMPLE_RATE)
        while left:
            some = min(left, _BLOCK_BYTES)
            self._held += bytes(some)
            left -= some
            yield from self._full()

    def _drain(self) -> None:
        """Take what the mixer holds back, and let go of it."""
        mixer, self._mixer = self._mixer, None
        if mixer is not None:
            self._mix(mixer, None)

    def _mix(self, mixer: Graph, frame: AudioFrame | None) -> None:
        mixer.push(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):  # it wants more, or has given all
            while True:
                made = mixer.pull()
                assert isinstance(made, AudioFrame)  # noqa: S101 - pictures are what other graphs give
                self._held += memoryview(made.planes[0])[: made.samples * 4]

    def _full(self) -> Iterator[Samples]:
        while len(self._held) >= _BLOCK_BYTES:
            yield _clean(self._held[:_BLOCK_BYTES])
            del self._held[:_BLOCK_BYTES]


def _mixer(frame: AudioFrame) -> Graph:
    """What makes the samples we want of frames like this one."""
    channels, layout = frame.layout.nb_channels, frame.layout.name
    graph = Graph()
    graph.threads = 1  # or it keeps a pool of them, and none of these filters has work for two
    try:
        steps = [graph.add_abuffer(sample_rate=frame.sample_rate, format=frame.format, layout=layout)]
        if channels > 1 and layout == f"{channels} channels":  # nobody says where each of them belongs
            equally = "+".join(f"{1 / channels}*c{number}" for number in range(channels))
            steps.append(graph.add("pan", f"mono|c0={equally}"))
        wanted = f"{SAMPLE_RATE}:out_sample_fmt=flt:out_chlayout=mono:rematrix_maxval=1"
        steps.append(graph.add("aresample", wanted))
        steps.append(graph.add("asetnsamples", f"{BLOCK_SAMPLES}:pad=0"))
        steps.append(graph.add("abuffersink"))
        graph.link_nodes(*steps).configure()
    except (av.error.FFmpegError, ValueError) as error:
        raise Unplaceable(f"{layout} of {frame.format.name} cannot be mixed") from error
    return graph


def _clean(held: bytearray) -> Samples:
    """Samples from bytes, over which they rule; float recordings can hold anything."""
    samples = np.frombuffer(held, np.float32)
    np.nan_to_num(samples, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
    return np.clip(samples, -1.0, 1.0, out=samples)
