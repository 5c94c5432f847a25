"""Transcriptions that were never transcribed: records and results written into the bucket as ours are.

For what would take an engine hours, or a speaker model that is not here. Records, keys and formats come from
the package's own classes, so a reader finds nothing that could not have been written by a worker.
"""

import json
import math
import random
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING

from bucketscribe.options import Options
from bucketscribe.records import Failure, Progress, Record, State, Warning, new_id, record_key
from bucketscribe.transcript import FORMATS, Segment, Transcript, Word, render

from tests.integration.test_up import BUCKET

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SECONDS_A_LETTER = 0.07
PAUSE_SECONDS = 0.35
SEED = 20261121


@dataclass(frozen=True, slots=True)
class Line:
    """What somebody says in one go; `speaker` is a label such as SPEAKER_00."""

    text: str
    speaker: str | None = None


def spoken(lines: Iterable[Line], start: float = 0.6) -> Iterator[Segment]:
    """The lines one after the other, each word as long as it is written."""
    at = start
    for number, line in enumerate(lines):
        words = []
        for text in line.text.split():
            end = at + SECONDS_A_LETTER * len(text) + 0.05
            words.append(Word(start=at, end=end, word=f" {text}", probability=0.9, speaker=line.speaker))
            at = end + 0.03
        yield Segment(
            id=number,
            start=words[0].start,
            end=words[-1].end,
            text=line.text,
            words=tuple(words),
            speaker=line.speaker,
        )
        at += PAUSE_SECONDS


def tone(seconds: float, rate: int = 8000) -> bytes:
    """A WAV file that can be played: silence, a byte a sample."""
    stream = BytesIO()
    with wave.open(stream, "wb") as writer:
        writer.setparams((1, 1, rate, 0, "NONE", ""))
        writer.writeframes(b"\x80" * round(seconds * rate))
    return stream.getvalue()


def peaks(segments: Sequence[Segment], duration: float, points: int = 2048) -> bytes:
    """A waveform that is loud where something is said, in the form of `worker/peaks.py`."""
    chance = random.Random(SEED)
    data = []
    at = 0
    for point in range(points):
        second = point / points * duration
        while at < len(segments) - 1 and segments[at].end < second:
            at += 1
        said = bool(segments) and segments[at].start <= second <= segments[at].end
        loud = chance.triangular(0.1, 0.9, 0.3) if said else 0.02
        height = round(127 * loud * (0.75 + 0.25 * math.sin(second / 3)))
        data += [-height, height]
    document = {
        "version": 2,
        "channels": 1,
        "sample_rate": 16000,
        "samples_per_pixel": max(1, round(duration * 16000 / points)),
        "bits": 8,
        "length": points,
        "data": data,
    }
    return json.dumps(document, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Garden:
    """Where seeds are put: one owner's place in a bucket."""

    s3: "S3Client"
    owner: str = "local"

    def completed(
        self,
        name: str,
        segments: Iterable[Segment],
        *,
        media: bytes | None = None,
        duration: float | None = None,
        language: str = "en",
        warnings: tuple[Warning, ...] = (),
        age: timedelta = timedelta(),
        options: Options | None = None,
    ) -> str:
        """A finished transcription; returns its id. The recording is silent unless it is given."""
        said = tuple(segments)
        length = duration if duration is not None else math.ceil(said[-1].end if said else 1) + 0.5
        body = media if media is not None else tone(length)
        record = self._record(name, State.COMPLETED, age, options)
        etag = self._put(record.key, body, record.content_type)
        transcript = Transcript(
            id=record.id,
            text=" ".join(segment.text for segment in said),
            language=language,
            language_probability=0.98,
            duration=length,
            segments=said,
            engine="faster-whisper",
            model="base",
            options=record.options.model_dump(exclude_none=True),
            timings={"decode": 1.0, "transcribe": length / 18},
            warnings=warnings,
        )
        for format, content_type in FORMATS.items():
            self._put(f"{record.results_prefix}transcript.{format}", render(transcript, format), content_type)
        self._put(f"{record.results_prefix}peaks.json", peaks(said, length), "application/json")
        facts = {"language": language, "duration": length, "warnings": warnings, "size": len(body)}
        return self._write(record.model_copy(update={"etag": etag, **facts}))

    def failed(self, name: str, failure: Failure, *, age: timedelta = timedelta(), size: int = 48_000) -> str:
        """One whose recording could not be transcribed."""
        record = self._record(name, State.FAILED, age, None)
        etag = self._put(record.key, tone(size / 8000), record.content_type)
        return self._write(record.model_copy(update={"error": failure, "etag": etag, "size": size}))

    def running(self, name: str, progress: Progress, *, duration: float, size: int) -> str:
        """One that a worker seems to be at: there is no job of it, so that nobody takes it."""
        record = self._record(name, State.RUNNING, timedelta(minutes=2), None)
        etag = self._put(record.key, tone(10), record.content_type)
        shape = peaks(tuple(spoken([Line("Something is said here.")] * 60)), 60)
        self._put(f"{record.results_prefix}peaks.json", shape, "application/json")
        facts = {"progress": progress, "duration": duration, "size": size, "etag": etag}
        return self._write(record.model_copy(update=facts))

    def _record(self, name: str, state: State, age: timedelta, options: Options | None) -> Record:
        created = datetime.now(UTC).replace(microsecond=0) - age
        id = new_id(int(created.timestamp() * 1000))
        return Record(
            schema=1,
            id=id,
            owner=self.owner,
            version=1,
            write="0" * 16,
            writes=("0" * 16,),
            state=state,
            created=created,
            updated=created,
            key=f"uploads/{self.owner}/{id}/{name}",
            name=name,
            content_type="audio/wav",
            options=options or Options(),
        )

    def _put(self, key: str, body: bytes, content_type: str) -> str:
        return self.s3.put_object(Bucket=BUCKET, Key=key, Body=body, ContentType=content_type)["ETag"]

    def _write(self, record: Record) -> str:
        document = record.model_dump_json(by_alias=True, exclude_none=True).encode()
        self._put(record_key(record.owner, record.id), document, "application/json")
        return record.id
