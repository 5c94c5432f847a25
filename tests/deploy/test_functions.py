"""The built functions under Lambda's Runtime Interface Emulator, in front of the real servers.

The events are the files that `sam local invoke` takes, with what only the moment knows put in.
"""

import base64
import gzip
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from bucketscribe.auth import Scope, owner_slug
from bucketscribe.bucket import Bucket
from bucketscribe.keys import Keys
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Record, State
from bucketscribe.service import Service
from bucketscribe.settings import Settings

from tests.conftest import LaterBucket
from tests.deploy import runtime
from tests.deploy.runtime import Function
from tests.http_api import HttpApi
from tests.media.make import JFK
from tests.servers import Servers
from tests.tus import MIB, checksum, create, recording

pytestmark = pytest.mark.deploy

EVENTS = Path(__file__).parent / "events"
OWNER = owner_slug("tests", "somebody")
ORIGIN = "https://app.example.com"
TIMEOUT_SECONDS = 29
NOTHING_FAILED: dict[str, Any] = {"batchItemFailures": []}


def event(name: str, **known: str) -> Any:
    """The event of a file, with what is written there in capitals replaced."""
    text = (EVENTS / f"{name}.json").read_text()
    for placeholder, value in ({"OWNER": OWNER} | known).items():
        text = text.replace(placeholder, value)
    return json.loads(text)


@dataclass
class Answered:
    """What the API's function answered, as the gateway would pass it on."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Functions:
    """The functions, each started when it is first invoked."""

    def __init__(self, package: Path, environment: dict[str, str], logs: Path, ending: ExitStack) -> None:
        self.package = package
        self.environment = environment
        self.logs = logs
        self._ending = ending
        self._running: dict[str, Function] = {}

    def __getitem__(self, handler: str) -> Function:
        if handler not in self._running:
            log = self.logs / f"{handler}.log"
            started = runtime.running(self.package, handler, self.environment, log, TIMEOUT_SECONDS)
            self._running[handler] = self._ending.enter_context(started)
        return self._running[handler]

    def said(self, handler: str) -> list[dict[str, Any]]:
        """The log lines of a function, from its beginning."""
        lines = self[handler].log.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith('{"')]

    def ask(self, request: Any) -> Answered:
        """Invoke the API with a request."""
        answer = self["api"].invoke(request)
        assert "statusCode" in answer, answer
        body = answer["body"]
        text = base64.b64decode(body).decode() if answer["isBase64Encoded"] else body
        return Answered(answer["statusCode"], answer["headers"], text)


@pytest.fixture(scope="module")
def shared(servers: Servers) -> Iterator[Settings]:
    """The settings that all functions of this file have, with a queue of their own."""
    client = Queue.connect(servers.settings).client
    url = client.create_queue(QueueName="functions", Attributes={"VisibilityTimeout": "0"})["QueueUrl"]
    yield servers.settings.model_copy(
        update={"queue_url": url, "auth": ("keys",), "allowed_origins": (ORIGIN,), "upload_idle_seconds": 4}
    )
    client.delete_queue(QueueUrl=url)


@pytest.fixture(scope="module")
def functions(
    package: Path, shared: Settings, servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Functions]:
    assert shared.secret is not None
    environment = {name: value for name, value in servers.environment.items() if name.startswith("AWS_")} | {
        "AWS_REGION": shared.region,
        "BUCKETSCRIBE_BUCKET": shared.bucket,
        "BUCKETSCRIBE_S3_ENDPOINT": shared.s3_endpoint or "",
        "BUCKETSCRIBE_SQS_ENDPOINT": shared.sqs_endpoint or "",
        "BUCKETSCRIBE_QUEUE_URL": shared.queue_url or "",
        "BUCKETSCRIBE_SECRET": shared.secret.get_secret_value(),
        "BUCKETSCRIBE_AUTH": "keys",
        "BUCKETSCRIBE_ALLOWED_ORIGINS": ORIGIN,
        "BUCKETSCRIBE_UPLOAD_IDLE_SECONDS": str(shared.upload_idle_seconds),
        "BUCKETSCRIBE_LOG_FORMAT": "json",
    }
    with ExitStack() as ending:
        yield Functions(package, environment, tmp_path_factory.mktemp("logs"), ending)


@pytest.fixture
def settings(shared: Settings) -> Settings:
    """What the fixtures of bucket and service are made from, here those of the functions."""
    client = Queue.connect(shared).client
    while messages := client.receive_message(QueueUrl=shared.queue_url or "").get("Messages"):
        for message in messages:
            client.delete_message(QueueUrl=shared.queue_url or "", ReceiptHandle=message["ReceiptHandle"])
    return shared


@pytest.fixture
def key(bucket: Bucket) -> str:
    return Keys(bucket).new("tests", OWNER, tuple(Scope), None)


@pytest.fixture
def ask(functions: Functions, key: str) -> Callable[..., Answered]:
    """Invoke the API with the request of a file."""
    return lambda name, **known: functions.ask(event(name, API_KEY=key, **known))


def begun_by(ask: Callable[..., Answered], name: str = "api-begin") -> dict[str, str]:
    """An upload that was begun by an event: the placeholders of those that go on with it."""
    answer = ask(name)
    assert answer.status == 200, answer.body
    return {"UPLOAD_ID": answer.json["uploadId"], "TRANSCRIPTION_ID": answer.json["id"]}


def sent_by(ask: Callable[..., Answered], upload: dict[str, str], body: bytes) -> str:
    """The ETag of part 1, sent to where the API signed it."""
    answer = ask("api-sign-part", **upload)
    assert answer.status == 200, answer.body
    put = httpx2.put(answer.json["url"], content=body)
    assert put.status_code == 200, put.text
    return str(put.headers["etag"]).strip('"')


def record_of(service: Service, upload: dict[str, str]) -> Record:
    stored = service.records.read(OWNER, upload["TRANSCRIPTION_ID"])
    assert stored is not None
    return stored.record


def completed_outside(service: Service, upload: dict[str, str], etag: str) -> None:
    """What a client does that has the SDK complete its upload and tells nobody."""
    record = record_of(service, upload)
    service.bucket.complete_upload(record.key, record.upload_id or "", [(1, f'"{etag}"')])


# The API


def test_an_upload_is_begun_signed_listed_and_completed(
    ask: Callable[..., Answered], service: Service
) -> None:
    upload = begun_by(ask)
    etag = sent_by(ask, upload, JFK.read_bytes())

    listed = ask("api-list-parts", **upload)
    assert [(part["PartNumber"], part["ETag"]) for part in listed.json] == [(1, f'"{etag}"')]

    for _ in range(2):
        completed = ask("api-complete", ETAG=etag, **upload)
        assert (completed.status, completed.json.get("state")) == (200, "queued"), completed.body

    read = ask("api-read", **upload)
    assert read.json["state"] == "queued"
    message = service.queue.receive(1)
    assert message is not None
    assert message.job == Job(OWNER, upload["TRANSCRIPTION_ID"], 1)


def test_a_body_may_come_in_base64(ask: Callable[..., Answered], service: Service) -> None:
    assert record_of(service, begun_by(ask, "api-begin-base64")).options.language == "en"


def test_ten_thousand_parts_are_signed_in_one_answer(ask: Callable[..., Answered]) -> None:
    request = ask("api-sign-batch", **begun_by(ask), **{"1-100": "1-10000"})
    assert request.status == 200
    assert len(request.json["presignedUrls"]) == 10_000


def test_a_transcription_is_followed_event_by_event(
    ask: Callable[..., Answered], functions: Functions, key: str, service: Service
) -> None:
    upload = begun_by(ask)
    first = ask("api-follow", **upload)
    assert first.headers["content-type"].startswith("text/event-stream")
    assert first.body.count("event: transcription") == 1

    version = first.body.partition("id: ")[2].partition("\n")[0]
    again = event("api-follow", API_KEY=key, **upload)
    again["headers"]["last-event-id"] = version
    with ThreadPoolExecutor(1) as threads:
        following = threads.submit(functions.ask, again)
        service.transcriptions.cancel(OWNER, upload["TRANSCRIPTION_ID"])
        assert '"state":"canceled"' in following.result().body


def test_a_stream_without_news_ends(ask: Callable[..., Answered], functions: Functions, key: str) -> None:
    request = event("api-follow", API_KEY=key, **begun_by(ask), **{"wait=300": "wait=1"})
    request["headers"]["last-event-id"] = "99"
    answer = functions.ask(request)
    assert (answer.status, answer.body) == (200, "")


def test_the_web_page_is_served_whole_and_compressed(functions: Functions) -> None:
    request = event("api-page")
    index = functions.ask(request)
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    [nonce] = set(re.findall('nonce="([^"]*)"', index.body))
    assert f"'nonce-{nonce}'" in index.headers["content-security-policy"]
    named = re.findall('(?:src|href)="/(assets/[^"]*)"', index.body)
    assert named
    for name in named:
        request["rawPath"] = request["requestContext"]["http"]["path"] = f"/{name}"
        answer = functions["api"].invoke(request)
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
        assert answer["headers"]["content-encoding"] == "gzip"
        sent = gzip.decompress(base64.b64decode(answer["body"]))
        assert sent == (functions.package / "bucketscribe" / "page" / name).read_bytes()


def test_a_page_of_the_site_may_ask(ask: Callable[..., Answered]) -> None:
    preflight = ask("api-preflight")
    assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("api-unknown-route", 404, "no_such_route"),
        ("api-not-signed-in", 401, "sign_in_required"),
        ("api-broken-json", 422, "invalid_request"),
        ("api-unknown-option", 422, "unknown_option"),
        ("api-sign-part", 403, "not_yours"),
        ("api-read", 404, "no_such_transcription"),
    ],
)
def test_what_is_wrong_is_told_as_a_problem(
    ask: Callable[..., Answered], name: str, status: int, code: str
) -> None:
    answer = ask(name)
    assert (answer.status, answer.json["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["detail"]


def test_a_body_as_large_as_lambda_takes_arrives_whole(functions: Functions, key: str) -> None:
    """4.5 MB of binary, in base64: nothing of ours takes so much yet, and says so."""
    body = random.Random(1).randbytes(4_500_000)
    request = event("api-begin-base64", API_KEY=key) | {"body": base64.b64encode(body).decode()}
    request["headers"] |= {"content-length": str(len(body)), "content-type": "application/octet-stream"}
    answer = functions.ask(request)
    assert (answer.status, answer.json["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("what", [None, [], "text", {}, {"version": "2.0"}, {"requestContext": {"http": {}}}])
def test_what_is_no_request_is_an_error_of_whoever_invokes(functions: Functions, what: object) -> None:
    assert functions["api"].invoke(what)["errorType"] == "NotARequest"
    assert functions.ask(event("api-health")).status == 200


def test_a_line_in_the_log_has_the_ids_of_invocation_and_request(
    functions: Functions, ask: Callable[..., Answered]
) -> None:
    assert ask("api-read").status == 404
    line = [line for line in functions.said("api") if line.get("event") == "request"][-1]
    assert line["request"] == event("api-read")["requestContext"]["requestId"]
    assert line["invocation"] in functions["api"].log.read_text()
    assert not any(word in functions["api"].log.read_text() for word in ("bks_", "X-Amz-Signature"))


def test_what_is_counted_is_written_for_cloudwatch(
    functions: Functions, ask: Callable[..., Answered]
) -> None:
    begun_by(ask)
    names = [
        metric["Name"]
        for line in functions.said("api")
        for group in line.get("_aws", {}).get("CloudWatchMetrics", [])
        for metric in group["Metrics"]
    ]
    assert "uploads_begun" in names
    assert "request_seconds" not in names


def test_a_recording_comes_by_tus_in_chunks_that_a_lambda_takes(
    functions: Functions, key: str, service: Service
) -> None:
    body = recording(6 * MIB)
    with httpx2.Client(
        transport=HttpApi(functions["api"].invoke),
        base_url="https://api.example.com",
        headers={"Authorization": f"Bearer {key}", "Origin": ORIGIN},
    ) as api:
        upload = create(api, len(body))
        refused = upload.patch(0, bytes(4 * MIB), **checksum(body[: 4 * MIB]))
        assert (refused.status_code, refused.json()["code"]) == (460, "checksum_mismatch")
        answer = upload.append(body, 4 * MIB)
    assert answer.headers["bucketscribe-transcription"] == upload.id
    record = record_of(service, {"TRANSCRIPTION_ID": upload.id})
    assert (record.state, record.size) == (State.QUEUED, len(body))
    message = service.queue.receive(1)
    assert message is not None
    assert message.job == Job(OWNER, upload.id, 1)


def test_nobody_is_served_without_a_way_to_sign_in(functions: Functions, tmp_path: Path) -> None:
    environment = functions.environment | {"BUCKETSCRIBE_AUTH": ""}
    with runtime.running(functions.package, "api", environment, tmp_path / "log") as function:
        assert function.invoke(event("api-health"))["errorType"] == "OpenToOthers"


@pytest.mark.parametrize("handler", ["api", "completion", "sweep", "deadletters"])
def test_an_environment_begins_without_a_request(functions: Functions, tmp_path: Path, handler: str) -> None:
    """With SnapStart it is frozen then: a connection would be dead when it is thawed."""
    away = dict.fromkeys(("BUCKETSCRIBE_S3_ENDPOINT", "BUCKETSCRIBE_SQS_ENDPOINT"), "http://127.0.0.1:1")
    log = tmp_path / "log"
    with runtime.running(functions.package, handler, functions.environment | away, log) as function:
        function.invoke(event("api-health"))
    assert "INIT RTDONE(status: success)" in log.read_text()


# Completion


@pytest.mark.parametrize(
    "name",
    [
        "completion-upload",
        "completion-upload-direct",
        "completion-upload-eventbridge",
        "completion-upload-eventbridge-queued",
        "completion-broken",
    ],
)
def test_an_upload_that_nobody_completed_here_is_finished_by_its_event(
    functions: Functions, ask: Callable[..., Answered], service: Service, name: str
) -> None:
    upload = begun_by(ask)
    completed_outside(service, upload, sent_by(ask, upload, JFK.read_bytes()))
    for _ in range(2):
        assert functions["completion"].invoke(event(name, **upload)) == NOTHING_FAILED
        assert record_of(service, upload).state is State.QUEUED
    message = service.queue.receive(1)
    assert message is not None
    assert message.job == Job(OWNER, upload["TRANSCRIPTION_ID"], 1)


def test_what_is_no_event_is_dropped_with_a_code(functions: Functions) -> None:
    for name in ("completion-no-event", "completion-test-event"):
        assert functions["completion"].invoke(event(name)) == NOTHING_FAILED
    codes = [line["code"] for line in functions.said("completion") if line.get("event") == "dropped"]
    assert set(codes) == {"not_an_event"}


def test_what_is_no_recording_fails_and_its_event_is_done_with(
    functions: Functions, ask: Callable[..., Answered], service: Service
) -> None:
    upload = begun_by(ask)
    completed_outside(service, upload, sent_by(ask, upload, b"MZ" + bytes(4096)))
    assert functions["completion"].invoke(event("completion-upload", **upload)) == NOTHING_FAILED
    record = record_of(service, upload)
    assert record.error is not None
    assert (record.state, record.error.code) == (State.FAILED, "unsupported_media")


def test_an_object_in_the_inbox_becomes_one_transcription(
    functions: Functions, ask: Callable[..., Answered], bucket: LaterBucket, service: Service
) -> None:
    bucket.put(f"inbox/{OWNER}/Board meeting 1+2.wav", JFK.read_bytes(), "audio/wav")
    for _ in range(2):
        assert functions["completion"].invoke(event("completion-inbox")) == NOTHING_FAILED
    (stored,) = (service.records.read_key(key) for key in service.records.listing(OWNER))
    assert stored is not None
    assert (stored.record.state, stored.record.name) == (State.QUEUED, "Board meeting 1+2.wav")


def test_an_event_comes_again_when_the_bucket_was_away(
    functions: Functions, ask: Callable[..., Answered], service: Service, servers: Servers
) -> None:
    upload = begun_by(ask)
    completed_outside(service, upload, sent_by(ask, upload, JFK.read_bytes()))
    told = event("completion-broken", **upload)
    last = told["Records"][-1]["messageId"]
    assert functions["completion"].invoke(event("completion-upload")) == NOTHING_FAILED
    servers.seaweedfs.kill()
    try:
        failed = functions["completion"].invoke(told)
        assert failed == {"batchItemFailures": [{"itemIdentifier": last}]}
        refused = ask("api-read", **upload)
        assert (refused.status, refused.json["code"]) == (503, "storage_unavailable")
    finally:
        servers.seaweedfs.start()
    # The connections of both functions are dead by now.
    assert functions["completion"].invoke(told) == NOTHING_FAILED
    assert ask("api-read", **upload).json["state"] == "queued"


# Sweep


def test_the_schedule_ends_an_idle_upload(
    functions: Functions, ask: Callable[..., Answered], service: Service
) -> None:
    upload = begun_by(ask)
    assert "looked" in functions["sweep"].invoke(event("sweep-broken"))
    deadline = time.monotonic() + 20
    while record_of(service, upload).state is not State.EXPIRED:
        assert time.monotonic() < deadline, "the upload was not ended"
        time.sleep(0.5)
        assert "looked" in functions["sweep"].invoke(event("sweep-schedule"))
    answer = ask("api-list-parts", **upload)
    assert (answer.status, answer.json["code"]) == (410, "upload_expired")


# Dead letters


@pytest.mark.parametrize("name", ["deadletters-job", "deadletters-broken"])
def test_a_job_that_nobody_could_take_ends_failed(
    functions: Functions, ask: Callable[..., Answered], service: Service, name: str
) -> None:
    upload = begun_by(ask)
    etag = sent_by(ask, upload, JFK.read_bytes())
    assert ask("api-complete", ETAG=etag, **upload).json["state"] == "queued"
    for _ in range(2):
        assert functions["deadletters"].invoke(event(name, **upload)) == NOTHING_FAILED
    record = record_of(service, upload)
    assert record.error is not None
    assert (record.state, record.error.code) == (State.FAILED, "never_started")


def test_what_is_no_batch_of_dead_letters_is_dropped(functions: Functions) -> None:
    assert functions["deadletters"].invoke(event("deadletters-no-batch")) == NOTHING_FAILED


def test_every_event_is_used_here() -> None:
    text = Path(__file__).read_text()
    assert [path.stem for path in EVENTS.glob("*.json") if f'"{path.stem}"' not in text] == []
