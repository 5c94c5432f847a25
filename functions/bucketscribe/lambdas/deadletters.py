"""Dead letters: job messages that no worker could take, as a batch of the queue they were put aside in.

A message that the bucket does not answer for comes again; any other is done with.
"""

import structlog

from .batches import Answer, messages_of, take_each
from .invocation import Context, invocation, start

log = structlog.get_logger()

dead_letters = start().dead_letters


def handler(event: object, context: Context) -> Answer:
    """Bury each letter."""
    with invocation(context):
        messages = messages_of(event)
        if messages is None:
            log.warning("dropped", code="not_an_event", reason="this is no batch of a queue's messages")
            return {"batchItemFailures": []}
        return take_each(messages, context, dead_letters.bury)
