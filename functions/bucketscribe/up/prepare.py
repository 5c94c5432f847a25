"""What the bucket and the queues must be before the first request: made if missing, put right if not.

Everything here can be repeated. A server that does not answer yet is `NotReady`. Rules come from the upload
page's needs (CORS) and from what S3 itself clears up (lifecycle); servers without the latter are left to the
sweep.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .child import NotReady
from .home import Credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

JOBS = "bucketscribe-jobs"
DEAD_JOBS = "bucketscribe-jobs-dead"
PROBE = "ready"
"""Key of an object that is written, read and deleted again."""

MAX_RECEIVES = 5
DEAD_JOBS_KEPT_SECONDS = 14 * 24 * 3600
CONFIG = Config(
    connect_timeout=1,
    read_timeout=5,
    retries={"total_max_attempts": 1},
    proxies={},  # the loopback is never behind one
    s3={"addressing_style": "path"},
)


def s3_client(endpoint: str, region: str, credentials: Credentials) -> "S3Client":
    """A client of the embedded S3 server."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=CONFIG,
    )


def sqs_client(endpoint: str, region: str, credentials: Credentials) -> "SQSClient":
    """A client of the embedded SQS server."""
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        config=CONFIG,
    )


def prepare_bucket(client: "S3Client", bucket: str, origins: Sequence[str]) -> None:
    """Make the bucket, let web pages of these origins reach it, let it drop uploads nobody finishes.

    Returns when it holds what is written: SeaweedFS answers for buckets seconds before its volumes are there.
    """
    try:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            client.create_bucket(Bucket=bucket)
        client.put_bucket_cors(
            Bucket=bucket,
            CORSConfiguration={
                "CORSRules": [
                    {
                        "AllowedOrigins": list(origins),
                        "AllowedMethods": ["GET", "PUT", "POST", "HEAD"],
                        "AllowedHeaders": ["*"],
                        "ExposeHeaders": ["ETag", "Location"],
                        "MaxAgeSeconds": 3600,
                    }
                ]
            },
        )
        with suppress(ClientError):
            client.put_bucket_lifecycle_configuration(
                Bucket=bucket,
                LifecycleConfiguration={
                    "Rules": [
                        {
                            "ID": "abort-incomplete-uploads",
                            "Status": "Enabled",
                            "Filter": {"Prefix": ""},
                            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
                        }
                    ]
                },
            )
        client.put_object(Bucket=bucket, Key=PROBE, Body=b"ready")
        client.get_object(Bucket=bucket, Key=PROBE)["Body"].read()
        client.delete_object(Bucket=bucket, Key=PROBE)
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error


def prepare_queues(client: "SQSClient") -> None:
    """Make the job queue and the one for messages nobody could read or claim."""
    try:
        dead = client.create_queue(
            QueueName=DEAD_JOBS, Attributes={"MessageRetentionPeriod": str(DEAD_JOBS_KEPT_SECONDS)}
        )["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"][
            "QueueArn"
        ]
        redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": MAX_RECEIVES})
        client.create_queue(QueueName=JOBS, Attributes={"RedrivePolicy": redrive})
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
