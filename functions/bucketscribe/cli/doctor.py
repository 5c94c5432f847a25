"""`doctor`: what works, what is missing, and what covers for it: the server, then bucket and queue behind it.

The bucket can be examined only where the operator's settings are (`operator.py`). With `--worker` it is what
a worker needs on this machine (`worker/inspection.py`).
"""

import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .arguments import DEFAULT_SERVER, Server
from .credentials import ADVICE, api_key
from .operator import DataDir, sdk_credentials, settings_of
from .output import FAILED, clean, client_of, say, write
from .serve import extra, read_settings

if TYPE_CHECKING:
    from ..client import Client
    from ..probe import Finding
    from ..settings import Settings

ANSWER_SECONDS = 10
WORDS = {"ok": "ok", "missing": "MISSING", "unknown": "unknown"}
COLOURS = {"ok": "green", "missing": "red", "unknown": "yellow"}


def doctor(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one finding a line.")] = False,
    worker: Annotated[
        bool,
        typer.Option(
            "--worker", help="Instead, whether a worker here has what it needs: engine, GPU, models, disk."
        ),
    ] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Say what works, what is missing, and what covers for it.

    Of the server, and of bucket and queue where they are known: by BUCKETSCRIBE_S3_ENDPOINT,
    BUCKETSCRIBE_QUEUE_URL and the like in the environment, or by --data-dir. The bucket is tried for real,
    under keys of its own (probe/…) that are removed afterwards. The status is 1 if something needed is
    missing.

    With --worker it is the worker that is looked at, with the settings it has here; nothing is fetched.
    """
    # So that what was tried is cleaned up then, too.
    signal.signal(signal.SIGTERM, _end)
    findings = _of_worker(settings_of(data_dir)) if worker else _all(server, settings_of(data_dir))
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


def _of_worker(settings: "Settings | None") -> Iterator[tuple[str, "Finding"]]:
    """What a worker on this machine has. Without settings of a bucket, that is not asked."""
    with extra("worker"):
        from ..worker.inspection import inspect

    yield from inspect(settings or read_settings(), with_bucket=settings is not None)


def _of_server(server: str) -> Iterator["Finding"]:
    from datetime import UTC, datetime
    from email.utils import parsedate_to_datetime

    import urllib3

    from ..client import ClientError
    from ..probe import Finding, Verdict, clock, found

    try:
        with client_of(server) as client:
            began = time.monotonic()
            health = client.health()
            latency = time.monotonic() - began
            access = _access(client)
    except ClientError as error:
        means = "start one with `bucketscribe up`, or name another with --server"
        yield Finding("server", Verdict.MISSING, clean(error.detail), means)
        return
    yield Finding("server", Verdict.OK, f"{server} answers in {1000 * latency:.0f} ms")
    yield access
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


def _access(client: "Client") -> "Finding":
    """Whether the server lets us in. Who brings no key may be the operator, who needs none."""
    from ..client import ClientError
    from ..probe import Finding, Verdict

    try:
        client.list(limit=1)
    except ClientError as error:
        seen, means = clean(error.detail), ADVICE.get(error.code, "")
        if error.code == "scope_missing":
            return Finding("your access", Verdict.OK, seen)
        refused = Verdict.MISSING if means and api_key() is not None else Verdict.UNKNOWN
        return Finding("your access", refused, seen, means)
    return Finding("your access", Verdict.OK, "you are let in")


def _of_store(settings: "Settings") -> Iterator[tuple[str, "Finding"]]:
    """Bucket and queue, as the operator's settings name them."""
    import secrets

    from ..bucket import Bucket
    from ..presign import Presigner
    from ..probe import Finding, Probe, Verdict, probe_dead_letters, probe_queue
    from ..queue import Queue

    credentials = sdk_credentials()
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
        queue, url = Queue.connect(settings), settings.dead_letters_url
        for finding in probe_queue(queue):
            yield "queue", finding
        for finding in probe_dead_letters(queue, Queue(queue.client, url) if url else None):
            yield "queue", finding


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
