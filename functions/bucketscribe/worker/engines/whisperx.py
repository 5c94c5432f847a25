"""The GPU engine: WhisperX, on a GPU (float16) or a CPU (int8).

Its pyannote VAD, whose weights are in its package, finds the speech; clips of it, made as `clips` says, are
transcribed in batches. Words get Whisper's own times first, from what was encoded to transcribe them, so that
there are words in time whether or not they can be aligned.

The same audio gives the same words: no sampling, no text carried from clip to clip. `report` is called after
every piece of VAD and every batch; a batch cannot be interrupted. Where the device's memory is too small,
batches shrink as `batches` says, and what fitted is remembered as long as the process lives.
Fails as `base` says; a failed call of the model leaves it unloaded.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np

from .base import (
    SAMPLE_RATE,
    Aligner,
    Diarizer,
    EngineFailed,
    Heard,
    ModelUnavailable,
    OutOfMemory,
    Passage,
    Report,
    Request,
    Samples,
)
from .batches import Batches, out_of_memory
from .clips import CLIP_SECONDS, Clip, Stretch, clips_of, placed, sound_of, times_of
from .encoding import EncodesOnce
from .hints import hints
from .listening import Find, listen
from .memory import ROOM, Warm, free_on_cpu, size_on_disk
from .quiet import hush

hush()

import torch  # noqa: E402
import whisperx.asr  # noqa: E402
from faster_whisper.tokenizer import Tokenizer  # type: ignore[import-untyped]  # noqa: E402
from faster_whisper.utils import download_model  # type: ignore[import-untyped]  # noqa: E402
from whisperx.audio import log_mel_spectrogram  # noqa: E402
from whisperx.vads.pyannote import Binarize  # noqa: E402

from .pyannote import Pyannote  # noqa: E402
from .wav2vec2 import Wav2Vec2  # noqa: E402

hush()

_VAD_SHARE = 0.3
_VAD_BEFORE_SECONDS = 5  # its windows are as long
_TOO_SMALL = (
    "The device's memory is too small for {model!r}, even for 30 s of speech at a time. Take a "
    "smaller model, BUCKETSCRIBE_COMPUTE_TYPE=int8, or a larger device."
)
_SAMPLES = CLIP_SECONDS * SAMPLE_RATE
_MILLISECOND = SAMPLE_RATE // 1000


class _Whisper(EncodesOnce, whisperx.asr.WhisperModel):  # type: ignore[misc]
    """Whisper that encodes nothing twice in a row."""


class WhisperX:
    """`Engine` on WhisperX. `resolve` turns a model's name into a path or a name for the hub."""

    name: str = "whisperx"

    def __init__(
        self,
        resolve: Callable[[str], str],
        *,
        device: Literal["cpu", "cuda", "auto"] = "auto",
        compute_type: str = "default",
        batch_size: int | None = None,
        threads: int | None = None,
        models_dir: Path,
        align_models: Mapping[str, str],
        diarize_model: str,
        hf_token: str | None,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if compute_type == "default":
            compute_type = "float16" if device == "cuda" else "int8"
        self._resolve = resolve
        self._device = device
        self._compute_type = compute_type
        self._threads = threads or os.process_cpu_count() or 1
        self._batches = Batches(batch_size or (16 if device == "cuda" else 2))
        if device == "cuda":
            self._warm = Warm(_free_on_gpu, _give_back_to_gpu)
        else:
            torch.set_num_threads(self._threads)
            self._warm = Warm(free_on_cpu)
        self.aligner: Aligner | None = Wav2Vec2(self._warm, device, models_dir, align_models)
        self.diarizer: Diarizer | None = Pyannote(self._warm, device, models_dir, diarize_model, hf_token)

    def load(self, model: str) -> None:
        """Have a model ready."""
        self._pipeline(model)

    def works(self) -> bool:
        """Whether a GPU can still compute; a CPU always can."""
        if self._device == "cpu":
            return True
        try:
            torch.ones(1, device=self._device).sum().item()
        except RuntimeError as error:
            return out_of_memory(error)
        return True

    def speaks(self, model: str, language: str) -> bool:
        """An English-only model knows English, the others those they have a token for."""
        whisper = self._pipeline(model).model
        if not whisper.model.is_multilingual:
            return language == "en"
        return whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is not None

    def language(self, audio: Samples, model: str) -> tuple[str, float] | None:
        """The language of the first clip of speech, wherever in the audio it is."""
        pipeline = self._pipeline(model)
        multilingual = pipeline.model.model.is_multilingual
        speech: list[Stretch] = []
        with self._guarded(model):
            for found, _ in listen(audio, self._vad(model, pipeline), _VAD_BEFORE_SECONDS):
                speech += found
                if speech and not multilingual:
                    return "en", 1.0
                if sum(stretch.seconds for stretch in speech) >= CLIP_SECONDS:
                    break
            if not speech:
                return None
            first = self._features(pipeline, audio, clips_of(speech)[:1])
            encoded = self._warm.alone_if_needed(self._key(model), lambda: pipeline.model.encode(first))
            token, probability = pipeline.model.model.detect_language(encoded)[0][0]
        return token[2:-2], float(probability)

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        """Turn audio into words."""
        if request.language is None:
            raise ValueError("a language is needed")
        pipeline = self._pipeline(request.model)
        report(0.0)
        speech: list[Stretch] = []
        pieces = listen(audio, self._vad(request.model, pipeline), _VAD_BEFORE_SECONDS)
        for found, seen in self._each(request.model, pieces):
            speech += found
            report(_VAD_SHARE * seen / len(audio))
        clips = clips_of(speech)
        passages: list[Passage] = []

        def hear(batch: Sequence[Clip]) -> list[Passage]:
            return list(self._hear(pipeline, audio, batch, request))

        key = self._key(request.model)
        batches = self._batches.run(key, clips, hear, lambda: self._warm.free_others(key))
        for batch, heard in self._each(request.model, batches):
            passages += heard
            report(_VAD_SHARE + (1 - _VAD_SHARE) * batch[-1][-1].end / len(audio))
        pipeline.model.forget()
        report(1.0)
        return Heard(tuple(passages), times_of(clips))

    def _key(self, model: str) -> tuple[str, str, str]:
        return "transcribe", model, self._compute_type

    def _pipeline(self, model: str) -> Any:
        if (key := self._key(model)) in self._warm:
            return self._warm.get(key, dict, 0)
        try:
            path = self._resolve(model)
            folder = path if Path(path).is_dir() else download_model(path)
            needs = size_on_disk([Path(folder)]) * (2 if self._compute_type == "float32" else 1)
            return self._warm.get(key, lambda: self._load(folder), needs + ROOM)
        except ModelUnavailable:
            raise
        except Exception as error:
            if out_of_memory(error):
                raise OutOfMemory(_TOO_SMALL.format(model=model)) from error
            raise ModelUnavailable(f"Model {model!r} cannot be loaded: {error}") from error

    def _load(self, folder: str) -> Any:
        whisper = _Whisper(
            folder, device=self._device, compute_type=self._compute_type, cpu_threads=self._threads
        )
        return whisperx.asr.load_model(
            folder, self._device, model=whisper, vad_method="pyannote", threads=self._threads
        )

    def _features(self, pipeline: Any, audio: Samples, clips: Sequence[Clip]) -> np.ndarray:
        """What Whisper's encoder takes, for each clip alone: what is loud in one is nothing to another."""
        mels = pipeline.model.feat_kwargs.get("feature_size", 80)
        made = []
        for clip in clips:
            sound = sound_of(audio, clip)[:_SAMPLES]
            made.append(log_mel_spectrogram(sound, mels, padding=_SAMPLES - len(sound), device=self._device))
        features: np.ndarray = torch.stack(made).cpu().numpy()
        return features

    def _hear(
        self, pipeline: Any, audio: Samples, clips: Sequence[Clip], request: Request
    ) -> Iterator[Passage]:
        """What is said in the clips, each in which something is."""
        whisper = pipeline.model
        prompt, hotwords = hints(request, whisper.hf_tokenizer)
        options = replace(pipeline.options, initial_prompt=prompt, hotwords=hotwords)
        tokenizer = Tokenizer(
            whisper.hf_tokenizer, whisper.model.is_multilingual, task=request.task, language=request.language
        )
        features = self._features(pipeline, audio, clips)
        texts = whisper.generate_segment_batched(features, tokenizer, options)["text"]
        lengths = [min(sum(part.seconds for part in clip), CLIP_SECONDS) for clip in clips]
        segments = [
            [{"tokens": tokenizer.encode(text), "seek": 0, "start": 0.0, "end": seconds}]
            for text, seconds in zip(texts, lengths, strict=True)
        ]
        whisper.add_word_timestamps(
            segments,
            tokenizer,
            whisper.encode(features),
            [int(np.ceil(seconds) * whisper.frames_per_second) for seconds in lengths],
            options.prepend_punctuations,
            options.append_punctuations,
            0.0,
        )
        for clip, [segment] in zip(clips, segments, strict=True):
            said = (SimpleNamespace(**word) for word in segment["words"])
            if words := tuple(placed(said, clip)):
                yield Passage(clip[0].start / SAMPLE_RATE, clip[-1].end / SAMPLE_RATE, words)

    def _vad(self, model: str, pipeline: Any) -> Find:
        thresholds = pipeline._vad_params
        binarize = Binarize(
            max_duration=CLIP_SECONDS, onset=thresholds["vad_onset"], offset=thresholds["vad_offset"]
        )

        def find(audio: Samples) -> Iterable[tuple[int, int]]:
            sound = {"waveform": pipeline.vad_model.preprocess_audio(audio), "sample_rate": SAMPLE_RATE}
            scores = self._warm.alone_if_needed(self._key(model), lambda: pipeline.vad_model(sound))
            # In whole milliseconds, as words' times are, so that these cannot come to lie a rounding outside.
            for part in binarize(scores).get_timeline():
                end = min(round(part.end * 1000), len(audio) // _MILLISECOND)
                yield round(part.start * 1000) * _MILLISECOND, end * _MILLISECOND

        return find

    def _each[Step](self, model: str, steps: Iterator[Step]) -> Iterator[Step]:
        """What a model does, step by step; between them the caller may fail in its own way."""
        while True:
            with self._guarded(model):
                step = next(steps, None)
            if step is None:
                return
            yield step

    @contextmanager
    def _guarded(self, model: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._warm.drop(self._key(model))  # what failed may have left the model unusable
            if out_of_memory(error) or isinstance(error, OutOfMemory):
                raise OutOfMemory(_TOO_SMALL.format(model=model)) from error
            raise EngineFailed(f"{type(error).__name__}: {error}") from error


def _give_back_to_gpu() -> None:
    """What torch keeps for itself, CTranslate2 cannot have. A GPU that is lost is told elsewhere."""
    with suppress(RuntimeError):
        torch.cuda.empty_cache()


def _free_on_gpu() -> int:
    _give_back_to_gpu()
    free, _ = torch.cuda.mem_get_info()
    return int(free)
