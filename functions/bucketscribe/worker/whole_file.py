"""A file that is there whole or not at all: written beside its place and renamed.

A crash leaves nothing under the file's name, and two processes may write the same one at once. What a process
that died has left beside it is removed an hour later.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ABANDONED_SECONDS = 3600.0


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes its place once the block has ended well. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(target)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # else only its writer may read it
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
