"""`bucketscribe doctor` on LocalStack says what is: signatures are checked, and nobody needs one."""

import json
import os
import subprocess
import sys

import pytest
from bucketscribe.setup import DEAD_JOBS, JOBS

from tests.localstack.conftest import PAGE
from tests.localstack.server import queue_url
from tests.servers import Servers

pytestmark = pytest.mark.localstack

NOT_THERE = {"server", "anonymous read", "anonymous write"}


def test_doctor_tells_what_localstack_can_do(servers: Servers, endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    place = {
        "BUCKETSCRIBE_S3_ENDPOINT": endpoint,
        "BUCKETSCRIBE_SQS_ENDPOINT": endpoint,
        "BUCKETSCRIBE_QUEUE_URL": queue_url(port, JOBS),
        "BUCKETSCRIBE_DEAD_LETTERS_URL": queue_url(port, DEAD_JOBS),
        "BUCKETSCRIBE_AUTH": "keys",
        "BUCKETSCRIBE_ALLOWED_ORIGINS": PAGE,
    }
    command = [sys.executable, "-m", "bucketscribe.cli.main", "doctor", "--json"]
    told = subprocess.run(
        [*command, "--server", "http://127.0.0.1:9"],
        env=os.environ | servers.environment | place,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = {finding["name"]: finding for finding in map(json.loads, told.stdout.splitlines())}
    assert {name for name, finding in findings.items() if finding["verdict"] == "missing"} == NOT_THERE
    for name in ("tampered URL", "expired URL", "other length"):
        assert findings[name]["verdict"] == "ok", findings[name]
    assert "anyone may read" in findings["anonymous read"]["means"]
    assert (findings["lifecycle"]["verdict"], findings["CORS"]["verdict"]) == ("ok", "ok")
    assert (findings["queue"]["verdict"], findings["dead letters"]["verdict"]) == ("ok", "ok")
    assert told.returncode == 1
