"""localstack/compose.yaml, as Docker Compose itself reads it; there is no container engine to run it."""

import json
import subprocess
from typing import Any

import pytest

from tests.localstack.server import ROOT

pytestmark = pytest.mark.deploy

FOLDER = ROOT / "localstack"
PROGRAM = next((ROOT / ".tools/compose").glob("lib/python*/site-packages/compose/docker-compose"), None)


def read(**environment: str) -> dict[str, Any]:
    """LocalStack's service, with these variables set."""
    done = subprocess.run(
        [str(PROGRAM), "-f", "compose.yaml", "config", "--format", "json"],
        cwd=FOLDER,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    service: dict[str, Any] = json.loads(done.stdout)["services"]["localstack"]
    return service


def test_compose_takes_the_file_and_nobody_else_reaches_the_port() -> None:
    service = read()
    assert service["image"] == "localstack/localstack:4.14.0"
    assert [(port["host_ip"], port["target"]) for port in service["ports"]] == [("127.0.0.1", 4566)]
    assert service["environment"]["S3_SKIP_SIGNATURE_VALIDATION"] == "0"


def test_what_the_script_needs_is_mounted_where_it_looks() -> None:
    mounted = {volume["target"]: volume["source"] for volume in read()["volumes"]}
    assert mounted["/etc/localstack/init/ready.d"] == str(FOLDER / "ready.d")
    (script,) = (FOLDER / "ready.d").glob("*.py")
    ours = mounted["/opt/bucketscribe"]
    assert "/opt/bucketscribe" in script.read_text()
    assert (ROOT / ours / "bucketscribe/setup.py").exists()


def test_the_script_is_told_what_is_set() -> None:
    told = read(
        BUCKETSCRIBE_BUCKET="other", BUCKETSCRIBE_ALLOWED_ORIGINS="https://a", LOCALSTACK_AUTH_TOKEN="t"
    )
    environment = told["environment"]
    assert environment["BUCKETSCRIBE_BUCKET"] == "other"
    assert environment["BUCKETSCRIBE_ALLOWED_ORIGINS"] == "https://a"
    assert environment["LOCALSTACK_AUTH_TOKEN"] == "t"
