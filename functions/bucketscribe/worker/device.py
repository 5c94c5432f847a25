"""Where a worker computes: the GPU it sees, or the CPU, and whether its model fits. For `doctor --worker`.

How much memory a model takes: its parameters (openai/whisper's README), times the bytes of a number, and room
to compute in: faster-whisper's README has 4,525 MB for large-v2 in float16 and 2,926 MB in int8, that is 1.4
GB besides the weights. On a CPU it is what the process of each engine was seen to take.
"""

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from ..probe import Finding, Verdict, found
from ..settings import Settings
from .engines.memory import free_on_cpu

PARAMETERS = {
    # millions, by what a model's name begins with; the longest counts
    "tiny": 39,
    "base": 74,
    "small": 244,
    "medium": 769,
    "large": 1550,
    "large-v3-turbo": 809,
    "turbo": 809,
    "distil-small": 166,
    "distil-medium": 394,
    "distil-large": 756,
}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8_float16": 1, "int8": 1}
GPU_ROOM = 1_400_000_000
CPU_ROOM = {"whisperx": 1_300_000_000, "faster-whisper": 600_000_000}

LIBRARIES = ("libcublas.so.12",)


@dataclass(frozen=True, slots=True)
class Gpu:
    """The GPU the engine would take; memory in bytes."""

    name: str
    total: int
    free: int


def look_at_device(settings: Settings) -> Iterator[Finding]:
    seen = settings.device != "cpu" and _sees_gpu(settings)
    if seen:
        gpu = _gpu()
        told = "a GPU" if gpu is None else f"{gpu.name}, {gb(gpu.free)} of {gb(gpu.total)} free"
        yield Finding("device", Verdict.OK, told)
        if settings.engine == "faster-whisper":
            yield _libraries()
        free = None if gpu is None else gpu.free
    elif settings.device == "cuda" or (settings.device == "auto" and settings.engine == "whisperx"):
        needed = settings.device == "cuda"
        yield Finding(
            "device",
            Verdict.MISSING,
            "no GPU is seen",
            "needs an NVIDIA driver for CUDA 12, and a container started with --gpus all (on ECS with a GPU "
            "in resourceRequirements)" + ("" if needed else "; the CPU computes, which is many times slower"),
            needed=needed,
        )
        if needed:
            return
        free = _free()
    else:
        free = _free()
        yield Finding("device", Verdict.OK, f"CPU, {os.process_cpu_count() or 1} cores")
    yield _numbers(settings, "cuda" if seen else "cpu")
    yield _memory(settings, bool(seen), free)


def _sees_gpu(settings: Settings) -> bool:
    if settings.engine == "whisperx":
        import torch

        return bool(torch.cuda.is_available())
    import ctranslate2  # type: ignore[import-untyped]

    return bool(ctranslate2.get_cuda_device_count())


def _gpu() -> Gpu | None:
    """The first GPU that is visible to us, as the driver's own tool tells it; it takes no memory there."""
    which = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
    asked = ["nvidia-smi", f"--id={which}", "--query-gpu=name,memory.total,memory.free"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        told = subprocess.run(  # noqa: S603 -- our own words
            [*asked, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=10, check=True
        )
        name, total, free = told.stdout.splitlines()[0].rsplit(",", 2)
        return Gpu(name.strip(), int(total) * 2**20, int(free) * 2**20)
    return None


def _libraries() -> Finding:
    """What faster-whisper leaves to the operator; WhisperX has it from torch."""
    absent = []
    for library in LIBRARIES:
        try:
            ctypes.CDLL(library)
        except OSError:
            absent.append(library)
    return found(
        "CUDA libraries",
        not absent,
        f"{', '.join(absent)} not found" if absent else ", ".join(LIBRARIES),
        otherwise="install nvidia-cublas-cu12 and have LD_LIBRARY_PATH name it; or set "
        "BUCKETSCRIBE_DEVICE=cpu",
    )


def _numbers(settings: Settings, device: str) -> Finding:
    import ctranslate2

    kind = settings.compute_type
    try:
        able = ctranslate2.get_supported_compute_types(device)
    except (RuntimeError, ValueError) as error:
        return Finding("compute type", Verdict.UNKNOWN, f"{kind}; {error}", needed=False)
    return found(
        "compute type",
        kind == "default" or kind in able,
        kind,
        otherwise=f"this device computes in {', '.join(sorted(able))}: set BUCKETSCRIBE_COMPUTE_TYPE to one, "
        "or unset it",
    )


def _free() -> int | None:
    try:
        return free_on_cpu()
    except (OSError, ValueError, StopIteration):
        return None


def _memory(settings: Settings, on_gpu: bool, free: int | None) -> Finding:
    kind = settings.compute_type
    if kind == "default":
        kind = "float16" if on_gpu else "int8"
    needs = memory_of(settings.model, kind, on_gpu, settings.engine)
    if needs is None:
        return Finding("memory", Verdict.UNKNOWN, f"nothing is known of {settings.model}", needed=False)
    said = f"{settings.model} in {kind} takes about {gb(needs)}"
    if free is None:
        return Finding("memory", Verdict.UNKNOWN, f"{said}; what is free cannot be told", needed=False)
    return found(
        "memory",
        free >= needs,
        f"{said}; {gb(free)} are free",
        otherwise="take a smaller model, or BUCKETSCRIBE_COMPUTE_TYPE=int8, or a larger machine; what else "
        "computes there counts, too",
    )


def memory_of(model: str, compute_type: str, on_gpu: bool, engine: str) -> int | None:
    """Bytes that a model takes while it transcribes one clip at a time, about; None for an unknown one."""
    name = model.rsplit("/", 1)[-1].removeprefix("faster-").replace("distil-whisper-", "distil-")
    name = name.removeprefix("whisper-")
    known = [begin for begin in PARAMETERS if name.startswith(begin)]
    if not known:
        return None
    room = GPU_ROOM if on_gpu else CPU_ROOM[engine]
    return PARAMETERS[max(known, key=len)] * 1_000_000 * BYTES[compute_type] + room


def gb(size: int) -> str:
    """A size in bytes as people say it."""
    return f"{size / 1e9:.1f} GB"
