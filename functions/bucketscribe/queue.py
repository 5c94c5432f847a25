"""SQS: job messages out, one job message in, and how many there are.

A message is a hint: it says which run of which transcription waits, and the record alone says whether that
is so. Messages may be lost, doubled or late, and no work is.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config

from .records import is_id
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient


@dataclass(frozen=True, slots=True)
class Job:
    """Which run waits for a worker."""

    owner: str
    id: str
    run: int


@dataclass(frozen=True, slots=True)
class Message:
    """A received message: `job` is None if nobody can read it."""

    job: Job | None
    receipt: str


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
        body = json.dumps({"owner": job.owner, "id": job.id, "run": job.run})
        self.client.send_message(QueueUrl=self.url, MessageBody=body)

    def receive(self, wait_seconds: int) -> Message | None:
        """The next message, waiting for one up to 20 s (a long poll)."""
        response = self.client.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=1, WaitTimeSeconds=wait_seconds
        )
        for message in response.get("Messages", []):
            return Message(_job(message.get("Body", "")), message["ReceiptHandle"])
        return None

    def delete(self, message: Message) -> None:
        """Take a message out of the queue for good."""
        self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message.receipt)

    def count(self) -> int:
        """Messages waiting and in flight; about right, as SQS counts."""
        attributes = self.client.get_queue_attributes(
            QueueUrl=self.url,
            AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"],
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"]) + int(
            attributes["ApproximateNumberOfMessagesNotVisible"]
        )


def _job(body: str) -> Job | None:
    try:
        fields = json.loads(body)
        job = Job(fields["owner"], fields["id"], fields["run"])
    except (ValueError, KeyError, TypeError):
        return None
    readable = isinstance(job.owner, str) and isinstance(job.id, str) and isinstance(job.run, int)
    return job if readable and is_id(job.id) else None
