"""Tasks: transcriptions as clients of the older service know them.

The documents have the fields of that service's API (WhisperX FastAPI: `Result`, `Metadata`, `TaskSummary`,
`TaskProgress`), and nothing is stored in this form. What it had no word for is told in the nearest one: an
upload in progress is `queued`; what was canceled, or was idle for too long, has `failed`.

Its clients could give a task a name of their own, a `taskId` beside the upload. The id of such a
transcription is made from it, so that a listing of the records finds it, and nothing else need be kept.
"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, Field, ValidationError

from .bucket import Bucket
from .errors import Problem
from .records import FINAL, Record, Records, State, Stored, is_id, new_id
from .transcript import Segment, Transcript, Word
from .transcriptions import Transcriptions, no_longer_kept, no_such

NEWEST: Final = 1000
"""Tasks that are listed, and looked through for one by a name that its client gave it."""

NAME_CHARACTERS: Final = 64
TASK_TYPE: Final = "full_process"

_READ_AT_ONCE = 200
_OF_THE_NAME = (1 << 62) - 1
"""The bits of an id that say what else it was made from: RFC 9562, 5.7, `rand_b`."""

_STATUS: Final = {
    State.RUNNING: "processing",
    State.COMPLETED: "completed",
    State.FAILED: "failed",
    State.CANCELED: "failed",
    State.EXPIRED: "failed",
}

# From which percent of all to which a stage goes, as the older service counted.
_PROGRESS: Final = {
    # Of each window both come, one after the other, and they count together.
    "transcribing": ("transcribing", 10, 60),
    "aligning": ("aligning", 10, 60),
    "diarizing": ("diarizing", 60, 95),
    "saving": ("diarizing", 95, 99),
}
_BEFORE_WORDS: Final = ("transcribing", 0, 10)


class Metadata(BaseModel):
    """What a task is about. In seconds, `duration` is the work's, and `audio_duration` the recording's."""

    task_type: str = TASK_TYPE
    task_params: dict[str, Any] | None
    language: str | None
    file_name: str | None
    url: str | None
    callback_url: str | None
    duration: float | None
    audio_duration: float | None
    start_time: datetime | None
    end_time: datetime | None


class Task(BaseModel):
    """A task with its result, which is null until it is there."""

    status: str = Field(examples=["processing"], description="queued, processing, completed or failed")
    result: dict[str, Any] | None = Field(
        description="`segments` and `word_segments`, as WhisperX has them; times in seconds."
    )
    metadata: Metadata
    error: str | None


class TaskSummary(BaseModel):
    """A task without its result."""

    identifier: str
    status: str = Field(examples=["processing"])
    task_type: str = TASK_TYPE
    file_name: str | None
    url: str | None
    callback_url: str | None
    audio_duration: float | None
    language: str | None
    error: str | None
    duration: float | None
    start_time: datetime | None
    end_time: datetime | None


class TaskProgress(BaseModel):
    """How far a task has come, in percent of all."""

    identifier: str
    status: str
    progress_percentage: int = Field(ge=0, le=100)
    progress_stage: str | None = Field(examples=["transcribing"])
    error: str | None


def id_named(name: str) -> str:
    """A new id for a task that its client calls so."""
    return new_id(rest=_digest(name))


def find(transcriptions: Transcriptions, owner: str, identifier: str) -> Stored:
    """The transcription of this id, or the newest whose client called it so.

    Raises Problem `no_such_transcription`.
    """
    known = [identifier] if is_id(identifier) else []
    for id in chain(known, _ids_of(transcriptions.records, owner, identifier)):
        stored = transcriptions.records.read(owner, id)
        # One that is deleted hides no older one of its name.
        if stored is not None and stored.record.state is not State.DELETED:
            return stored
    raise no_such(identifier)


def _ids_of(records: Records, owner: str, name: str) -> Iterator[str]:
    """Ids that were made of this name, newest first."""
    if not 0 < len(name) <= NAME_CHARACTERS:
        return
    wanted = int(UUID(new_id(0, _digest(name)))) & _OF_THE_NAME
    for key in records.listing(owner, at_most=NEWEST):
        id = key.removesuffix(".json")[-36:]
        if is_id(id) and int(UUID(id)) & _OF_THE_NAME == wanted:
            yield id


def _digest(name: str) -> bytes:
    return sha256(b"task " + name.encode(errors="surrogatepass")).digest()[:10]


def newest(transcriptions: Transcriptions, owner: str) -> list[Record]:
    """The newest `NEWEST` transcriptions, newest first."""
    found: list[Record] = []
    cursor: str | None = None
    for _ in range(NEWEST // _READ_AT_ONCE):
        page, cursor = transcriptions.page(owner, None, cursor, _READ_AT_ONCE)
        found += page
        if cursor is None:
            break
    return found


def status_of(record: Record) -> str:
    """The older word for a transcription's state."""
    return _STATUS.get(record.state, "queued")


def task_document(record: Record, transcript: Transcript | None) -> Task:
    """A task as it is read, and as it is told to a `callback_url`."""
    return Task(
        status=status_of(record),
        result=None if transcript is None else _result(transcript),
        metadata=Metadata(
            task_params=record.options.model_dump(mode="json", exclude_none=True, exclude={"webhook_url"}),
            **_facts(record),
        ),
        error=_error(record),
    )


def summary(record: Record) -> TaskSummary:
    """A task as it is listed."""
    return TaskSummary(identifier=record.id, status=status_of(record), error=_error(record), **_facts(record))


def progress(record: Record) -> TaskProgress:
    """How far a task has come."""
    stage, percent = _progress(record)
    return TaskProgress(
        identifier=record.id,
        status=status_of(record),
        progress_percentage=percent,
        progress_stage=stage,
        error=_error(record),
    )


def _progress(record: Record) -> tuple[str | None, int]:
    if record.state is State.COMPLETED:
        return "complete", 100
    if record.state in FINAL:
        return None, 0
    if record.progress is None:
        return "queued", 0
    stage, start, end = _PROGRESS.get(record.progress.stage, _BEFORE_WORDS)
    return stage, start + record.progress.percent * (end - start) // 100


def _facts(record: Record) -> dict[str, Any]:
    ended = record.state in FINAL
    return {
        "language": record.language or record.options.language,
        "file_name": record.name,
        "url": record.url,
        "callback_url": record.options.webhook_url,
        "duration": None if record.timings is None else round(sum(record.timings.values()), 3),
        "audio_duration": record.duration,
        "start_time": record.created,
        "end_time": record.updated if ended else None,
    }


def _error(record: Record) -> str | None:
    match record.state:
        case State.FAILED:
            return "The transcription failed." if record.error is None else record.error.message
        case State.CANCELED:
            return "It was canceled by its owner."
        case State.EXPIRED:
            return "The upload was idle for too long and has ended. Begin a new one."
    return None


def _result(transcript: Transcript) -> dict[str, Any]:
    """Segments with their words, and all words once more, as WhisperX's alignment gives them."""
    segments = [_segment(segment) for segment in transcript.segments]
    return {
        "segments": segments,
        "word_segments": [word for segment in segments for word in segment["words"]],
    }


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "words": [_word(word) for word in segment.words],
        "speaker": segment.speaker,
    }


def _word(word: Word) -> dict[str, Any]:
    told: dict[str, Any] = {
        "word": word.word.strip(),
        "start": word.start,
        "end": word.end,
        "score": round(word.probability, 3),
    }
    # As there, only a word that somebody said has it.
    return told if word.speaker is None else told | {"speaker": word.speaker}


def transcript_of(bucket: Bucket, record: Record) -> Transcript | None:
    """The transcript of the current run, with its own labels of speakers; None where there is none yet.

    Raises Problem `no_longer_kept`, and `not_possible` where another version has written it.
    """
    if not record.has_transcript:
        return None
    document = bucket.get(f"{record.results_prefix}transcript.json")
    if document is None:
        raise no_longer_kept("transcript")
    try:
        return Transcript.model_validate_json(document.body)
    except ValidationError:
        raise Problem(
            "not_possible",
            "Another version has written this transcript, in a form this one cannot read: download it, from "
            f"/transcriptions/{record.id}/transcript.json.",
            {"state": record.state},
        ) from None
