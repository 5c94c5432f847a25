"""The operator's own way to bucket and queue, past any server: settings and credentials.

They are in the environment, as for a server; or in the data folder of a running `bucketscribe up`, whose
layout is told in `up/home.py`.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .output import fail, senseless
from .serve import read_settings

if TYPE_CHECKING:
    from botocore.credentials import Credentials

    from ..settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="FOLDER",
        help="Data folder of a running `up`, such as .data, whose bucket and queue are meant.",
    ),
]


def settings_of(data_dir: Path | None) -> "Settings | None":
    """The settings of this machine's bucket and queue, if it has any. Raises typer.BadParameter.

    With a data folder its keys go into our environment, for boto3.
    """
    if data_dir is not None:
        return _settings_of_up(data_dir)
    settings = read_settings()
    named = settings.model_fields_set & {"bucket", "s3_endpoint", "queue_url"}
    return settings if named else None


def known_settings(data_dir: Path | None) -> "Settings":
    """The settings of this machine's bucket; ends the command where it has none."""
    settings = settings_of(data_dir)
    if settings is None:
        fail(
            "No bucket is known here: give --data-dir of a running `up`, such as .data, or set "
            "BUCKETSCRIBE_BUCKET, and BUCKETSCRIBE_S3_ENDPOINT unless it is one of AWS. [no_bucket]"
        )
    return settings


def sdk_credentials() -> "Credentials":
    """What boto3 finds to sign requests with; ends the command where it finds nothing."""
    import boto3

    credentials = boto3.Session().get_credentials()
    if credentials is None:
        fail(
            "There are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. [no_credentials]"
        )
    return credentials


def _settings_of_up(data_dir: Path) -> "Settings":
    """As `bucketscribe up` gives them to its own processes."""
    from ..setup import DEAD_JOBS, JOBS
    from ..up import ports, processes
    from ..up.home import Credentials, remembered_ports

    try:
        credentials = Credentials.kept_in(data_dir)
        chosen = ports.Ports(**remembered_ports(data_dir))
    except (OSError, ValueError, TypeError):
        raise senseless(f"{data_dir} is no data folder of `bucketscribe up`", "--data-dir") from None
    os.environ |= {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    os.environ.pop("AWS_SESSION_TOKEN", None)
    return read_settings().model_copy(
        update={
            "s3_endpoint": processes.endpoint(chosen.s3),
            "sqs_endpoint": processes.endpoint(chosen.sqs),
            "queue_url": processes.queue_url(chosen, JOBS),
            "dead_letters_url": processes.queue_url(chosen, DEAD_JOBS),
        }
    )
