"""What a browser meets: `bucketscribe up` with its bucket behind a line, and other APIs on the same bucket.

The page, the API and the bucket are the real ones, each on an origin of its own.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bucketscribe.client import Client
from bucketscribe.setup import JOBS
from bucketscribe.up.child import NotReady
from bucketscribe.up.ports import Ports
from bucketscribe.up.processes import check_http, queue_url

from tests.browser.line import Line
from tests.integration.test_up import BUCKET, Up, clean_environment, free_port, wait_until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@dataclass(frozen=True)
class Stack:
    """Everything `up` runs, and the line between the browser and its bucket."""

    up: Up
    line: Line
    s3: "S3Client"
    client: Client

    @property
    def url(self) -> str:
        """Where the page is."""
        return self.up.url

    def objects(self) -> list[str]:
        """Every key in the bucket."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def open_uploads(self) -> list[str]:
        """Keys of the multipart uploads that are neither completed nor aborted."""
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        return [upload["Key"] for upload in uploads]

    def empty(self) -> None:
        """Delete every transcription, as their owner would."""
        while found := self.client.list().transcriptions:
            for transcription in found:
                self.client.delete(transcription.id)

    @contextmanager
    def api(self, **settings: str) -> Iterator[str]:
        """Another API process on the same bucket and queue, with settings of its own; gives its URL."""
        credentials = json.loads((self.up.data / "credentials.json").read_text())
        ports = Ports(**json.loads((self.up.data / "ports.json").read_text()))
        port = free_port()
        environment = clean_environment(
            **{
                "port": str(port),
                "bucket": BUCKET,
                "s3_endpoint": f"http://127.0.0.1:{ports.s3}",
                "s3_public_endpoint": self.line.url,
                "sqs_endpoint": f"http://127.0.0.1:{ports.sqs}",
                "queue_url": queue_url(ports, JOBS),
                "secret": credentials["secret"],
            }
            | settings
        )
        environment |= {
            "AWS_ACCESS_KEY_ID": credentials["access_key"],
            "AWS_SECRET_ACCESS_KEY": credentials["secret_key"],
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "bucketscribe.cli.main", "api"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def ready() -> bool:
            assert process.poll() is None, f"the API ended with status {process.returncode}"
            try:
                check_http(f"http://127.0.0.1:{port}/health/live")
            except NotReady:
                return False
            return True

        try:
            wait_until("the other API is ready", ready, 30)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()

    def new_key(self, name: str) -> str:
        """An API key, made as an operator makes one."""
        command = [sys.executable, "-m", "bucketscribe.cli.main", "keys", "new", name]
        command += ["--data-dir", str(self.up.data)]
        made = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
        return made.stdout.strip()


def page_is_built() -> bool:
    """Whether the package has the page in it."""
    import bucketscribe

    return (Path(bucketscribe.__file__).parent / "page" / "index.html").is_file()


def in_ci() -> bool:
    """Whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in ("1", "true")
