"""The light engine: faster-whisper, without torch, on a CPU (int8) or a GPU (float16).

Silero VAD finds the speech, in pieces of a minute, because it takes 0.4 MB for each second it is given. What
it finds is put together to clips of up to 30 s, without the longer pauses, in which Whisper's aligner loses
its way: a word behind one gets it as part of its time. Shorter ones stay, for the VAD misses a word now and
then, and a pause is how Whisper knows a sentence's end. Batches of clips are transcribed at once. So every
word lies where somebody speaks, and where nobody does nothing is made up: neither words nor a language.

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
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any, Literal

import ctranslate2  # type: ignore[import-untyped]
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel  # type: ignore[import-untyped]
from faster_whisper.vad import VadOptions, get_speech_timestamps  # type: ignore[import-untyped]

from ...transcript import Word
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

CLIP_SECONDS = 30
VAD_SECONDS = 60
_VAD_OVERLAP_SECONDS = 2
_PAUSE_SECONDS = 1.5
_VAD_SHARE = 0.05  # of the whole time, roughly
_HINT_TOKENS = 223
_NO_SPEECH_PROBABILITY = 0.6
_LOG_PROBABILITY = -1.0


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Samples in which somebody speaks."""

    start: int
    end: int

    @property
    def seconds(self) -> float:
        return (self.end - self.start) / SAMPLE_RATE


type _Clip = list[_Stretch]
"""What is transcribed in one piece: stretches of up to `CLIP_SECONDS` together."""


class _Whisper(WhisperModel):  # type: ignore[misc]
    """Whisper that does not encode twice in a row what it has just encoded.

    A short recording is one clip, which is listened to for its language first, and then transcribed.
    """

    _last: tuple[np.ndarray, Any] | None = None

    def encode(self, features: np.ndarray) -> Any:
        """What the encoder makes of features of shape (clips, mels, frames), or of one clip's."""
        clips = features.reshape(-1, *features.shape[-2:])
        last, self._last = self._last, None
        if last is not None and np.array_equal(last[0], clips):
            return last[1]
        encoded = super().encode(clips)
        if len(clips) == 1:
            self._last = clips, encoded
        return encoded


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
        speech: list[_Stretch] = []
        for found, _ in _speech(audio):
            speech += found
            if speech and not whisper.model.is_multilingual:
                return "en", 1.0
            if sum(stretch.seconds for stretch in speech) >= CLIP_SECONDS:
                break
        if not speech:
            return None
        with self._guarded():
            # The very features that `transcribe` begins with.
            features = whisper.feature_extractor(_sound(audio, _clips(speech)[0]))[..., :-1]
            language, probability, _ = whisper.detect_language(features=features)
        return language, float(probability)

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        """Turn audio into words."""
        if request.language is None:
            raise ValueError("a language is needed")
        self.load(request.model)
        pipeline = self._loaded[request.model]
        report(0.0)
        speech: list[_Stretch] = []
        for found, seen in _speech(audio):
            speech += found
            report(_VAD_SHARE * seen / len(audio))
        passages: list[Passage] = []
        clips = _clips(speech)
        for at in range(0, len(clips), self._batch_size):
            batch = clips[at : at + self._batch_size]
            with self._guarded():
                passages += _hear(pipeline, audio, batch, request)
            report(_VAD_SHARE + (1 - _VAD_SHARE) * batch[-1][-1].end / len(audio))
        report(1.0)
        spoken = tuple((part.start / SAMPLE_RATE, part.end / SAMPLE_RATE) for clip in clips for part in clip)
        return Heard(tuple(passages), spoken)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._loaded.clear()  # what failed may have left the model unusable
            raise EngineFailed(f"{type(error).__name__}: {error}") from error


def _speech(audio: Samples) -> Iterator[tuple[list[_Stretch], int]]:
    """The stretches of speech, piece by piece, each with the sample up to which all are known.

    A stretch that may go on behind the end of a piece is left to the next, which has it whole.
    """
    # What BatchedInferencePipeline uses itself, but that loud noise has moments that sound like speech.
    options = VadOptions(
        max_speech_duration_s=CLIP_SECONDS, min_silence_duration_ms=160, min_speech_duration_ms=100
    )
    begin = 0
    while begin < len(audio):
        end = min(begin + VAD_SECONDS * SAMPLE_RATE, len(audio))
        try:
            stretches = get_speech_timestamps(audio[begin:end], options)
        except Exception as error:
            raise EngineFailed(f"{type(error).__name__}: {error}") from error
        found = [_Stretch(begin + int(part["start"]), begin + int(part["end"])) for part in stretches]
        if end < len(audio):
            end -= _VAD_OVERLAP_SECONDS * SAMPLE_RATE
            if found and found[-1].end > end:
                end = found.pop().start
        yield found, end
        begin = end


def _clips(speech: Iterable[_Stretch]) -> list[_Clip]:
    """Neighbours put together, as long as they fit into one clip; a short pause between them stays."""
    clips: list[_Clip] = []
    for stretch in speech:
        if clips:
            *others, last = clips[-1]
            if stretch.start - last.end <= _PAUSE_SECONDS * SAMPLE_RATE:
                longer = [*others, _Stretch(last.start, stretch.end)]
            else:
                longer = [*others, last, stretch]
            if sum(part.seconds for part in longer) <= CLIP_SECONDS:
                clips[-1] = longer
                continue
        clips.append([stretch])
    return clips


def _sound(audio: Samples, clip: _Clip) -> Samples:
    return np.concatenate([audio[part.start : part.end] for part in clip])


def _hear(
    pipeline: BatchedInferencePipeline, audio: Samples, clips: list[_Clip], request: Request
) -> Iterator[Passage]:
    """What is said in the clips, each in which something is."""
    prompt, hotwords = _hints(pipeline, request)
    sounds = [_sound(audio, clip) for clip in clips]
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
        words = tuple(_placed(said, seek / 100, clip))
        if words:
            yield Passage(clip[0].start / SAMPLE_RATE, clip[-1].end / SAMPLE_RATE, words)


def _hints(pipeline: BatchedInferencePipeline, request: Request) -> tuple[str | None, str | None]:
    """The request's prompt and hotwords, cut to what leaves room for an answer among Whisper's 448 tokens.

    Of a prompt the end is kept, as openai/whisper does; of hotwords the beginning.
    """
    prompt, hotwords = request.initial_prompt, request.hotwords
    most = _HINT_TOKENS // 2 if prompt and hotwords else _HINT_TOKENS

    def tokens(text: str) -> list[tuple[int, int]]:
        """Where each token of a text begins and ends."""
        return list(pipeline.model.hf_tokenizer.encode(text, add_special_tokens=False).offsets)

    if prompt and len(parts := tokens(prompt)) > most:
        prompt = prompt[parts[-most][0] :]
    if hotwords and len(parts := tokens(hotwords)) > most:
        hotwords = hotwords[: parts[most - 1][1]]
    return prompt, hotwords


def _silent(piece: Any) -> bool:
    return bool(piece.no_speech_prob > _NO_SPEECH_PROBABILITY and piece.avg_logprob < _LOG_PROBABILITY)


def _placed(said: Iterable[Any], offset: float, clip: _Clip) -> Iterator[Word]:
    """Words with their times in the whole: each within one stretch, and none before the last.

    `offset`: where the clip begins in what the pipeline was given, in seconds. A word on the border of two
    stretches goes where its last third begins: aligners let a word behind a pause begin too early.
    """
    at, floor = 0, 0.0
    for word in said:
        while at + 1 < len(clip) and (word.start + 2 * word.end) / 3 >= offset + clip[at].seconds:
            offset += clip[at].seconds
            at += 1
        begun, ended = clip[at].start / SAMPLE_RATE, clip[at].end / SAMPLE_RATE
        start = min(max(begun + float(word.start) - offset, begun, floor), ended)
        end = min(max(begun + float(word.end) - offset, start), ended)
        floor = end
        yield Word(start=start, end=end, word=word.word, probability=_finite(word.probability))


def _finite(probability: float) -> float:
    """Half precision can overflow, and JSON has no NaN."""
    return round(float(probability), 3) if math.isfinite(probability) else 0.0
