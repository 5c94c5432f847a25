"""Where a recording is cut into windows: at the quietest place near every tenth minute.

A window is a unit of work: of memory, and of what a worker that dies loses. It ends 9 to 11 minutes after it
begins, in the middle of the longest stretch that is about as quiet as the quietest half second there, so that
no word is cut. Less than a minute is never left over: the last window has up to 12 minutes. (For windows of
another length all that shrinks or grows with it.)
"""

import numpy as np
import numpy.typing as npt

from .engines.base import SAMPLE_RATE, Samples

_EARLIEST = 0.9
_LATEST = 1.1
_LONGEST = 1.2

_FRAMES_A_SECOND = 50
_FRAME_SAMPLES = SAMPLE_RATE // _FRAMES_A_SECOND
_QUIET_FRAMES = _FRAMES_A_SECOND // 2
_ABOUT_AS_QUIET = 2.0  # 3 dB
_INAUDIBLE = 1e-9  # mean square: 90 dB below full scale

type _Levels = npt.NDArray[np.float32]


class Cuts:
    """The cuts of a recording that is given block by block."""

    def __init__(self, window_seconds: int) -> None:
        self.longest_seconds = window_seconds * _LONGEST
        """How long the last window can become; the others are shorter."""
        self._zone = [round(window_seconds * part * _FRAMES_A_SECOND) for part in (_EARLIEST, _LATEST)]
        self._certain = round(self.longest_seconds * _FRAMES_A_SECOND)
        self._rest: Samples = np.empty(0, np.float32)
        self._levels: list[_Levels] = []  # mean square of each frame since the last cut
        self._frames = 0
        self._window = 0  # the frame the window begins with

    def add(self, block: Samples) -> list[int]:
        """Take the samples that follow; returns cuts that are certain now, counted in samples from the start.

        The blocks are to be short beside a window: then it is one at most.
        """
        samples = np.concatenate((self._rest, block))
        whole = len(samples) // _FRAME_SAMPLES * _FRAME_SAMPLES
        self._rest = samples[whole:]
        frames = samples[:whole].reshape(-1, _FRAME_SAMPLES)
        self._levels.append(np.square(frames).mean(axis=1, dtype=np.float32))
        self._frames += len(frames)
        cuts = []
        while self._frames >= self._certain:
            levels = np.concatenate(self._levels)
            first, last = self._zone
            frame = first + _quietest(levels[first:last])
            self._levels = [levels[frame:].copy()]
            self._frames -= frame
            self._window += frame
            cuts.append(self._window * _FRAME_SAMPLES)
        return cuts


def _quietest(levels: _Levels) -> int:
    """The middle of the longest stretch of half seconds that are about as quiet as the quietest one."""
    smooth = np.convolve(levels, np.full(_QUIET_FRAMES, 1 / _QUIET_FRAMES, np.float32), mode="valid")
    quiet = smooth <= smooth.min() * _ABOUT_AS_QUIET + _INAUDIBLE
    edges = np.flatnonzero(np.diff(quiet.astype(np.int8), prepend=0, append=0))
    begins, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - begins))
    return int(begins[longest] + ends[longest] - 1 + _QUIET_FRAMES) // 2
