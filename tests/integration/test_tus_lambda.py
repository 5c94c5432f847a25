"""tus through the API's Lambda handler: no process lasts from one request to the next, and none is larger
than a Lambda takes.

The handler runs as a runtime would run it, in processes of its own; under AWS's own runtime: tests/deploy.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from bucketscribe.auth import Scope
from bucketscribe.keys import Keys
from bucketscribe.service import Service

from tests.http_api import HttpApi
from tests.integration.test_tus_concatenation import cut, final, partial
from tests.integration.test_uploading import leftovers, refused
from tests.servers import Servers
from tests.tus import MIB, SPEECH, TusUpload, ask, checksum, create, created, recording

OWNER = "lambda-0123456789abcdef"
CHUNK = 4 * MIB

RUNTIME = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from bucketscribe.lambdas.api import handler
class Context:
    aws_request_id = "8f507cfc-example"
    def get_remaining_time_in_millis(self):
        return 29_000
for line in sys.stdin:
    print(json.dumps(handler(json.loads(line), Context())), file=answers, flush=True)
"""


@contextmanager
def function(service: Service, servers: Servers) -> Iterator[httpx2.Client]:
    """A client of a function's environment of its own, signed in."""
    key = Keys(service.bucket).new("tests", OWNER, tuple(Scope), None)
    environment = servers.environment | {
        "AWS_LAMBDA_FUNCTION_NAME": "api",
        "BUCKETSCRIBE_AUTH": "keys",
        "BUCKETSCRIBE_SECRET": "a secret for tests only",
        "BUCKETSCRIBE_QUEUE_URL": service.settings.queue_url or "",
    }
    with subprocess.Popen(
        [sys.executable, "-c", RUNTIME],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:

        def invoke(event: dict[str, Any]) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            print(json.dumps(event), file=process.stdin, flush=True)
            return json.loads(process.stdout.readline())

        try:
            with httpx2.Client(
                transport=HttpApi(invoke),
                base_url="https://api.example",
                headers={"Authorization": f"Bearer {key}"},
            ) as client:
                yield client
        finally:
            process.kill()


@pytest.fixture
def two(service: Service, servers: Servers) -> Iterator[list[httpx2.Client]]:
    """Two environments, which know nothing of each other."""
    with function(service, servers) as one, function(service, servers) as other:
        yield [one, other]


def arrived(service: Service, upload: TusUpload, body: bytes, queued: int = 1) -> None:
    stored = service.records.read(OWNER, upload.id)
    assert stored is not None
    held = service.bucket.client.get_object(Bucket=service.bucket.name, Key=stored.record.key)["Body"].read()
    assert held == body
    assert service.queue.count() == queued
    assert leftovers(service.bucket, upload.id) == [f"open/jobs/{OWNER}/{upload.id}.1", stored.record.key]


def test_a_recording_comes_in_chunks_by_whichever_environment_is_free(
    two: list[httpx2.Client], service: Service
) -> None:
    body = recording(2 * CHUNK + 12_345)
    upload = create(two[0], len(body))
    for number, start in enumerate(range(0, len(body), CHUNK)):
        piece = body[start : start + CHUNK]
        here, there = two[number % 2], two[(number + 1) % 2]
        told = checksum(piece) if number % 2 else {}
        answer = TusUpload(here, upload.path).patch(start, piece, **told)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(start + len(piece)))
        assert TusUpload(there, upload.path).offset() == start + len(piece)
    assert answer.headers["bucketscribe-transcription"] == upload.id
    arrived(service, upload, body)
    pieces = cut(body, (3 * MIB, 3 * MIB))
    partials = [partial(environment, piece) for environment, piece in zip(two, pieces, strict=True)]
    arrived(service, created(two[0], final(two[0], partials)), body[: 6 * MIB], queued=2)


def test_what_is_wrong_is_told_as_by_a_server(service: Service, servers: Servers) -> None:
    with function(service, servers) as api:
        upload = create(api, len(SPEECH))
        refused(upload.patch(1, SPEECH), 409, "offset_mismatch")
        refused(upload.patch(0, SPEECH, **checksum(b"other")), 460, "checksum_mismatch")
        refused(ask(api, 6 * 1024**3), 413, "too_large")
        override = api.post(
            upload.path,
            content=SPEECH,
            headers={
                "Tus-Resumable": "1.0.0",
                "Upload-Offset": "0",
                "Content-Type": "application/offset+octet-stream",
                "X-HTTP-Method-Override": "PATCH",
            },
        )
        assert (override.status_code, override.headers["bucketscribe-transcription"]) == (204, upload.id)
        arrived(service, upload, SPEECH)
