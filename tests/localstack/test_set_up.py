"""A LocalStack of its own: what its ready.d script sets up, and the way from nothing to a transcript.

Not the one that the other tests share: they change what is set up there.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from bucketscribe.bucket import Bucket
from bucketscribe.queue import Queue
from bucketscribe.settings import Settings
from bucketscribe.setup import DEAD_JOBS, JOBS, MAX_RECEIVES
from bucketscribe.up.ports import is_free

from tests.localstack.conftest import PAGE
from tests.localstack.server import PYTHON, ROOT, queue_url
from tests.servers import Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.localstack

SCRIPT = ROOT / "localstack/ready.d/bucketscribe.py"


@pytest.fixture
def settings(endpoint: str) -> Settings:
    port = int(endpoint.rpartition(":")[2])
    return Settings(s3_endpoint=endpoint, sqs_endpoint=endpoint, queue_url=queue_url(port, JOBS))


@pytest.fixture
def s3(settings: Settings) -> "S3Client":
    return Bucket.connect(settings).client


@pytest.fixture
def sqs(settings: Settings) -> "SQSClient":
    return Queue.connect(settings).client


def again(server: Server) -> None:
    """The script once more, as LocalStack runs it: executed without a name or a file."""
    done = subprocess.run(
        [str(PYTHON), "-c", f"exec(open({str(SCRIPT)!r}, 'rb').read(), {{}})"],
        env=dict(server.child.environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("; ok\n") == 5


def set_up(s3: "S3Client", sqs: "SQSClient") -> dict[str, Any]:
    """All that the script is there for, as the servers tell it."""
    jobs, dead = (sqs.get_queue_url(QueueName=name)["QueueUrl"] for name in (JOBS, DEAD_JOBS))
    of_jobs = sqs.get_queue_attributes(QueueUrl=jobs, AttributeNames=["All"])["Attributes"]
    of_dead = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
    return {
        "cors": s3.get_bucket_cors(Bucket="bucketscribe")["CORSRules"],
        "lifecycle": s3.get_bucket_lifecycle_configuration(Bucket="bucketscribe")["Rules"],
        "redrive": json.loads(of_jobs["RedrivePolicy"]) | {"is": of_dead["QueueArn"]},
        "kept": of_dead["MessageRetentionPeriod"],
    }


def test_localstack_sets_itself_up_when_it_starts(s3: "S3Client", sqs: "SQSClient") -> None:
    found = set_up(s3, sqs)
    (cors,), (lifecycle,) = found["cors"], found["lifecycle"]
    assert cors["AllowedOrigins"] == [PAGE]
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    redrive = found["redrive"]
    assert redrive["deadLetterTargetArn"] == redrive["is"]
    assert int(redrive["maxReceiveCount"]) == MAX_RECEIVES
    assert found["kept"] == str(14 * 24 * 3600)


def test_the_script_run_again_changes_and_loses_nothing(
    server: Server, s3: "S3Client", sqs: "SQSClient", settings: Settings
) -> None:
    assert settings.queue_url is not None
    before = set_up(s3, sqs)
    s3.put_object(Bucket="bucketscribe", Key="kept", Body=b"kept")
    sqs.send_message(QueueUrl=settings.queue_url, MessageBody="kept")
    again(server)
    assert set_up(s3, sqs) == before
    assert s3.get_object(Bucket="bucketscribe", Key="kept")["Body"].read() == b"kept"
    (message,) = sqs.receive_message(QueueUrl=settings.queue_url)["Messages"]
    assert message["Body"] == "kept"
    sqs.delete_message(QueueUrl=settings.queue_url, ReceiptHandle=message["ReceiptHandle"])


def test_what_a_script_that_died_left_undone_is_done_by_the_next(
    server: Server, s3: "S3Client", sqs: "SQSClient", settings: Settings
) -> None:
    assert settings.queue_url is not None
    before = set_up(s3, sqs)
    s3.delete_bucket_cors(Bucket="bucketscribe")
    s3.delete_bucket_lifecycle(Bucket="bucketscribe")
    sqs.set_queue_attributes(QueueUrl=settings.queue_url, Attributes={"RedrivePolicy": ""})
    again(server)
    assert set_up(s3, sqs) == before


def test_a_page_of_the_named_origin_may_upload_and_read_the_etag(s3: "S3Client") -> None:
    upload = s3.create_multipart_upload(Bucket="bucketscribe", Key="page")["UploadId"]
    part = {"Bucket": "bucketscribe", "Key": "page", "UploadId": upload, "PartNumber": 1}
    url = s3.generate_presigned_url("upload_part", Params=part)
    for origin, allowed in ((PAGE, PAGE), ("https://else.example", None)):
        asking = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
        asked = httpx2.options(url, headers=asking)
        assert asked.headers.get("access-control-allow-origin") == allowed
        sent = httpx2.put(url, content=b"part", headers={"Origin": origin})
        assert sent.headers.get("access-control-allow-origin") == allowed
        assert ("ETag" in sent.headers.get("access-control-expose-headers", "")) is (allowed is not None)
    s3.abort_multipart_upload(Bucket="bucketscribe", Key="page", UploadId=upload)


def test_a_message_nobody_deletes_ends_among_the_dead_letters(sqs: "SQSClient", settings: Settings) -> None:
    assert settings.queue_url is not None
    sqs.send_message(QueueUrl=settings.queue_url, MessageBody="poison")
    for _ in range(MAX_RECEIVES):
        assert "Messages" in sqs.receive_message(QueueUrl=settings.queue_url, VisibilityTimeout=0)
    assert "Messages" not in sqs.receive_message(QueueUrl=settings.queue_url)
    dead = sqs.get_queue_url(QueueName=DEAD_JOBS)["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=dead)["Messages"]
    assert message["Body"] == "poison"
    sqs.delete_message(QueueUrl=dead, ReceiptHandle=message["ReceiptHandle"])


def test_from_the_documentation_s_settings_to_a_transcript(endpoint: str, tmp_path: Path) -> None:
    """Its example, but for the ports, and for the model, which is the small one."""
    marked = "<!-- run by tests/localstack/test_set_up.py -->\n```bash\n"
    script = (ROOT / "docs/localstack.md").read_text().split(marked)[1].split("```")[0]
    port = next(port for port in range(22000, 24000) if is_free("127.0.0.1", port))
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "BUCKETSCRIBE_DATA_DIR": str(tmp_path),
        "BUCKETSCRIBE_PORT": str(port),
        "BUCKETSCRIBE_SERVER": f"http://127.0.0.1:{port}",
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_STOP_SECONDS": "0",
    }
    script = script.replace("http://127.0.0.1:4566", endpoint)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p); wait' EXIT\n{script}"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = re.sub(r"[^a-z ]", "", done.stdout.lower())
    assert "ask what you can do for your country" in words
