"""infra/compose, as far as it can be judged without a container engine.

Docker Compose itself reads the files; hadolint reads the Dockerfiles; and the whole story is told by real
processes with the very commands and variables that Compose would give to the containers: SeaweedFS, Caddy
with TLS, API, sweep and worker. Only names become addresses of this machine, and moto stands in for
ElasticMQ, which cannot be had here. What the images themselves bring is not looked at.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
from bucketscribe.settings import Settings
from bucketscribe.up import ports

pytestmark = pytest.mark.deploy

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "infra" / "compose"
TOOLS = ROOT / ".tools" / "compose"
# The package's own script forgets the status.
COMPOSE = next(TOOLS.glob("lib/python*/site-packages/compose/docker-compose"), TOOLS)
STORES = ["seaweedfs.yaml", "minio.yaml"]
READY_SECONDS = 60

FILLED = {
    "COMPOSE_PROFILES": "cpu,gpu",
    "API_HOST": "transcripts.example.com",
    "S3_HOST": "s3.example.com",
    "BUCKETSCRIBE_SECRET": "0123456789abcdef0123456789abcdef01234567",
    "BUCKETSCRIBE_WEBHOOK_SECRET": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "S3_ACCESS_KEY": "0123456789abcdef0123",
    "S3_SECRET_KEY": "76543210fedcba9876543210fedcba9876543210",
    "EVENTS_TOKEN": "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd",
    "BUCKETSCRIBE_AUTH": "keys",
    "BUCKETSCRIBE_MODEL": "tiny.en",
    "BUCKETSCRIBE_ALLOWED_MODELS": "tiny.en",
}
OWN = f"https://{FILLED['API_HOST']}"
"""Where our own page is."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the repository's part that Compose reads."""
    copy = tmp_path / "infra" / "compose"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns(".env"))
    return copy


def fill_in(folder: Path, values: Mapping[str, str]) -> None:
    """.env as its example says, with these values."""
    text = (folder / ".env.example").read_text()
    for name, value in values.items():
        text, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={value}", text)
        assert count == 1, name
    (folder / ".env").write_text(text)


def compose(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMPOSE, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def configuration(folder: Path, store: str) -> dict[str, Any]:
    """What Compose makes of a file: it checks the schema, and puts everything in."""
    read = compose(folder, "-f", store, "config", "--format", "json")
    assert read.returncode == 0, read.stderr
    assert read.stderr == ""
    found: dict[str, Any] = json.loads(read.stdout)
    return found


@pytest.mark.parametrize("store", STORES)
def test_compose_takes_the_file(folder: Path, store: str) -> None:
    fill_in(folder, FILLED)
    services = configuration(folder, store)["services"]
    named = {"proxy", "store", "queue", "setup", "api", "sweep", "worker", "worker-gpu"}
    assert set(services) == named
    for name, service in services.items():
        assert service["deploy"]["resources"]["limits"]["memory"], name
        assert service["logging"]["options"]["max-size"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["restart"] == ("no" if name == "setup" else "unless-stopped"), name
        assert ("ports" in service) == (name == "proxy"), name
        assert ("outer" in service["networks"]) == (name in ("proxy", "api", "sweep")), name
        assert "inner" in service["networks"], name
    assert services["proxy"]["networks"]["outer"]["aliases"] == [FILLED["API_HOST"], FILLED["S3_HOST"]]
    assert {name for name, service in services.items() if service.get("profiles")} == {"worker", "worker-gpu"}
    (device,) = services["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert next(mount["target"] for mount in services["store"]["volumes"]) == "/data"
    assert configuration(folder, store)["networks"]["inner"]["internal"] is True


@pytest.mark.parametrize("store", STORES)
def test_nothing_is_healthy_that_was_not_asked(folder: Path, store: str) -> None:
    """What others wait for has a check of its own; our images bring theirs."""
    fill_in(folder, FILLED)
    services = configuration(folder, store)["services"]
    awaited = {
        name: how["condition"]
        for service in services.values()
        for name, how in service.get("depends_on", {}).items()
    }
    assert awaited == {
        "store": "service_healthy",
        "queue": "service_healthy",
        "setup": "service_completed_successfully",
        "api": "service_healthy",
    }
    for name in ("store", "queue", "proxy", "sweep"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    assert "HEALTHCHECK" in (ROOT / services["api"]["build"]["dockerfile"]).read_text()


@pytest.mark.parametrize(
    ("store", "missing"),
    [
        *(
            (store, name)
            for store in STORES
            for name in FILLED
            if name not in ("COMPOSE_PROFILES", "EVENTS_TOKEN")
        ),
        ("minio.yaml", "EVENTS_TOKEN"),
    ],
)
def test_what_is_not_filled_in_is_named(folder: Path, store: str, missing: str) -> None:
    fill_in(folder, FILLED | {missing: ""})
    read = compose(folder, "-f", store, "config", "-q")
    assert read.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env" in read.stderr


@pytest.mark.parametrize("store", STORES)
def test_our_processes_take_their_settings(folder: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fill_in(folder, FILLED | {"BUCKETSCRIBE_ALLOWED_ORIGINS": "https://a.example,https://b.example"})
    for name, service in configuration(folder, store)["services"].items():
        if name in ("setup", "api", "sweep", "worker", "worker-gpu"):
            with monkeypatch.context() as patched:
                for variable, value in service["environment"].items():
                    patched.setenv(variable, value)
                settings = Settings()
            assert settings.auth == ("keys",)
            assert settings.public_endpoint == "https://s3.example.com"
            assert settings.allowed_origins == (OWN, "https://a.example", "https://b.example")
            # Only a store that sends events, and only the API takes them.
            assert (settings.events_token is not None) == (store == "minio.yaml" and name == "api")


@pytest.mark.parametrize(
    ("named", "allowed"),
    [("", "*"), ("https://a.example,https://b.example", f"{OWN},https://a.example,https://b.example")],
)
def test_the_store_lets_our_own_page_upload_whichever_others_are_named(
    folder: Path, named: str, allowed: str
) -> None:
    fill_in(folder, FILLED | {"BUCKETSCRIBE_ALLOWED_ORIGINS": named})
    seaweedfs, minio = (
        configuration(folder, store)["services"] for store in ("seaweedfs.yaml", "minio.yaml")
    )
    assert f"-s3.allowedOrigins={allowed}" in seaweedfs["store"]["command"]
    assert minio["store"]["environment"]["MINIO_API_CORS_ALLOW_ORIGIN"] == allowed
    told = seaweedfs["setup"]["environment"]["BUCKETSCRIBE_ALLOWED_ORIGINS"]
    assert told == (allowed if named else "")


def test_the_example_starts_nothing_as_it_stands(folder: Path) -> None:
    fill_in(folder, {})
    assert compose(folder, "config", "-q").returncode != 0


def test_what_the_docs_say_fills_in_all_that_is_missing(folder: Path) -> None:
    (folder / ".env").write_text((folder / ".env.example").read_text())
    marked = "<!-- run by tests/deploy/test_compose.py -->\n```bash\n"
    script = (ROOT / "docs" / "self-hosting.md").read_text().split(marked)[1].split("```")[0]
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=folder, check=True, timeout=30)
    for store in STORES:
        api = configuration(folder, store)["services"]["api"]["environment"]
        assert len(api["BUCKETSCRIBE_SECRET"]) == len(api["AWS_SECRET_ACCESS_KEY"]) == 40
        assert re.fullmatch("whsec_[A-Za-z0-9+/]{43}=", api["BUCKETSCRIBE_WEBHOOK_SECRET"])
        # MinIO takes no longer one.
        assert len(api["AWS_ACCESS_KEY_ID"]) == 20


@pytest.mark.parametrize("dockerfile", ["infra/api/Dockerfile", "infra/worker/Dockerfile"])
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    done = subprocess.run(
        [TOOLS / "bin" / "hadolint", ROOT / dockerfile],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_caddy_likes_the_form_of_its_file() -> None:
    done = subprocess.run(
        [TOOLS / "bin" / "caddy", "fmt", FOLDER / "Caddyfile"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == (FOLDER / "Caddyfile").read_text()


# The whole story


@dataclass
class Host:
    """The processes of seaweedfs.yaml, as far as they run, and the way to them through the proxy."""

    folder: Path
    services: dict[str, Any]
    addresses: dict[str, str]
    proxy: str
    certificate: Path

    @property
    def api(self) -> str:
        return f"https://localhost:{self.proxy}"

    @property
    def s3(self) -> str:
        return f"https://127.0.0.1:{self.proxy}"

    def here(self, text: str) -> str:
        """Names of containers become addresses of this machine."""
        for name, address in self.addresses.items():
            text = text.replace(name, address)
        return text

    def environment(self, service: str) -> dict[str, str]:
        """What a container of ours would have, and what this machine needs."""
        given = {name: self.here(value) for name, value in self.services[service]["environment"].items()}
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "SSL_CERT_FILE": str(self.certificate),
            "BUCKETSCRIBE_DATA_DIR": str(self.folder),
            **given,
        }

    def command(self, service: str, *arguments: str) -> list[str]:
        given = arguments or self.services[service].get("command") or [service]
        return [sys.executable, "-m", "bucketscribe.cli.main", *given]

    def run(self, service: str, *arguments: str, **more: str) -> str:
        """What `docker compose run` of a service prints."""
        done = subprocess.run(
            self.command(service, *arguments),
            env=self.environment(service) | more,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def started(command: list[str], environment: Mapping[str, str], folder: Path, log: str) -> Iterator[None]:
    with (folder / log).open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        # `weed server` would take 18 s.
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)
        process.kill()
        process.wait()


def wait_until(question: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not question():
        assert time.monotonic() < deadline, f"{what} is not ready"
        time.sleep(0.1)


def answers(url: str, pool: urllib3.PoolManager | None = None) -> bool:
    try:
        return (pool or urllib3.PoolManager()).request("GET", url, timeout=2, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """seaweedfs.yaml, up."""
    base = tmp_path_factory.mktemp("host")
    folder = base / "infra" / "compose"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns(".env"))
    proxy, api, plain = free_port(), free_port(), free_port()
    chosen = ports.choose(Settings(), {})
    fill_in(folder, FILLED | {"API_HOST": f"localhost:{proxy}", "S3_HOST": f"127.0.0.1:{proxy}"})
    read = configuration(folder, "seaweedfs.yaml")
    addresses = {
        "store:9000": f"127.0.0.1:{chosen.s3}",
        "queue:9324": f"127.0.0.1:{chosen.sqs}",
        "api:8000": f"127.0.0.1:{api}",
    }
    certificate = base / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    host = Host(base, read["services"], addresses, str(proxy), certificate)
    bare = {"PATH": os.environ["PATH"], "HOME": str(base)}
    with ExitStack() as running:
        (base / "s3.json").write_text(read["configs"]["s3"]["content"])
        store = read["services"]["store"]
        running.enter_context(
            started(weed(store["command"], chosen, base), bare | store["environment"], base, "store.log")
        )
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(chosen.sqs)]
        running.enter_context(started(moto, bare, base, "queue.log"))
        check = next(word for word in store["healthcheck"]["test"] if word.startswith("http"))
        wait_until(lambda: answers(check.replace(":9000", f":{chosen.s3}")), "the store")
        wait_until(lambda: answers(f"http://127.0.0.1:{chosen.sqs}/moto-api/"), "the queue")
        assert "lacking" not in host.run("setup")
        host.run("setup")
        listening = {"BUCKETSCRIBE_HOST": "127.0.0.1", "BUCKETSCRIBE_PORT": str(api)}
        for name in ("api", "sweep", "worker"):
            more = listening if name == "api" else {"BUCKETSCRIBE_SWEEP_PORT": str(free_port())}
            running.enter_context(
                started(host.command(name), host.environment(name) | more, base, f"{name}.log")
            )
        wait_until(lambda: answers(f"http://127.0.0.1:{api}/health/ready"), "the API")
        caddyfile = host.here((folder / "Caddyfile").read_text()).replace(
            "admin off", f"admin off\n\tskip_install_trust\n\thttp_port {plain}\n\thttps_port {proxy}"
        )
        (base / "Caddyfile").write_text(caddyfile)
        caddy = [str(TOOLS / "bin" / "caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
        environment = bare | read["services"]["proxy"]["environment"] | {"XDG_DATA_HOME": str(base)}
        running.enter_context(started(caddy, environment, base, "proxy.log"))
        wait_until(certificate.exists, "the certificate")
        wait_until(lambda: answers(f"{host.api}/health/ready", trusting(host)), "the proxy")
        yield host
    # What a store that was killed leaves behind.
    for name in ("s3", "master", "volume", "filer"):
        socket_file = f"/tmp/seaweedfs-{name}-grpc-{getattr(chosen, name) + ports.GRPC_OFFSET}.sock"
        Path(socket_file).unlink(missing_ok=True)


def weed(command: list[str], chosen: ports.Ports, base: Path) -> list[str]:
    """The store's command, as the entry point of the image has it, on ports of this machine's loopback."""
    given = [
        word.replace("-s3.port=9000", f"-s3.port={chosen.s3}")
        .replace("/etc/seaweedfs/s3.json", str(base / "s3.json"))
        .replace("0.0.0.0", "127.0.0.1")
        for word in command
    ]
    (base / "data").mkdir()
    here = [
        *(f"-dir={base / 'data'}", "-volume.max=0", "-master.volumeSizeLimitMB=1024"),
        *(f"-{name}.port={getattr(chosen, name)}" for name in ("master", "volume", "filer")),
        *(f"-{name}.localSocket={base / name}.sock" for name in ("s3", "filer")),
    ]
    return [str(Path(sys.executable).with_name("weed")), "-logtostderr=true", *given, *here]


def trusting(host: Host) -> urllib3.PoolManager:
    return urllib3.PoolManager(ssl_context=ssl.create_default_context(cafile=str(host.certificate)))


def ask(host: Host, url: str, method: str = "GET", **more: Any) -> urllib3.BaseHTTPResponse:
    return trusting(host).request(method, url, timeout=20, retries=False, **more)


def test_a_recording_becomes_a_transcript_through_the_proxy(host: Host, tmp_path: Path) -> None:
    key = host.run("api", "keys", "new", "me").strip()
    # A name whose signature breaks where anybody on the way tidies up the path.
    recording = tmp_path / "a + b%2F (ü).wav"
    shutil.copy(ROOT / "tests" / "media" / "jfk.wav", recording)
    done = subprocess.run(
        [sys.executable, "-m", "bucketscribe.cli.main", "transcribe", str(recording), "--format", "srt"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "SSL_CERT_FILE": str(host.certificate),
            "BUCKETSCRIBE_SERVER": host.api,
            "BUCKETSCRIBE_API_KEY": key,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "what you can do for your country" in done.stdout
    # Scheme and name are the public ones, though TLS has ended before the API.
    answer = ask(host, f"{host.api}/upload-tokens", "POST", headers={"Authorization": f"Bearer {key}"})
    assert answer.json()["endpoint"].startswith(f"{host.api}/u/")


def test_the_doctor_finds_all_it_needs(host: Host) -> None:
    assert "MISSING" not in host.run("api", "doctor")


def test_only_the_bucket_can_be_reached_from_outside(host: Host) -> None:
    assert ask(host, f"{host.s3}/bucketscribe/records").status == 403
    for path in ("/", "/healthz", "/bucketscribe2/x", "/minio/health/live", "/bucketscribe/../healthz"):
        assert ask(host, f"{host.s3}{path}").status == 404, path
    assert ask(host, f"{host.api}/events/s3", "POST", body=b"{}").status == 404
    assert ask(host, f"{host.api}/transcriptions").status == 401
