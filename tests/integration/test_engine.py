"""The light engine with the models that are installed, on real speech."""

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bucketscribe.worker.decode import decode
from bucketscribe.worker.engines.base import (
    SAMPLE_RATE,
    Engine,
    ModelUnavailable,
    Report,
    Request,
    Result,
    Samples,
)
from bucketscribe.worker.engines.faster_whisper import FasterWhisper
from bucketscribe.worker.models import resolve

JFK = Path(__file__).parents[1] / "media" / "jfk.wav"
SAID = (
    "And so my fellow Americans, ask not what your country can do for you, "
    "ask what you can do for your country."
)
MODELS = ["tiny.en", "base"]


class Canceled(Exception):
    """What a worker's `report` raises."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    cache = tmp_path_factory.mktemp("models")
    return FasterWhisper(partial(resolve, cache=cache), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def speech() -> Samples:
    with JFK.open("rb") as file:
        return decode(file, ignore).samples


def ignore(fraction: float) -> None:
    """A report nobody reads."""


def raising_after(fraction: float) -> Report:
    def report(done: float) -> None:
        if done > fraction:
            raise Canceled

    return report


def words_of(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def text_of(result: Result) -> str:
    return " ".join(segment.text for segment in result.segments)


@pytest.mark.parametrize("model", MODELS)
def test_no_word_is_wrong_and_times_run_forward(engine: Engine, speech: Samples, model: str) -> None:
    result = engine.transcribe(speech, Request(model=model), ignore)

    assert words_of(text_of(result)) == words_of(SAID)
    assert result.language == "en"
    assert result.language_probability is not None
    assert result.language_probability > 0.8
    assert [segment.id for segment in result.segments] == list(range(len(result.segments)))
    words = [word for segment in result.segments for word in segment.words]
    assert words_of("".join(word.word for word in words)) == words_of(SAID)
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= len(speech) / SAMPLE_RATE
    assert all(len(segment.text) <= 90 for segment in result.segments)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seconds", [0, 0.01, 20])
def test_silence_has_neither_words_nor_a_language(engine: Engine, model: str, seconds: float) -> None:
    silence = np.zeros(int(seconds * SAMPLE_RATE), np.float32)
    assert engine.transcribe(silence, Request(model=model), ignore) == Result(None, None, ())


def test_speech_behind_more_than_a_window_of_silence_keeps_its_time(engine: Engine, speech: Samples) -> None:
    silence = np.zeros(310 * SAMPLE_RATE, np.float32)
    result = engine.transcribe(np.concatenate([silence, speech]), Request(model="tiny.en"), ignore)
    assert words_of(text_of(result)) == words_of(SAID)
    assert 310 <= result.segments[0].start < 312


def test_no_word_is_lost_where_two_windows_meet(engine: Engine, speech: Samples) -> None:
    # The first window ends amid the second speech.
    audio = np.concatenate([np.zeros(283 * SAMPLE_RATE, np.float32), speech, speech])
    result = engine.transcribe(audio, Request(model="base", language="en"), ignore)
    assert words_of(text_of(result)) == words_of(SAID) * 2


def test_the_same_audio_gives_the_same_words(engine: Engine, speech: Samples) -> None:
    request = Request(model="base")
    assert engine.transcribe(speech, request, ignore) == engine.transcribe(speech, request, ignore)


def test_progress_runs_from_nothing_to_all(engine: Engine, speech: Samples) -> None:
    done: list[float] = []
    engine.transcribe(np.concatenate([speech] * 8), Request(model="tiny.en"), done.append)
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 1
    assert len([fraction for fraction in done if 0.1 < fraction < 1]) >= 2


def test_cancel_stops_the_work_and_the_engine_works_on(engine: Engine, speech: Samples) -> None:
    with pytest.raises(Canceled):
        engine.transcribe(np.concatenate([speech] * 8), Request(model="tiny.en"), raising_after(0.1))
    result = engine.transcribe(speech, Request(model="tiny.en"), ignore)
    assert words_of(text_of(result)) == words_of(SAID)


def test_words_are_left_out_where_they_are_not_wanted(engine: Engine, speech: Samples) -> None:
    result = engine.transcribe(speech, Request(model="tiny.en", word_timestamps=False), ignore)
    assert words_of(text_of(result)) == words_of(SAID)
    assert not any(segment.words for segment in result.segments)


def test_hints_change_nothing_that_was_said(engine: Engine, speech: Samples) -> None:
    request = Request(model="base", initial_prompt="A speech of 1961.", hotwords="Americans")
    assert words_of(text_of(engine.transcribe(speech, request, ignore))) == words_of(SAID)


def test_a_model_nobody_knows_is_unavailable(engine: Engine) -> None:
    with pytest.raises(ModelUnavailable):
        engine.load("no-such-model")


def test_only_a_configured_folder_is_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable):
        resolve(str(tmp_path), tmp_path)
    assert resolve(str(tmp_path), tmp_path, [str(tmp_path)]) == str(tmp_path)


def test_a_damaged_joined_model_is_written_again(tmp_path: Path) -> None:
    model = Path(resolve("base", tmp_path)) / "model.bin"
    whole = model.stat()
    assert whole.st_size == 145_217_532
    assert Path(resolve("base", tmp_path) + "/model.bin").stat().st_ino == whole.st_ino
    model.write_bytes(b"half")
    resolve("base", tmp_path)
    assert model.stat().st_size == whole.st_size
    assert not list(model.parent.glob(".*"))


def test_a_cache_that_cannot_be_written_is_an_unavailable_model(tmp_path: Path) -> None:
    (tmp_path / "base").write_text("in the way")
    with pytest.raises(ModelUnavailable, match="cannot be joined"):
        resolve("base", tmp_path)
