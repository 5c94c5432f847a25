"""The GPU engine on a CPU, on real speech: its hearing by real models, its other stages by made ones.

Weights that align and that tell speakers apart are only on the model hub. `tests/media/models.py` makes small
ones of random weights, which the real code loads and runs: so times and speakers prove shapes, not hearing.
"""

import subprocess
import sys
import wave
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bucketscribe.worker.engines.base import (
    SAMPLE_RATE,
    Aligner,
    Diarizer,
    EngineFailed,
    Heard,
    ModelUnavailable,
    OutOfMemory,
    Request,
    Samples,
    StageSkipped,
    Turn,
)
from bucketscribe.worker.guards import without_loops
from bucketscribe.worker.models import resolve

from tests.integration.test_engine import (
    JFK,
    MODELS,
    SAID,
    Canceled,
    english,
    ignore,
    music,
    noise,
    raising_after,
    said,
    silence,
    tone,
    words_of,
)
from tests.media import models

if TYPE_CHECKING:
    from bucketscribe.worker.engines.whisperx import WhisperX

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("whisperx") is None, reason="the whisperx extra is not installed"),
]

HUB_MODEL = "pyannote/speaker-diarization-community-1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with an alignment model for English, and a diarization pipeline."""
    import bucketscribe.worker.engines.whisperx  # noqa: F401 -- before torch, whose manners it sets

    home = tmp_path_factory.mktemp("models")
    models.wav2vec2(home / "align" / "en")
    models.diarization(home / "diarization")
    return home


@pytest.fixture(scope="module")
def make(folder: Path) -> Callable[..., "WhisperX"]:
    from bucketscribe.worker.engines.whisperx import WhisperX

    def make(**changes: Any) -> "WhisperX":
        options: dict[str, Any] = {"device": "cpu", "batch_size": 2, "models_dir": folder, "align_models": {}}
        options |= {"diarize_model": HUB_MODEL, "hf_token": None} | changes
        return WhisperX(partial(resolve, cache=folder / "whisper"), **options)

    return make


@pytest.fixture(scope="module")
def engine(make: Callable[..., "WhisperX"]) -> "WhisperX":
    return make()


@pytest.fixture(scope="module")
def speech() -> Samples:
    with wave.open(str(JFK)) as file:
        return np.frombuffer(file.readframes(-1), np.int16).astype(np.float32) / np.float32(32768)


def aligner(engine: "WhisperX") -> Aligner:
    assert engine.aligner is not None
    return engine.aligner


def diarizer(engine: "WhisperX") -> Diarizer:
    assert engine.diarizer is not None
    return engine.diarizer


def in_order(stretches: Sequence[tuple[float, float]], seconds: float) -> bool:
    times = [time for stretch in stretches for time in stretch]
    return times == sorted(times) and times[0] >= 0 and times[-1] <= seconds


class TestHearing:
    @pytest.mark.parametrize("model", MODELS)
    def test_no_word_is_wrong_and_times_run_forward(
        self,
        engine: "WhisperX",
        speech: Samples,
        model: str,
    ) -> None:
        heard = engine.transcribe(speech, english(model), ignore)
        assert said(heard.words) == words_of(SAID)
        assert in_order([(word.start, word.end) for word in heard.words], len(speech) / SAMPLE_RATE)
        assert in_order(heard.speech, len(speech) / SAMPLE_RATE)
        assert 8 < sum(end - start for start, end in heard.speech) <= 11

    @pytest.mark.parametrize(
        "audio",
        [silence(0), silence(0.01), silence(70), noise(30, 0.001), noise(30, 0.3), tone(30), music(30)],
        ids=["nothing", "a blink", "silence", "quiet noise", "loud noise", "a tone", "music"],
    )
    def test_where_nobody_speaks_there_are_neither_words_nor_a_language(
        self, engine: "WhisperX", audio: Samples
    ) -> None:
        assert engine.language(audio, "base") is None
        assert engine.transcribe(audio, english("base"), ignore) == Heard((), ())

    def test_the_language_is_found_where_speech_begins(self, engine: "WhisperX", speech: Samples) -> None:
        found = engine.language(np.concatenate([music(70), speech]), "base")
        assert found is not None
        assert found[0] == "en"
        assert found[1] > 0.8
        assert engine.language(np.concatenate([silence(70), speech]), "tiny.en") == ("en", 1.0)

    def test_it_knows_what_its_models_speak(self, engine: "WhisperX") -> None:
        assert engine.speaks("base", "de")
        assert not engine.speaks("base", "xx")
        assert engine.speaks("tiny.en", "en")
        assert not engine.speaks("tiny.en", "de")

    def test_nothing_is_lost_where_two_looks_for_speech_meet(
        self,
        engine: "WhisperX",
        speech: Samples,
    ) -> None:
        # They meet at 58 to 60 s: in a pause and in a word of the sentence.
        for at in (52.5, 57.0):
            heard = engine.transcribe(np.concatenate([silence(at), speech]), english("base"), ignore)
            assert said(heard.words) == words_of(SAID)
            assert heard.words[0].start == pytest.approx(at + 0.3, abs=0.5)

    def test_no_word_is_lost_or_doubled_in_minutes_of_talk(
        self,
        engine: "WhisperX",
        speech: Samples,
    ) -> None:
        audio = np.concatenate([speech] * 10)
        done: list[float] = []
        heard = engine.transcribe(audio, english("base"), done.append)
        assert said(heard.words) == words_of(SAID) * 10
        assert without_loops(heard.words, heard.speech) == (list(heard.words), [])
        assert in_order([(word.start, word.end) for word in heard.words], len(audio) / SAMPLE_RATE)
        assert done == sorted(done)
        assert done[0] == 0
        assert done[-1] == 1
        assert len(done) >= 5

    def test_words_round_a_long_silence_keep_their_times(
        self,
        engine: "WhisperX",
        speech: Samples,
    ) -> None:
        before, after = np.split(speech, [int(7.6 * SAMPLE_RATE)])
        heard = engine.transcribe(np.concatenate([before, silence(12), after]), english("base"), ignore)
        assert said(heard.words) == words_of(SAID)
        at = [word.word for word in heard.words].index(" ask", 6)  # the second one
        assert heard.words[at - 1].end < 8.2
        assert heard.words[at].start > 19.2

    def test_what_was_listened_to_is_not_encoded_again_and_gives_the_same_words(
        self,
        engine: "WhisperX",
        speech: Samples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from whisperx.asr import WhisperModel

        encoded = []
        encode = WhisperModel.encode

        def counted(self: Any, features: Samples) -> object:
            encoded.append(len(features))
            return encode(self, features)

        monkeypatch.setattr(WhisperModel, "encode", counted)
        alone = engine.transcribe(speech, english("base"), ignore)
        assert encoded == [1]
        assert engine.language(speech, "base") is not None
        assert engine.transcribe(speech, english("base"), ignore) == alone
        assert encoded == [1, 1]

    def test_hints_may_be_longer_than_the_model_can_take(
        self,
        engine: "WhisperX",
        speech: Samples,
    ) -> None:
        request = english("base", initial_prompt="Kennedy speaks. " * 125, hotwords="Americans, " * 180)
        assert said(engine.transcribe(speech, request, ignore).words) == words_of(SAID)
        assert said(engine.transcribe(speech, english("base"), ignore).words) == words_of(SAID)

    def test_cancel_stops_the_work_and_the_engine_works_on(
        self,
        engine: "WhisperX",
        speech: Samples,
    ) -> None:
        for fraction in (0.0, 0.4):  # while it looks for speech, and between batches
            with pytest.raises(Canceled):
                engine.transcribe(np.concatenate([speech] * 6), english("tiny.en"), raising_after(fraction))
        assert said(engine.transcribe(speech, english("tiny.en"), ignore).words) == words_of(SAID)

    def test_a_request_without_a_language_is_a_mistake(self, engine: "WhisperX", speech: Samples) -> None:
        with pytest.raises(ValueError, match="language"):
            engine.transcribe(speech, Request(model="tiny.en"), ignore)

    def test_a_model_nobody_knows_or_can_load_is_unavailable(
        self, engine: "WhisperX", make: Callable[..., "WhisperX"], tmp_path: Path
    ) -> None:
        with pytest.raises(ModelUnavailable, match="no-such-model"):
            engine.load("no-such-model")
        (tmp_path / "model.bin").write_bytes(b"half")
        broken = make()
        broken._resolve = lambda model: str(tmp_path)
        with pytest.raises(ModelUnavailable, match="cannot be loaded"):
            broken.load("half")

    def test_a_model_that_failed_is_loaded_again(
        self,
        engine: "WhisperX",
        speech: Samples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def broken(*given: Any) -> None:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        pipeline = engine._pipeline("tiny.en")
        with monkeypatch.context() as patched:
            patched.setattr(pipeline.model, "generate_segment_batched", broken)
            with pytest.raises(EngineFailed, match="illegal"):
                engine.transcribe(speech, english("tiny.en"), ignore)
        assert said(engine.transcribe(speech, english("tiny.en"), ignore).words) == words_of(SAID)
        assert engine._pipeline("tiny.en") is not pipeline


class TestMemory:
    @pytest.mark.timeout(600)
    def test_a_process_with_little_memory_gets_through_by_smaller_batches(self, folder: Path) -> None:
        program = Path(__file__).with_name("with_little_memory.py")
        command = [sys.executable, str(program), str(folder)]
        told = subprocess.run(command, capture_output=True, text=True, timeout=480, check=True)
        batch, said_right = told.stdout.split()
        assert said_right == "True"
        assert 1 <= int(batch) < 8

    def test_on_a_full_gpu_no_finished_clip_is_heard_again(
        self,
        make: Callable[..., "WhisperX"],
        speech: Samples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        engine = make(batch_size=8)
        pipeline = engine._pipeline("tiny.en")
        generate, sizes = pipeline.model.generate_segment_batched, []

        def on_a_full_gpu(features: Samples, *rest: Any) -> Any:  # stands in for CTranslate2's own failure
            sizes.append(len(features))
            if len(features) > 2:
                raise RuntimeError("CUDA failed with error out of memory")
            return generate(features, *rest)

        monkeypatch.setattr(pipeline.model, "generate_segment_batched", on_a_full_gpu)
        audio = np.concatenate([speech] * 10)
        clips = len(engine.transcribe(audio, english("tiny.en"), ignore).passages)
        assert clips == 4
        assert sizes == [4, 2, 2]
        sizes.clear()
        engine.transcribe(audio, english("tiny.en"), ignore)
        assert sizes == [2, 2]

    def test_too_little_for_one_clip_is_told_and_leaves_an_engine_that_works(
        self,
        engine: "WhisperX",
        speech: Samples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import torch

        def full(*given: Any) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

        pipeline = engine._pipeline("tiny.en")
        with monkeypatch.context() as patched:
            patched.setattr(pipeline.model, "generate_segment_batched", full)
            with pytest.raises(OutOfMemory, match="BUCKETSCRIBE_COMPUTE_TYPE"):
                engine.transcribe(speech, english("tiny.en"), ignore)
        assert said(engine.transcribe(speech, english("tiny.en"), ignore).words) == words_of(SAID)

    def test_models_stay_until_their_memory_is_needed(
        self, make: Callable[..., "WhisperX"], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = make()
        first = engine._pipeline("tiny.en")
        engine.load("base")
        assert engine._pipeline("tiny.en") is first
        monkeypatch.setattr(engine._warm, "_free", lambda: 0)  # a full device
        engine._warm.drop(engine._key("base"))
        engine.load("base")
        assert engine._key("tiny.en") not in engine._warm


@pytest.fixture(scope="module")
def talk(speech: Samples) -> Samples:
    before, after = np.split(speech, [int(7.6 * SAMPLE_RATE)])
    return np.concatenate([before, silence(12), after, speech, speech])


@pytest.fixture(scope="module")
def heard(engine: "WhisperX", talk: Samples) -> Heard:
    return engine.transcribe(talk, english("base"), ignore)


class TestAlignment:
    def test_words_stay_and_their_times_run_forward(
        self, engine: "WhisperX", talk: Samples, heard: Heard
    ) -> None:
        done: list[float] = []
        aligned = aligner(engine).align(talk, heard, "en", done.append)
        assert len(heard.passages) >= 2
        assert done == [at / len(heard.passages) for at in range(len(heard.passages) + 1)]
        assert all(passage.aligned for passage in aligned.passages)
        assert aligned.speech == heard.speech
        assert [(word.word, word.probability) for word in aligned.words] == [
            (word.word, word.probability) for word in heard.words
        ]
        assert [word.start for word in aligned.words] != [word.start for word in heard.words]
        for before, after in zip(heard.passages, aligned.passages, strict=True):
            assert (before.start, before.end) == (after.start, after.end)
            assert all(before.start <= word.start <= word.end <= before.end for word in after.words)
        assert all(first.end <= second.start for first, second in pairwise(aligned.words))
        for word in aligned.words:  # none lies in the long silence
            assert any(start - 0.001 <= word.start and word.end <= end + 0.001 for start, end in heard.speech)

    def test_the_network_is_not_asked_for_sentences(
        self, engine: "WhisperX", talk: Samples, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import nltk

        def fails(*given: Any, **named: Any) -> None:
            pytest.fail("NLTK's data was wanted")

        monkeypatch.setattr(nltk, "download", fails)
        monkeypatch.setattr(nltk.data, "find", fails)
        assert aligner(engine).align(talk, heard, "en", ignore).passages[0].aligned

    def test_letters_the_model_has_never_seen_are_aligned_all_the_same(
        self, make: Callable[..., "WhisperX"], tmp_path: Path, talk: Samples, heard: Heard
    ) -> None:
        for language, letters in [("ja", "日本"), ("tr", "iş")]:
            engine = make(align_models={language: str(models.wav2vec2(tmp_path / language, letters))})
            aligned = aligner(engine).align(talk, heard, language, ignore)
            assert said(aligned.words) == said(heard.words)
            assert all(first.end <= second.start for first, second in pairwise(aligned.words))

    def test_a_language_without_a_model_says_how_to_name_one(
        self, engine: "WhisperX", talk: Samples, heard: Heard
    ) -> None:
        with pytest.raises(StageSkipped, match="BUCKETSCRIBE_ALIGN_MODELS as xx=MODEL") as skipped:
            aligner(engine).align(talk, heard, "xx", ignore)
        assert skipped.value.code == "alignment_unavailable"

    @pytest.mark.parametrize("language", ["de", "ja"])  # of torchaudio, and of the hub
    def test_a_model_that_cannot_be_fetched_is_not_asked_for_again_at_once(
        self,
        make: Callable[..., "WhisperX"],
        talk: Samples,
        heard: Heard,
        language: str,
        monkeypatch: pytest.MonkeyPatch,
        unreachable: None,
    ) -> None:
        import whisperx.alignment

        engine, asked = make(), []
        load = whisperx.alignment.load_align_model

        def counted(*given: Any) -> Any:
            asked.append(given)
            return load(*given)

        monkeypatch.setattr(whisperx.alignment, "load_align_model", counted)
        for _ in range(2):
            with pytest.raises(StageSkipped, match=f"align/{language}") as skipped:
                aligner(engine).align(talk, heard, language, ignore)
            assert skipped.value.code == "alignment_unavailable"
        assert len(asked) == 1

    def test_a_passage_that_fails_keeps_its_times_and_the_others_get_theirs(
        self, engine: "WhisperX", talk: Samples, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import whisperx.alignment

        align, calls = whisperx.alignment.align, iter(range(9))

        def failing_once(*given: Any, **named: Any) -> Any:
            if next(calls) == 0:
                raise ValueError("broken")
            return align(*given, **named)

        monkeypatch.setattr(whisperx.alignment, "align", failing_once)
        aligned = aligner(engine).align(talk, heard, "en", ignore)
        assert aligned.passages[0] == heard.passages[0]
        assert all(passage.aligned for passage in aligned.passages[1:])

    def test_an_alignment_that_fails_throughout_is_told(
        self, engine: "WhisperX", talk: Samples, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch
        import whisperx.alignment

        for error, text in [
            (ValueError("broken"), "ValueError: broken"),
            (torch.OutOfMemoryError("CUDA out of memory"), "memory is too small"),
        ]:

            def failing(*given: Any, error: Exception = error, **named: Any) -> Any:
                raise error

            monkeypatch.setattr(whisperx.alignment, "align", failing)
            with pytest.raises(StageSkipped, match=text) as skipped:
                aligner(engine).align(talk, heard, "en", ignore)
            assert skipped.value.code == "alignment_failed"

    def test_out_of_memory_drops_the_other_models_and_tries_again(
        self, make: Callable[..., "WhisperX"], talk: Samples, heard: Heard, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import torch
        import whisperx.alignment

        engine = make()
        engine.load("tiny.en")
        align = whisperx.alignment.align

        def beside_others(*given: Any, **named: Any) -> Any:
            if engine._key("tiny.en") in engine._warm:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return align(*given, **named)

        monkeypatch.setattr(whisperx.alignment, "align", beside_others)
        assert all(passage.aligned for passage in aligner(engine).align(talk, heard, "en", ignore).passages)

    def test_what_report_raises_passes_through(self, engine: "WhisperX", talk: Samples, heard: Heard) -> None:
        with pytest.raises(Canceled):
            aligner(engine).align(talk, heard, "en", raising_after(0.3))


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a hub nor torchaudio's server: nothing listens where they are looked for."""
    from huggingface_hub import constants

    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


class StandInHub(BaseHTTPRequestHandler):
    """Refuses as the hub does: 401 without a token, 403 for an account without the licence."""

    def do_HEAD(self) -> None:
        known = "Authorization" in self.headers
        self.send_response(403 if known else 401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to this model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 -- so http.server has it

    def log_message(self, *given: Any) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from huggingface_hub import constants, file_download

    server = ThreadingHTTPServer(("127.0.0.1", 0), StandInHub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(
        file_download, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/{revision}/{filename}"
    )
    yield
    server.shutdown()
    thread.join()
    server.server_close()


class StandInPipeline:
    """Fails while its batches are larger than what fits, as a GPU that is too small does."""

    def __init__(self, error: Exception, fits: int = 0) -> None:
        self.model = SimpleNamespace(embedding_batch_size=32, segmentation_batch_size=32)
        self.error = error
        self.fits = fits
        self.sizes: list[int] = []

    def __call__(self, *_: Any, **__: Any) -> dict[str, list[Any]]:
        sizes = self.model.embedding_batch_size, self.model.segmentation_batch_size
        self.sizes.append(max(sizes))
        if max(sizes) > self.fits:
            raise self.error
        return {"start": [0.5], "end": [3.0], "speaker": ["A"]}


class TestSpeakers:
    def test_turns_are_in_order_and_within_the_recording(self, engine: "WhisperX", speech: Samples) -> None:
        done: list[float] = []
        turns = diarizer(engine).diarize(speech, None, None, done.append)
        assert turns
        assert list(turns) == sorted(turns, key=lambda turn: (turn.start, turn.end))
        assert all(0 <= turn.start < turn.end <= len(speech) / SAMPLE_RATE for turn in turns)
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, 1)
        assert len(done) > 3

    @pytest.mark.parametrize(("fewest", "most", "speakers"), [(1, 1, {1}), (2, 2, {2}), (2, 4, {2, 3, 4})])
    def test_there_are_as_many_speakers_as_are_asked_for_named_as_they_appear(
        self, engine: "WhisperX", talk: Samples, fewest: int, most: int, speakers: set[int]
    ) -> None:
        turns = diarizer(engine).diarize(talk[: 32 * SAMPLE_RATE], fewest, most, ignore)
        names = list(dict.fromkeys(turn.speaker for turn in turns))
        assert len(names) in speakers
        assert names == [f"SPEAKER_{at:02d}" for at in range(len(names))]

    def test_where_nobody_speaks_there_are_no_turns(self, engine: "WhisperX") -> None:
        assert diarizer(engine).diarize(silence(0), None, None, ignore) == ()
        assert diarizer(engine).diarize(silence(12), None, None, ignore) == ()

    def test_what_report_raises_passes_through(self, engine: "WhisperX", speech: Samples) -> None:
        for fraction in (0.1, 0.6):
            with pytest.raises(Canceled):
                diarizer(engine).diarize(speech, None, None, raising_after(fraction))

    def test_a_failing_pipeline_is_told(
        self,
        make: Callable[..., "WhisperX"],
        speech: Samples,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from bucketscribe.worker.engines import pyannote

        for error, text in [
            (ValueError("broken"), "ValueError: broken"),
            (MemoryError(), "memory is too small"),
        ]:
            pipeline = StandInPipeline(error)
            monkeypatch.setattr(pyannote, "DiarizationPipeline", lambda *_, made=pipeline, **__: made)
            with pytest.raises(StageSkipped, match=text) as skipped:
                diarizer(make()).diarize(speech, None, None, ignore)
            assert skipped.value.code == "diarization_failed"

    def test_where_memory_runs_out_its_batches_are_halved_and_stay_so(
        self, make: Callable[..., "WhisperX"], speech: Samples, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from bucketscribe.worker.engines import pyannote

        pipeline = StandInPipeline(MemoryError(), fits=4)
        monkeypatch.setattr(pyannote, "DiarizationPipeline", lambda *_, **__: pipeline)
        telling = diarizer(make())
        assert telling.diarize(speech, None, None, ignore) == (Turn(0.5, 3.0, "SPEAKER_00"),)
        assert pipeline.sizes == [32, 32, 16, 16, 8, 8, 4]  # each once more with nothing else loaded
        telling.diarize(speech, None, None, ignore)
        assert pipeline.sizes[7:] == [4]

    def test_a_recording_too_long_for_the_machine_is_told(
        self, engine: "WhisperX", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bucketscribe.worker.engines.pyannote.free_on_cpu", lambda: 3_000_000_000)
        ten_hours: Samples = np.broadcast_to(np.float32(0), 10 * 3600 * SAMPLE_RATE)
        with pytest.raises(StageSkipped, match=r"43 GB of memory for 10\.0 hours") as skipped:
            diarizer(engine).diarize(ten_hours, None, None, ignore)
        assert skipped.value.code == "diarization_failed"

    def test_a_pipeline_that_comes_after_the_engine_was_made_is_used(
        self, make: Callable[..., "WhisperX"], speech: Samples, tmp_path: Path, unreachable: None
    ) -> None:
        made = make(models_dir=tmp_path)
        models.diarization(tmp_path / "diarization")
        diarizer(made).load()
        assert diarizer(made).diarize(speech, None, None, ignore)

    def skipped(self, engine: "WhisperX") -> str:
        with pytest.raises(StageSkipped) as skipped:
            diarizer(engine).diarize(noise(1, 0.1), None, None, ignore)
        assert skipped.value.code == "diarization_unavailable"
        return str(skipped.value)

    def test_without_a_hub_or_a_token_it_says_what_to_do(
        self, make: Callable[..., "WhisperX"], tmp_path: Path, unreachable: None
    ) -> None:
        told = self.skipped(make(models_dir=tmp_path))
        assert f"accept its licence at https://huggingface.co/{HUB_MODEL}" in told
        assert "BUCKETSCRIBE_HF_TOKEN" in told
        assert "cannot be reached" in told
        assert "BUCKETSCRIBE_HF_TOKEN" not in self.skipped(make(models_dir=tmp_path, hf_token="hf_secret"))

    def test_a_hub_that_refuses_says_which_licence_to_accept(
        self, make: Callable[..., "WhisperX"], tmp_path: Path, hub: None
    ) -> None:
        told = self.skipped(make(models_dir=tmp_path))
        assert f"accept its licence at https://huggingface.co/{HUB_MODEL}" in told
        assert "set BUCKETSCRIBE_HF_TOKEN to a token of that account" in told
        told = self.skipped(make(models_dir=tmp_path, hf_token="hf_secret"))
        assert "does not give" in told
        assert "hf_secret" not in told

    def test_a_folder_that_is_no_pipeline_is_told(
        self, make: Callable[..., "WhisperX"], tmp_path: Path
    ) -> None:
        (tmp_path / "diarization").mkdir()
        (tmp_path / "diarization" / "config.yaml").write_text("pipeline: {name: no.such.thing}")
        assert "BUCKETSCRIBE_DIARIZE_MODEL" in self.skipped(make(models_dir=tmp_path))


def test_nothing_is_printed_and_nobody_is_told_of_what_is_done(folder: Path) -> None:
    program = (
        "import os, sys\n"
        "from functools import partial\n"
        "from pathlib import Path\n"
        "from bucketscribe.worker.engines.whisperx import WhisperX\n"
        "from bucketscribe.worker.models import resolve\n"
        "folder = Path(sys.argv[1])\n"
        "engine = WhisperX(partial(resolve, cache=folder / 'whisper'), device='cpu', models_dir=folder,\n"
        "                  align_models={}, diarize_model='', hf_token=None)\n"
        "engine.load('tiny.en')\n"
        "from pyannote.audio.telemetry.metrics import is_metrics_enabled\n"
        "from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY\n"
        "assert not is_metrics_enabled() and HF_HUB_DISABLE_TELEMETRY\n"
    )
    command = [sys.executable, "-c", program, str(folder)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert (told.stdout, told.stderr) == ("", "")
