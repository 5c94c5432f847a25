"""What an owner may begin: so many uploads open at once, and so many bytes in a day.

Nothing is added up anywhere. What is open is what the markers say; what was begun in a day is one listing of
`quota/{owner}/{date}/{bytes}-{id}`, empty objects of which every begin writes one, before its marker. The day
is the bucket's, in UTC. Where a limit is not set, nothing is listed for it and nothing is written.

What may die, and what is left then:

- *begin*, after its quota object: bytes that nobody will send count until the day is over. So do those of an
  upload that was canceled or expired: what counts is what was begun. Where only its marker could not be
  written, as the disk is full, nothing was begun: it is taken back, unless that fails, too.
- *begin*, after its marker: it counts as open until the sweep has ended it.
- *forget*: what it did not come to goes with the next one. A day that is over counts for nothing.

Begins that run at the same moment do not see each other, so a limit may be overshot by those.
"""

import re
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta

import structlog

from .bucket import Bucket, StorageError
from .errors import Problem
from .markers import Kind
from .settings import Settings

log = structlog.get_logger()

_QUOTA = re.compile(r"(?P<day>quota/[^/]+/(?P<date>\d{4}-\d{2}-\d{2})/)(?P<bytes>\d{1,15})-[0-9a-f-]{36}")


class Limits:
    """The limits of every owner of one bucket."""

    def __init__(self, settings: Settings, bucket: Bucket) -> None:
        self.open_uploads = settings.open_uploads_limit
        self.daily_bytes = settings.max_daily_bytes
        self.upload_bytes = settings.max_upload_bytes
        self.bucket = bucket

    def admit(self, owner: str, id: str, size: int | None) -> str | None:
        """See that an upload of `size` bytes may begin, and count it; of None, as the largest there may be.

        Returns what `take_back` takes. Raises Problem `too_many_uploads`, `daily_limit_reached`; then nothing
        is written.
        """
        if self.open_uploads is not None:
            self._check_open(owner, self.open_uploads)
        if self.daily_bytes is None:
            return None
        return self._count(owner, id, size, self.daily_bytes)

    def take_back(self, counted: str | None) -> None:
        """Count an upload no more that could not begin after all; where the bucket fails, it counts."""
        if counted is not None:
            with suppress(*StorageError):
                self.bucket.delete(counted)

    def _check_open(self, owner: str, limit: int) -> None:
        left = limit
        for kind in (Kind.UPLOADS, Kind.FORMS, Kind.PARTIALS):
            left -= sum(1 for _ in self.bucket.listing(f"open/{kind}/{owner}/", at_most=left))
        if left <= 0:
            raise Problem(
                "too_many_uploads",
                f"{limit} uploads are open, as many as may be at once. Finish or abort some of them; what is "
                "left alone ends by itself.",
                {"maxOpenUploads": limit},
            )

    def _count(self, owner: str, id: str, size: int | None, limit: int) -> str:
        now = self.bucket.now()
        day = f"quota/{owner}/{now.date().isoformat()}/"
        counted = self.upload_bytes if size is None else size
        begun = sum(_bytes(entry.key) for entry in self.bucket.listing(day))
        if begun + counted > limit:
            ends = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
            what = (
                f"{size} more" if size is not None else f"a file of unknown size, which counts as {counted}"
            )
            raise Problem(
                "daily_limit_reached",
                f"{begun} of {limit} bytes were begun today, which leaves no room for {what}. "
                f"The count begins anew at {ends.isoformat()}.",
                {
                    "maxDailyBytes": limit,
                    "begunBytes": begun,
                    "retryAfter": int((ends - now).total_seconds()),
                },
            )
        key = f"{day}{counted}-{id}"
        self.bucket.put(key, b"", "application/octet-stream")
        return key

    def forget(self, before: date) -> None:
        """Remove what was counted on the days before this one, if days are counted."""
        if self.daily_bytes is None:
            return
        listed = (_QUOTA.fullmatch(entry.key) for entry in self.bucket.listing("quota/"))
        # Dates as ISO 8601 writes them are in the order of time.
        days = {found["day"] for found in listed if found and found["date"] < before.isoformat()}
        for day in days:
            self.bucket.delete_all(day)
        if days:
            log.info("counts forgotten", days=len(days))


def _bytes(key: str) -> int:
    found = _QUOTA.fullmatch(key)
    return int(found["bytes"]) if found else 0
