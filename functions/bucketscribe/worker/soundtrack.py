"""A whole recording as samples, for what must hear all of it at once: on disk, and in memory as it is used.

Ten hours take 2.3 GB of the folder for temporary files (`TMPDIR`). The file has no name, so nothing is left
of it when the process dies. Raises whatever opening and decoding raise, and `OSError` where the disk is too
small, before anything is decoded.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from tempfile import TemporaryFile, gettempdir

import numpy as np

from .decode import Decoder
from .engines.base import Report, Samples

_SAMPLE_BYTES = 4


@contextmanager
def soundtrack(
    open_recording: Callable[[], AbstractContextManager[Decoder]], count: int, report: Report
) -> Iterator[Samples]:
    """The first `count` samples; fewer where there are no more. `report` is called often, and may raise."""
    folder = gettempdir()
    if shutil.disk_usage(folder).free < count * _SAMPLE_BYTES:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {count * _SAMPLE_BYTES} bytes are needed", folder
        )
    with TemporaryFile(dir=folder) as file:
        filled = 0
        with open_recording() as decoder:
            for block in decoder.blocks():
                report(filled / count)
                part = block[: count - filled]
                file.write(part.data)
                filled += len(part)
                if filled == count:
                    break
        file.flush()
        yield np.memmap(file, np.float32, "r+", shape=(filled,))
