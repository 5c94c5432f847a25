"""An emulator of AWS (ministack), and what is deployed into it with the real `sam build` and `sam deploy`.

It runs functions as processes of its own and is as strict as it can be made: TLS, signatures checked, and
every request of a function held against the policies of its role (`AUTH`). What it drops, such as a bucket's
lifecycle, is asserted on the template. https://ministack.org
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
STACK = "bucketscribe"
REGION = "us-east-1"
READY_SECONDS = 60
PATIENCE_SECONDS = 120


def until[T](look: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """What `look` finds, once it finds something."""
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.1)
    return found


@dataclass(frozen=True)
class Emulator:
    """A running emulator: its URL, the certificate it shows, and the environment that leads there."""

    url: str
    certificate: Path
    environment: dict[str, str]

    def client(self, service: str) -> Any:
        """The SDK's client of a service, as the account's owner."""
        session = boto3.Session("test", "test", region_name=REGION)
        return session.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.url,
            verify=str(self.certificate),
            config=Config(s3={"addressing_style": "path"}),
        )

    def sam(self, *words: str) -> None:
        """Run `sam` with the emulator for AWS."""
        sam(self.environment, *words)


@dataclass(frozen=True)
class Stack:
    """What was deployed."""

    emulator: Emulator
    outputs: dict[str, str]

    @property
    def api(self) -> str:
        """The API's URL. The emulator's names for it are not in any DNS, so it is told in the path."""
        api_id = (urlsplit(self.outputs["ApiUrl"]).hostname or "").partition(".")[0]
        return f"{self.emulator.url}/_aws/execute-api/{api_id}/$default"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.outputs["MediaBucket"]

    def resource(self, id: str) -> str:
        """The physical id of a resource."""
        cloudformation = self.emulator.client("cloudformation")
        described = cloudformation.describe_stack_resource(StackName=STACK, LogicalResourceId=id)
        return str(described["StackResourceDetail"]["PhysicalResourceId"])

    def logged(self, text: str) -> bool:
        """Whether a function has logged this."""
        logs, group = self.emulator.client("logs"), self.resource("FunctionLogs")
        return bool(logs.filter_log_events(logGroupName=group, filterPattern=f'"{text}"')["events"])


@contextmanager
def emulator(folder: Path) -> Iterator[Emulator]:
    """An emulator with nothing in it, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"https://localhost:{port}"
    certificate, key = make_certificate(folder)
    home = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    credentials = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    there = {
        **home,
        **credentials,
        "AWS_ENDPOINT_URL": url,
        "AWS_CA_BUNDLE": str(certificate),
        # The functions have the emulator's environment as well: no bucket is a host name here.
        "BUCKETSCRIBE_S3_ENDPOINT": url,
    }
    options = {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "IOT_MTLS_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "MINISTACK_SSL_CERT": str(certificate),
        "MINISTACK_SSL_KEY": str(key),
        "TMPDIR": str(folder),
        "USE_SSL": "1",
    }
    with (folder / "ministack.log").open("wb") as log:
        process = subprocess.Popen(
            [str(TOOLS / "ministack/bin/ministack")],
            env=there | options,
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        started = Emulator(url, certificate, there)
        until(lambda: _answers(started), "ministack answers", READY_SECONDS)
        yield started
    finally:
        # With the functions, which are its children; there is nothing to save.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def deployed(folder: Path, **parameters: str | int) -> Iterator[Stack]:
    """The template, built for this machine and deployed into an emulator, until the end of the block."""
    with emulator(folder) as there:
        build = folder / "build"
        overrides = [f"{name}={value}" for name, value in {"Architecture": "x86_64", **parameters}.items()]
        ours = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        ours |= {"AWS_DEFAULT_REGION": REGION, "LAMBDA_ARCHITECTURE": "x86_64"}
        sam(ours, "build", "--build-dir", str(build), "--parameter-overrides", *overrides)
        yield deploy(there, build, overrides)


def deploy(there: Emulator, build: Path, overrides: list[str]) -> Stack:
    """`sam deploy` of what was built; also of a stack that stands."""
    there.sam(
        *("deploy", "--template-file", str(build / "template.yaml"), "--stack-name", STACK),
        *("--resolve-s3", "--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar"),
        *("--region", REGION, "--parameter-overrides", *overrides),
    )
    stack = there.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    assert stack["StackStatus"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    return Stack(there, {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]})


def sam(environment: Mapping[str, str], *words: str) -> None:
    """Run `sam` in the project's folder; it must succeed."""
    done = subprocess.run(
        [str(TOOLS / "sam/bin/sam"), *words],
        cwd=ROOT,
        env={**environment, "SAM_CLI_TELEMETRY": "0"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


@contextmanager
def worker(stack: Stack, folder: Path) -> Iterator[None]:
    """A real worker of the stack's queue, until the end of the block."""
    environment = stack.emulator.environment | {
        "BUCKETSCRIBE_BUCKET": stack.bucket,
        "BUCKETSCRIBE_REGION": REGION,
        "BUCKETSCRIBE_QUEUE_URL": stack.outputs["JobQueueUrl"],
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_STOP_SECONDS": "0",
    }
    with (folder / "worker.log").open("ab") as log:
        command = [sys.executable, "-m", "bucketscribe.cli.main", "worker"]
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine that signs itself, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


def _answers(there: Emulator) -> bool:
    try:
        context = create_default_context(cafile=str(there.certificate))
        with urllib.request.urlopen(f"{there.url}/_ministack/health", timeout=5, context=context) as answer:
            return bool(json.load(answer)["auth"] == "enabled")
    except OSError:
        return False
