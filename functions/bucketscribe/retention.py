"""Retention where the bucket has no lifecycle rules: what ended long ago gives up its recording.

As with the rules of the AWS template records stay, and so does everything of what has not ended. One listing
of a place, and one look at the record of each transcription with something old in it; nothing is written, so
that it works on a full disk, too. Each removal stands for itself: one that dies is gone on with by the next.

As nothing is written, a retry is not held up either: one that comes between the look at its record and the
removal, a request later, has a run without a recording, which fails as `recording_lost`.
"""

import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import batched, groupby

import structlog

from .bucket import Bucket, Listed
from .records import FINAL, Records, State

log = structlog.get_logger()

ENDED = FINAL - {State.DELETED}
"""A deleted one is emptied by whoever deletes it."""

THREADS = 8
BATCH = 64
"""Transcriptions looked at in one go: what a listing of any length holds in memory."""

_KEY = re.compile(r"(?:uploads|results)/(?P<owner>[^/]+)/(?P<id>[0-9a-f-]{36})/.+")


class Place(StrEnum):
    """Whose time can be over."""

    RECORDINGS = "uploads"
    RESULTS = "results"


@dataclass(frozen=True, slots=True)
class Held:
    """What lies in a place for one transcription. `bytes` of all its files."""

    owner: str
    id: str
    keys: tuple[str, ...]
    bytes: int
    newest: datetime


@dataclass(frozen=True, slots=True)
class Gone:
    """One transcription's files that were removed, or would be; `known` is False if there is no record."""

    bytes: int
    known: bool = True


class Retention:
    """Removes what is older than it may be."""

    def __init__(self, bucket: Bucket, records: Records) -> None:
        self.bucket = bucket
        self.records = records

    def purge(self, place: Place, before: datetime, *, dry_run: bool = False) -> Generator[Gone]:
        """Remove the files of each transcription that ended before then, and tell of each; botocore's errors.

        What has no record is told, and left: nobody can say whether it has ended.
        """
        # A recording, and a result, is older than its transcription's end.
        old = (held for held in self._held(place) if held.newest < before)
        with ThreadPoolExecutor(THREADS) as threads:
            for batch in batched(old, BATCH, strict=False):
                looks = [threads.submit(self._remove, held, before, dry_run) for held in batch]
                for look in looks:
                    gone = look.result()
                    if gone is not None:
                        yield gone

    def _held(self, place: Place) -> Iterator[Held]:
        """Whatever lies there, a transcription at a time, as keys are listed in order."""

        def whose(entry: Listed) -> tuple[str, str] | None:
            found = _KEY.fullmatch(entry.key)
            return None if found is None else (found["owner"], found["id"])

        for names, entries in groupby(self.bucket.listing(f"{place}/"), whose):
            if names is not None:
                files = list(entries)
                size = sum(file.size for file in files)
                newest = max(file.modified for file in files)
                yield Held(*names, tuple(file.key for file in files), size, newest)

    def _remove(self, held: Held, before: datetime, dry_run: bool) -> Gone | None:
        try:
            stored = self.records.read(held.owner, held.id)
        except ValueError as error:
            log.warning("unreadable record", id=held.id, code="unreadable_record", reason=str(error))
            return None
        if stored is None:
            return Gone(held.bytes, known=False)
        if stored.record.state not in ENDED or stored.record.updated >= before:
            return None
        if not dry_run:
            # Those that were seen, and not what a retry may write beside them this very moment.
            self.bucket.delete_keys(held.keys)
        return Gone(held.bytes)
