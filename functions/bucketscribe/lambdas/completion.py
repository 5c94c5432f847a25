"""Completion: an object has arrived in the bucket, so its upload is finished, or it is taken from the inbox.

It is told by messages of a queue, each an event of S3 or of EventBridge; or by such an event itself, if
somebody invokes it with one. What is no event is logged and dropped: it would be none the next time. What
the bucket does not answer for comes again; and should all of that get lost, the sweep finds the object.
"""

import json

import structlog

from ..arrivals import NotAnEvent, read
from .batches import Answer, messages_of, take_each
from .invocation import Context, invocation, start

log = structlog.get_logger()

service = start()


def handler(event: object, context: Context) -> Answer:
    """Take what has arrived. Raises what the bucket raises, if it was told by no queue."""
    with invocation(context):
        messages = messages_of(event)
        if messages is not None:
            return take_each(messages, context, _take_message)
        _take(event)
        return {"batchItemFailures": []}


def _take_message(body: str) -> None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        _drop(error)
    else:
        _take(document)


def _take(document: object) -> None:
    try:
        arrivals = read(document)
    except NotAnEvent as error:
        _drop(error)
    else:
        for arrival in arrivals:
            service.arrivals.arrived(arrival)


def _drop(reason: Exception) -> None:
    log.warning("dropped", code="not_an_event", reason=str(reason))
