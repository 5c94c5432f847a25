"""Real servers for tests: SeaweedFS and moto's SQS, as `make up` starts them, without its supervisor.

With BUCKETSCRIBE_TEST_SERVERS=localstack it is LocalStack instead, which is both (tests/localstack).
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bucketscribe.settings import Settings
from bucketscribe.setup import DEAD_JOBS, JOBS
from bucketscribe.up import ports, processes
from bucketscribe.up.child import Child, NotReady
from bucketscribe.up.home import Credentials, claim

from tests.localstack.server import CREDENTIALS, localstack, queue_url

READY_SECONDS = 120.0

ON_LOCALSTACK = os.environ.get("BUCKETSCRIBE_TEST_SERVERS") == "localstack"


class Server:
    """One server process that can be killed and started again."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it does its work."""
        self.process = subprocess.Popen(
            self.child.command,
            env=dict(self.child.environment),
            cwd=self.child.directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_ready(self.child)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.child.after_exit is not None:
                self.child.after_exit()


def wait_ready(child: Child) -> None:
    """Poll until the child's own check goes through."""
    deadline = time.monotonic() + READY_SECONDS
    while child.make_ready is not None:
        try:
            child.make_ready()
            return
        except NotReady as reason:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{child.name} is not ready") from reason
            time.sleep(0.05)


@dataclass
class Servers:
    """Bucket and queue, and the settings and environment that lead there.

    On LocalStack both are one server.
    """

    settings: Settings
    environment: dict[str, str]
    seaweedfs: Server
    sqs: Server
    credentials: Credentials
    extra: dict[str, str] = field(default_factory=dict)


@contextmanager
def running(folder: Path) -> Iterator[Servers]:
    """Both servers with their data in a folder, until the end of the block."""
    base = Settings(data_dir=folder, secret="a secret for tests only")
    with claim(base.data_dir) as home:
        chosen = ports.choose(base, {})
        if ON_LOCALSTACK:
            chosen, credentials = chosen._replace(sqs=chosen.s3), CREDENTIALS
            seaweedfs = sqs = Server(localstack(folder, chosen.s3))
        else:
            credentials = home.credentials()
            seaweedfs = Server(processes.seaweedfs(base, home, chosen, credentials))
            sqs = Server(processes.sqs(base, chosen, credentials))
        environment = processes.our_environment(base, home, chosen, credentials)
        if ON_LOCALSTACK:
            environment["BUCKETSCRIBE_QUEUE_URL"] = queue_url(chosen.s3, JOBS)
            environment["BUCKETSCRIBE_DEAD_LETTERS_URL"] = queue_url(chosen.s3, DEAD_JOBS)
        environment.pop("BUCKETSCRIBE_WORKER_HEALTH_URL")
        for name in list(os.environ):
            if name.startswith(("AWS_", "BUCKETSCRIBE_")) and not name.startswith("BUCKETSCRIBE_TEST_"):
                del os.environ[name]
        os.environ |= {name: value for name, value in environment.items() if name.startswith("AWS_")}
        settings = Settings(
            data_dir=folder,
            secret=base.secret,
            s3_endpoint=environment["BUCKETSCRIBE_S3_ENDPOINT"],
            sqs_endpoint=environment["BUCKETSCRIBE_SQS_ENDPOINT"],
            queue_url=environment["BUCKETSCRIBE_QUEUE_URL"],
            model="tiny.en",
        )
        try:
            seaweedfs.start()
            if sqs is not seaweedfs:
                sqs.start()
            yield Servers(settings, environment, seaweedfs, sqs, credentials)
        finally:
            seaweedfs.kill()
            sqs.kill()
