"""Loaded models, kept warm as long as there is memory: the one not used for longest goes first. In bytes.

Torch-free: how much is free, and how to give back what a model took, is the device's and comes as a function.
"""

import gc
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any

from .batches import out_of_memory

ROOM = 2**30
"""What a model computes with, besides its weights."""

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


class Warm:
    """Models by key.

    `free` tells how many bytes the device has left; `give_back` returns to it what was dropped.
    """

    def __init__(self, free: Callable[[], int], give_back: Callable[[], None] = lambda: None) -> None:
        self._free = free
        self._give_back = give_back
        self._models: OrderedDict[Hashable, Any] = OrderedDict()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._models

    def get(self, key: Hashable, load: Callable[[], Any], needs: int) -> Any:
        """The model of this key, loaded if it is not there yet; `needs` bytes are made free for it first.

        A load that runs out of memory is tried once more with all others gone. Raises what `load` does.
        """
        if key in self._models:
            self._models.move_to_end(key)
            return self._models[key]
        self._collect()  # what a run that failed has let go of only now
        while self._models and self._free() < needs:
            self._models.popitem(last=False)
            self._collect()
        self._models[key] = model = self.alone_if_needed(key, load)
        return model

    def alone_if_needed[Result](self, key: Hashable, work: Callable[[], Result]) -> Result:
        """What `work` returns; where memory runs out, it has a second try with all other models gone."""
        try:
            return work()
        except Exception as error:
            if not out_of_memory(error):
                raise
        # Not in `except`: the traceback holds on to what the failed work had allocated.
        self.free_others(key)
        return work()

    def tidy(self) -> None:
        """Return what the device keeps of work that is over."""
        self._give_back()

    def drop(self, key: Hashable) -> None:
        """Forget a model, if it is there."""
        if self._models.pop(key, None) is not None:
            self._collect()

    def free_others(self, key: Hashable) -> bool:
        """Forget all models but this one; whether there were any."""
        others = [other for other in self._models if other != key]
        for other in others:
            del self._models[other]
        self._collect()
        return bool(others)

    def _collect(self) -> None:
        gc.collect()  # models are full of circles
        self._give_back()


def size_on_disk(paths: Iterable[Path]) -> int:
    """How large a model's files are, which is about what its weights will take."""
    files = (file for path in paths for file in (path.rglob("*") if path.is_dir() else (path,)))
    return sum(file.stat().st_size for file in files if file.is_file())


def free_on_cpu(meminfo: Path = _MEMINFO, cgroup: Path = _CGROUP) -> int:
    """What a process can still have: what the machine has left, and within it the container."""
    available = next(line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable:"))
    left = int(available.split()[1]) * 1024
    try:
        most = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
        counted = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return left  # no container, or one without a limit, which says "max"
    return min(
        left, most - used + int(counted.get("inactive_file", 0))
    )  # files are let go when it gets tight
