"""All that a decoder gives of a recording, and the trouble behind it."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from bucketscribe.worker.decode import Decoder, Seekable, Track, Undecodable
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples


@dataclass(frozen=True)
class Given:
    """What came of a recording. `trouble`: why there is no more of it; None if that is all."""

    samples: Samples
    track: Track | None
    skipped: int
    trouble: Undecodable | None

    @property
    def duration(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def read(data: bytes) -> Given:
    """Decode these bytes. Raises `NoAudio`."""
    return decoded(io.BytesIO(data))


def decoded(file: Seekable) -> Given:
    """Decode a file. Raises `NoAudio` and what reading it raises."""
    blocks: list[Samples] = []
    track, skipped, trouble = None, 0, None
    try:
        with Decoder(file) as decoder:
            track = decoder.track
            try:
                blocks.extend(_checked(decoder))
            finally:
                skipped = decoder.skipped
    except Undecodable as error:
        trouble = error
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return Given(samples, track, skipped, trouble)


def length(data: bytes) -> float:
    """Decode these bytes and keep nothing of them but their seconds. Raises `NoAudio`."""
    seconds = 0.0
    with suppress(Undecodable), Decoder(io.BytesIO(data)) as decoder:
        for block in _checked(decoder):
            seconds += len(block) / SAMPLE_RATE
    return seconds


def _checked(decoder: Decoder) -> Iterator[Samples]:
    """The blocks, each as promised: a second of finite samples, and less only at the end."""
    last = SAMPLE_RATE
    for block in decoder.blocks():
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert last == SAMPLE_RATE
        last = len(block)
        assert 0 < last <= SAMPLE_RATE
        assert np.isfinite(block).all()
        assert np.abs(block).max() <= 1
        yield block
