"""`doctor`: what works, what is missing, and what covers for it: the server, then bucket and queue behind it.

The bucket can be examined only where the operator's settings are: in the environment, or in the data folder
of a running `bucketscribe up` (its layout is told in `up/home.py`).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .arguments import DEFAULT_SERVER, Server
from .output import FAILED, clean, fail, say, senseless, write
from .serve import read_settings

if TYPE_CHECKING:
    from ..probe import Finding
    from ..settings import Settings

ANSWER_SECONDS = 10
WORDS = {"ok": "ok", "missing": "MISSING", "unknown": "unknown"}
COLOURS = {"ok": "green", "missing": "red", "unknown": "yellow"}


def doctor(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="FOLDER",
            help="Data folder of a running `up`, such as .data: examine its bucket and queue, too.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one finding a line.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Say what works, what is missing, and what covers for it.

    Of the server, and of bucket and queue where they are known: by BUCKETSCRIBE_S3_ENDPOINT,
    BUCKETSCRIBE_QUEUE_URL and the like in the environment, or by --data-dir. The bucket is tried for real,
    under keys of its own (probe/…) that are removed afterwards. The status is 1 if something needed is
    missing.
    """
    # So that what was tried is cleaned up then, too.
    signal.signal(signal.SIGTERM, _end)
    findings = _all(server, _operators_settings(data_dir))
    grave = _print_json(findings) if as_json else _print_lines(findings)
    if grave:
        raise typer.Exit(FAILED)


def _all(server: str, settings: "Settings | None") -> Iterator[tuple[str, "Finding"]]:
    """Each finding with the part it belongs to."""
    from ..probe import Finding, Verdict

    for finding in _of_server(server):
        yield "server", finding
    if settings is None:
        how = "set BUCKETSCRIBE_S3_ENDPOINT and BUCKETSCRIBE_QUEUE_URL, or give --data-dir of a running `up`"
        yield "bucket", Finding("bucket and queue", Verdict.UNKNOWN, "not known here", how, needed=False)
    else:
        yield from _of_store(settings)


def _of_server(server: str) -> Iterator["Finding"]:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    import urllib3

    from ..client import Client, ClientError
    from ..probe import Finding, Verdict, clock, found

    try:
        with Client(server) as client:
            began = time.monotonic()
            health = client.health()
            latency = time.monotonic() - began
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from None
    except ClientError as error:
        means = "start one with `bucketscribe up`, or name another with --server"
        yield Finding("server", Verdict.MISSING, clean(error.detail), means)
        return
    yield Finding("server", Verdict.OK, f"{server} answers in {1000 * latency:.0f} ms")
    for name, said, means in (
        ("its bucket", health.bucket, "nothing can be uploaded"),
        ("its queue", health.queue, "workers look into the bucket themselves, every minute or so"),
        ("its worker", health.worker, "what is uploaded waits for one"),
    ):
        if said is None:
            yield Finding(name, Verdict.UNKNOWN, "the server does not know one", needed=False)
        else:
            yield found(name, said == "ok", clean(said), otherwise=means, needed=name != "its queue")
    http = urllib3.PoolManager(retries=False, timeout=ANSWER_SECONDS)
    try:
        answer = http.request("GET", f"{server.rstrip('/')}/openapi.json")
        date = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        yield clock("its clock", date, datetime.now(UTC))
        yield Finding("its version", Verdict.OK, clean(str(answer.json()["info"]["version"])), needed=False)
    except (urllib3.exceptions.HTTPError, ValueError, KeyError, TypeError):
        yield Finding("its version", Verdict.UNKNOWN, "the server does not say", needed=False)


def _of_store(settings: "Settings") -> Iterator[tuple[str, "Finding"]]:
    """Bucket and queue, as the operator's settings name them."""
    import secrets

    import boto3

    from ..bucket import Bucket
    from ..presign import Presigner
    from ..probe import Finding, Probe, Verdict, probe_queue
    from ..queue import Queue

    credentials = boto3.Session().get_credentials()
    if credentials is None:
        fail(
            "There are no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. [no_credentials]"
        )
    presigner = Presigner(
        settings.public_endpoint,
        settings.bucket,
        settings.region,
        settings.path_style,
        credentials.get_frozen_credentials,
    )
    named = [origin for origin in settings.allowed_origins if origin != "*"]
    # Listening everywhere is no address that a browser has.
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    origins = named or [f"http://{host}:{settings.port}"]
    with Probe(Bucket.connect(settings), presigner, origins, secrets.token_hex(8)) as probe:
        for finding in probe.findings():
            yield "bucket", finding
    if settings.queue_url is None:
        yield "queue", Finding("queue", Verdict.UNKNOWN, "BUCKETSCRIBE_QUEUE_URL is not set", needed=False)
    else:
        for finding in probe_queue(Queue.connect(settings)):
            yield "queue", finding


def _operators_settings(data_dir: Path | None) -> "Settings | None":
    """The settings of this machine's bucket and queue, if it has any."""
    if data_dir is not None:
        return _settings_of_up(data_dir)
    settings = read_settings()
    return settings if settings.s3_endpoint or settings.queue_url else None


def _settings_of_up(data_dir: Path) -> "Settings":
    """As `bucketscribe up` gives them to its own processes; its keys go into our environment, for boto3."""
    from ..up import ports, processes
    from ..up.home import Credentials

    try:
        credentials = Credentials(**json.loads((data_dir / "credentials.json").read_text()))
        chosen = ports.Ports(**json.loads((data_dir / "ports.json").read_text()))
    except (OSError, ValueError, TypeError):
        raise senseless(f"{data_dir} is no data folder of `bucketscribe up`", "--data-dir") from None
    os.environ |= {
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    os.environ.pop("AWS_SESSION_TOKEN", None)
    return read_settings().model_copy(
        update={
            "s3_endpoint": processes.endpoint(chosen.s3),
            "sqs_endpoint": processes.endpoint(chosen.sqs),
            "queue_url": processes.queue_url(chosen),
        }
    )


def _print_json(findings: Iterable[tuple[str, "Finding"]]) -> bool:
    grave = False
    for part, finding in findings:
        say(json.dumps({"part": part, **asdict(finding)}))
        grave = grave or finding.grave
    return grave


def _print_lines(findings: Iterable[tuple[str, "Finding"]]) -> bool:
    """A line each as it is found, and one below it where there is more to say; then the sum of it."""
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    last, grave, spared = "", [], 0
    for part, finding in findings:
        if part != last:
            say(f"{'' if not last else chr(10)}{part}")
            last = part
        word = f"{WORDS[finding.verdict]:<7}"
        shown = typer.style(word, COLOURS[finding.verdict]) if coloured else word
        write(f"  {shown}  {finding.name:<20} {clean(finding.seen)}\n".encode())
        if finding.means:
            say(f"{'':<32}{clean(finding.means)}")
        if finding.grave:
            grave.append(finding.name)
        elif finding.verdict == "missing":
            spared += 1
    say("")
    if grave:
        say(f"To be put right: {', '.join(grave)}.")
    else:
        say("All that is needed is there." + (" What is missing is covered for." if spared else ""))
    return bool(grave)


def _end(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)
