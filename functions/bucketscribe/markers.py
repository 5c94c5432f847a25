"""Markers: small objects under `open/` that say "this is not finished". They are what the sweep lists.

A marker is written before the thing it stands for and removed after the thing has ended, so that a crash
between the two leaves a marker too many and never one too few. Its LastModified says when somebody last
looked at it; rewriting it by compare-and-swap is how one sweep of several takes a look for itself.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from .bucket import Bucket, Conflict
from .records import Record, is_id


class Kind(StrEnum):
    """What a marker stands for."""

    UPLOADS = "uploads"
    """A multipart upload in progress. Body: the recording's `key`, and when it was last `seen` alive."""
    FORMS = "forms"
    """A small-file form handed out. Body: the recording's `key`."""
    PARTIALS = "partials"
    """A part of a recording that comes by tus, to be put together with others. Body: as of an upload."""
    JOBS = "jobs"
    """A run that is queued or running. Its key carries the run's number."""
    PURGE = "purge"
    """A transcription being deleted."""
    WEBHOOKS = "webhooks"
    """A run whose end is to be told to a webhook. Its key carries the run's number; its body, once it was
    tried, how often (`tries`), since when, and when it is `due` again."""


OF_A_RUN = frozenset({Kind.JOBS, Kind.WEBHOOKS})
"""Kinds whose key carries a run's number: a retry's marker is another one."""


_RUN = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Marker:
    """A marker as it was listed."""

    kind: Kind
    owner: str
    id: str
    run: int
    etag: str
    modified: datetime

    @property
    def key(self) -> str:
        """Its key in the bucket."""
        return marker_key(self.kind, self.owner, self.id, self.run)


def marker_key(kind: Kind, owner: str, id: str, run: int = 0) -> str:
    """Where a marker lies; `run` counts for those of a run only."""
    return f"open/{kind}/{owner}/{id}" + (f".{run}" if kind in OF_A_RUN else "")


def upload_kind(record: Record) -> Kind:
    """Which kind of marker stands for the upload of a recording."""
    return Kind.UPLOADS if record.form_ends is None else Kind.FORMS


class Markers:
    """The markers in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def put(self, kind: Kind, owner: str, id: str, run: int = 0, **body: Any) -> datetime:
        """Write a marker, whether or not it stands; return the bucket's time."""
        return self.bucket.put(marker_key(kind, owner, id, run), _body(body)).at

    def owe(self, record: Record) -> None:
        """Before a record is written: the marker of the webhook its run will owe, if it is to owe one."""
        if record.webhook is not None:
            self.put(Kind.WEBHOOKS, record.owner, record.id, record.run)

    def read(
        self, kind: Kind, owner: str, id: str, run: int = 0
    ) -> tuple[dict[str, Any], str, datetime] | None:
        """A marker's body, its ETag and the bucket's time; None if it does not stand."""
        document = self.bucket.get(marker_key(kind, owner, id, run))
        return None if document is None else (json.loads(document.body), document.etag, document.at)

    def stands(self, kind: Kind, owner: str, id: str) -> bool:
        """Whether the marker is there."""
        return self.bucket.find(marker_key(kind, owner, id)) is not None

    def touch(self, kind: Kind, owner: str, id: str, etag: str, run: int = 0, **body: Any) -> bool:
        """Rewrite the marker that has this ETag, so that it counts as looked at now.

        False if somebody else was faster or it is gone: then the look is theirs.
        """
        try:
            self.bucket.replace(marker_key(kind, owner, id, run), _body(body), etag)
        except Conflict:
            return False
        return True

    def remove(self, kind: Kind, owner: str, id: str, run: int = 0) -> None:
        """Remove a marker; one that is gone is fine."""
        self.bucket.delete(marker_key(kind, owner, id, run))

    def remove_runs(self, kind: Kind, owner: str, id: str) -> None:
        """Remove the markers of every run, of one kind."""
        for entry in self.bucket.listing(f"open/{kind}/{owner}/{id}."):
            self.bucket.delete(entry.key)

    def listing(self, kind: Kind | None = None) -> Iterator[Marker]:
        """All markers, of one kind or of every kind. What does not look like one is passed over."""
        for entry in self.bucket.listing(f"open/{kind}/" if kind else "open/"):
            parts = entry.key.split("/")
            if len(parts) != 4 or parts[1] not in Kind:
                continue
            marker_kind, owner, (id_, _, run) = Kind(parts[1]), parts[2], parts[3].partition(".")
            if is_id(id_) and (_RUN.fullmatch(run) if marker_kind in OF_A_RUN else not run):
                yield Marker(marker_kind, owner, id_, int(run or 0), entry.etag, entry.modified)


def _body(values: dict[str, Any]) -> bytes:
    # The random look makes every version's ETag another one.
    return json.dumps(values | {"look": os.urandom(6).hex()}).encode()
