"""LocalStack as a server for tests: a process without a container, set up by its own ready.d script.

It is the edition that needs no account, in an environment of its own that `make test-localstack` installs.
What it holds is in memory. Signatures of presigned URLs are checked, which is not its default.
"""

import http.client
import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bucketscribe.up.child import Child, NotReady
from bucketscribe.up.home import Credentials

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".tools/localstack/bin/python"
ACCOUNT = "000000000000"

CREDENTIALS = Credentials("test", "test", "a secret for tests only")
"""LocalStack takes any key, and checks signatures made with this one."""


def localstack(folder: Path, port: int, more: Mapping[str, str] | None = None) -> Child:
    """LocalStack in a folder, with more of its settings; ready when its ready.d script has ended well."""
    hooks = folder / "root/etc/localstack/init"
    hooks.mkdir(parents=True)
    (hooks / "ready.d").symlink_to(ROOT / "localstack/ready.d")
    return Child(
        name="localstack",
        command=(str(PYTHON), str(Path(__file__).with_name("on_loopback.py"))),
        environment={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            # Where its image has its own files, and hooks; it would take a machine like ours for its image.
            "FILESYSTEM_ROOT": str(folder / "root"),
            "OVERRIDE_IN_DOCKER": "0",
            "PYTHONPATH": str(ROOT / "functions"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "SERVICES": "s3,sqs",
            "S3_SKIP_SIGNATURE_VALIDATION": "0",
            # It asks nobody on the internet, for names, certificates or anything else.
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            **(more or {}),
        },
        grace=2.0,
        directory=folder,
        make_ready=partial(check_ready, port),
    )


def check_ready(port: int) -> None:
    """Ask LocalStack what became of our script. Raises NotReady until it has ended well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/_localstack/init/ready")
        stage = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotReady(str(error)) from error
    finally:
        connection.close()
    states = [script["state"] for script in stage["scripts"]]
    if not stage["completed"] or states != ["SUCCESSFUL"]:
        raise NotReady(f"its scripts: {states}")


def queue_url(port: int, name: str) -> str:
    """URL of a queue, in the form without a name of LocalStack's own in it."""
    return f"http://127.0.0.1:{port}/{ACCOUNT}/{name}"
