"""SQS: job messages out, one message in, and how many there are. Dead letters have a queue of the same kind.

A message is a hint: it says which run of which transcription waits, and the record alone says whether that
is so. Messages may be lost, doubled or late, and no work is.
"""

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import boto3
from botocore.config import Config

from .auth import is_owner
from .records import is_id
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


HIDDEN_SECONDS = 180
"""How long a received message is hidden from others, whatever its queue is set to: longer than a claim lasts
against a bucket that answers nothing (three attempts of 20 s, for a read or for each of two writes)."""

SENDING_SECONDS = 50
"""What putting a message back may take."""

COUNTS: Final = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)

MOST_RUNS = 999_999_999
"""A marker's key takes no higher number."""


@dataclass(frozen=True, slots=True)
class Job:
    """Which run waits for a worker."""

    owner: str
    id: str
    run: int


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: `job` is None if nobody can read its `body`. `since` by our clock, in s."""

    job: Job | None
    receipt: str
    body: str = ""
    since: float = field(default_factory=time.monotonic)


class Queue:
    """The job queue."""

    def __init__(self, client: "SQSClient", url: str) -> None:
        self.client = client
        self.url = url

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The queue the settings name; no request is made. Raises ValueError where none is named."""
        if settings.queue_url is None:
            raise ValueError("BUCKETSCRIBE_QUEUE_URL is not set")
        config = Config(
            connect_timeout=3, read_timeout=30, retries={"mode": "standard", "total_max_attempts": 2}
        )
        client = boto3.client(
            "sqs", endpoint_url=settings.sqs_endpoint, region_name=settings.region, config=config
        )
        return cls(client, settings.queue_url)

    def send(self, job: Job) -> None:
        """Put a job message into the queue."""
        self.client.send_message(QueueUrl=self.url, MessageBody=body_of(job))

    def receive(self, wait_seconds: int) -> Message | None:
        """The next message, waiting for one up to 20 s (a long poll)."""
        response = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=1,
            WaitTimeSeconds=wait_seconds,
            VisibilityTimeout=HIDDEN_SECONDS,
        )
        for message in response.get("Messages", []):
            body = message.get("Body", "")
            return Message(job_of(body), message["ReceiptHandle"], body)
        return None

    def delete(self, message: Message) -> None:
        """Take a message out of the queue for good."""
        self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

    def put_back(self, message: Message, delay_seconds: int = 0) -> None:
        """Have a message received anew, as if it never had been: what went wrong was not its fault.

        The queue counts how often a message was received, and takes one that was too often for a dead letter.
        Sent first, then taken out: dying in between leaves one too many. One that may be in other hands by
        then is left to those, as it could not be taken out any more, and there would be one more each time.
        """
        if time.monotonic() - message.since > HIDDEN_SECONDS - SENDING_SECONDS:
            return
        self.client.send_message(QueueUrl=self.url, MessageBody=message.body, DelaySeconds=delay_seconds)
        self.delete(message)

    def redrive_policy(self) -> "RedrivePolicy | None":
        """What becomes of messages that are received again and again; None if they stay."""
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["RedrivePolicy"])
        try:
            policy = json.loads(answer.get("Attributes", {}).get("RedrivePolicy", ""))
            return RedrivePolicy(
                policy["deadLetterTargetArn"].rpartition(":")[2], int(policy["maxReceiveCount"])
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def count(self) -> int:
        """Messages waiting, in flight or put back for later; about right, as SQS counts."""
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=COUNTS)
        return sum(int(answer["Attributes"][name]) for name in COUNTS)


@dataclass(frozen=True, slots=True)
class RedrivePolicy:
    """A queue's rule for what nobody can take: after so many receives it goes to the queue of this name."""

    target: str
    receives: int


def body_of(job: Job) -> str:
    """The body of a job message."""
    return json.dumps({"owner": job.owner, "id": job.id, "run": job.run})


def job_of(body: str) -> Job | None:
    """The job a message's body tells; None if that is not one of ours, whatever else it may be."""
    try:
        fields = json.loads(body)
        owner, id, run = fields["owner"], fields["id"], fields["run"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(owner, str) and is_owner(owner) and isinstance(id, str) and is_id(id)):
        return None
    # A truth is an int, too.
    return Job(owner, id, run) if type(run) is int and 1 <= run <= MOST_RUNS else None
