"""The light engine with the models that are installed, on real speech."""

import re
import subprocess
import sys
import wave
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bucketscribe.transcript import Word
from bucketscribe.worker.cues import cues
from bucketscribe.worker.engines.base import (
    SAMPLE_RATE,
    Engine,
    Heard,
    ModelUnavailable,
    Report,
    Request,
    Samples,
)
from bucketscribe.worker.engines.faster_whisper import FasterWhisper
from bucketscribe.worker.guards import without_loops
from bucketscribe.worker.models import resolve
from faster_whisper import WhisperModel  # type: ignore[import-untyped]

JFK = Path(__file__).parents[1] / "media" / "jfk.wav"
SAID = (
    "And so my fellow Americans, ask not what your country can do for you, "
    "ask what you can do for your country."
)
MODELS = ["tiny.en", "base"]


class Canceled(Exception):
    """What a worker's `report` raises."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def engine(cache: Path) -> Engine:
    return FasterWhisper(partial(resolve, cache=cache), device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def speech() -> Samples:
    with wave.open(str(JFK)) as file:
        return np.frombuffer(file.readframes(-1), np.int16).astype(np.float32) / np.float32(32768)


def silence(seconds: float) -> Samples:
    return np.zeros(int(seconds * SAMPLE_RATE), np.float32)


def noise(seconds: float, loudness: float) -> Samples:
    drawn = np.random.default_rng(1).normal(0, loudness, int(seconds * SAMPLE_RATE))
    return drawn.clip(-1, 1).astype(np.float32)


def tone(seconds: float) -> Samples:
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (np.sin(2 * np.pi * 440 * times) / 2).astype(np.float32)


def music(seconds: float) -> Samples:
    """Chords of three notes with overtones, one every two seconds, each struck and dying away."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    roots = np.array([220.0, 174.6, 261.6, 196.0])[(times // 2).astype(int) % 4]
    struck = np.minimum(1, times % 2 * 20) * np.exp(-0.8 * (times % 2))
    notes = [np.sin(2 * np.pi * roots * r * k * times) / k**2 for r in (1, 1.26, 1.5) for k in (1, 2, 3)]
    return (0.08 * struck * np.sum(notes, axis=0)).astype(np.float32)


def ignore(fraction: float) -> None:
    """A report nobody reads."""


def raising_after(fraction: float) -> Report:
    def report(done: float) -> None:
        if done > fraction:
            raise Canceled

    return report


def english(model: str, **more: str) -> Request:
    return Request(model=model, language="en", **more)  # type: ignore[arg-type]


def words_of(text: str) -> list[str]:
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def said(words: Sequence[Word]) -> list[str]:
    return words_of("".join(word.word for word in words))


@pytest.mark.parametrize("model", MODELS)
def test_no_word_is_wrong_and_times_run_forward(engine: Engine, speech: Samples, model: str) -> None:
    heard = engine.transcribe(speech, english(model), ignore)

    assert said(heard.words) == words_of(SAID)
    for stretches in (heard.speech, [(word.start, word.end) for word in heard.words]):
        times = [time for stretch in stretches for time in stretch]
        assert times == sorted(times)
        assert times[0] >= 0
        assert times[-1] <= len(speech) / SAMPLE_RATE
    assert 8 < sum(end - start for start, end in heard.speech) <= 11


@pytest.mark.parametrize(
    "audio",
    [silence(0), silence(0.01), silence(70), noise(30, 0.001), noise(30, 0.3), tone(30), music(30)],
    ids=["nothing", "a blink", "silence", "quiet noise", "loud noise", "a tone", "music"],
)
@pytest.mark.parametrize("model", MODELS)
def test_where_nobody_speaks_there_are_neither_words_nor_a_language(
    engine: Engine, audio: Samples, model: str
) -> None:
    assert engine.language(audio, model) is None
    assert engine.transcribe(audio, english(model), ignore) == Heard((), ())


def test_the_language_is_found_where_speech_begins(engine: Engine, speech: Samples) -> None:
    found = engine.language(np.concatenate([music(90), speech]), "base")
    assert found is not None
    assert found[0] == "en"
    assert found[1] > 0.8


def test_an_english_model_hears_english_only_where_somebody_speaks(engine: Engine, speech: Samples) -> None:
    assert engine.language(np.concatenate([silence(70), speech]), "tiny.en") == ("en", 1.0)


def test_nothing_is_lost_where_two_looks_for_speech_meet(engine: Engine, speech: Samples) -> None:
    # They meet at 58 to 60 s: in a pause and in a word of the sentence.
    for at in (52.5, 57.0):
        heard = engine.transcribe(np.concatenate([silence(at), speech]), english("tiny.en"), ignore)
        assert said(heard.words) == words_of(SAID)
        assert heard.words[0].start == pytest.approx(at + 0.3, abs=0.5)


def test_a_request_without_a_language_is_a_mistake(engine: Engine, speech: Samples) -> None:
    with pytest.raises(ValueError, match="language"):
        engine.transcribe(speech, Request(model="tiny.en"), ignore)


def test_speech_behind_minutes_of_music_keeps_its_time(engine: Engine, speech: Samples) -> None:
    heard = engine.transcribe(np.concatenate([music(130), silence(1), speech]), english("tiny.en"), ignore)
    assert said(heard.words) == words_of(SAID)
    assert 131 <= heard.words[0].start < 132


def test_words_round_a_long_silence_keep_their_times(engine: Engine, speech: Samples) -> None:
    before, after = np.split(speech, [int(7.6 * SAMPLE_RATE)])
    heard = engine.transcribe(np.concatenate([before, silence(12), after]), english("base"), ignore)
    assert said(heard.words) == words_of(SAID)
    at = [word.word for word in heard.words].index(" ask", 6)  # the second one
    assert heard.words[at - 1].end < 8.2
    assert heard.words[at].start > 19.2
    assert all(word.end - word.start < 2 for word in heard.words)


@pytest.mark.long
def test_no_word_is_lost_or_doubled_in_minutes_of_talk(engine: Engine, speech: Samples) -> None:
    # Clips and looks for speech end at all places of the sentence.
    heard = engine.transcribe(np.concatenate([speech] * 12), english("base"), ignore)
    assert said(heard.words) == words_of(SAID) * 12
    assert without_loops(heard.words, heard.speech) == (list(heard.words), [])
    captions = cues(heard.words)
    assert said([word for cue in captions for word in cue]) == words_of(SAID) * 12


@pytest.mark.long
def test_what_was_listened_to_is_not_encoded_again_and_gives_the_same_words(
    engine: Engine, speech: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = WhisperModel.encode

    def counted(self: WhisperModel, features: Samples) -> object:
        encoded.append(len(features))
        return encode(self, features)

    monkeypatch.setattr(WhisperModel, "encode", counted)
    alone = engine.transcribe(speech, english("base"), ignore)
    assert encoded == [1]
    encoded.clear()
    for _ in range(2):
        assert engine.language(speech, "base") is not None
        assert engine.transcribe(speech, english("base"), ignore) == alone
    assert encoded == [1, 1]


@pytest.mark.long
def test_the_same_audio_gives_the_same_words_in_every_process(
    engine: Engine, speech: Samples, cache: Path
) -> None:
    audio = np.concatenate([speech] * 2)
    first = engine.transcribe(audio, english("base"), ignore)
    assert engine.transcribe(audio, english("base"), ignore) == first
    program = (
        "import sys, numpy\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from bucketscribe.worker.engines.base import Request\n"
        "from bucketscribe.worker.engines.faster_whisper import FasterWhisper\n"
        "from bucketscribe.worker.models import resolve\n"
        "audio = numpy.frombuffer(sys.stdin.buffer.read(), numpy.float32)\n"
        "engine = FasterWhisper(partial(resolve, cache=Path(sys.argv[1])), device='cpu', batch_size=2)\n"
        "print(engine.transcribe(audio, Request(model='base', language='en'), lambda done: None))\n"
    )
    other = subprocess.run(
        [sys.executable, "-c", program, str(cache)], input=audio.tobytes(), capture_output=True, check=True
    )
    assert other.stdout.decode().strip() == str(first)


def test_progress_runs_from_nothing_to_all(engine: Engine, speech: Samples) -> None:
    done: list[float] = []
    engine.transcribe(np.concatenate([speech] * 8), english("tiny.en"), done.append)
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 1
    assert len([fraction for fraction in done if 0.1 < fraction < 1]) >= 2


def test_cancel_stops_the_work_and_the_engine_works_on(engine: Engine, speech: Samples) -> None:
    with pytest.raises(Canceled):
        engine.transcribe(np.concatenate([speech] * 8), english("tiny.en"), raising_after(0.1))
    assert said(engine.transcribe(speech, english("tiny.en"), ignore).words) == words_of(SAID)


def test_hints_change_nothing_that_was_said(engine: Engine, speech: Samples) -> None:
    request = english("base", initial_prompt="A speech of 1961.", hotwords="Americans")
    assert said(engine.transcribe(speech, request, ignore).words) == words_of(SAID)


@pytest.mark.long
def test_hints_may_be_longer_than_the_model_can_take(engine: Engine, speech: Samples) -> None:
    request = english("base", initial_prompt="Kennedy speaks. " * 125, hotwords="Americans, " * 180)
    assert said(engine.transcribe(speech, request, ignore).words) == words_of(SAID)


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
    (tmp_path / "whisper").write_text("in the way")
    with pytest.raises(ModelUnavailable, match="cannot be joined"):
        resolve("base", tmp_path)
