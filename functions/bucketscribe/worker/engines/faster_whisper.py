"""The light engine: faster-whisper, without torch, on a CPU (int8) or a GPU (float16).

The recording is taken in windows of five minutes, so that memory has a bound and progress and cancel do not
wait for a look over the whole of it. In each, silero VAD finds the speech, which is put together to clips of
up to 30 s; batches of clips are transcribed at once. A window that ends amid speech hands that stretch to the
next. Where the VAD hears nobody, nothing is made up: neither words nor a language.

The same audio gives the same words: no sampling, no text carried from clip to clip. Clips are read without
Whisper's own time tokens, because the batched pipeline drops what stands behind the last of them; cues are
cut from the words' times instead, at ends of sentences, pauses and 84 characters (two lines of a subtitle).

`report` is called after every window's VAD and every batch; a batch cannot be interrupted. With `base` in
int8 on two cores, a batch of 2 clips takes 3 s (0.6 GB in all), one of 4 takes 5 s (0.8 GB), one of 8 10 s
(1.1 GB), and the whole is no faster for it; `tiny.en` takes half of that.
Fails as `base` says; a failed CUDA call leaves the model unloaded.
"""

import gc
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import ctranslate2  # type: ignore[import-untyped]
from faster_whisper import BatchedInferencePipeline, WhisperModel  # type: ignore[import-untyped]
from faster_whisper.transcribe import Word as HeardWord  # type: ignore[import-untyped]
from faster_whisper.vad import VadOptions, get_speech_timestamps  # type: ignore[import-untyped]

from bucketscribe.transcript import Segment, Word
from bucketscribe.worker.engines.base import (
    SAMPLE_RATE,
    EngineFailed,
    ModelUnavailable,
    Report,
    Request,
    Result,
    Samples,
)

WINDOW_SECONDS = 300
CLIP_SECONDS = 30
_CUE_CHARACTERS = 84
_PAUSE_SECONDS = 1.0
_CLAUSE_ENDS = (",", ";", ":", "，", "、")
_SENTENCE_ENDS = (".", "?", "!", "…", "。", "？", "！")
_VAD_SHARE = 0.05  # of a window's time, roughly


@dataclass(frozen=True, slots=True)
class _Clip:
    """A stretch of samples to be transcribed in one piece."""

    start: int
    end: int


class FasterWhisper:
    """`Engine` on faster-whisper. `resolve` turns a model's name into a path or a name for the hub."""

    name: str = "faster-whisper"

    def __init__(
        self,
        resolve: Callable[[str], str],
        *,
        device: Literal["cpu", "cuda", "auto"] = "auto",
        batch_size: int = 4,
        threads: int | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        self._resolve = resolve
        self._device = device
        self._batch_size = batch_size
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
            loaded = WhisperModel(
                path,
                device=self._device,
                compute_type="float16" if self._device == "cuda" else "int8",
                cpu_threads=self._threads,
            )
        except Exception as error:
            raise ModelUnavailable(f"Model {model!r} cannot be loaded: {error}") from error
        self._loaded[model] = BatchedInferencePipeline(loaded)

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Result:
        """Turn audio into words; a language that was not asked for is heard in the first clip of speech."""
        self.load(request.model)
        pipeline = self._loaded[request.model]
        language, probability = request.language, None
        segments: list[Segment] = []
        report(0.0)
        for window, clips, begun, ended in self._windows(audio, report):
            for at in range(0, len(clips), self._batch_size):
                batch = clips[at : at + self._batch_size]
                try:
                    heard, language, probability_now = _hear(pipeline, window, batch, request, language)
                except Exception as error:
                    self._loaded.clear()  # what failed may have left the model unusable
                    raise EngineFailed(f"{type(error).__name__}: {error}") from error
                probability = probability_now if probability is None else probability
                _append(
                    segments, heard, begun / SAMPLE_RATE, len(audio) / SAMPLE_RATE, request.word_timestamps
                )
                done = begun + batch[-1].end
                report(min(done, ended) / len(audio))
        report(1.0)
        return Result(language, probability, tuple(segments))

    def _windows(self, audio: Samples, report: Report) -> Iterator[tuple[Samples, list[_Clip], int, int]]:
        """The audio in windows: samples, clips of speech in them, first and last sample in the whole."""
        begin = 0
        while begin < len(audio):
            end = min(begin + WINDOW_SECONDS * SAMPLE_RATE, len(audio))
            window = audio[begin:end]
            try:
                speech = _speech(window)
            except Exception as error:
                raise EngineFailed(f"{type(error).__name__}: {error}") from error
            following = end
            if (
                end < len(audio)
                and speech
                and speech[-1].end >= len(window) - SAMPLE_RATE
                and speech[-1].start > 0
            ):
                following = begin + speech.pop().start  # it may go on: the next window has it whole
            report((begin + (following - begin) * _VAD_SHARE) / len(audio))
            yield window, _clips(speech), begin, following
            begin = following


def _speech(samples: Samples) -> list[_Clip]:
    # What BatchedInferencePipeline uses itself.
    options = VadOptions(max_speech_duration_s=CLIP_SECONDS, min_silence_duration_ms=160)
    return [
        _Clip(int(found["start"]), int(found["end"])) for found in get_speech_timestamps(samples, options)
    ]


def _clips(speech: Iterable[_Clip]) -> list[_Clip]:
    """Neighbours put together, as long as what they span fits into one clip."""
    clips: list[_Clip] = []
    for stretch in speech:
        if clips and stretch.end - clips[-1].start <= CLIP_SECONDS * SAMPLE_RATE:
            clips[-1] = _Clip(clips[-1].start, stretch.end)
        else:
            clips.append(stretch)
    return clips


def _hear(
    pipeline: BatchedInferencePipeline,
    window: Samples,
    clips: list[_Clip],
    request: Request,
    language: str | None,
) -> tuple[list[list[HeardWord]], str, float]:
    """One batch: the words of each piece it gave, the language and how sure of it the model is."""
    heard, info = pipeline.transcribe(
        window,
        language=language,
        task=request.task,
        initial_prompt=request.initial_prompt,
        hotwords=request.hotwords,
        temperature=0.0,
        condition_on_previous_text=False,
        without_timestamps=True,
        word_timestamps=True,
        clip_timestamps=[{"start": c.start / SAMPLE_RATE, "end": c.end / SAMPLE_RATE} for c in clips],
        batch_size=len(clips),
    )
    return [list(piece.words or []) for piece in heard], info.language, float(info.language_probability)


def _append(
    segments: list[Segment],
    heard: Iterable[list[HeardWord]],
    offset: float,
    duration: float,
    with_words: bool,
) -> None:
    """Cut words into cues and add them, with times that never run backwards or past the end."""
    for piece in heard:
        for cue in _cues(piece):
            words: list[Word] = []
            floor = segments[-1].end if segments else 0.0
            for word in cue:
                start = min(max(float(word.start) + offset, floor), duration)
                end = min(max(float(word.end) + offset, start), duration)
                floor = end
                words.append(Word(start=start, end=end, word=word.word, probability=float(word.probability)))
            segments.append(
                Segment(
                    id=len(segments),
                    start=words[0].start,
                    end=words[-1].end,
                    text="".join(word.word for word in words).strip(),
                    words=tuple(words) if with_words else (),
                )
            )


def _cues(words: Iterable[HeardWord]) -> Iterator[list[HeardWord]]:
    cue: list[HeardWord] = []
    for word in words:
        if cue and (_ends(cue[-1], _SENTENCE_ENDS) or word.start - cue[-1].end >= _PAUSE_SECONDS):
            yield cue
            cue = []
        elif sum(len(w.word) for w in cue) + len(word.word) > _CUE_CHARACTERS:
            # Behind the last comma, if that leaves a line worth showing.
            commas = [n for n, w in enumerate(cue, 1) if _ends(w, _CLAUSE_ENDS) and n >= len(cue) / 3]
            cut = commas[-1] if commas else len(cue)
            yield cue[:cut]
            cue = cue[cut:]
        cue.append(word)
    if "".join(word.word for word in cue).strip():
        yield cue


def _ends(word: HeardWord, marks: tuple[str, ...]) -> bool:
    return str(word.word).rstrip().endswith(marks)
