"""A Lambda function on this machine: AWS's Runtime Interface Emulator and AWS's runtime client for Python.

Both are the real programs. What they are given is the built package and nothing else: they run in an
environment of their own, in which nothing of ours is installed. What differs from Lambda is the machine, the
frozen environments and the time limit: none of these is there.
https://github.com/aws/aws-lambda-runtime-interface-emulator
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
from bucketscribe.up.ports import is_free

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
EMULATOR = TOOLS / "sam/lib/python3.13/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"
PYTHON = TOOLS / "lambda/bin/python"
INVOCATIONS = "2015-03-31/functions/function/invocations"
STARTED_SECONDS = 20
ANSWER_SECONDS = 60


def build(folder: Path, function: str = "ApiFunction", architecture: str = "x86_64") -> Path:
    """Have a function's package made as `sam build` does: in a folder that has neither lock nor sources."""
    package, elsewhere = folder / function, folder / f"{function}.source"
    package.mkdir()
    elsewhere.mkdir()
    subprocess.run(
        ["make", "--makefile", ROOT / "functions/Makefile", f"build-{function}"],
        cwd=elsewhere,
        env=os.environ | {"ARTIFACTS_DIR": str(package), "LAMBDA_ARCHITECTURE": architecture},
        check=True,
        capture_output=True,
    )
    return package


class Function:
    """A function that can be invoked; `log` is the file of all it said, `pid` the emulator's process."""

    def __init__(self, url: str, log: Path, pid: int) -> None:
        self.url = url
        self.log = log
        self.pid = pid

    def invoke(self, event: object) -> Any:
        """What the handler returned; or, of one that raised, `errorType` and `errorMessage`."""
        return httpx2.post(self.url, content=json.dumps(event), timeout=ANSWER_SECONDS).json()


@contextmanager
def running(
    package: Path, handler: str, environment: Mapping[str, str], log: Path, timeout_seconds: int = 300
) -> Iterator[Function]:
    """A function of a package, from its handler's name. It is loaded when it is first invoked."""
    address, api = (f"127.0.0.1:{port}" for port in _free_ports(2))
    command = [str(EMULATOR), "--runtime-interface-emulator-address", address, "--runtime-api-address", api]
    given = {
        "PATH": os.environ["PATH"],
        "LANG": "en_US.UTF-8",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_seconds),
        # On Lambda the package's folder cannot be written.
        "PYTHONDONTWRITEBYTECODE": "1",
        **environment,
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, PYTHON, "-m", "awslambdaric", f"bucketscribe.lambdas.{handler}.handler"],
            cwd=package,
            env=given,
            stdout=said,
            stderr=said,
        )
        try:
            _await(address)
            yield Function(f"http://{address}/{INVOCATIONS}", log, process.pid)
        finally:
            # The runtime ends by itself when nobody has work for it any more.
            process.kill()
            process.wait()


def _await(address: str) -> None:
    deadline = time.monotonic() + STARTED_SECONDS
    while True:
        try:
            httpx2.get(f"http://{address}/", timeout=1)
            return
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _free_ports(number: int) -> list[int]:
    free = [port for port in range(19100, 19500) if is_free("127.0.0.1", port)]
    return free[:number]
