"""`setup`: the operator has bucket and queues made as they must be. It can be repeated at any time.

For a server of your own, before the first start and after every change of the settings. `up` does this
itself, and on AWS the template has it all.
"""

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from .operator import sdk_credentials, settings_of
from .output import clean, fail, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..settings import Settings
    from ..setup import Step


def setup(
    events: Annotated[
        str | None,
        typer.Option(
            metavar="ARN",
            help="Tell this of every object that arrives, such as arn:minio:sqs::bucketscribe:webhook of a "
            "MinIO that sends its events to /events/s3. Without it the sweep finds what has arrived.",
        ),
    ] = None,
) -> None:
    """Make the bucket and the queues, and set the rules they need; what is right is left alone.

    Those that BUCKETSCRIBE_BUCKET, BUCKETSCRIBE_QUEUE_URL and BUCKETSCRIBE_DEAD_LETTERS_URL name, with the
    AWS credentials in the environment. Rules that others have set stay. What the server cannot do is told,
    and what covers for it.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    settings = settings_of(None)
    if settings is None:
        fail(
            "No bucket is known here: set BUCKETSCRIBE_BUCKET, and BUCKETSCRIBE_S3_ENDPOINT unless it is one "
            "of AWS. [no_bucket]"
        )
    sdk_credentials()
    for server, steps in (("bucket", _bucket(settings, events)), ("queues", _queues(settings))):
        try:
            for step in steps:
                say(f"{'lacking' if step.lacking else 'ok':<7}  {step.name:<12}  {clean(step.seen)}")
                if step.lacking:
                    say(f"{'':<23}{clean(step.lacking)}")
        except (ClientError, BotoCoreError) as error:
            fail(f"The {server}: {error} [storage_unavailable]")


def _bucket(settings: "Settings", events: str | None) -> "Iterator[Step]":
    from ..bucket import Bucket
    from ..setup import set_up_bucket

    return set_up_bucket(
        Bucket.connect(settings).client, settings.bucket, settings.allowed_origins, events=events
    )


def _queues(settings: "Settings") -> "Iterator[Step]":
    import boto3

    from ..setup import JOBS, set_up_queues

    client = boto3.client("sqs", endpoint_url=settings.sqs_endpoint, region_name=settings.region)
    jobs = JOBS if settings.queue_url is None else _name(settings.queue_url)
    dead = f"{jobs}-dead" if settings.dead_letters_url is None else _name(settings.dead_letters_url)
    return set_up_queues(client, jobs, dead)


def _name(url: str) -> str:
    """A queue's name: the end of its URL."""
    return urlsplit(url).path.rpartition("/")[2]
