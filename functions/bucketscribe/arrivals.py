"""Arrivals: what an object store tells when an object is there.

Three forms are understood: S3 event notifications (also as MinIO's webhook sends them), one such record, and
EventBridge's "Object Created". A notification is a hint, like a job message: what is lost, doubled or late is
found by the sweep, and what is no news (an object removed, say) is passed over.

Formats: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html ·
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_plus

import structlog
from botocore.exceptions import ClientError

from .auth import owned_id
from .bucket import error_code
from .errors import Problem
from .inbox import PREFIX, Inbox, is_passing
from .records import NoRecord
from .uploads import Uploads

log = structlog.get_logger()

UPLOADS = "uploads/"


class NotAnEvent(ValueError):
    """A document that is no notification of an object store."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that has come into being."""

    bucket: str
    key: str


def read(document: object) -> list[Arrival]:
    """The arrivals a notification tells of; none in S3's test event. Raises NotAnEvent."""
    match document:
        case list():
            return [arrival for record in document for arrival in _records([record])]
        case {"Records": list(records)}:
            return _records(records)
        case {"s3": _}:
            return _records([document])
        case {"Event": "s3:TestEvent"}:
            return []
        case {"source": str(), "detail-type": str(kind), "detail": dict(detail)}:
            return [_arrival(detail, str)] if kind == "Object Created" else []
    raise NotAnEvent("neither Records, nor a detail of EventBridge")


def _records(records: list[Any]) -> list[Arrival]:
    arrivals = []
    for record in records:
        match record:
            case {"eventName": str(name), "s3": dict(told)}:
                if name.removeprefix("s3:").startswith("ObjectCreated"):
                    # Encoded as in a form, in these alone.
                    arrivals.append(_arrival(told, unquote_plus))
            case _:
                raise NotAnEvent("a record without eventName and s3")
    return arrivals


def _arrival(told: dict[Any, Any], decode: Callable[[str], str]) -> Arrival:
    match told:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key)}}:
            return Arrival(bucket, decode(key))
    raise NotAnEvent("no name of a bucket, or no key of an object")


class Arrivals:
    """What is done about the objects that arrive in one bucket."""

    def __init__(self, bucket: str, uploads: Uploads, inbox: Inbox) -> None:
        self.bucket = bucket
        self.uploads = uploads
        self.inbox = inbox

    def arrived(self, arrival: Arrival) -> None:
        """Take an arrival as far as it goes; safe to repeat.

        Raises only what is worth another try: Problem `busy`, and StorageError where the bucket does not
        answer. What it refuses is logged: the sweep sees to that.
        """
        try:
            self._take(arrival)
        except NoRecord:
            return
        except ClientError as error:
            if is_passing(error):
                raise
            reason = ": ".join(map(str, error_code(error)))
            log.warning("arrival not taken", key=arrival.key, code="storage_unavailable", reason=reason)
        except Problem as problem:
            if problem.status >= 500:
                raise
            log.info("arrival passed over", key=arrival.key, code=problem.code)
        except ValueError as error:
            # A record that a newer version, or a hand, has written.
            log.warning("arrival not taken", key=arrival.key, code="unreadable_record", reason=str(error))

    def _take(self, arrival: Arrival) -> None:
        if arrival.bucket != self.bucket:
            log.info("arrival in another bucket", bucket=arrival.bucket, key=arrival.key)
        elif arrival.key.startswith(PREFIX):
            if self.inbox.takes(arrival.key):
                self.inbox.take(arrival.key)
        elif arrival.key.startswith(UPLOADS):
            owner = arrival.key.split("/")[1]
            self.uploads.finish(owner, owned_id(owner, arrival.key))
