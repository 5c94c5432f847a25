"""The shape of a recording for a waveform display, gathered while it is decoded.

The document is what BBC's audiowaveform writes as JSON (its doc/DataFormat.md, version 2): for every
`samples_per_pixel` samples the lowest and the highest, −128 to 127. Points stand for 10 ms each until there
are `MOST_POINTS`; then each two become one: so many at most, and half of that at least, however long it is.
"""

import json

import numpy as np
import numpy.typing as npt

from .engines.base import SAMPLE_RATE, Samples

MOST_POINTS = 4096
_FINEST_SAMPLES = SAMPLE_RATE // 100

type _Values = npt.NDArray[np.float32]

_NONE: _Values = np.empty(0, np.float32)


class Peaks:
    """Lowest and highest samples, of a recording that is given block by block."""

    def __init__(self) -> None:
        self._lowest = _Row(np.minimum)
        self._highest = _Row(np.maximum)
        self._rest: Samples = _NONE

    def add(self, block: Samples) -> None:
        """Take the samples that follow."""
        samples = np.concatenate((self._rest, block)) if len(self._rest) else block
        whole = len(samples) // _FINEST_SAMPLES * _FINEST_SAMPLES
        self._rest = samples[whole:].copy()
        pixels = samples[:whole].reshape(-1, _FINEST_SAMPLES)
        self._lowest.add(pixels.min(axis=1))
        self._highest.add(pixels.max(axis=1))

    def document(self) -> bytes:
        """The JSON document. What does not fill a point at the end is left out."""
        lowest, highest = self._lowest, self._highest
        data = np.stack((lowest.points, highest.points), axis=1) * 127
        document = {
            "version": 2,
            "channels": 1,
            "sample_rate": SAMPLE_RATE,
            "samples_per_pixel": lowest.pixels_each * _FINEST_SAMPLES,
            "bits": 8,
            "length": len(lowest.points),
            "data": np.rint(np.clip(data, -128, 127)).astype(int).ravel().tolist(),
        }
        return json.dumps(document, separators=(",", ":")).encode()


class _Row:
    """One value for every `pixels_each` pixels; coarser as they become too many."""

    def __init__(self, combine: np.ufunc) -> None:
        self._combine = combine
        self._waiting = _NONE
        self.points = _NONE
        self.pixels_each = 1

    def add(self, pixels: _Values) -> None:
        waiting = np.concatenate((self._waiting, pixels))
        whole = len(waiting) // self.pixels_each * self.pixels_each
        self._waiting = waiting[whole:]
        points = self._combine.reduce(waiting[:whole].reshape(-1, self.pixels_each), axis=1)
        self.points = np.concatenate((self.points, points))
        while len(self.points) > MOST_POINTS:
            self._halve()

    def _halve(self) -> None:
        paired = len(self.points) // 2 * 2
        # A point without a partner goes back to those that wait, as often as it has pixels.
        self._waiting = np.concatenate((np.repeat(self.points[paired:], self.pixels_each), self._waiting))
        self.points = self._combine.reduce(self.points[:paired].reshape(-1, 2), axis=1)
        self.pixels_each *= 2
