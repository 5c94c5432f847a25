"""What a person sees while a recording is uploaded and transcribed: always on standard error.

Bars on a terminal; elsewhere, a line for each new state or stage, so that a log stays readable.
"""

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .output import clean, note

if TYPE_CHECKING:
    from ..client import Transcription, UploadProgress


class Display(Protocol):
    """Shows an upload, then the work on it."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def sent(self, progress: "UploadProgress") -> None:
        """More of the recording has been sent."""

    def changed(self, transcription: "Transcription") -> None:
        """There is news of the transcription."""

    def stop(self) -> None:
        """Leave the terminal to others."""


def display(name: str) -> Display:
    """The display for this standard error."""
    if sys.stderr.isatty():
        from .bars import Bars

        return Bars(clean(name))
    return Lines(clean(name))


class Lines:
    """A line for each new state or stage."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._last = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sent(self, progress: "UploadProgress") -> None:
        """More of the recording has been sent."""
        self._say(f"uploading {self._name} ({progress.size} bytes)")

    def changed(self, transcription: "Transcription") -> None:
        """There is news of the transcription."""
        progress = transcription.progress
        working = progress is not None and not transcription.final
        self._say(
            f"{transcription.state} ({progress.stage})" if working and progress else transcription.state
        )

    def stop(self) -> None:
        """Nothing is left on the terminal."""

    def _say(self, line: str) -> None:
        if line != self._last:
            self._last = line
            note(line)
