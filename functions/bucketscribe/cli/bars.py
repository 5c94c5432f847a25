"""Progress bars: bytes, speed and time left while uploading; then each worker's stage, percent and time left.

While uploading there is one bar, which stays when its file is done. While waiting there is one for each
transcription that is not final, as many as fit; they go.
"""

from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from ..client import Transcription, UploadProgress
from .display import Display, part
from .output import clean, duration

NAME_CHARACTERS = 20


class Remarked(Progress):
    """Bars with a line of text below them."""

    remark = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, then the remark."""
        yield from super().get_renderables()
        if self.remark:
            yield Text(self.remark, style="yellow", overflow="ellipsis", no_wrap=True)


class Bars(Display):
    """What is shown of each recording, by its number."""

    def __init__(self, names: Sequence[str]) -> None:
        self._console = Console(stderr=True)
        self._names = [
            name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}…" for name in names
        ]
        self._live: Progress | None = None
        self._upload: tuple[int, Remarked, TaskID] | None = None
        self._work = Remarked(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}", markup=False),
            console=self._console,
            transient=True,
        )
        self._stages: dict[int, tuple[str, TaskID]] = {}

    def sent(self, number: int, progress: UploadProgress) -> None:
        """Move the bar of the upload."""
        if self._upload is None or self._upload[0] != number:
            bar = Remarked(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            # Begun at what was there already, so that it does not count as speed.
            task = bar.add_task(self._names[number], total=progress.size, completed=progress.resumed)
            self._upload = number, bar, task
        _, bar, task = self._upload
        self._show(bar)
        bar.remark = f"resumed {part(progress)}" if progress.resumed else ""
        if progress.waiting:
            bar.remark = f"waiting: {clean(progress.waiting)}"
        bar.update(task, completed=progress.sent)

    def changed(self, number: int, transcription: Transcription) -> None:
        """Move the bar of a transcription: a new one for each stage, and none once it is final.

        While another recording is uploaded its bar stays the one that is seen.
        """
        progress = transcription.progress
        stage = clean(progress.stage if progress else transcription.state)
        known, task = self._stages.get(number, (None, None))
        if task is not None and (transcription.final or known != stage):
            self._work.remove_task(task)
            del self._stages[number]
        if not transcription.final:
            if number not in self._stages:
                name = f"{self._names[number]}: " if len(self._names) > 1 else ""
                self._stages[number] = (
                    stage,
                    self._work.add_task(f"{name}{stage}", total=None, visible=False, left=""),
                )
            task = self._stages[number][1]
            if progress is not None:
                left = progress.seconds_left
                self._work.update(
                    task,
                    total=100,
                    completed=progress.percent,
                    left="" if left is None else f"{duration(left)} left",
                )
        self._fit()
        if self._upload is not None and self._upload[0] == number:
            self._upload = None
        if self._upload is not None and not self._upload[1].finished:
            return
        if self._stages:
            self._show(self._work)
        else:
            self.stop()

    def waiting(self, words: str | None) -> None:
        """Say so below the bars, while it lasts."""
        self._work.remark = f"waiting: {clean(words)}" if words else ""

    def stop(self) -> None:
        """Leave the terminal to others."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _fit(self) -> None:
        """Show the first ones only, where there are more than lines."""
        room = max(1, self._console.height - 3)
        for place, number in enumerate(sorted(self._stages)):
            self._work.update(self._stages[number][1], visible=place < room)

    def _show(self, progress: Progress) -> None:
        if self._live is not progress:
            self.stop()
            progress.start()
            self._live = progress
