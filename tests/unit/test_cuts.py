"""Where a recording is cut into windows."""

import numpy as np
import pytest
from bucketscribe.worker.cuts import Cuts
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples
from hypothesis import given, settings
from hypothesis import strategies as st

WINDOW = 10


def noise(seconds: float, seed: int = 1) -> Samples:
    """Something that is loud all the time, with a level that wavers."""
    count = round(seconds * SAMPLE_RATE)
    wavering = 0.1 + 0.02 * np.sin(np.arange(count) / SAMPLE_RATE * 3)
    return (np.random.default_rng(seed).standard_normal(count) * wavering).astype(np.float32)


def cuts_of(samples: Samples, block: int = SAMPLE_RATE, window: int = WINDOW) -> list[int]:
    cuts = Cuts(window)
    return [cut for at in range(0, len(samples), block) for cut in cuts.add(samples[at : at + block])]


def with_pause(samples: Samples, begin: float, end: float, level: float = 0.0) -> Samples:
    samples = samples.copy()
    samples[round(begin * SAMPLE_RATE) : round(end * SAMPLE_RATE)] *= level
    return samples


def test_a_cut_is_in_the_middle_of_a_pause() -> None:
    (cut,) = cuts_of(with_pause(noise(15), 9.6, 10.4))
    assert cut / SAMPLE_RATE == pytest.approx(10.0, abs=0.03)


def test_of_two_pauses_the_longer_one_is_cut() -> None:
    samples = with_pause(with_pause(noise(15), 9.1, 9.8), 10.0, 10.9)
    (cut,) = cuts_of(samples)
    assert cut / SAMPLE_RATE == pytest.approx(10.45, abs=0.03)


def test_a_pause_need_not_be_silent() -> None:
    (cut,) = cuts_of(with_pause(noise(15), 9.6, 10.4, level=0.2))
    assert 9.6 < cut / SAMPLE_RATE < 10.4


def test_without_any_pause_it_is_cut_all_the_same() -> None:
    (cut,) = cuts_of(noise(15))
    assert 9 <= cut / SAMPLE_RATE <= 11


def test_what_is_shorter_than_the_longest_window_is_not_cut() -> None:
    assert cuts_of(noise(11.9)) == []


def test_a_recording_of_silence_is_cut_too() -> None:
    cuts = cuts_of(np.zeros(60 * SAMPLE_RATE, np.float32))
    assert len(cuts) == 5


@settings(max_examples=30)
@given(st.integers(1, 40_000), st.floats(12, 60), st.integers(0, 9))
def test_cuts_do_not_depend_on_how_the_samples_are_handed_over(block: int, seconds: float, seed: int) -> None:
    samples = noise(seconds, seed)
    cuts = cuts_of(samples, max(block, 400))
    assert cuts == cuts_of(samples)
    borders = np.array([0, *cuts])
    lengths = np.diff(borders) / SAMPLE_RATE
    assert ((lengths >= 0.9 * WINDOW) & (lengths <= 1.1 * WINDOW)).all()
    assert WINDOW * 0.1 <= seconds - borders[-1] / SAMPLE_RATE <= WINDOW * 1.2 + 0.1
