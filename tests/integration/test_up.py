"""`bucketscribe up` as its user meets it: it is ready, it ends, it mends itself, it says what is wrong.

Real servers, each test with a data folder and a port of its own. What another process does is polled
for, with a limit; nothing else here waits for time to pass.
"""

import asyncio
import fcntl
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import boto3
import pytest
from botocore.config import Config
from bucketscribe.up.child import Child, Keeper
from bucketscribe.up.log import Log
from bucketscribe.up.ports import is_free

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

BUCKET = "bucketscribe"
READY_SECONDS = 90
STOP_SECONDS = 10
STOP_ORDER = ["sweep", "worker", "api", "sqs", "seaweedfs"]
COMMANDS = {
    "seaweedfs": "weed -logtostderr",
    "sqs": "-m moto.server",
    "api": "bucketscribe.cli.main api",
    "worker": "bucketscribe.cli.main worker",
    "sweep": "bucketscribe.cli.main sweep",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def clean_environment(**settings: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return kept | {f"BUCKETSCRIBE_{name.upper()}": value for name, value in settings.items()}


def wait_until(what: str, condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


def process_table() -> dict[int, tuple[int, str]]:
    """Every process that lives: its parent and its command."""
    lines = subprocess.check_output(
        ["ps", "-axww", "-o", "pid=,ppid=,stat=,command="], text=True
    ).splitlines()
    rows = (line.split(None, 3) for line in lines)
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if len(row) == 4 and "Z" not in row[2]}


def descendants(root: int) -> dict[int, str]:
    table = process_table()
    found: dict[int, str] = {}
    parents = {root}
    while parents:
        children = {pid for pid, (parent, _) in table.items() if parent in parents and pid not in found}
        found |= {pid: table[pid][1] for pid in children}
        parents = children
    return found


class Up:
    """One `bucketscribe up`, in a process group of its own like one started from a shell."""

    def __init__(self, data: Path, port: int, **settings: str) -> None:
        self.data = data
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self._more = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bucketscribe.cli.main", "up"],
            env=clean_environment(data_dir=str(data), port=str(port), **settings),
            cwd=data.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_SECONDS + 5)
        self.process.kill()
        self.process.wait()
        self._reader.join(STOP_SECONDS)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._more:
                self.lines.append(line.rstrip("\n"))
                self._more.notify_all()

    def says(self, text: str, seconds: float = READY_SECONDS, after: int = 0) -> str:
        """The first line with this text, waited for."""

        def found() -> str | None:
            return next((line for line in self.lines[after:] if text in line), None)

        with self._more:
            assert self._more.wait_for(found, seconds), f"never said {text!r}:\n" + "\n".join(self.lines)
            return found() or ""

    def ready(self) -> Self:
        self.says("Bucketscribe is ready:")
        return self

    def processes(self) -> dict[int, str]:
        return descendants(self.process.pid)

    def child(self, name: str) -> int:
        """Process id of a child itself, not of its tether."""
        pids = [pid for pid, c in self.processes().items() if COMMANDS[name] in c and "tether.py" not in c]
        assert len(pids) == 1, self.processes()
        return pids[0]

    def kill(self, name: str) -> None:
        """kill -9 a child, and wait until it is said and the child is back."""
        said = len(self.lines)
        os.kill(self.child(name), signal.SIGKILL)
        self.says(f"{name} was ended by SIGKILL; it comes back in 0.5 s", 10, after=said)
        self.says(f"{name} is back", after=said)

    def lock_is_free(self) -> bool:
        with (self.data / "lock").open("r+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

    def _session(self) -> boto3.Session:
        credentials = json.loads((self.data / "credentials.json").read_text())
        return boto3.Session(credentials["access_key"], credentials["secret_key"], region_name="us-east-1")

    def _endpoint(self, name: str) -> str:
        return f"http://127.0.0.1:{json.loads((self.data / 'ports.json').read_text())[name]}"

    def s3(self) -> "S3Client":
        config = Config(proxies={}, s3={"addressing_style": "path"})
        return self._session().client("s3", endpoint_url=self._endpoint("s3"), config=config)

    def sqs(self) -> "SQSClient":
        return self._session().client("sqs", endpoint_url=self._endpoint("sqs"), config=Config(proxies={}))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One that stays up for all tests that do not end it."""
    with Up(tmp_path_factory.mktemp("up") / "data", free_port()) as up:
        yield up.ready()


class TestReady:
    def test_the_ready_line_names_the_url_and_the_data_folder(self, running: Up) -> None:
        assert running.says("Bucketscribe is ready:") == (
            f"Bucketscribe is ready: {running.url}  (data in {running.data})"
        )
        with urllib.request.urlopen(f"{running.url}/health/ready") as response:
            assert response.status == 200

    def test_nobody_can_send_it_headers_without_end(self, running: Up) -> None:
        request = urllib.request.Request(running.url, headers={"X-Long": "x" * 100_000})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request)
        assert refused.value.code == 431

    def test_a_web_page_may_read_the_etag_of_a_part(self, running: Up) -> None:
        (rule,) = running.s3().get_bucket_cors(Bucket=BUCKET)["CORSRules"]
        assert set(rule["AllowedMethods"]) == {"GET", "PUT", "POST", "HEAD"}
        assert set(rule["ExposeHeaders"]) == {"ETag", "Location"}

    def test_the_bucket_drops_uploads_nobody_finishes(self, running: Up) -> None:
        (rule,) = running.s3().get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
        assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}

    def test_keys_are_readable_by_their_owner_only(self, running: Up) -> None:
        for name in ("credentials.json", "s3.json"):
            assert (running.data / name).stat().st_mode & 0o777 == 0o600

    def test_every_embedded_port_is_on_the_loopback(self, running: Up) -> None:
        if not Path("/proc/net/tcp").exists():
            pytest.skip("needs /proc")
        ports = set(json.loads((running.data / "ports.json").read_text()).values())
        ports |= {port + 10000 for port in ports}
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = [fields[1].split(":") for fields in sockets if fields[3] == "0A"]
        hosts = {host for host, port in listening if int(port, 16) in ports}
        assert hosts == {"0100007F"}


class TestMending:
    def test_a_killed_api_comes_back(self, running: Up) -> None:
        running.kill("api")

    def test_a_killed_bucket_comes_back_with_its_data(self, running: Up) -> None:
        running.s3().put_object(Bucket=BUCKET, Key="kept", Body=b"here")
        running.kill("seaweedfs")
        assert running.s3().get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"here"

    def test_a_killed_queue_comes_back_with_its_dead_letter_queue(self, running: Up) -> None:
        running.kill("sqs")
        sqs = running.sqs()
        url = sqs.get_queue_url(QueueName="bucketscribe-jobs")["QueueUrl"]
        policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
        redrive = json.loads(policy["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"].endswith(":bucketscribe-jobs-dead")
        assert redrive["maxReceiveCount"] == 5


def end(up: Up, send: Callable[[], None]) -> list[str]:
    """Send, and watch everything go; returns the children's names in the order in which they went."""
    watched = up.processes()
    names = {name: up.child(name) for name in STOP_ORDER}
    went: list[str] = []

    def all_gone() -> bool:
        alive = process_table()
        went.extend(name for name in STOP_ORDER if names[name] not in alive and name not in went)
        return not alive.keys() & watched.keys()

    send()
    wait_until("every process is gone", all_gone, STOP_SECONDS)
    up.process.wait(STOP_SECONDS)
    wait_until("the data folder is free", up.lock_is_free, 1)
    return went


class TestEnding:
    @pytest.mark.parametrize(
        "way",
        [
            "SIGINT to the group",
            pytest.param("SIGTERM", marks=pytest.mark.long),
            pytest.param("SIGTERM to the group", marks=pytest.mark.long),
        ],
    )
    def test_everything_is_stopped_in_order(self, tmp_path: Path, way: str) -> None:
        number = signal.SIGINT if "INT" in way else signal.SIGTERM
        with Up(tmp_path / "data", free_port()) as up:
            up.ready()
            send = os.killpg if "group" in way else os.kill
            assert end(up, lambda: send(up.process.pid, number)) == STOP_ORDER
            assert up.process.returncode == 0, up.lines

    def test_it_can_be_stopped_while_it_starts(self, tmp_path: Path) -> None:
        with Up(tmp_path / "data", free_port()) as up:
            up.says("starting")
            up.process.terminate()
            assert up.process.wait(STOP_SECONDS) == 0
            assert up.lock_is_free()

    @pytest.mark.long
    def test_a_killed_supervisor_takes_its_children_along_and_the_next_one_finds_the_data(
        self, tmp_path: Path
    ) -> None:
        port = free_port()
        with Up(tmp_path / "data", port) as up:
            up.ready().s3().put_object(Bucket=BUCKET, Key="kept", Body=b"here")
            children = up.processes()
            up.process.kill()
            up.process.wait()
            with Up(tmp_path / "data", port) as second:  # at once: it waits for the old children to go
                second.says("starting")
                assert not children.keys() & process_table().keys()
                assert second.ready().s3().get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"here"


def refused(command: str, **settings: str) -> str:
    """What is said by one that must end with status 1."""
    result = subprocess.run(
        [sys.executable, "-m", *command.split()],
        env=clean_environment(**settings),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 1, said
    assert "Traceback" not in said
    return said


class TestRefusing:
    def test_a_second_one_on_the_same_data(self, running: Up) -> None:
        said = refused("bucketscribe.cli.main up", data_dir=str(running.data), port=str(free_port()))
        assert f"in use by another `bucketscribe up` (process {running.process.pid})" in said
        assert "BUCKETSCRIBE_DATA_DIR" in said

    @pytest.mark.parametrize("setting", ["port", "s3_port", "sqs_port", "sweep_port"])
    def test_a_taken_port(self, tmp_path: Path, setting: str) -> None:
        # Below the ephemeral range, so that SeaweedFS's second port, 10,000 above, is a port too.
        port = next(port for port in range(18000, 20000) if is_free("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)) as listener:
            taken = listener.getsockname()[1]
            settings = {"port": str(free_port()), setting: str(taken)}
            said = refused("bucketscribe.cli.main up", data_dir=str(tmp_path / "data"), **settings)
        assert f"Port {taken} on 127.0.0.1 is taken" in said
        assert f"BUCKETSCRIBE_{setting.upper()}" in said

    def test_an_address_others_can_reach(self, tmp_path: Path) -> None:
        said = refused("bucketscribe.cli.main up", data_dir=str(tmp_path / "data"), host="0.0.0.0")
        assert "open mode is for this machine only" in said
        assert not (tmp_path / "data").exists()

    def test_settings_that_make_no_sense_are_each_said_in_a_line(self) -> None:
        said = refused("bucketscribe.up.checks", port="eighty", secret="short", lease_seconds="0")
        lines = said.splitlines()
        assert len(lines) == 3
        assert any(line.startswith("BUCKETSCRIBE_PORT: ") and "'eighty'" in line for line in lines)
        assert "short'" not in said

    def test_a_data_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        said = refused("bucketscribe.cli.main up", data_dir=str(tmp_path / "file"), port=str(free_port()))
        assert "BUCKETSCRIBE_DATA_DIR" in said


STUBBORN = """
import signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print("pids", grandchild.pid, flush=True)
signal.pause()
"""


def keep(
    tmp_path: Path, code: str, meanwhile: Callable[[Keeper, io.StringIO], Awaitable[None]], grace: float = 5
) -> str:
    """Keep a Python one-liner alive while something happens to it; returns what the log says."""
    said = io.StringIO()

    async def scene() -> None:
        with (tmp_path / "lock").open("w") as lock:
            child = Child("api", (sys.executable, "-c", code), clean_environment(), grace)
            keeper = Keeper(child, Log(said), lock.fileno())
            keeper.start()
            try:
                await meanwhile(keeper, said)
            finally:
                await keeper.stop()

    asyncio.run(scene())
    return said.getvalue()


async def heard(said: io.StringIO, text: str, times: int = 1) -> None:
    async with asyncio.timeout(20):
        while said.getvalue().count(text) < times:  # noqa: ASYNC110 - another process says it
            await asyncio.sleep(0.02)


class TestKeeping:
    def test_pauses_between_restarts_double(self, tmp_path: Path) -> None:
        async def meanwhile(_: Keeper, said: io.StringIO) -> None:
            await heard(said, "it comes back", times=3)

        said = keep(tmp_path, "raise SystemExit(3)", meanwhile)
        endings = [line for line in said.splitlines() if "it comes back" in line]
        assert [line.partition("| ")[2] for line in endings] == [
            f"api ended with status 3; it comes back in {pause} s" for pause in ("0.5", "1", "2")
        ]

    def test_one_that_will_not_stop_is_killed_with_all_it_started(self, tmp_path: Path) -> None:
        grandchild = 0

        async def meanwhile(_: Keeper, said: io.StringIO) -> None:
            nonlocal grandchild
            await heard(said, "pids ")
            grandchild = int(said.getvalue().rpartition("pids ")[2])

        said = keep(tmp_path, STUBBORN, meanwhile, grace=0.3)
        assert "api did not stop in 0.3 s: killed" in said
        wait_until("the grandchild is gone", lambda: grandchild not in process_table(), 2)

    def test_a_killed_tether_takes_its_child_along_and_both_come_back(self, tmp_path: Path) -> None:
        async def meanwhile(_: Keeper, said: io.StringIO) -> None:
            await heard(said, "here")
            child, tether = map(int, said.getvalue().split()[-2:])
            os.kill(tether, signal.SIGKILL)
            await heard(said, "here", times=2)
            assert not {child, tether} & process_table().keys()

        code = "import os, signal; print('here', os.getpid(), os.getppid(), flush=True); signal.pause()"
        assert "api was ended by SIGKILL" in keep(tmp_path, code, meanwhile)

    def test_what_it_says_last_is_not_lost(self, tmp_path: Path) -> None:
        async def meanwhile(_: Keeper, said: io.StringIO) -> None:
            await heard(said, "it comes back")

        said = keep(tmp_path, "print('first\\nlast words', end='')", meanwhile)
        assert [line.partition("| ")[2] for line in said.splitlines()][:2] == ["first", "last words"]
