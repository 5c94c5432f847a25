"""Renaming: a transcription, and the speakers in its transcript.

A file of a run is written once, so new names are new files. In this order, so that one may die anywhere:

1. The record is written anew: its new `version` is the number of a folder that nobody else writes to, and
   `quiet_after` tells a delete that somebody may be writing.
2. Every format goes to `results/{owner}/{id}/{run}/names-{version}/`.
3. The record points there, and not before. Where others have renamed speakers meanwhile, it all begins again
   with their names, too; where there is a new run, there is nothing to rename.
4. The files before are removed.

Died after 1 or 2: the names are as they were. Died after 3: they are new. What then lies there in vain is
removed by the next renaming an hour later, or with the transcription. Taking all names away needs no files:
those of the run stand.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import structlog
from pydantic import ValidationError

from .bucket import Bucket, Conflict, StorageError
from .errors import Problem
from .records import Record, Records, State, Stored
from .transcript import FORMATS, Transcript, render
from .transcriptions import SWAP_TRIES, Transcriptions, busy, no_longer_kept, no_such, not_ready

log = structlog.get_logger()

_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters, halves of surrogate pairs, and separators of lines."""

ABANDONED = timedelta(hours=1)
"""Files that are older, and that no record points to, are of a renaming that died."""


class Renaming:
    """What one may call a transcription, and who speaks in it."""

    def __init__(self, bucket: Bucket, records: Records, transcriptions: Transcriptions) -> None:
        self.bucket = bucket
        self.records = records
        self.transcriptions = transcriptions

    def rename(self, owner: str, id: str, name: str | None, speakers: Mapping[str, str | None]) -> Stored:
        """Give it another name, unless that is None, and these speakers theirs, by their labels.

        An empty name of a speaker, or None, takes away the one there was. Raises Problem
        `no_such_transcription`, `invalid_option`, `not_ready`, `no_longer_kept`, `not_possible` or `busy`.
        """
        if name is not None:
            name = _readable(name, "name")
        given = {
            label: _readable(told, "speakers") for label, told in speakers.items() if told and told.strip()
        }
        transcript, run = None, 0
        for _ in range(SWAP_TRIES):
            record = self.transcriptions.get(owner, id).record
            names, number = record.speakers, record.names
            if speakers:
                if transcript is None or run != record.run:
                    transcript, run = self._transcript(record), record.run
                    _check_labels(transcript, speakers)
                kept = {label: told for label, told in names.items() if label not in speakers}
                names = kept | given
                if names != record.speakers:
                    number = self._write(record, transcript, names) if names else None
            stored, pointed = self._point(record, name, names, number)
            if number != record.names:
                self._clear_up(record, stored, record.names if pointed else number)
            if pointed:
                return stored
        raise busy()

    def _transcript(self, record: Record) -> Transcript:
        """The run's own, with whatever labels it has."""
        if not record.has_transcript:
            raise not_ready(record)
        document = self.bucket.get(f"{record.results_prefix}transcript.json")
        if document is None:
            raise no_longer_kept("transcript")
        try:
            return Transcript.model_validate_json(document.body)
        except ValidationError:
            raise Problem(
                "not_possible",
                "Another version has written this transcript, in a form this one cannot read: have that "
                "rename its speakers.",
                {"state": record.state},
            ) from None

    def _write(self, record: Record, transcript: Transcript, names: dict[str, str]) -> int:
        """Write the transcript with these names; return the number of its folder."""
        number = self._reserve(record)
        folder = record.model_copy(update={"names": number}).transcript_prefix
        named = transcript.model_copy(update={"speakers": names})
        for format, content_type in FORMATS.items():
            # Nobody else writes here: what stands is ours, and its answer was lost.
            with suppress(Conflict):
                self.bucket.create(f"{folder}transcript.{format}", render(named, format), content_type)
        return number

    def _reserve(self, seen: Record) -> int:
        """Make a version of the record, and have a delete wait for who has made it."""
        version = 0

        def begin(record: Record, now: datetime) -> Record:
            nonlocal version
            if record.state is State.DELETED:
                raise no_such(record.id)
            version = record.version + 1
            return record.to(record.state, quiet_after=max(record.quiet_after or now, now))

        self.records.change(seen.owner, seen.id, begin)
        return version

    def _point(
        self, seen: Record, name: str | None, names: dict[str, str], number: int | None
    ) -> tuple[Stored, bool]:
        """Write down what all are called; False if speakers were renamed, or a run begun, since `seen`."""
        pointed = True

        def point(record: Record, now: datetime) -> Record | None:
            nonlocal pointed
            if record.state is State.DELETED:
                raise no_such(record.id)
            called = record.name if name is None else name
            pointed = number == seen.names or (record.run, record.names) == (seen.run, seen.names)
            if not pointed:
                return None
            if number == seen.names:
                return None if called == record.name else record.to(record.state, name=called)
            return record.to(record.state, name=called, speakers=names, names=number)

        return self.records.change(seen.owner, seen.id, point), pointed

    def _clear_up(self, seen: Record, stored: Stored, done_with: int | None) -> None:
        """Remove a folder that nothing points to any more, and what renamings that died have left."""
        kept, gone = (
            seen.model_copy(update={"names": number}).transcript_prefix if number is not None else None
            for number in (stored.record.names if stored.record.run == seen.run else None, done_with)
        )
        try:
            listed = [*self.bucket.listing(f"{seen.results_prefix}names-")]
            self.bucket.delete_keys(
                [
                    entry.key
                    for entry in listed
                    if not (kept and entry.key.startswith(kept))
                    and ((gone and entry.key.startswith(gone)) or stored.at - entry.modified > ABANDONED)
                ]
            )
        except StorageError as error:
            log.warning("old names not removed", id=seen.id, code="storage_unavailable", reason=str(error))


def _readable(text: str, option: str) -> str:
    """A name without blanks around it. Raises Problem `invalid_option` for one that could not be read."""
    text = text.strip()
    if any(unicodedata.category(character) in _BREAKING for character in text):
        problem = "must be on one line, without control characters"
    elif not any(character.isprintable() and not character.isspace() for character in text):
        problem = "must have a letter, or another sign one can see"
    else:
        return text
    raise Problem("invalid_option", f"{option}: a name {problem}.", {"option": option})


def _check_labels(transcript: Transcript, asked: Iterable[str]) -> None:
    labels = {segment.speaker for segment in transcript.segments if segment.speaker}
    labels |= {word.speaker for segment in transcript.segments for word in segment.words if word.speaker}
    for label in asked:
        if label not in labels:
            known = (
                f"They are labelled {', '.join(sorted(labels))}." if labels else "There are no labels in it."
            )
            raise Problem(
                "invalid_option",
                f"Nobody is labelled {label[:64]!r} in this transcript. {known}",
                {"option": "speakers"},
            )
