"""What doctor tries on a bucket, on buckets of which we know what they can do.

SeaweedFS has all we need. moto's server serves S3 beside SQS and checks no signature. What no server at hand
does wrong is done by a `Bucket` of ours that stands in for one that does.
"""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from bucketscribe.bucket import Bucket, Written
from bucketscribe.presign import Presigner
from bucketscribe.probe import Finding, Probe, Verdict, clock, probe_dead_letters, probe_queue
from bucketscribe.queue import Queue
from bucketscribe.settings import Settings
from bucketscribe.up.home import Credentials
from urllib3 import HTTPResponse, PoolManager

from tests.servers import Servers

ORIGIN = "http://127.0.0.1:8000"


def presigner(settings: Settings, servers: Servers) -> Presigner:
    made: Credentials = servers.credentials

    class Keys:
        access_key, secret_key, token = made.access_key, made.secret_key, None

    return Presigner(settings.public_endpoint, settings.bucket, settings.region, True, Keys)


def probe(settings: Settings, servers: Servers, bucket: Bucket | None = None) -> Probe:
    return Probe(bucket or Bucket.connect(settings), presigner(settings, servers), [ORIGIN], "test")


def all_of(probe: Probe) -> dict[str, Finding]:
    with probe:
        return {finding.name: finding for finding in probe.findings()}


def missing(findings: dict[str, Finding]) -> set[str]:
    return {name for name, finding in findings.items() if finding.verdict is Verdict.MISSING}


@pytest.fixture
def plain(settings: Settings) -> Iterator[Settings]:
    """A bucket nobody has prepared."""
    plain = settings.model_copy(update={"bucket": "plain"})
    client = Bucket.connect(plain).client
    client.create_bucket(Bucket="plain")
    yield plain
    client.delete_bucket(Bucket="plain")


@pytest.fixture
def moto(settings: Settings) -> Settings:
    moto = settings.model_copy(update={"s3_endpoint": settings.sqs_endpoint, "bucket": "on-moto"})
    Bucket.connect(moto).client.create_bucket(Bucket="on-moto")
    return moto


def test_a_bucket_that_can_do_all_is_told_so(settings: Settings, servers: Servers, bucket: Bucket) -> None:
    findings = all_of(probe(settings, servers))
    assert missing(findings) == set()
    unknown = {name for name, finding in findings.items() if finding.verdict is Verdict.UNKNOWN}
    assert unknown == {"free space"}


@pytest.mark.long
def test_a_server_that_checks_no_signature_is_found_out(moto: Settings, servers: Servers) -> None:
    findings = all_of(probe(moto, servers))
    unchecked = {"tampered URL", "expired URL"}
    assert unchecked <= missing(findings)
    assert all(findings[name].grave for name in unchecked)
    assert findings["signed PUT"].verdict is Verdict.OK


def test_a_bucket_without_a_lifecycle_rule_is_covered_for(plain: Settings, servers: Servers) -> None:
    finding = all_of(probe(plain, servers))["lifecycle"]
    assert finding.verdict is Verdict.MISSING
    assert not finding.grave
    assert "sweep" in finding.means


@pytest.mark.long
def test_an_origin_that_may_not_upload_is_found(plain: Settings, servers: Servers) -> None:
    client = Bucket.connect(plain).client
    rule: Any = {"AllowedOrigins": ["https://elsewhere.example"], "AllowedMethods": ["PUT"]}
    client.put_bucket_cors(Bucket="plain", CORSConfiguration={"CORSRules": [rule]})
    finding = all_of(probe(plain, servers))["CORS"]
    assert finding.grave
    assert f"{ORIGIN} may not send parts" in finding.seen


@pytest.mark.parametrize(
    ("methods", "headers", "verdict"),
    [
        ("GET, PUT", "Content-Type", Verdict.OK),
        ("*", "*", Verdict.OK),
        ("GET", "Content-Type", Verdict.MISSING),
        ("PUT", "", Verdict.MISSING),
    ],
)
def test_a_page_needs_the_method_and_its_header_allowed_with_any_good_status(
    settings: Settings, servers: Servers, bucket: Bucket, methods: str, headers: str, verdict: Verdict
) -> None:
    class Answering(PoolManager):
        """Stands in for a bucket that answers a preflight as S3 does, and as others do."""

        def request(self, method: str, *_: object, **__: object) -> HTTPResponse:
            told = {"Allow-Origin": "*", "Allow-Methods": methods, "Allow-Headers": headers}
            told["Expose-Headers"] = "ETag"
            named = {f"Access-Control-{name}": value for name, value in told.items()}
            return HTTPResponse(headers=named, status=204 if method == "OPTIONS" else 200)

    with probe(settings, servers, bucket) as begun:
        begun._http = Answering()
        assert [finding.verdict for finding in begun._cors()] == [verdict]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(204, Verdict.MISSING), (307, Verdict.UNKNOWN), (404, Verdict.OK), (503, Verdict.UNKNOWN)],
)
def test_only_a_refusal_is_a_refusal(
    settings: Settings, servers: Servers, status: int, verdict: Verdict
) -> None:
    assert probe(settings, servers)._refusal("expired URL", status, "…").verdict is verdict


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("list_multipart_uploads", "multipart list"),
        ("get_bucket_lifecycle_configuration", "lifecycle"),
    ],
)
def test_what_the_keys_do_not_allow_to_look_at_is_unknown(
    settings: Settings,
    servers: Servers,
    bucket: Bucket,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    name: str,
) -> None:
    def denied(**_: object) -> None:
        answer: Any = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
        raise ClientError(answer, call)

    begun = probe(settings, servers, bucket)
    with begun:
        monkeypatch.setattr(bucket.client, call, denied)
        findings = {finding.name: finding for finding in begun.findings()}
        monkeypatch.undo()
    assert findings[name].verdict is Verdict.UNKNOWN
    # Aborting goes by the list.
    assert {name for name in missing(findings) if findings[name].grave} <= {"multipart abort"}


@pytest.mark.long
def test_what_a_killed_one_left_behind_is_removed_by_a_later_one(
    settings: Settings, servers: Servers, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("probe/killed/create-0", b"0")
    bucket.begin_upload("probe/killed/signed", "application/octet-stream")
    all_of(probe(settings, servers))
    assert left(bucket) == ["probe/killed/create-0", "probe/killed/signed"]
    monkeypatch.setattr("bucketscribe.probe.LEFT_BEHIND", timedelta(seconds=-10))
    all_of(probe(settings, servers))
    assert left(bucket) == []


@pytest.mark.long
def test_an_etag_no_page_may_read_is_found(plain: Settings, servers: Servers) -> None:
    client = Bucket.connect(plain).client
    rule: Any = {"AllowedOrigins": ["*"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["*"]}
    client.put_bucket_cors(Bucket="plain", CORSConfiguration={"CORSRules": [rule]})
    finding = all_of(probe(plain, servers))["CORS"]
    assert finding.grave
    assert finding.seen == f"{ORIGIN} may send parts and may not read their ETag"


class Careless(Bucket):
    """Stands in for a server that ignores conditions."""

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> Written:
        return self.put(key, body, content_type)

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Written:
        return self.put(key, body, content_type)


def test_a_lock_that_many_can_take_is_found(settings: Settings, servers: Servers, bucket: Bucket) -> None:
    findings = all_of(probe(settings, servers, Careless.connect(settings)))
    assert findings["conditional create"].seen.endswith("8, 8, 8 succeeded")
    assert {name for name in missing(findings) if findings[name].grave} == {
        "conditional create",
        "conditional replace",
    }


def test_what_minio_does_otherwise_is_covered_for(
    settings: Settings, servers: Servers, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its listing of uploads takes a prefix for a key, and it keeps no rule that aborts (read, not seen)."""
    listing = bucket.client.list_multipart_uploads

    def of_this_key(**asked: Any) -> Any:
        answer = listing(**asked)
        uploads = [one for one in answer.get("Uploads", []) if one["Key"] == asked.get("Prefix")]
        return {**answer, "Uploads": uploads}

    rules: Any = {"Rules": [{"ID": "old", "Status": "Enabled", "Expiration": {"Days": 30}}]}
    monkeypatch.setattr(bucket.client, "list_multipart_uploads", of_this_key)
    monkeypatch.setattr(bucket.client, "get_bucket_lifecycle_configuration", lambda **_: rules)
    findings = all_of(probe(settings, servers, bucket))
    assert missing(findings) == {"lifecycle"}
    assert "the sweep ends idle uploads" in findings["lifecycle"].means
    assert findings["multipart abort"].verdict is Verdict.OK
    monkeypatch.undo()
    assert left(bucket) == []


def test_a_bucket_that_is_not_there_is_the_only_finding(settings: Settings, servers: Servers) -> None:
    findings = all_of(probe(settings.model_copy(update={"bucket": "nowhere"}), servers))
    assert [(finding.name, finding.verdict) for finding in findings.values()] == [
        ("bucket", Verdict.MISSING),
        ("everything else", Verdict.UNKNOWN),
    ]
    assert "BUCKETSCRIBE_BUCKET" in findings["bucket"].means


def test_an_address_clients_cannot_reach_is_found(
    settings: Settings, servers: Servers, bucket: Bucket
) -> None:
    unreachable = settings.model_copy(update={"s3_public_endpoint": "http://127.0.0.1:9"})
    findings = all_of(Probe(bucket, presigner(unreachable, servers), [ORIGIN], "test"))
    assert missing(findings) == {"multipart", "signed PUT", "anonymous access", "CORS"}
    assert "http://127.0.0.1:9" in findings["signed PUT"].seen


def left(bucket: Bucket) -> list[str]:
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [entry.key for entry in bucket.listing("")] + [upload["Key"] for upload in uploads]


def test_nothing_is_left_behind(settings: Settings, servers: Servers, bucket: Bucket) -> None:
    all_of(probe(settings, servers))
    assert left(bucket) == []


@pytest.mark.long
@pytest.mark.parametrize("after", ["conditional create", "signed PUT", "CORS"])
def test_nothing_is_left_behind_by_one_that_is_interrupted(
    settings: Settings, servers: Servers, bucket: Bucket, after: str
) -> None:
    def interrupted() -> None:
        with probe(settings, servers) as begun:
            for finding in begun.findings():
                if finding.name == after:
                    assert left(bucket) != []
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert left(bucket) == []


def test_a_queue_is_looked_at_and_its_messages_left_alone(queue: Queue) -> None:
    verdicts = {finding.name: finding.verdict for finding in probe_queue(queue)}
    assert verdicts == {"queue": Verdict.OK, "queue messages": Verdict.UNKNOWN}
    assert queue.count() == 0


def test_a_queue_that_is_not_there_is_found(queue: Queue) -> None:
    (finding,) = probe_queue(Queue(queue.client, f"{queue.url}-not"))
    assert finding.verdict is Verdict.MISSING
    assert not finding.grave, "the sweep and the workers' own looks cover for it"
    with pytest.raises(ClientError):
        Queue(queue.client, f"{queue.url}-not").count()


def test_where_dead_letters_go_is_told(settings: Settings) -> None:
    queue = Queue.connect(settings)
    (none,) = probe_dead_letters(queue, None)
    assert (none.verdict, none.grave) == (Verdict.MISSING, False)
    name = f"dead-{uuid.uuid4()}"
    dead = Queue(queue.client, queue.client.create_queue(QueueName=name)["QueueUrl"])
    arn = queue.client.get_queue_attributes(QueueUrl=dead.url, AttributeNames=["QueueArn"])["Attributes"]
    policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 5})
    queue.client.set_queue_attributes(QueueUrl=queue.url, Attributes={"RedrivePolicy": policy})
    (unwatched,) = probe_dead_letters(queue, None)
    assert unwatched.verdict is Verdict.UNKNOWN
    dead.client.send_message(QueueUrl=dead.url, MessageBody="dead")
    (watched,) = probe_dead_letters(queue, dead)
    assert (watched.verdict, watched.seen) == (
        Verdict.OK,
        f"put aside as {name} when received 5 times; 1 wait there",
    )
    (mistaken,) = probe_dead_letters(queue, queue)
    assert mistaken.verdict is Verdict.MISSING
    (gone,) = probe_dead_letters(queue, Queue(queue.client, f"{dead.url}-not"))
    assert gone.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("apart", "verdict", "seen"),
    [
        (1, Verdict.OK, "the same within 2 s"),
        (-30, Verdict.OK, "30 s behind"),
        (300, Verdict.MISSING, "300 s ahead"),
    ],
)
def test_clocks_may_be_a_minute_apart(apart: int, verdict: Verdict, seen: str) -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    finding = clock("clock", now + timedelta(seconds=apart), now)
    assert (finding.verdict, finding.seen, finding.grave) == (verdict, seen, False)
