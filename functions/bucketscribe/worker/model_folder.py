"""The models folder: what lies where.

    whisper/{model}/      a Whisper model of CTranslate2; the name may have a slash, as on the hub
    align/{language}/     a wav2vec2 model of transformers, for word alignment
    align/*.pth           those of torchaudio, which five languages have
    diarization/          a pipeline of pyannote

`bucketscribe models get` fills it (`model_download.py`), or a bucket does (`model_store.py`). A model is
there once the file that says so is: whoever fills the folder writes that one last (`last`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

WHISPER = "whisper"
ALIGN = "align"
DIARIZATION = "diarization"

TORCHAUDIO = {
    # language: the file that torchaudio keeps the model in, of which WhisperX takes the bundle
    "en": "wav2vec2_fairseq_base_ls960_asr_ls960.pth",
    "fr": "wav2vec2_voxpopuli_base_10k_asr_fr.pt",
    "de": "wav2vec2_voxpopuli_base_10k_asr_de.pt",
    "es": "wav2vec2_voxpopuli_base_10k_asr_es.pt",
    "it": "wav2vec2_voxpopuli_base_10k_asr_it.pt",
}

_LAST = {"config.json": 1, "config.yaml": 1, "model.bin": 2}


@dataclass(frozen=True, slots=True)
class Stored:
    """A model in the folder. `kind` is its subfolder, `size` in bytes."""

    kind: str
    name: str
    path: Path
    size: int


def last(name: str) -> int:
    """In which order a model's files are written: those of a lower number are all there before the next."""
    return _LAST.get(PurePosixPath(name).name, 0)


def whisper_folder(folder: Path, model: str) -> Path | None:
    """Where a Whisper model lies if it is there; None for what is no name but a path."""
    parts = PurePosixPath(model).parts
    if not parts or any(part.startswith((".", "/", "~")) for part in parts) or "\0" in model:
        return None
    return folder / WHISPER / model


def has_whisper(folder: Path, model: str) -> bool:
    """Whether a whole Whisper model lies there."""
    at = whisper_folder(folder, model)
    return at is not None and (at / "model.bin").is_file()


def has_alignment(folder: Path, language: str) -> bool:
    """Whether an alignment model of the language lies there."""
    kept = folder / ALIGN
    file = TORCHAUDIO.get(language)
    return (kept / language / "config.json").is_file() or (file is not None and (kept / file).is_file())


def has_diarization(folder: Path) -> bool:
    """Whether a pipeline that tells speakers apart lies there."""
    return (folder / DIARIZATION / "config.yaml").is_file()


def stored(folder: Path) -> Iterator[Stored]:
    """All whole models there, in the order of kinds and names."""
    whisper = folder / WHISPER
    for file in sorted(whisper.rglob("model.bin")):
        at = file.parent
        yield Stored(WHISPER, at.relative_to(whisper).as_posix(), at, _size(at))
    languages = {path.parent.name for path in (folder / ALIGN).glob("*/config.json")}
    for language in sorted({*languages, *TORCHAUDIO}):
        if has_alignment(folder, language):
            own = folder / ALIGN / language
            at = own if language in languages else folder / ALIGN / TORCHAUDIO[language]
            yield Stored(ALIGN, language, at, _size(at))
    if has_diarization(folder):
        at = folder / DIARIZATION
        yield Stored(DIARIZATION, "", at, _size(at))


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.stat().st_size for file in files if file.is_file())
