"""Word alignment: the time of each word, by WhisperX and a wav2vec2 model of the language.

A passage is aligned as Whisper heard it, without the longer pauses (see `clips`), and the times of its
characters are put on the words that are there: none is lost, changed or moved. A word's probability stays
Whisper's, which says how sure the word is; an alignment's score says how sure its time is. A passage that
cannot be aligned keeps its times.

Which model: a folder configured for the language; `align/<language>` in the models folder; what else is
configured for it; else the one WhisperX names, which is looked for in `align` in the models folder or in the
hub's cache, and fetched if it is in neither. What could not be loaded is not tried again for ten minutes.

Raises `StageSkipped`, and what `report` raises.
"""

import io
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import whisperx.alignment

from .base import SAMPLE_RATE, Heard, Passage, Report, Samples, StageSkipped
from .batches import out_of_memory
from .clips import Clip, Stretch, placed, sound_of
from .hub import HubUnreachable, reach
from .memory import ROOM, Warm, size_on_disk
from .spelling import spelled, times_of_words

_RETRY_SECONDS = 600.0
_USUAL_SIZE = 1_300_000_000  # of the large ones, which most languages have


class _OneSentence:
    """Stands in for NLTK's sentence splitter, whose `punkt_tab` WhisperX would fetch from the network.

    Sentences decide only how WhisperX groups what it returns, and we take its characters: one is enough.
    """

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where each sentence begins and ends."""
        return [(0, len(text))]


class Wav2Vec2:
    """`Aligner` on WhisperX. `models` names a hub model, a torchaudio bundle or a folder for a language."""

    def __init__(self, warm: Warm, device: str, models_dir: Path, models: Mapping[str, str]) -> None:
        self._warm = warm
        self._device = device
        self._folder = models_dir / "align"
        self._models = models
        self._missing: dict[str, tuple[float, str]] = {}

    def load(self, language: str) -> None:
        """Have a language's model ready."""
        self._model(language)

    def align(self, audio: Samples, heard: Heard, language: str, report: Report) -> Heard:
        """The same words with better times."""
        report(0.0)
        passages: list[Passage] = []
        failure: Exception | None = None
        for done, passage in enumerate(heard.passages, 1):
            try:
                passages.append(self._aligned(audio, heard, passage, language))
            except StageSkipped:
                raise
            except Exception as error:  # noqa: BLE001 -- one passage must not cost the others theirs
                failure = error
                passages.append(passage)
            report(done / len(heard.passages))
        self._warm.tidy()
        if failure is not None and not any(passage.aligned for passage in passages):
            raise _failed(failure)
        return Heard(tuple(passages), heard.speech)

    def _aligned(self, audio: Samples, heard: Heard, passage: Passage, language: str) -> Passage:
        clip = _clip(heard, passage)
        words = [word.word for word in passage.words]
        sound, text = sound_of(audio, clip), spelled(words)
        try:
            characters = self._warm.alone_if_needed(
                _key(language), lambda: self._characters(sound, text, language)
            )
        except Exception as error:
            if out_of_memory(error):
                raise _failed(error) from error
            raise
        times = times_of_words(words, characters)
        if times is None:
            return passage
        said = [
            SimpleNamespace(start=start, end=end, word=word.word, probability=word.probability)
            for word, (start, end) in zip(passage.words, times, strict=True)
        ]
        return replace(passage, words=tuple(placed(said, clip)), aligned=True)

    def _characters(self, sound: Samples, text: str, language: str) -> list[dict[str, Any]]:
        model, metadata = self._model(language)
        segment = {"start": 0.0, "end": len(sound) / SAMPLE_RATE, "text": text}
        with _one_sentence():
            result = whisperx.alignment.align(
                [segment], model, metadata, sound, self._device, return_char_alignments=True
            )
        return [character for part in result["segments"] for character in part.get("chars") or ()]

    def _model(self, language: str) -> Any:
        key = _key(language)
        if key not in self._warm and language in self._missing:
            since, message = self._missing[language]
            if time.monotonic() - since < _RETRY_SECONDS:
                raise StageSkipped("alignment_unavailable", message)
        name, needs = self._source(language)

        def fetched(folder: Path | None, cached: bool) -> Any:
            with redirect_stdout(io.StringIO()):  # it prints what went wrong
                return whisperx.alignment.load_align_model(language, self._device, name, folder, cached)

        def load() -> Any:
            if _is_bundle(name, language):
                before = set(self._folder.glob("*.pt*"))
                try:
                    return fetched(self._folder, False)
                except Exception as error:
                    if not out_of_memory(error):
                        # A download that broke off leaves what torchaudio would take for the whole next time.
                        for path in {*self._folder.glob("*.pt*")} - before:
                            path.unlink(missing_ok=True)
                    raise
            try:
                return fetched(None, True)
            except Exception as error:
                if out_of_memory(error) or (name is not None and Path(name).is_dir()):
                    raise
            reach()
            return fetched(None, False)

        try:
            model = self._warm.get(key, load, needs + ROOM)
        except Exception as error:
            if out_of_memory(error):
                raise _failed(error) from error
            what = name or f"for {language!r}"
            message = (
                f"Words keep Whisper's own times: the alignment model {what} cannot be loaded "
                f"({_reason(error)}). Put one into the models folder as align/{language}, or name another in "
                f"BUCKETSCRIBE_ALIGN_MODELS as {language}=MODEL."
            )
            self._missing[language] = time.monotonic(), message
            raise StageSkipped("alignment_unavailable", message) from error
        self._missing.pop(language, None)
        return model

    def _source(self, language: str) -> tuple[str | None, int]:
        """What to load, None for what WhisperX names, and how many bytes it is likely to take."""
        name, folder = self._models.get(language), self._folder / language
        if folder.is_dir() and not (name is not None and Path(name).is_dir()):
            name = str(folder)  # also what was fetched as configured
        if name is not None:
            return name, size_on_disk([Path(name)]) if Path(name).is_dir() else _USUAL_SIZE
        if language in whisperx.alignment.DEFAULT_ALIGN_MODELS_TORCH:
            return None, _USUAL_SIZE // 3
        if language in whisperx.alignment.DEFAULT_ALIGN_MODELS_HF:
            return None, _USUAL_SIZE
        raise StageSkipped(
            "alignment_unavailable",
            f"Words keep Whisper's own times: there is no alignment model for {language!r}. Name a wav2vec2 "
            f"model of that language in BUCKETSCRIBE_ALIGN_MODELS as {language}=MODEL.",
        )


def _reason(error: Exception) -> str:
    if isinstance(error, HubUnreachable):
        return str(error)
    cause = error.__context__ or error  # whisperx tells only that it was not found
    return f"{type(cause).__name__}: {cause}"


def _key(language: str) -> tuple[str, str]:
    return "align", language


def _is_bundle(name: str | None, language: str) -> bool:
    """Whether torchaudio knows the model, and takes a folder to keep it in; the hub has its cache."""
    name = name or whisperx.alignment.DEFAULT_ALIGN_MODELS_TORCH.get(language)
    return name in whisperx.alignment.torchaudio.pipelines.__all__


def _failed(error: Exception) -> StageSkipped:
    if out_of_memory(error):
        reason = (
            "the device's memory is too small for the alignment model beside all else. Take a smaller one"
        )
        reason += " (BUCKETSCRIBE_ALIGN_MODELS), or a smaller Whisper model"
    else:
        reason = f"the alignment failed with {type(error).__name__}: {error}"
    return StageSkipped("alignment_failed", f"Words keep Whisper's own times: {reason}.")


def _clip(heard: Heard, passage: Passage) -> Clip:
    """What Whisper heard of a passage: the stretches of speech in it."""
    stretches = [
        Stretch(round(start * SAMPLE_RATE), round(end * SAMPLE_RATE))
        for start, end in heard.speech
        if passage.start <= start and end <= passage.end
    ]
    return stretches or [Stretch(round(passage.start * SAMPLE_RATE), round(passage.end * SAMPLE_RATE))]


@contextmanager
def _one_sentence() -> Iterator[None]:
    load = whisperx.alignment.nltk_load
    whisperx.alignment.nltk_load = lambda resource: _OneSentence()
    try:
        yield
    finally:
        whisperx.alignment.nltk_load = load
