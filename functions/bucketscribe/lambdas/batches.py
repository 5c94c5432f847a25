"""Batches of queue messages: each is taken by itself, and only those that failed come again.

Formats: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html (the event) and
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html (ReportBatchItemFailures, which
the event source mapping must ask for; else a batch of which one message fails counts as done).
"""

from collections.abc import Callable
from typing import Any

import structlog

from ..bucket import StorageError
from ..errors import Problem
from .invocation import Context, first_half

log = structlog.get_logger()

Answer = dict[str, list[dict[str, str]]]
"""Which messages are to come again."""


def messages_of(event: object) -> list[dict[str, Any]] | None:
    """The messages of a batch; None for what is no batch of a queue."""
    records = event.get("Records") if isinstance(event, dict) else None
    if not isinstance(records, list) or not records:
        return None
    for record in records:
        if not (
            isinstance(record, dict)
            and record.get("eventSource") == "aws:sqs"
            and isinstance(record.get("messageId"), str)
            and isinstance(record.get("body"), str)
        ):
            return None
    return records


def take_each(messages: list[dict[str, Any]], context: Context, take: Callable[[str], None]) -> Answer:
    """Have the body of each message taken, and answer which are to come again.

    Those are the ones for which `take` raised, and those for which there is not time enough.
    """
    failed = []
    time_left = first_half(context)
    for message in messages:
        id = message["messageId"]
        if not time_left():
            log.info("left for later", message=id)
            failed.append(id)
            continue
        try:
            take(message["body"])
        except Exception as error:  # noqa: BLE001 -- one message that fails must not keep the others from theirs
            tell(error, message=id)
            failed.append(id)
    return {"batchItemFailures": [{"itemIdentifier": id} for id in failed]}


def tell(error: Exception, **facts: str) -> None:
    """Log why something is tried again."""
    match error:
        case Problem():
            log.warning("try again", code=error.code, reason=error.detail, **facts)
        case _ if isinstance(error, StorageError):
            log.warning("try again", code="storage_unavailable", reason=str(error), **facts)
        case _:
            log.error("try again", code="internal", exc_info=error, **facts)
