"""The light engine: faster-whisper, without torch, on a CPU (int8) or a GPU (float16).

Silero VAD finds the speech, in pieces of a minute, because it takes 0.4 MB for each second it is given.
Batches of clips, made as `clips` says, are transcribed at once. So every word lies where somebody speaks, and
where nobody does nothing is made up: neither words nor a language.

The same audio gives the same words: no sampling, no text carried from clip to clip. Clips are read without
Whisper's own time tokens, because the batched pipeline drops what stands behind the last of them. It also
leaves out Whisper's rule for silence (openai/whisper, `whisper/transcribe.py`: `no_speech_prob` > 0.6 and
`avg_logprob` < −1), which is applied here.

`report` is called after every piece of VAD and every batch; a batch cannot be interrupted. With `base` in
int8 on two cores, a batch of 2 clips takes 3 s (0.6 GB in all), one of 4 takes 5 s (0.8 GB), one of 8 10 s
(1.1 GB), and the whole is no faster for it; `tiny.en` takes half of that.
Fails as `base` says; a failed call of the model leaves it unloaded.
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, pairwise
from typing import Any, Literal

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel  # type: ignore[import-untyped]
from faster_whisper.vad import VadOptions, get_speech_timestamps  # type: ignore[import-untyped]

from .base import (
    SAMPLE_RATE,
    Aligner,
    Diarizer,
    EngineFailed,
    Heard,
    ModelUnavailable,
    Passage,
    Report,
    Request,
    Samples,
)
from .batches import out_of_memory
from .clips import CLIP_SECONDS, Clip, Stretch, clips_of, placed, sound_of, times_of
from .encoding import EncodesOnce
from .hints import hints
from .listening import listen

_VAD_SHARE = 0.05  # of the whole time, roughly
_NO_SPEECH_PROBABILITY = 0.6
_LOG_PROBABILITY = -1.0


class _Whisper(EncodesOnce, WhisperModel):  # type: ignore[misc]
    """Whisper that encodes nothing twice in a row."""


class FasterWhisper:
    """`Engine` on faster-whisper. `resolve` turns a model's name into a path or a name for the hub."""

    name: str = "faster-whisper"
    aligner: Aligner | None = None
    diarizer: Diarizer | None = None

    def __init__(
        self,
        resolve: Callable[[str], str],
        *,
        device: Literal["cpu", "cuda", "auto"] = "auto",
        compute_type: str = "default",
        batch_size: int | None = None,
        threads: int | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        self._resolve = resolve
        self._device = device
        if compute_type == "default":
            compute_type = "float16" if device == "cuda" else "int8"
        self._compute_type = compute_type
        self._batch_size = batch_size or (16 if device == "cuda" else 2)
        self._threads = threads or os.process_cpu_count() or 1
        self._loaded: dict[str, BatchedInferencePipeline] = {}

    def load(self, model: str) -> None:
        """Load a model and forget the one before, so that only one takes memory."""
        if model in self._loaded:
            return
        path = self._resolve(model)
        self._loaded.clear()
        gc.collect()  # the old model's memory must be free before the new one needs it
        try:
            loaded = _Whisper(
                path,
                device=self._device,
                compute_type=self._compute_type,
                cpu_threads=self._threads,
            )
        except Exception as error:
            raise ModelUnavailable(f"Model {model!r} cannot be loaded: {error}") from error
        self._loaded[model] = BatchedInferencePipeline(loaded)

    def works(self) -> bool:
        """Whether a GPU can still be written to; a CPU always can."""
        if self._device == "cpu":
            return True
        try:
            ctranslate2.StorageView.from_array(np.zeros(1, np.float32)).to_device(ctranslate2.Device.cuda)
        except RuntimeError as error:
            return out_of_memory(error)
        return True

    def speaks(self, model: str, language: str) -> bool:
        """An English-only model knows English, the others those they have a token for."""
        self.load(model)
        whisper: WhisperModel = self._loaded[model].model
        if not whisper.model.is_multilingual:
            return language == "en"
        return whisper.hf_tokenizer.token_to_id(f"<|{language}|>") is not None

    def language(self, audio: Samples, model: str) -> tuple[str, float] | None:
        """The language of the first clip of speech, wherever in the audio it is."""
        self.load(model)
        whisper: WhisperModel = self._loaded[model].model
        speech: list[Stretch] = []
        for found, _ in listen(audio, _speech):
            speech += found
            if speech and not whisper.model.is_multilingual:
                return "en", 1.0
            if sum(stretch.seconds for stretch in speech) >= CLIP_SECONDS:
                break
        if not speech:
            return None
        with self._guarded():
            # The very features that `transcribe` begins with.
            features = whisper.feature_extractor(sound_of(audio, clips_of(speech)[0]))[..., :-1]
            language, probability, _ = whisper.detect_language(features=features)
        return language, float(probability)

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        """Turn audio into words."""
        if request.language is None:
            raise ValueError("a language is needed")
        self.load(request.model)
        pipeline = self._loaded[request.model]
        report(0.0)
        speech: list[Stretch] = []
        for found, seen in listen(audio, _speech):
            speech += found
            report(_VAD_SHARE * seen / len(audio))
        passages: list[Passage] = []
        clips = clips_of(speech)
        for at in range(0, len(clips), self._batch_size):
            batch = clips[at : at + self._batch_size]
            with self._guarded():
                passages += _hear(pipeline, audio, batch, request)
            report(_VAD_SHARE + (1 - _VAD_SHARE) * batch[-1][-1].end / len(audio))
        report(1.0)
        pipeline.model.forget()
        return Heard(tuple(passages), times_of(clips))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._loaded.clear()  # what failed may have left the model unusable
            raise EngineFailed(f"{type(error).__name__}: {error}") from error


def _speech(audio: Samples) -> Iterable[tuple[int, int]]:
    # What BatchedInferencePipeline uses itself, but that loud noise has moments that sound like speech.
    options = VadOptions(
        max_speech_duration_s=CLIP_SECONDS, min_silence_duration_ms=160, min_speech_duration_ms=100
    )
    try:
        return [(int(part["start"]), int(part["end"])) for part in get_speech_timestamps(audio, options)]
    except Exception as error:
        raise EngineFailed(f"{type(error).__name__}: {error}") from error


def _hear(
    pipeline: BatchedInferencePipeline, audio: Samples, clips: list[Clip], request: Request
) -> Iterator[Passage]:
    """What is said in the clips, each in which something is."""
    prompt, hotwords = hints(request, pipeline.model.hf_tokenizer)
    sounds = [sound_of(audio, clip) for clip in clips]
    ends = np.cumsum([len(sound) for sound in sounds]) / SAMPLE_RATE
    heard, _ = pipeline.transcribe(
        np.concatenate(sounds),
        language=request.language,
        task=request.task,
        initial_prompt=prompt,
        hotwords=hotwords,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
        word_timestamps=True,
        clip_timestamps=[{"start": start, "end": end} for start, end in pairwise([0.0, *ends.tolist()])],
        batch_size=len(clips),
    )
    by_clip = groupby(heard, key=lambda piece: piece.seek)  # where its clip begins, in steps of 10 ms
    for clip, (seek, pieces) in zip(clips, by_clip, strict=True):
        said = [word for piece in pieces if not _silent(piece) for word in piece.words]
        words = tuple(placed(said, clip, seek / 100))
        if words:
            yield Passage(clip[0].start / SAMPLE_RATE, clip[-1].end / SAMPLE_RATE, words)


def _silent(piece: Any) -> bool:
    return bool(piece.no_speech_prob > _NO_SPEECH_PROBABILITY and piece.avg_logprob < _LOG_PROBABILITY)
