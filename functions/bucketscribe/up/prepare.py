"""The embedded servers made ready for the first request, at every start.

What bucket and queues must be like stands in `setup.py`. Everything here can be repeated. A server that does
not answer yet is `NotReady`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from ..setup import set_up_bucket, set_up_queues
from .child import NotReady
from .home import Credentials

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

PROBE = "ready"
"""Key of an object that is written, read and deleted again."""

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
        list(set_up_bucket(client, bucket, origins))
        client.put_object(Bucket=bucket, Key=PROBE, Body=b"ready")
        client.get_object(Bucket=bucket, Key=PROBE)["Body"].read()
        client.delete_object(Bucket=bucket, Key=PROBE)
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error


def prepare_queues(client: "SQSClient") -> None:
    """Make the job queue and the one for messages nobody could read or claim."""
    try:
        list(set_up_queues(client))
    except (BotoCoreError, ClientError) as error:
        raise NotReady(str(error)) from error
