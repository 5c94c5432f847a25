"""A transcription as its owner sees it: what the API answers, and what a webhook tells."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from .options import Options
from .records import Failure, Progress, Record, State, Warning, Webhook


class Transcription(BaseModel):
    """A transcription as its owner sees it."""

    id: str
    state: State
    progress: Progress | None = Field(description="How far the work has come, while it is running.")
    name: str = Field(description="The file's name as it was uploaded, or what it was renamed to.")
    type: str
    size: int | None = Field(description="Bytes; null until it is known.")
    key: str
    created: datetime
    updated: datetime
    options: Options
    webhook: Webhook | None = Field(
        description="How far the notice of this run's end has come; null where none was asked for."
    )
    metadata: dict[str, str | int | float | bool] = Field(description="The caller's own `x-` values.")
    run: int
    attempts: int
    language: str | None
    duration: float | None = Field(description="Length of the recording in seconds.")
    warnings: list[Warning]
    error: Failure | None
    timings: dict[str, float] | None = Field(description="Seconds by stage.")
    partial: bool = Field(description="It has failed, but there is a transcript up to where it did.")
    accepted: bool = Field(
        description="Its recording was accepted: only then can it be played, and transcribed again. What has "
        "a `url` can be transcribed again anyway: it is fetched anew."
    )
    speakers: dict[str, str] = Field(
        description="Names of speakers, by their labels in `transcript.json`; only of those who have one."
    )
    inbox: str | None = Field(description="The key in the inbox it came from, if it did.")
    url: str | None = Field(description="Where its recording is fetched from, if it was online.")

    @classmethod
    def of(cls, record: Record) -> Self:
        """The public view of a record."""
        return cls(
            id=record.id,
            state=record.state,
            progress=record.progress,
            name=record.name,
            type=record.content_type,
            size=record.size,
            key=record.key,
            created=record.created,
            updated=record.updated,
            options=record.options,
            webhook=record.webhook,
            metadata=record.metadata,
            run=record.run,
            attempts=record.attempts,
            language=record.language,
            duration=record.duration,
            warnings=list(record.warnings),
            error=record.error,
            timings=record.timings,
            partial=record.partial,
            accepted=record.etag is not None,
            speakers=record.speakers,
            inbox=None if record.inbox is None else record.inbox.key,
            url=record.url,
        )
