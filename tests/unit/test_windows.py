"""A look through a recording, and its windows as they are decoded ahead."""

import io
import json
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
from bucketscribe.worker.ahead import windows
from bucketscribe.worker.decode import Decoder
from bucketscribe.worker.engines.base import SAMPLE_RATE, Samples
from bucketscribe.worker.plan import Stretch, Survey, TooLong, survey
from bucketscribe.worker.status import Status, Stopped

WINDOW = 10


def recording(seconds: float) -> bytes:
    """Noise, as a wav that says how long it is."""
    count = round(seconds * SAMPLE_RATE)
    samples = np.random.default_rng(7).integers(-9000, 9000, count, np.int16)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(SAMPLE_RATE)
        sound.writeframes(samples.tobytes())
    return file.getvalue()


def whole(file: bytes) -> Samples:
    with Decoder(io.BytesIO(file)) as decoder:
        return np.concatenate(list(decoder.blocks()))


def opening(file: bytes) -> Callable[[], Decoder]:
    return lambda: Decoder(io.BytesIO(file))


class Listener:
    """Hears a language in some of the windows, and may not be sure of it."""

    def __init__(self, *languages: str | tuple[str, float] | None) -> None:
        self.languages = list(languages)
        self.heard: list[Samples] = []

    def __call__(self, samples: Samples) -> tuple[str, float] | None:
        self.heard.append(samples.copy())
        language = self.languages.pop(0) if self.languages else None
        return (language, 0.9) if isinstance(language, str) else language


def surveyed(file: bytes, listen: Listener, most_hours: float = 24) -> Survey:
    with Decoder(io.BytesIO(file)) as decoder:
        return survey(decoder, WINDOW, listen, lambda _share: None, most_hours)


def test_the_windows_are_the_whole_recording_without_gap_or_overlap() -> None:
    file = recording(65)
    found = surveyed(file, Listener("en"))
    assert found.samples == 65 * SAMPLE_RATE
    assert (found.stretches[0].first, found.stretches[-1].end) == (0, found.samples)
    assert all(one.end == other.first for one, other in pairwise(found.stretches))
    assert len(found.stretches) > 5
    assert np.array_equal(found.first, whole(file)[: found.stretches[0].end])
    assert found.failure is None


def test_the_language_is_the_one_of_the_first_window_in_which_somebody_speaks() -> None:
    file, listen = recording(65), Listener(None, None, "de", "en")
    found = surveyed(file, listen)
    assert found.language == ("de", 0.9)
    samples = whole(file)
    assert len(listen.heard) == 3
    for heard, stretch in zip(listen.heard, found.stretches, strict=False):
        assert np.array_equal(heard, samples[stretch.first : stretch.end])


def test_a_language_nobody_is_sure_of_is_looked_for_again() -> None:
    listen = Listener(("nn", 0.2), None, "de", "en")
    assert surveyed(recording(65), listen).language == ("de", 0.9)
    assert len(listen.heard) == 3


def test_of_many_guesses_the_surest_is_taken() -> None:
    listen = Listener(("nn", 0.2), ("de", 0.4), ("en", 0.3))
    assert surveyed(recording(65), listen).language == ("de", 0.4)


def test_nobody_speaking_is_no_language() -> None:
    listen = Listener()
    found = surveyed(recording(65), listen)
    assert found.language is None
    assert len(listen.heard) == len(found.stretches)


def test_a_recording_cut_short_is_surveyed_as_far_as_it_goes() -> None:
    file = recording(65)
    found = surveyed(file[: len(file) // 2], Listener("en"))
    assert found.samples == pytest.approx(32.5 * SAMPLE_RATE, abs=SAMPLE_RATE)
    assert found.stretches[-1].end == found.samples
    assert found.failure is not None
    assert found.failure.at_seconds == pytest.approx(32.5, abs=1)
    assert json.loads(found.peaks)["length"] > 3000


def test_a_recording_that_is_too_long_is_not_looked_through_to_its_end() -> None:
    shares: list[float] = []
    with Decoder(io.BytesIO(recording(60))) as decoder, pytest.raises(TooLong, match=r"than 0\.005 hours"):
        survey(decoder, WINDOW, Listener("en"), shares.append, 0.005)
    assert 0.3 < shares[-1] < 0.5


def test_a_recording_as_long_as_may_be_is_surveyed() -> None:
    assert surveyed(recording(18), Listener("en"), most_hours=0.005).samples == 18 * SAMPLE_RATE


def test_a_short_recording_is_one_window() -> None:
    found = surveyed(recording(1), Listener("en"))
    assert found.stretches == (Stretch(first=0, end=SAMPLE_RATE),)


def test_windows_are_what_a_decoder_gives_for_them() -> None:
    file = recording(65)
    found, samples = surveyed(file, Listener("en")), whole(file)
    read = list(windows(opening(file), found.stretches, lambda: None))
    assert np.array_equal(np.concatenate(read), samples)
    assert [len(window) for window in read] == [s.end - s.first for s in found.stretches]


def test_only_the_windows_that_are_missing_are_given() -> None:
    file = recording(65)
    samples = whole(file)
    stretches = [Stretch(first=160_001, end=320_000), Stretch(first=500_000, end=1_040_000)]
    read = list(windows(opening(file), stretches, lambda: None))
    assert np.array_equal(read[0], samples[160_001:320_000])
    assert np.array_equal(read[1], samples[500_000:])


def test_a_first_window_that_is_known_is_not_decoded_again() -> None:
    file = recording(20)
    samples = whole(file)
    stretches = [Stretch(first=0, end=100), Stretch(first=100, end=320_000)]
    read = windows(opening(file), stretches, lambda: None, np.ones(100, np.float32))
    assert np.array_equal(next(read), np.ones(100))
    assert np.array_equal(next(read), samples[100:])


def test_a_recording_of_one_known_window_is_not_opened_again() -> None:
    def never() -> Decoder:
        raise AssertionError("it was opened")

    (read,) = windows(never, [Stretch(first=0, end=9)], lambda: None, np.ones(9, np.float32))
    assert len(read) == 9


def test_the_next_window_is_decoded_while_one_is_worked_on() -> None:
    file, decoded = recording(30), threading.Semaphore(0)
    stretches = [Stretch(first=n * 160_000, end=(n + 1) * 160_000) for n in range(3)]

    class Watched(Decoder):
        """Says so when it has given ten seconds more."""

        def blocks(self) -> Iterator[Samples]:
            given = 0
            for block in super().blocks():
                if (given + len(block)) // 160_000 > given // 160_000:
                    decoded.release()
                given += len(block)
                yield block

    read = windows(lambda: Watched(io.BytesIO(file)), stretches, lambda: None)
    next(read)
    assert decoded.acquire(timeout=30)
    assert decoded.acquire(timeout=30), "the second window waits to be asked for"
    assert not decoded.acquire(blocking=False), "the third one does not wait"
    read.close()


def test_a_stop_ends_the_decoding_ahead() -> None:
    status, closed = Status(), []
    file = recording(30)

    @contextmanager
    def watched() -> Iterator[Decoder]:
        with Decoder(io.BytesIO(file)) as decoder:
            try:
                yield decoder
            finally:
                closed.append(True)

    stretches = [Stretch(first=n * 160_000, end=(n + 1) * 160_000) for n in range(3)]
    read = windows(watched, stretches, status.check)
    next(read)
    status.stop.set()
    with pytest.raises(Stopped):
        list(read)
    assert closed == [True]
