"""A transcription as the API shows it. Fields that this version does not know are kept."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

FINAL = frozenset({"completed", "failed", "canceled", "expired"})
"""States that nothing changes any more, but for `retry`, or a recording that turns up late."""


class _View(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Progress(_View):
    """How far the work has come: percent of the stage named."""

    stage: str
    percent: float


class Failure(_View):
    """Why a transcription failed; `at_seconds` is where in the recording, if that is known."""

    code: str
    message: str
    stage: str | None = None
    at_seconds: float | None = None


class Note(_View):
    """A warning: the transcript stands, but its reader should know this."""

    code: str
    message: str


class Transcription(_View):
    """One recording's way to its transcript. `state` is a plain string: a newer server may know more."""

    id: str
    state: str
    name: str
    created: datetime
    updated: datetime
    type: str | None = None
    size: int | None = None
    key: str | None = None
    options: dict[str, Any] = {}
    progress: Progress | None = None
    run: int = 1
    attempts: int = 0
    language: str | None = None
    duration: float | None = None
    warnings: tuple[Note, ...] = ()
    error: Failure | None = None
    timings: dict[str, float] | None = None

    @property
    def final(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in FINAL


class Page(_View):
    """Transcriptions, newest first. `cursor` asks for the next page; None after the last."""

    transcriptions: tuple[Transcription, ...]
    cursor: str | None = None
