"""What `bucketscribe setup` makes, on servers that know all of it, and on one that does not.

SeaweedFS knows no notifications; moto's server knows everything, but keeps it in memory. What MinIO answers
is played by botocore's Stubber, by its documentation.
"""

import ast
import json
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from bucketscribe import setup
from bucketscribe.bucket import Bucket
from bucketscribe.queue import Queue
from bucketscribe.settings import Settings
from bucketscribe.setup import Step, set_up_bucket, set_up_queues

from tests.servers import Servers
from tests.unit.test_cli import run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

PAGES = ("https://app.example",)
ANOTHERS: Any = {
    "ID": "another's",
    "AllowedOrigins": ["https://else.example"],
    "AllowedMethods": ["GET"],
    "AllowedHeaders": ["*"],
}
EXPIRY: Any = {"ID": "expiry", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 1}}


@pytest.fixture
def name() -> str:
    return f"set-up-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def s3(servers: Servers) -> "S3Client":
    return Bucket.connect(servers.settings).client


@pytest.fixture
def sqs(servers: Servers) -> "SQSClient":
    return Queue.connect(servers.settings).client


def rules(client: "S3Client", bucket: str) -> tuple[list[Any], list[Any]]:
    """The rules of CORS, and those of the lifecycle."""
    cors = client.get_bucket_cors(Bucket=bucket)["CORSRules"]
    return [*cors], [*client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]]


def lacking(steps: "list[Step]") -> list[str]:
    return [step.name for step in steps if step.lacking]


def test_a_bucket_is_set_up_and_again_and_others_rules_stay(s3: "S3Client", name: str) -> None:
    assert lacking(list(set_up_bucket(s3, name, PAGES))) == []
    (cors,), (lifecycle,) = rules(s3, name)
    assert cors["AllowedOrigins"] == list(PAGES)
    assert "ETag" in cors["ExposeHeaders"]
    assert lifecycle["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}
    s3.put_bucket_cors(Bucket=name, CORSConfiguration={"CORSRules": [ANOTHERS, cors]})
    lifecycle["Status"] = "Disabled"
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [EXPIRY, lifecycle]})
    for origins in (("https://new.example",), ("https://new.example",)):
        list(set_up_bucket(s3, name, origins))
        crossed, kept = rules(s3, name)
        assert [rule["AllowedOrigins"][0] for rule in crossed] == ["https://else.example", *origins]
        assert [(rule["ID"], rule["Status"]) for rule in kept] == [
            ("expiry", "Enabled"),
            (setup.ABORT_RULE, "Enabled"),
        ]
    s3.delete_bucket(Bucket=name)


@pytest.mark.parametrize("calls", range(7))
def test_a_set_up_that_died_anywhere_is_finished_by_the_next(s3: "S3Client", name: str, calls: int) -> None:
    left = calls

    def die(**_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    doomed = Bucket.connect(Settings(s3_endpoint=s3.meta.endpoint_url)).client
    doomed.meta.events.register("before-send.s3", die)
    with pytest.raises(KeyboardInterrupt):
        list(set_up_bucket(doomed, name, PAGES))
    assert lacking(list(set_up_bucket(s3, name, PAGES))) == []
    assert [len(found) for found in rules(s3, name)] == [1, 1]
    s3.delete_bucket(Bucket=name)


def test_a_server_without_notifications_is_covered_for(s3: "S3Client", name: str) -> None:
    steps = list(set_up_bucket(s3, name, events="arn:minio:sqs::bucketscribe:webhook"))
    assert lacking(steps) == ["events"]
    assert "sweep" in steps[-1].lacking
    s3.delete_bucket(Bucket=name)


def test_who_is_told_of_arrivals_beside_us_stays(servers: Servers, sqs: "SQSClient", name: str) -> None:
    """moto's server has notifications."""
    s3 = Bucket.connect(servers.settings.model_copy(update={"s3_endpoint": servers.settings.sqs_endpoint}))
    arns = []
    for word in ("ours", "theirs"):
        url = sqs.create_queue(QueueName=f"{name}-{word}")["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        arns.append(found["Attributes"]["QueueArn"])
    ours, theirs = arns
    list(set_up_bucket(s3.client, name))
    s3.client.put_bucket_notification_configuration(
        Bucket=name,
        NotificationConfiguration={
            "QueueConfigurations": [{"Id": "t", "QueueArn": theirs, "Events": ["s3:ObjectRemoved:*"]}]
        },
    )
    for _ in range(2):
        assert lacking(list(set_up_bucket(s3.client, name, events=ours))) == []
    told = s3.client.get_bucket_notification_configuration(Bucket=name)["QueueConfigurations"]
    assert [(one["QueueArn"], one["Events"]) for one in told] == [
        (theirs, ["s3:ObjectRemoved:*"]),
        (ours, ["s3:ObjectCreated:*"]),
        (ours, ["s3:ObjectCreated:*"]),
    ]
    prefixes = [one["Filter"]["Key"]["FilterRules"][0]["Value"] for one in told[1:]]
    assert prefixes == ["uploads/", "inbox/"]


def test_a_server_that_drops_the_rule_and_knows_no_cors_is_taken_as_it_is() -> None:
    """Stands in for MinIO: PutBucketCors is not implemented, the rule is taken and forgotten."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    stub = Stubber(client)
    stub.add_response("head_bucket", {})
    stub.add_client_error("get_bucket_cors", "NoSuchCORSConfiguration", http_status_code=404)
    stub.add_client_error("put_bucket_cors", "NotImplemented", http_status_code=501)
    stub.add_client_error(
        "get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", http_status_code=404
    )
    stub.add_response("put_bucket_lifecycle_configuration", {})
    stub.add_client_error(
        "get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration", http_status_code=404
    )
    with stub:
        steps = list(set_up_bucket(client, "minio"))
    stub.assert_no_pending_responses()
    assert lacking(steps) == ["CORS", "lifecycle"]
    assert "MINIO_API_CORS_ALLOW_ORIGIN" in steps[1].lacking


def test_a_server_that_is_only_just_starting_is_not_taken_for_one_that_lacks_something() -> None:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    stub = Stubber(client)
    stub.add_response("head_bucket", {})
    stub.add_client_error("get_bucket_cors", "NoSuchCORSConfiguration", http_status_code=404)
    stub.add_response("put_bucket_cors", {})
    stub.add_client_error("get_bucket_lifecycle_configuration", "ServiceUnavailable", http_status_code=503)
    with stub, pytest.raises(ClientError):
        list(set_up_bucket(client, "starting"))


def test_a_bucket_of_another_account_is_not_ours() -> None:
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    stub = Stubber(client)
    stub.add_client_error("head_bucket", "404", http_status_code=404)
    stub.add_client_error("create_bucket", "BucketAlreadyExists", http_status_code=409)
    stub.add_client_error("head_bucket", "403", http_status_code=403)
    with stub, pytest.raises(ClientError) as refused:
        list(set_up_bucket(client, "taken"))
    assert refused.value.operation_name == "HeadBucket"


def test_queues_are_set_up_again_and_when_half_done(sqs: "SQSClient", name: str) -> None:
    sqs.create_queue(QueueName=f"{name}-dead")
    sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "77"})
    for _ in range(2):
        jobs, dead = (step.seen for step in set_up_queues(sqs, name, f"{name}-dead"))
    attributes = sqs.get_queue_attributes(QueueUrl=jobs, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "77"
    redrive = json.loads(attributes["RedrivePolicy"])
    kept = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["All"])["Attributes"]
    assert redrive == {"deadLetterTargetArn": kept["QueueArn"], "maxReceiveCount": setup.MAX_RECEIVES}
    assert kept["MessageRetentionPeriod"] == str(setup.DEAD_LETTERS_KEPT_SECONDS)


def test_a_redrive_policy_of_the_operators_own_stays(sqs: "SQSClient", name: str) -> None:
    other = sqs.create_queue(QueueName=f"{name}-other")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=other, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = {"deadLetterTargetArn": arn, "maxReceiveCount": 9}
    sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)})
    jobs, _ = set_up_queues(sqs, name, f"{name}-dead")
    found = sqs.get_queue_attributes(QueueUrl=jobs.seen, AttributeNames=["RedrivePolicy"])["Attributes"]
    assert json.loads(found["RedrivePolicy"]) == policy


def test_the_command_sets_up_what_the_settings_name(servers: Servers, s3: "S3Client", name: str) -> None:
    environment = {
        key: value for key, value in servers.environment.items() if key.startswith(("BUCKETSCRIBE_", "AWS_"))
    } | {
        "BUCKETSCRIBE_BUCKET": name,
        "BUCKETSCRIBE_QUEUE_URL": f"{servers.settings.sqs_endpoint}/123456789012/{name}",
        "BUCKETSCRIBE_DEAD_LETTERS_URL": f"{servers.settings.sqs_endpoint}/123456789012/{name}-letters",
        "BUCKETSCRIBE_ALLOWED_ORIGINS": PAGES[0],
    }
    for _ in range(2):
        done = run("setup", **environment)
        assert done.returncode == 0, done.stderr
        assert [line.split()[0] for line in done.stdout.splitlines()] == ["ok"] * 5
    assert f"/{name}\n" in done.stdout
    assert f"/{name}-letters\n" in done.stdout
    assert rules(s3, name)[0][0]["AllowedOrigins"] == list(PAGES)
    s3.delete_bucket(Bucket=name)


def test_the_command_says_what_does_not_answer() -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    done = run("setup", BUCKETSCRIBE_S3_ENDPOINT="http://127.0.0.1:1", **keys)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The bucket:")
    assert "[storage_unavailable]" in done.stderr


def test_the_file_runs_in_the_python_of_the_localstack_image() -> None:
    """That has Python 3.11 and boto3, and nothing of ours."""
    source = Path(setup.__file__).read_text()
    tree = ast.parse(source, feature_version=(3, 11))
    names = [
        alias.name if isinstance(node, ast.Import) else node.module or ""
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert {word.partition(".")[0] for word in names} == {
        "botocore",
        "collections",
        "dataclasses",
        "json",
        "typing",
    }
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
