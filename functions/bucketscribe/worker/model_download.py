"""Fills a models folder from where models are published: the Hugging Face hub, and torchaudio's own place.

Each model is fetched beside its place, in `.partial`, and put there file by file, the one that says it is
whole last; so a fetch that breaks off leaves nothing that is taken for a model, and goes on where it was when
it is repeated. What is there already is not asked for again. Everything raises `ModelUnavailable`, whose text
says what to do.
"""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from . import hub_access as hub
from .engines.base import ModelUnavailable
from .model_folder import (
    ALIGN,
    DIARIZATION,
    TORCHAUDIO,
    has_alignment,
    has_diarization,
    has_whisper,
    last,
    whisper_folder,
)

WHISPER_FILES = ("config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*")
PARTIAL = ".partial"
SILENT_SECONDS = 30.0
"""torchaudio's download has no limit of its own."""


def get_whisper(model: str, folder: Path, token: str | None) -> bool:
    """A Whisper model, by faster-whisper's name or the hub's. Whether it had to be fetched."""
    target = whisper_folder(folder, model)
    if target is None:
        raise ModelUnavailable(f"{model!r} is no model's name.")
    if has_whisper(folder, model):
        return False
    with _fetched(folder, f"whisper-{model}", target, model, token) as partial:
        repository = hub.repository_of(model)
        if repository is None:
            raise ModelUnavailable(
                f"Nobody knows a model {model!r}: name one of faster-whisper's or the hub's."
            )
        _copy(repository, partial, token, WHISPER_FILES)
        if not (partial / "model.bin").is_file():
            raise ModelUnavailable(
                f"{model} is no model of CTranslate2, as it has no model.bin: take one that is, or convert "
                "it with ct2-transformers-converter."
            )
    return True


def get_alignment(language: str, folder: Path, model: str | None, token: str | None) -> bool:
    """The alignment model of a language: `model`, or the one that WhisperX names. Whether it was fetched."""
    from .engines.quiet import hush

    if has_alignment(folder, language):
        return False
    hush()
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor
    from whisperx.alignment import DEFAULT_ALIGN_MODELS_HF

    if model is None and language in TORCHAUDIO:
        _get_bundle(language, folder)
        return True
    name = model or DEFAULT_ALIGN_MODELS_HF.get(language)
    if name is None:
        raise ModelUnavailable(
            f"There is no alignment model for {language!r}: name a wav2vec2 model of that language in "
            f"BUCKETSCRIBE_ALIGN_MODELS as {language}=MODEL."
        )
    with _fetched(folder, f"align-{language}", folder / ALIGN / language, name, token) as partial:
        # Loaded as WhisperX will load it, and kept without what it does not need.
        cache = folder / PARTIAL / f"align-{language}.hub"
        for part in (Wav2Vec2Processor, Wav2Vec2ForCTC):
            part.from_pretrained(name, cache_dir=str(cache), token=token).save_pretrained(str(partial))
        shutil.rmtree(cache)
    return True


def get_diarization(model: str, folder: Path, token: str | None) -> bool:
    """The pipeline that tells speakers apart. Whether it had to be fetched."""
    if has_diarization(folder):
        return False
    with _fetched(folder, "diarization", folder / DIARIZATION, model, token) as partial:
        _copy(model, partial, token)
        if not (partial / "config.yaml").is_file():
            raise ModelUnavailable(f"{model} is no pipeline of pyannote, as it has no config.yaml.")
    return True


def _copy(repository: str, to: Path, token: str | None, patterns: tuple[str, ...] = ("*",)) -> None:
    """The files of a model on the hub, all of one commit.

    Not by `snapshot_download`, which takes a folder in which something is for the whole model while the hub
    does not answer.
    """
    from huggingface_hub import HfApi, hf_hub_download

    about = HfApi().model_info(repository, token=token)
    for file in about.siblings or ():
        name = file.rfilename
        if any(fnmatch(name, pattern) for pattern in patterns) and not name.startswith("."):
            hf_hub_download(repository, name, revision=about.sha, local_dir=to, token=token)


def _get_bundle(language: str, folder: Path) -> None:
    """One of torchaudio's models. Torch takes a download that broke off for the whole, so that it is loaded
    before it is put into its place."""
    from torchaudio import pipelines
    from whisperx.alignment import DEFAULT_ALIGN_MODELS_TORCH

    name = DEFAULT_ALIGN_MODELS_TORCH[language]
    beside = folder / PARTIAL / f"align-{language}"
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENT_SECONDS)
    try:
        getattr(pipelines, name).get_model(dl_kwargs={"model_dir": str(beside), "progress": False})
        (folder / ALIGN).mkdir(parents=True, exist_ok=True)
        (beside / TORCHAUDIO[language]).replace(folder / ALIGN / TORCHAUDIO[language])
    except Exception as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelUnavailable(
            f"{name}, for the alignment of {language!r}, cannot be fetched from download.pytorch.org: "
            f"{reason}. Try where that can be reached, and copy the models folder."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _fetched(folder: Path, partial: str, target: Path, model: str, token: str | None) -> Iterator[Path]:
    """A folder to fetch a model into, which is put into its place once the block has ended well."""
    beside = folder / PARTIAL / partial
    try:
        beside.mkdir(parents=True, exist_ok=True)
        yield beside
        _put(beside, target)
    except ModelUnavailable:
        raise
    except Exception as error:
        raise ModelUnavailable(hub.explain(error, model, token)) from error


def _put(beside: Path, target: Path) -> None:
    files = [file.relative_to(beside) for file in beside.rglob("*") if file.is_file()]
    wanted = [file for file in files if not file.parts[0].startswith(".")]  # .cache is the hub's client's
    for file in sorted(wanted, key=lambda file: last(file.name)):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (beside / file).replace(target / file)
    shutil.rmtree(beside)
