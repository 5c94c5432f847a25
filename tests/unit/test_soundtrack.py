"""A whole recording as samples on disk."""

import errno
import io
import shutil
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from bucketscribe.worker.decode import Decoder
from bucketscribe.worker.engines.base import SAMPLE_RATE
from bucketscribe.worker.soundtrack import soundtrack

from tests.unit.test_windows import recording, whole


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_what_the_decoder_gives_and_leaves_no_file(folder: Path) -> None:
    file = recording(7.3)
    shares: list[float] = []
    with soundtrack(lambda: Decoder(io.BytesIO(file)), 7 * SAMPLE_RATE, shares.append) as samples:
        assert list(folder.iterdir()) == []
        assert samples.dtype == np.float32
        assert np.array_equal(samples, whole(file)[: 7 * SAMPLE_RATE])
    assert len(shares) >= 7
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)


def test_a_disk_too_small_is_told_before_anything_is_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))

    @contextmanager
    def never() -> Iterator[Decoder]:
        raise AssertionError("it was opened")
        yield

    with pytest.raises(OSError, match="64000 bytes") as raised, soundtrack(never, SAMPLE_RATE, print):
        pass
    assert raised.value.errno == errno.ENOSPC


def test_what_report_raises_passes_through_and_closes_the_recording() -> None:
    file, closed = recording(7), []

    @contextmanager
    def opened() -> Iterator[Decoder]:
        with Decoder(io.BytesIO(file)) as decoder:
            try:
                yield decoder
            finally:
                closed.append(True)

    def stop(share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), soundtrack(opened, 7 * SAMPLE_RATE, stop):
        pass
    assert closed == [True]
