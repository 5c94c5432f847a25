"""The waveform's points."""

import json
from typing import Any

import numpy as np
import pytest
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples
from bucketscribe.worker.peaks import MOST_POINTS, Peaks
from hypothesis import given, settings
from hypothesis import strategies as st


def document(samples: Samples, block: int = SAMPLE_RATE) -> dict[str, Any]:
    peaks = Peaks()
    for at in range(0, len(samples), block):
        peaks.add(samples[at : at + block])
    made: dict[str, Any] = json.loads(peaks.document())
    return made


def noise(count: int) -> Samples:
    return np.random.default_rng(count).uniform(-1, 1, count).astype(np.float32)


@settings(max_examples=40)
@given(st.integers(0, 3_000_000), st.integers(100, 50_000))
def test_each_point_is_the_lowest_and_highest_of_its_samples(count: int, block: int) -> None:
    samples = noise(count)
    made = document(samples, block)
    each = made["samples_per_pixel"]
    assert made["length"] == count // each <= MOST_POINTS
    pixels = samples[: count // each * each].reshape(-1, each)
    expected = np.stack((pixels.min(axis=1), pixels.max(axis=1)), axis=1) * 127
    assert made["data"] == np.rint(expected).astype(int).ravel().tolist()


def test_a_short_recording_has_a_point_every_10_ms() -> None:
    made = document(noise(11 * SAMPLE_RATE))
    assert (made["samples_per_pixel"], made["length"]) == (SAMPLE_RATE // 100, 1100)


@pytest.mark.parametrize("minutes", [3, 60, 600])
def test_there_are_a_few_thousand_points_however_long_it_is(minutes: int) -> None:
    peaks = Peaks()
    second = noise(SAMPLE_RATE)
    for _ in range(minutes * 60):
        peaks.add(second)
    made = json.loads(peaks.document())
    assert MOST_POINTS / 2 <= made["length"] <= MOST_POINTS
    seconds = made["length"] * made["samples_per_pixel"] / made["sample_rate"]
    assert seconds == pytest.approx(minutes * 60, rel=0.001)


def test_it_says_what_the_format_asks_for() -> None:
    made = document(noise(SAMPLE_RATE))
    del made["data"]
    assert made == {
        "version": 2,
        "channels": 1,
        "sample_rate": 16_000,
        "samples_per_pixel": 160,
        "bits": 8,
        "length": 100,
    }
