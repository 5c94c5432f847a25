"""Unfinished uploads, remembered from one run of a program to the next.

One small JSON file for each, of what beginning it answered. An upload is found again by what is sent, where
to, by whom and with which options, never by where the file lies: `key_of` says how. Files are the user's own
(0600), appear whole or not at all, and go after a week, when any server has long given the upload up. A
folder that cannot be written to costs the memory, not the upload.
"""

import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError

from .recording import File

WEEK_SECONDS = 7 * 24 * 3600

SAMPLE_BYTES = 64 * 1024
"""Read from the beginning and from the end of a file, to tell it from others of its name, size and time."""


OURS = re.compile(r"[0-9a-f]{64}\.json|bucketscribe-\w+\.new")
"""Names of files we make. The folder may be one that holds others, too."""


class Begun(BaseModel):
    """An upload as its server knows it: `partSize` in bytes; it ends when idle for `expires` seconds.

    `sent` are ETag and MD5 of the parts that were sent into a bucket whose ETags are no MD5s.
    """

    id: str
    key: str
    uploadId: str  # noqa: N815 -- the wire's name
    partSize: int  # noqa: N815 -- the wire's name
    expires: float = 600
    sent: dict[int, tuple[str, str]] = {}


class UploadStore:
    """Unfinished uploads in a folder, which is made when the first one is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def default(cls) -> Self:
        """The user's own: `$XDG_STATE_HOME/bucketscribe/uploads`, by default under `~/.local/state`."""
        state = os.environ.get("XDG_STATE_HOME", "")
        # The XDG Base Directory Specification has relative paths ignored.
        try:
            base = Path(state) if Path(state).is_absolute() else Path.home() / ".local" / "state"
        except RuntimeError:
            base = Path(os.devnull)  # who has no home has no memory: nothing can be written there
        return cls(base / "bucketscribe" / "uploads")

    def find(self, key: str) -> Begun | None:
        """The upload saved under a key, if it is not too old. Removes all of ours that are."""
        with suppress(OSError):
            for file in self.folder.iterdir():
                with suppress(OSError):
                    if OURS.fullmatch(file.name) and time.time() - file.stat().st_mtime > WEEK_SECONDS:
                        file.unlink()
        try:
            return Begun.model_validate_json(self._file(key).read_bytes())
        except (OSError, ValidationError):
            return None

    def save(self, key: str, begun: Begun) -> bool:
        """Remember an upload; False if the folder cannot be written to."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # mkstemp makes it 0600.
            handle, temporary = tempfile.mkstemp(".new", "bucketscribe-", self.folder)
            with os.fdopen(handle, "w") as file:
                file.write(begun.model_dump_json())
            Path(temporary).replace(self._file(key))
        except OSError:
            return False
        return True

    def remove(self, key: str, begun: Begun) -> None:
        """Forget an upload, unless another one is saved in its place."""
        found = self.find(key)
        if found is not None and found.uploadId == begun.uploadId:
            with suppress(OSError):
                self._file(key).unlink()

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def key_of(server: str, asker: str | None, file: File, options: Mapping[str, Any]) -> str:
    """What an upload is found by: server, who asks, name, size, time of change, options, sampled content.

    Raises UploadFailed `file_unreadable`.
    """
    sample = hashlib.sha256()
    for offset in (0, max(0, file.size - SAMPLE_BYTES)):
        for block in file.piece(offset, min(SAMPLE_BYTES, file.size)).blocks():
            sample.update(block)
    told = [server, asker, file.name, file.size, file.changed_ns, dict(options), sample.hexdigest()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
