"""What a person sees while recordings are uploaded and transcribed: always on standard error.

Bars on a terminal; elsewhere, a line for each new state or stage, so that a log stays readable; nothing at
all for who wants it quiet.
"""

import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .output import note

if TYPE_CHECKING:
    from ..client import Transcription, UploadProgress


class Display:
    """Shows uploads, then the work on them, by the recording's number. This one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sent(self, number: int, progress: "UploadProgress") -> None:
        """More of a recording has been sent, or has to wait."""

    def changed(self, number: int, transcription: "Transcription") -> None:
        """There is news of a transcription."""

    def waiting(self, words: str | None) -> None:
        """There is no news for want of something, or it is there again."""

    def stop(self) -> None:
        """Leave the terminal to others, until there is more to show."""


def display(names: Sequence[str], quiet: bool) -> Display:
    """The display for this standard error."""
    if quiet:
        return Display()
    if sys.stderr.isatty():
        from .bars import Bars

        return Bars(names)
    return Lines(names)


class Lines(Display):
    """A line for each new state or stage."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._last: dict[int, str] = {}
        self._resumed: set[int] = set()
        self._trouble: str | None = None

    def sent(self, number: int, progress: "UploadProgress") -> None:
        """One line when it begins, one for each trouble."""
        if number not in self._last:
            size = "" if progress.size is None else f" ({progress.size} bytes)"
            note(f"uploading {self._names[number]}{size}")
            self._last[number] = ""
        # Told when the rest is being sent: before, it is still being compared.
        if number not in self._resumed and 0 < progress.resumed < progress.sent:
            self._resumed.add(number)
            note(f"resumed {part(progress)}")
        self.waiting(progress.waiting)

    def changed(self, number: int, transcription: "Transcription") -> None:
        """One line for each state or stage."""
        progress = transcription.progress
        working = progress is not None and not transcription.final
        self._say(
            number,
            f"{transcription.state} ({progress.stage})" if working and progress else transcription.state,
        )

    def waiting(self, words: str | None) -> None:
        """One line each time it begins, but for what has just been said."""
        if words and words != self._trouble:
            note(f"waiting: {words}")
        self._trouble = words

    def _say(self, number: int, line: str) -> None:
        if line != self._last.get(number):
            self._last[number] = line
            note(f"{self._names[number]}: {line}" if len(self._names) > 1 else line)


def part(progress: "UploadProgress") -> str:
    """Where an upload went on."""
    return (
        f"at {100 * progress.resumed / progress.size:.0f} %"
        if progress.size
        else f"at {progress.resumed} bytes"
    )
