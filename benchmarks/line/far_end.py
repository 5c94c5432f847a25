"""Bucket, API and web pages at the far end of a line, for clients at the near one.

Open mode ends at the loopback, so the API asks who one is, and gets an upload token in the path: the one
way that clients nobody here wrote can go as well. Pages, API and bucket are three origins.
"""

import functools
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from bucketscribe.auth import Scope
from bucketscribe.bucket import Bucket
from bucketscribe.keys import Keys
from bucketscribe.up import processes
from bucketscribe.up.ports import LOOPBACK, is_free

from benchmarks.line import FAR
from tests.servers import Server, Servers

OWNER = "benchmark-0123456789abcdef"


class _Site(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nobody asks."""


@dataclass
class FarEnd:
    """What stands at the far end of the line, as clients reach it."""

    endpoint: str
    """Under which `/s3/multipart` is, with an upload token in its path."""
    site: str
    bucket: Bucket
    presigned: Callable[[str], str]
    """A URL to PUT an object to."""


@contextmanager
def far_end(servers: Servers, pages: Path) -> Iterator[FarEnd]:
    """SeaweedFS, the API and the pages, on every address of this namespace."""
    with ThreadingHTTPServer(("", 0), functools.partial(_Site, directory=str(pages))) as site:
        threading.Thread(target=site.serve_forever, name="site", daemon=True).start()
        origin = f"http://{FAR}:{site.server_port}"
        child = servers.seaweedfs.child
        servers.seaweedfs.kill()
        command = (("-ip.bind=0.0.0.0" if word == f"-ip.bind={LOOPBACK}" else word) for word in child.command)
        servers.seaweedfs.child = replace(child, command=tuple(command))
        assert child.directory is not None
        # It goes by the options of its first start.
        (child.directory / "mini.options").unlink()
        servers.seaweedfs.start()
        settings = servers.settings
        public = (settings.s3_endpoint or "").replace(LOOPBACK, FAR)
        port = next(port for port in range(18100, 20000) if is_free(LOOPBACK, port))
        environment = servers.environment | {
            "BUCKETSCRIBE_AUTH": "keys",
            "BUCKETSCRIBE_ALLOWED_ORIGINS": origin,
            "BUCKETSCRIBE_S3_PUBLIC_ENDPOINT": public,
        }
        everywhere = settings.model_copy(update={"host": "0.0.0.0", "port": port})
        api = Server(processes.api(everywhere, environment))
        bucket = Bucket.connect(settings)
        path_style = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        signer = boto3.client("s3", endpoint_url=public, region_name=settings.region, config=path_style)
        try:
            api.start()
            key = Keys(bucket).new("benchmark", OWNER, (Scope.UPLOAD,), None)
            yield FarEnd(
                f"http://{FAR}:{port}/u/{upload_token(port, key)}",
                origin,
                bucket,
                lambda name: str(
                    signer.generate_presigned_url("put_object", {"Bucket": settings.bucket, "Key": name})
                ),
            )
        finally:
            api.kill()
            site.shutdown()


def upload_token(port: int, key: str) -> str:
    """Who uploads, in a form that every client can send: a part of the path."""
    connection = http.client.HTTPConnection(LOOPBACK, port)
    connection.request("POST", "/upload-tokens", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    assert answer.status == 200, told
    return str(json.loads(told)["token"])
