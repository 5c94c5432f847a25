"""Dead letters: job messages that workers received several times, and that none of them took.

The queue itself counts how often a message was received without being deleted, and puts it aside (SQS's
redrive policy; ElasticMQ and moto have the same). A worker deletes a message as soon as it has claimed its
run, or found that there is nothing to claim. What the bucket refuses meanwhile is not the message's fault,
nor is a record that only a newer version can read: the worker sends it anew. So what dies is a message

- that nobody can read: nothing is changed. A job that it may have been for has its marker still, by which
  the sweep sends another;
- of a run that workers die of before they have claimed it: it is failed as `never_started`, so that it
  neither ends one worker after another nor is queued for ever. Its owner can retry it.

A message that nobody receives, as no worker runs, does not die. Burying a letter can be repeated, and can
die anywhere: the record is changed by compare-and-swap, then the job's marker goes, then the letter; the
sweep removes a marker that stays.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
"""

import structlog

from . import metrics
from .queue import Queue, job_of
from .transcriptions import Transcriptions

log = structlog.get_logger()

MOST = 100
"""Letters taken out in one go, so that a sweep comes to its end."""

SHOWN_CHARACTERS = 200


class DeadLetters:
    """Puts an end to jobs whose messages died. `queue` is where the letters are, if it is us who looks."""

    def __init__(self, transcriptions: Transcriptions, queue: Queue | None = None) -> None:
        self.transcriptions = transcriptions
        self.queue = queue

    def bury(self, body: str) -> None:
        """Fail the run that a dead message was for, if that still waits; whatever else it is changes nothing.

        Raises botocore's errors and Problem `busy`, after which it is worth another try.
        """
        job = job_of(body)
        if job is None:
            log.warning("unreadable dead letter", code="unreadable_message", body=body[:SHOWN_CHARACTERS])
            metrics.count("dead_letters", outcome="unreadable")
            return
        names = {"id": job.id, "owner": job.owner, "run": job.run}
        try:
            buried = self.transcriptions.bury(job)
        except ValueError as error:
            log.warning("dead letter", **names, code="unreadable_record", reason=str(error))
            metrics.count("dead_letters", outcome="unreadable")
            return
        if buried:
            log.warning("dead letter", **names, code="never_started")
        else:
            log.info("dead letter of a run that does not wait", **names)
        metrics.count("dead_letters", outcome="failed" if buried else "settled")

    def drain(self) -> int:
        """Bury what lies in the queue of dead letters, `MOST` at once; returns how many those were.

        Raises what `bury` does; the letter it was at comes again.
        """
        if self.queue is None:
            return 0
        for number in range(MOST):
            message = self.queue.receive(0)
            if message is None:
                return number
            self.bury(message.body)
            self.queue.delete(message)
        return MOST
