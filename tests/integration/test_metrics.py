"""What operators see of a real story: metrics where they are scraped, a log line a request and a move."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from botocore.exceptions import EndpointConnectionError
from bucketscribe import metrics
from bucketscribe.auth import Scope
from bucketscribe.bucket import Conflict, Written
from bucketscribe.keys import Keys
from bucketscribe.records import Record, State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from bucketscribe.worker.main import Worker, make_engine
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_story import free_port
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, refused
from tests.integration.test_working import work_off
from tests.servers import Servers

Samples = dict[tuple[str, ...], float]


@pytest.fixture(autouse=True)
def _collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_backend", metrics._backend)
    metrics.configure()


def samples(text: str) -> Samples:
    """Every sample, by its name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(text for _, text in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(api: TestClient) -> Samples:
    answer = api.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


def test_a_story_is_told_in_numbers(uploader: Uploader, api: TestClient, service: Service) -> None:
    uploader.send(SPEECH)
    waiting = scraped(api)
    assert waiting["bucketscribe_queue_messages",] == 1
    assert [waiting["bucketscribe_open_markers", kind] for kind in ("uploads", "forms", "jobs", "purge")] == [
        *(0, 0, 1, 0)
    ]
    work_off(service)
    uploader.begin()
    told = scraped(api)
    assert told["bucketscribe_uploads_begun_total",] == 2
    assert told["bucketscribe_uploads_completed_total",] == 1
    for state, times in {"uploading": 2, "completing": 1, "queued": 1, "running": 1, "completed": 1}.items():
        assert told["bucketscribe_transcriptions_total", state] == times
    assert told["bucketscribe_jobs_ended_total", "completed"] == 1
    assert told["bucketscribe_request_seconds_count", "POST", "/s3/multipart", "2xx"] == 2
    assert told["bucketscribe_stage_seconds_count", "transcribe"] == 1
    assert told["bucketscribe_real_time_factor_count", "faster-whisper", "tiny.en"] == 1
    assert told["bucketscribe_queue_messages",] == 0
    assert (told["bucketscribe_open_markers", "uploads"], told["bucketscribe_open_markers", "jobs"]) == (1, 0)
    assert (told["bucketscribe_up", "bucket"], told["bucketscribe_up", "queue"]) == (1, 1)


def test_what_is_refused_is_counted_by_its_code(uploader: Uploader, api: TestClient) -> None:
    api.post("/s3/multipart", json={"filename": "notes.txt"})
    api.post("/s3/multipart", json={"filename": "talk.mp3", "metadata": {"size": 6 * 1024**3}})
    uploader.send(b"no recording at all " * 10)
    told = scraped(api)
    assert told["bucketscribe_uploads_refused_total", "unsupported_media"] == 2
    assert told["bucketscribe_uploads_refused_total", "too_large"] == 1
    assert told["bucketscribe_uploads_begun_total",] == 1


def test_what_expires_is_counted(
    uploader: Uploader, api: TestClient, bucket: LaterBucket, sweep: Sweep
) -> None:
    uploader.begin()
    bucket.later = timedelta(hours=2)
    sweep.run()
    assert scraped(api)["bucketscribe_uploads_expired_total",] == 1


def test_paths_and_methods_nobody_serves_make_no_labels_of_their_own(api: TestClient) -> None:
    for number in range(3):
        api.get(f"/nowhere/{number}")
        api.request(f"BREW{number}", "/transcriptions")
    assert {labels[1:] for labels in _measured(api)} == {
        ("GET", "unmatched", "4xx"),
        ("other", "/transcriptions", "4xx"),
    }


def test_what_carries_a_recording_is_not_measured_as_a_request(api: TestClient) -> None:
    for path in ("/upload/stream", "/speech-to-text", "/v1/audio/transcriptions", "/uploads/files/"):
        assert api.post(path).status_code in (400, 412)
    api.get("/task/all")
    routes = {route for name, _, route, *_ in _measured(api)}
    assert routes == {"/task/all"}


def _measured(api: TestClient) -> list[tuple[str, ...]]:
    return [labels for labels in scraped(api) if labels[0] == "bucketscribe_request_seconds_count"]


class Deaf(LaterBucket):
    """A bucket that does not answer a listing."""

    def listing(self, prefix: str, after: str = "", at_most: int | None = None) -> Any:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")


def test_a_bucket_that_does_not_answer_is_told_and_the_rest_is_there(service: Service) -> None:
    deaf = Deaf(service.bucket.client, service.bucket.name)
    with calling(Service.of(service.settings, deaf, service.queue)) as api:
        told = scraped(api)
    assert (told["bucketscribe_up", "bucket"], told["bucketscribe_up", "queue"]) == (0, 1)
    assert told["bucketscribe_queue_messages",] == 0
    assert not [name for name, *_ in told if name == "bucketscribe_open_markers"]


def test_only_an_admin_s_key_reads_metrics(service: Service) -> None:
    settings = service.settings.model_copy(update={"auth": ("keys",)})
    keys = Keys(service.bucket)
    reader = keys.new("page", "ann-0123456789abcdef", (Scope.READ, Scope.UPLOAD, Scope.WRITE), None)
    admin = keys.new("prometheus", "ops-0123456789abcdef", (Scope.ADMIN,), None)
    with calling(Service.of(settings, service.bucket, service.queue)) as api:
        refused(api.get("/metrics"), 401, "sign_in_required")
        refused(api.get("/metrics", headers={"Authorization": f"Bearer {reader}"}), 403, "scope_missing")
        assert api.get("/metrics", headers={"Authorization": f"Bearer {admin}"}).status_code == 200


def test_a_lambda_writes_its_metrics_and_serves_none(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as lambda_s:
        lambda_s.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
        metrics.configure()
    with calling(service) as api:
        api.post("/s3/multipart", json={"filename": "talk.mp3"})
        written = capsys.readouterr().out
        assert '"uploads_begun":[1.0]' in written
        assert '"request_seconds"' not in written
        refused(api.get("/metrics"), 404, "no_such_route")


# Ports of processes that serve nothing else


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


@contextmanager
def process(servers: Servers, service: Service, name: str, port: int) -> Iterator[None]:
    """A worker or a sweep with a port of its own."""
    environment = servers.environment | {
        f"BUCKETSCRIBE_{name.upper()}_PORT": str(port),
        "BUCKETSCRIBE_QUEUE_URL": service.queue.url,
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_STOP_SECONDS": "0",
        "BUCKETSCRIBE_UPLOAD_IDLE_SECONDS": "4",
        "BUCKETSCRIBE_SWEEP_INTERVAL_SECONDS": "0.5",
    }
    started = subprocess.Popen([sys.executable, "-m", "bucketscribe.cli.main", name], env=environment)
    try:
        yield
    finally:
        started.kill()
        started.wait()


def eventually(read: Callable[[], bool], seconds: float = 30) -> None:
    """Ask another process again and again: nothing tells when it has come so far."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if read():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_worker_s_port_tells_its_stages_and_its_speed(
    uploader: Uploader, service: Service, servers: Servers
) -> None:
    upload = uploader.send(SPEECH)
    url = f"http://127.0.0.1:{(port := free_port())}"
    with process(servers, service, "worker", port):
        eventually(lambda: upload.state() == "completed")
        told: Samples = {}

        def measured() -> bool:
            told.update(samples(get(f"{url}/metrics")))
            return ("bucketscribe_real_time_factor_count", "faster-whisper", "tiny.en") in told

        eventually(measured)
        health = json.loads(get(f"{url}/"))
        assert health["status"] in ("idle", "working")
        assert (health["engine"], health["model"]) == ("faster-whisper", "tiny.en")
    timings = service.transcriptions.get("local", upload.id).record.timings or {}
    assert {"load", "decode", "transcribe"} <= set(timings)
    for stage, seconds in timings.items():
        assert told["bucketscribe_stage_seconds_sum", stage] == pytest.approx(seconds)
    assert (
        0
        < told["bucketscribe_real_time_factor_sum", "faster-whisper", "tiny.en"]
        < 11 / timings["transcribe"]
    )
    assert told["bucketscribe_jobs_ended_total", "completed"] == 1


@pytest.mark.long
def test_a_sweep_s_port_tells_what_it_ended(uploader: Uploader, service: Service, servers: Servers) -> None:
    uploader.begin()
    port = free_port()
    with process(servers, service, "sweep", port):
        eventually(
            lambda: (
                samples(get(f"http://127.0.0.1:{port}/metrics"))["bucketscribe_uploads_expired_total",] == 1
            )
        )


# Log lines


def moves(lines: list[Any], id: str) -> list[str]:
    """The events of a transcription's own lines; each has its owner and its run."""
    told = [line for line in lines if line.get("id") == id and line["event"] in State]
    assert all(line["owner"] == "local" and line["run"] >= 1 for line in told)
    return [line["event"] for line in told]


def test_every_state_a_transcription_comes_into_is_one_line(
    uploader: Uploader, api: TestClient, service: Service, bucket: LaterBucket, sweep: Sweep
) -> None:
    with capture_logs() as lines:
        whole = uploader.send(SPEECH)
        work_off(service)
        canceled = uploader.send(SPEECH)
        api.post(f"/transcriptions/{canceled.id}/cancel")
        api.post(f"/transcriptions/{canceled.id}/retry")
        worker = Worker(service, make_engine(service.settings))
        worker._work(claimed(service, canceled.id, run=2))
        refused_one = uploader.send(b"no recording at all " * 10)
        idle = uploader.begin()
        bucket.later = timedelta(hours=2)
        sweep.run()
        api.delete(f"/transcriptions/{whole.id}")
    done = ["uploading", "completing", "queued", "running", "completed"]
    assert moves(lines, whole.id) == [*done, "deleted"]
    assert moves(lines, canceled.id) == [*done[:3], "canceled", "queued", "running", "completed"]
    assert moves(lines, refused_one.id) == ["uploading", "completing", "failed"]
    assert moves(lines, idle.id) == ["uploading", "expired"]
    (failed,) = [line for line in lines if line["event"] == "failed"]
    assert failed["code"] == "unsupported_media"


def test_a_run_that_changes_hands_is_said_with_its_attempts(
    uploader: Uploader, service: Service, bucket: LaterBucket
) -> None:
    id = uploader.send(SPEECH).id
    worker = Worker(service, make_engine(service.settings))
    with capture_logs() as lines:
        claim = worker._next()
        assert claim is not None
        bucket.later = timedelta(seconds=service.settings.lease_seconds + 2)
        again = service.transcriptions.claim(claim.job, "another")
        assert again is not None
        service.transcriptions.release(again)
    assert moves(lines, id) == ["running", "running", "queued"]
    assert [line.get("attempts") for line in lines if line.get("id") == id] == [None, 1, 1]
    assert [line.get("worker") for line in lines if line.get("id") == id] == [worker.name, "another", None]


class Forgetful(LaterBucket):
    """A bucket whose answers to writes are lost; the SDK sends them again, and is told that it is late."""

    def replace(self, key: str, body: bytes, etag: str, *more: Any) -> Written:
        super().replace(key, body, etag, *more)
        raise Conflict(key)


class Silent(LaterBucket):
    """A bucket that writes the first time, and then does not answer, not even what was written."""

    silent = False

    def replace(self, key: str, body: bytes, etag: str, *more: Any) -> Written:
        self.silent = True
        super().replace(key, body, etag, *more)
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    def get(self, key: str) -> Any:
        if self.silent:
            self.silent = False
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return super().get(key)


@pytest.mark.parametrize("kind", [Forgetful, Silent])
def test_a_move_whose_answer_is_lost_is_said_once(
    uploader: Uploader, service: Service, kind: type[LaterBucket]
) -> None:
    id = uploader.begin().id
    losing = Service.of(service.settings, kind(service.bucket.client, service.bucket.name), service.queue)

    def cancel(record: Record, now: Any) -> Record | None:
        return record.to(State.CANCELED) if record.state is State.UPLOADING else None

    with capture_logs() as lines:
        losing.records.change("local", id, cancel)
    assert moves(lines, id) == ["canceled"]


def requests(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "request"]


def test_a_request_is_one_line_with_route_owner_and_id(uploader: Uploader, api: TestClient) -> None:
    with capture_logs() as lines:
        upload = uploader.begin()
        upload.url(1)
        upload.state()
        api.get("/health")
    begun, signed, read = requests(lines)
    assert (begun["method"], begun["route"], begun["status"]) == ("POST", "/s3/multipart", 200)
    assert (signed["route"], signed["owner"], signed["id"]) == (
        *("/s3/multipart/{upload_id}/{part_number}", "local"),
        upload.id,
    )
    assert (read["route"], read["owner"], read["id"]) == ("/transcriptions/{id}", "local", upload.id)
    assert read["ms"] > 0


def test_no_path_is_said(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin()
    with capture_logs() as lines:
        upload.parts()
        api.get("/transcriptions/not-an-id-but-a-secret")
        api.get("/a-secret/s3/multipart")
        api.post("/u/a-secret/s3/multipart", json={"filename": "talk.mp3"})
        api.get("/transcriptions", params={"key": f"uploads/a-secret/{upload.id}x/"})
    assert "secret" not in str(lines)
    assert upload.begun["uploadId"] not in str(lines)
    assert [line["route"] for line in requests(lines)][1:4] == [
        "/transcriptions/{id}",
        "unmatched",
        "/s3/multipart",
    ]


def test_what_fails_in_us_is_said_with_its_route(service: Service) -> None:
    class Broken(LaterBucket):
        """A bucket with a mistake of ours in it."""

        def get(self, key: str) -> Any:
            raise ZeroDivisionError

    broken = Broken(service.bucket.client, service.bucket.name)
    with calling(Service.of(service.settings, broken, service.queue)) as api, capture_logs() as lines:
        id = "019aa5b2-7c1e-7d3a-9f00-0242ac120002"
        answer: httpx2.Response = api.get(f"/transcriptions/{id}")
    refused(answer, 500, "internal")
    failed, request = lines
    assert (failed["event"], failed["code"], failed["route"], failed["id"]) == (
        *("request failed", "internal", "/transcriptions/{id}"),
        id,
    )
    assert (request["event"], request["status"]) == ("request", 500)
