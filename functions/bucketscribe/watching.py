"""Watching an owner's list: what has come, changed or gone since the last look.

A look is one listing of the newest records, and a read of those whose ETags are new: what does not change
costs nothing. A record that is deleted, or that nobody here can read, is not there, as on a page of the list.
Raises botocore's errors, and has seen nothing then.
"""

import re
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from .records import FINAL, Record, State, record_key
from .transcriptions import PAGE_READS, PAGE_THREADS, Transcriptions

_STATE = re.compile(r"([0-9a-f]{32})((?:[+][0-9]{1,3})*)")


class Watch:
    """One reader's view of the list. For one thread at a time."""

    def __init__(self, transcriptions: Transcriptions, owner: str) -> None:
        self._transcriptions = transcriptions
        self._owner = owner
        self._etags: dict[str, str] = {}  # of the last listing, by key
        self._told: dict[str, int | None] = {}  # the version told last, by key; None for one that is gone
        self._unfinished: set[str] = set()

    @property
    def busy(self) -> bool:
        """Whether something that was told has not come to its end."""
        return bool(self._unfinished)

    @property
    def state(self) -> str:
        """What the list is like now, which a reader can go on from.

        A digest of its newest records; then, with a `+` before each, the places of those told that are not
        finished, so that whoever goes on from here need not read them to know that.
        """
        listed = "\n".join(f"{key} {etag}" for key, etag in self._etags.items())
        places = (f"+{place}" for place, key in enumerate(self._etags) if key in self._unfinished)
        return sha256(listed.encode()).hexdigest()[:32] + "".join(places)

    def begin(self, known: str | None, limit: int) -> tuple[list[Record], str | None] | None:
        """The list's first page, as `Transcriptions.page` has it; None if the reader `known`s this state."""
        self._etags = self._listing()
        told = _STATE.fullmatch(known or "")
        if told is not None and told[1] == self.state:
            places = {int(place) for place in told[2].split("+")[1:]}
            self._unfinished = {key for place, key in enumerate(self._etags) if place in places}
            return None
        records, cursor = self._transcriptions.page(self._owner, None, None, limit)
        for record in records:
            self._tell(record_key(self._owner, record.id), record)
        return records, cursor

    def look(self) -> tuple[list[Record], list[str]]:
        """The records that are new or have changed, and the ids of those that are gone."""
        before, listed = self._etags, self._listing()
        new = [
            key
            for key, etag in listed.items()
            if before.get(key) != etag and (key in before or _in_view(key, before))
        ]
        with ThreadPoolExecutor(PAGE_THREADS) as threads:
            found = dict(zip(new, threads.map(self._transcriptions.records.read_listed, new), strict=True))
        self._etags = listed
        self._unfinished &= listed.keys()
        changed: list[Record] = []
        gone = [key for key in before if key not in listed and _in_view(key, listed)]
        for key, stored in found.items():
            if stored is None or stored.record.state is State.DELETED:
                gone += [key] if key in before else []
            elif stored.record.version != self._told.get(key):
                self._tell(key, stored.record)
                changed.append(stored.record)
        return changed, [_id(key) for key in gone if self._forget(key)]

    def _listing(self) -> dict[str, str]:
        return self._transcriptions.records.listing(self._owner, at_most=PAGE_READS)

    def _tell(self, key: str, record: Record) -> None:
        self._told[key] = record.version
        if record.state in FINAL:
            self._unfinished.discard(key)
        else:
            self._unfinished.add(key)

    def _forget(self, key: str) -> bool:
        """Whether that it is gone was not told before."""
        self._unfinished.discard(key)
        news = self._told.get(key, 0) is not None
        if key in self._etags:
            self._told[key] = None
        else:
            self._told.pop(key, None)
        return news


def _in_view(key: str, listed: dict[str, str]) -> bool:
    """Whether a listing would have this key: where there are more than it shows, it ends before the oldest.

    A record that comes into view there, or goes out of it, is neither new nor gone.
    """
    return len(listed) < PAGE_READS or key < next(reversed(listed))


def _id(key: str) -> str:
    return key.removesuffix(".json")[-36:]
