"""A transcription as the API shows it. Fields that this version does not know are kept."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

FINAL = frozenset({"completed", "failed", "canceled", "expired"})
"""States that nothing changes any more, but for `retry`, or a recording that turns up late."""


class _View(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)


class Progress(_View):
    """How far the work has come: percent of the stage named; `seconds_left` is a guess at the whole."""

    stage: str
    percent: float
    seconds_left: float | None = None


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
    """One recording's way to its transcript. `state` is a plain string: a newer server may know more.

    A failed one that is `partial` has a transcript of what comes before the failure.
    """

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
    partial: bool = False
    timings: dict[str, float] | None = None

    @property
    def final(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.state in FINAL


class Page(_View):
    """Transcriptions, newest first. `cursor` asks for the next page; None after the last."""

    transcriptions: tuple[Transcription, ...]
    cursor: str | None = None


class Health(_View):
    """Whether a server can do its work. `bucket`, `queue` and `worker` are `ok`, or say why not."""

    status: str
    bucket: str
    queue: str
    worker: str | None = None

    @property
    def ok(self) -> bool:
        """Whether everything answers."""
        return self.status == "ok"
