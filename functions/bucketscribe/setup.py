"""What bucket and queues must be like, made where it is missing: `bucketscribe setup`.

Each step can be repeated and may be the last one before we die: whoever runs it again goes on from what is
there. Rules that others have set stay as they are. What a server cannot do, and something else covers for, is
`lacking` and no error; everything else is raised as botocore has it. LocalStack runs this file in the Python
of its image (localstack/ready.d): it needs boto3, Python 3.11 and nothing of ours. Sources: the S3 API
reference, "PutBucketCors", "PutBucketLifecycleConfiguration", "PutBucketNotificationConfiguration"; the SQS
API reference, "CreateQueue".
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

JOBS = "bucketscribe-jobs"
DEAD_JOBS = "bucketscribe-jobs-dead"
"""Names of the queues, unless others are set."""

MAX_RECEIVES = 5
"""A message that was received so often and never deleted goes to the dead letters."""

DEAD_LETTERS_KEPT_SECONDS = 14 * 24 * 3600
"""As long as SQS keeps any message."""

CORS_RULE = "bucketscribe-pages"
ABORT_RULE = "abort-incomplete-uploads"
ARRIVALS = ("uploads/", "inbox/")
"""Where objects arrive of which nobody need tell us."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is as it must be; or what is `lacking`, and what covers for it."""

    name: str
    seen: str
    lacking: str = ""


def set_up_bucket(
    client: "S3Client", bucket: str, origins: Sequence[str] = (), events: str | None = None
) -> Iterator[Step]:
    """The bucket, what web pages of these origins may do there, and what becomes of uploads nobody ends.

    Any origin unless some are named: a presigned URL is the key. `events` is the ARN of what is told of
    every arrival, if anything is.
    """
    yield _bucket(client, bucket)
    yield _cors(client, bucket, origins or ("*",))
    yield _lifecycle(client, bucket)
    if events:
        yield _notification(client, bucket, events)


def _bucket(client: "S3Client", bucket: str) -> Step:
    region = client.meta.region_name
    # S3 takes every region's name there but the oldest one's.
    where: Any = (
        {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    )
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _status(error) != 404:
            raise
        try:
            client.create_bucket(Bucket=bucket, **where)
        except ClientError as refused:
            if _status(refused) != 409:
                raise
            # Somebody was faster: us, if we may look at it.
            client.head_bucket(Bucket=bucket)
    return Step("bucket", bucket)


def _cors(client: "S3Client", bucket: str, origins: Sequence[str]) -> Step:
    content: Any = {
        "AllowedOrigins": list(origins),
        "AllowedMethods": ["GET", "PUT", "POST", "HEAD"],
        "AllowedHeaders": ["*"],
        "ExposeHeaders": ["ETag", "Location"],
        "MaxAgeSeconds": 3600,
    }
    rule: Any = {"ID": CORS_RULE, **content}
    try:
        try:
            known: list[Any] = [*client.get_bucket_cors(Bucket=bucket)["CORSRules"]]
        except ClientError as error:
            if _status(error) != 404:
                raise
            known = []
        if rule not in known:
            # Not every server keeps the names of rules.
            others = [other for other in known if other.get("ID") != CORS_RULE and other != content]
            client.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [*others, rule]})
    except ClientError as error:
        if not _unknown(error):
            raise
        return Step(
            "CORS",
            f"this server knows no rules for one bucket ({_code(error)})",
            "set the origins of your web pages at the server itself (MinIO: MINIO_API_CORS_ALLOW_ORIGIN)",
        )
    return Step("CORS", f"web pages of {', '.join(origins)} may upload and read ETags")


def _lifecycle(client: "S3Client", bucket: str) -> Step:
    rule: Any = {
        "ID": ABORT_RULE,
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    covered = "the sweep ends idle uploads; a rule would do so where no sweep runs"
    try:
        known = _lifecycle_rules(client, bucket)
        if not any(map(_aborts, known)):
            others = [other for other in known if other.get("ID") != ABORT_RULE]
            client.put_bucket_lifecycle_configuration(
                Bucket=bucket, LifecycleConfiguration={"Rules": [*others, rule]}
            )
            known = _lifecycle_rules(client, bucket)
    except ClientError as error:
        # Nothing of ours rests on it, and servers refuse what they do not know in many ways.
        if not _final(error):
            raise
        return Step("lifecycle", f"this server takes no such rule ({_code(error)})", covered)
    if not any(map(_aborts, known)):
        return Step("lifecycle", "this server has dropped the rule", covered)
    return Step("lifecycle", "uploads that nobody ends are aborted after a day")


def _lifecycle_rules(client: "S3Client", bucket: str) -> list[Any]:
    try:
        return [*client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]]
    except ClientError as error:
        if _status(error) != 404:
            raise
        return []


def _aborts(rule: Any) -> bool:
    return (
        rule.get("ID") == ABORT_RULE
        and rule["Status"] == "Enabled"
        and "AbortIncompleteMultipartUpload" in rule
    )


def _notification(client: "S3Client", bucket: str, arn: str) -> Step:
    ours: list[Any] = [
        {
            "Id": f"bucketscribe-{prefix.strip('/')}",
            "QueueArn": arn,
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}},
        }
        for prefix in ARRIVALS
    ]
    try:
        known: Any = client.get_bucket_notification_configuration(Bucket=bucket)
        known.pop("ResponseMetadata")
        names = {one["Id"] for one in ours}
        others = [other for other in known.get("QueueConfigurations", []) if other.get("Id") not in names]
        client.put_bucket_notification_configuration(
            Bucket=bucket, NotificationConfiguration=known | {"QueueConfigurations": [*others, *ours]}
        )
    except ClientError as error:
        if not _final(error):
            raise
        return Step(
            "events",
            f"this server does not tell {arn} ({_code(error)})",
            "the sweep finds what has arrived, within a minute or so",
        )
    return Step("events", f"{arn} is told of every arrival")


def set_up_queues(client: "SQSClient", jobs: str = JOBS, dead: str = DEAD_JOBS) -> Iterator[Step]:
    """The queue of jobs, and the one where messages go that nobody could read or claim; by their names.

    `seen` is a queue's URL.
    """
    # Without attributes a queue that is there is taken as it is, whatever it is like.
    dead_url = client.create_queue(QueueName=dead)["QueueUrl"]
    known = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["All"])["Attributes"]
    if known.get("MessageRetentionPeriod") == str(4 * 24 * 3600):  # what SQS gives a queue of nobody's choice
        client.set_queue_attributes(
            QueueUrl=dead_url, Attributes={"MessageRetentionPeriod": str(DEAD_LETTERS_KEPT_SECONDS)}
        )
    jobs_url = client.create_queue(QueueName=jobs)["QueueUrl"]
    if (
        "RedrivePolicy"
        not in client.get_queue_attributes(QueueUrl=jobs_url, AttributeNames=["All"])["Attributes"]
    ):
        redrive = {"deadLetterTargetArn": known["QueueArn"], "maxReceiveCount": MAX_RECEIVES}
        client.set_queue_attributes(QueueUrl=jobs_url, Attributes={"RedrivePolicy": json.dumps(redrive)})
    yield Step("job queue", jobs_url)
    yield Step("dead letters", dead_url)


def _status(error: ClientError) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _code(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _final(error: ClientError) -> bool:
    """Whether it would be the same the next time."""
    return _status(error) < 500 or _unknown(error)


def _unknown(error: ClientError) -> bool:
    """Whether the server does not know the request at all."""
    return _status(error) in (405, 501) or _code(error) in ("NotImplemented", "MethodNotAllowed")
