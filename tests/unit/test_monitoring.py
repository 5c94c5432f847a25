"""A worker's health, as its port tells it to a container's health check and to the API."""

import json
import time
import urllib.error
import urllib.request
from types import SimpleNamespace
from typing import Any, cast

import pytest
from bucketscribe.monitoring import Health, serve_monitoring
from bucketscribe.records import Progress
from bucketscribe.settings import Settings
from bucketscribe.worker import attempt
from bucketscribe.worker.health import Watch
from bucketscribe.worker.main import Worker

from tests.integration.test_story import free_port

ID = "01a1fe98-c2c6-7251-8a51-ba682cfeb711"


def get(port: int, path: str) -> tuple[int, Any]:
    """Status and body of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def working(**more: Any) -> Worker:
    """What is looked at of a worker with one job."""
    job = SimpleNamespace(
        claim=SimpleNamespace(record=SimpleNamespace(id=ID)),
        status=SimpleNamespace(progress=Progress(stage="transcribing", percent=40, seconds_left=7)),
        over_since=None,
        silent_seconds=1.0,
    )
    fields = {"attempts": [job], "stopping": 0, "looked": time.monotonic(), **more}
    return cast("Worker", SimpleNamespace(**fields))


def test_a_worker_is_alive_while_it_loads_and_ready_when_it_works() -> None:
    watch = Watch(Settings(data_dir="/nowhere", engine="whisperx"))
    serve_monitoring(port := free_port(), watch.look)
    loading = {"status": "loading", "engine": "whisperx", "model": "base", "jobs": []}
    assert get(port, "/") == (503, loading)
    assert get(port, "/live") == (200, loading)
    watch.worker = working(attempts=[])
    assert get(port, "/")[0] == 200
    assert get(port, "/")[1]["status"] == "idle"
    watch.worker = working()
    status, said = get(port, "/health/ready?who=me")
    assert (status, said["status"]) == (200, "working")
    assert said["jobs"] == [{"id": ID, "stage": "transcribing", "percent": 40, "seconds_left": 7}]
    watch.worker = working(stopping=1)
    assert get(port, "/")[0] == 503
    assert get(port, "/health/live") == (200, {**said, "status": "stopping"})


@pytest.mark.parametrize("silent", ["work", "loop"])
def test_a_worker_that_hangs_is_not_alive(silent: str) -> None:
    watch = Watch(Settings(data_dir="/nowhere"))
    watch.worker = worker = working()
    if silent == "work":
        cast("Any", worker.attempts[0]).silent_seconds = attempt.HUNG_SECONDS + 1
    else:
        worker.looked -= attempt.HUNG_SECONDS + 1
    found = watch.look()
    assert (found.status, found.alive, found.ready) == ("hung", False, False)


def test_a_process_without_a_say_is_fine_as_long_as_it_answers() -> None:
    serve_monitoring(port := free_port())
    assert get(port, "/") == get(port, "/live") == (200, {"status": "ok"})
    assert Health().ready
