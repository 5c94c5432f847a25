"""Fixtures: real servers once a session, a clean bucket and queue for each test."""

import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
import structlog
from bucketscribe.bucket import Bucket
from bucketscribe.queue import Queue
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep

from tests.localstack.suite import FILES, NOT_HERE
from tests.servers import ON_LOCALSTACK, Servers, running

OWNER = "local"

# How long an example takes says what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


class LaterBucket(Bucket):
    """The real bucket, whose clock can be put forward: ages grow without waiting."""

    later = timedelta()

    def time_of(self, response: Any) -> datetime:
        return super().time_of(response) + self.later


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What runs on LocalStack, and with the other servers, is the same files (tests/localstack/suite.py)."""
    for item in items:
        if not ON_LOCALSTACK:
            if item.get_closest_marker("localstack"):
                item.add_marker(pytest.mark.skip(reason="run by `make test-localstack`"))
        elif f"{item.path.parent.name}/{item.path.stem}" in FILES:
            item.add_marker(pytest.mark.localstack)
            name = item.name.partition("[")[0]
            if name in NOT_HERE:
                item.add_marker(pytest.mark.skip(reason=NOT_HERE[name]))


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> None:
    """Unless it is told otherwise, structlog draws a traceback with every local, for seconds."""
    *processors, _ = structlog.get_config()["processors"]
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*processors, plain])


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with running(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture
def settings(servers: Servers) -> Iterator[Settings]:
    """Settings with a queue of the test's own: SQS lets nobody purge one twice a minute."""
    client = Queue.connect(servers.settings).client
    url = client.create_queue(QueueName=f"jobs-{uuid.uuid4()}")["QueueUrl"]
    yield servers.settings.model_copy(update={"queue_url": url})
    client.delete_queue(QueueUrl=url)


@pytest.fixture
def bucket(settings: Settings) -> LaterBucket:
    bucket = LaterBucket.connect(settings)
    for entry in list(bucket.listing("")):
        bucket.delete(entry.key)
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    for upload in uploads:
        bucket.client.abort_multipart_upload(
            Bucket=bucket.name, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    return bucket


@pytest.fixture
def queue(settings: Settings) -> Queue:
    return Queue.connect(settings)


@pytest.fixture
def service(settings: Settings, bucket: LaterBucket, queue: Queue) -> Service:
    return Service.of(settings, bucket, queue)


@pytest.fixture
def sweep(service: Service) -> Sweep:
    return Sweep(service)
