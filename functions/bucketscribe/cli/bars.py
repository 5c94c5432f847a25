"""Progress bars: bytes, speed and time left while uploading; then the worker's stage and its percent."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..client import Transcription, UploadProgress
from .output import clean


class Bars:
    """One bar at a time. The upload's stays when it is done, a stage's goes."""

    def __init__(self, name: str) -> None:
        console = Console(stderr=True)
        said = TextColumn("{task.description}", markup=False)
        self._upload = Progress(
            said, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console
        )
        self._work = Progress(
            said, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        self._live: Progress | None = None
        self._name = name
        self._file: TaskID | None = None
        self._stage: tuple[str, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def sent(self, progress: UploadProgress) -> None:
        """More of the recording has been sent."""
        self._show(self._upload)
        if self._file is None:
            self._file = self._upload.add_task(self._name, total=progress.size)
        self._upload.update(self._file, completed=progress.sent)

    def changed(self, transcription: Transcription) -> None:
        """There is news of the transcription."""
        if transcription.final:
            self.stop()
            return
        self._show(self._work)
        progress = transcription.progress
        stage = clean(progress.stage if progress else transcription.state)
        if self._stage is None or self._stage[0] != stage:
            if self._stage is not None:
                self._work.remove_task(self._stage[1])
            self._stage = stage, self._work.add_task(stage, total=100 if progress else None)
        if progress is not None:
            self._work.update(self._stage[1], total=100, completed=progress.percent)

    def stop(self) -> None:
        """Leave the terminal to others."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _show(self, progress: Progress) -> None:
        if self._live is not progress:
            self.stop()
            progress.start()
            self._live = progress
