"""Requests to one bucket over connections of our own: a quarter of the CPU that a call of the SDK takes.

What is left out is what the SDK works out anew for each call although it never changes. The rest is as the
SDK has it: its endpoint and credentials, its time-outs, proxies and certificates, its attempts and pauses
("standard" mode, https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html), its
exceptions, and its `before-send` event for whoever watches. Every attempt is signed anew:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from random import SystemRandom
from typing import TYPE_CHECKING, Any, cast
from xml.etree import ElementTree

import boto3
import urllib3
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from botocore.httpsession import ProxyConfiguration, get_cert_path
from botocore.utils import get_environ_proxies
from urllib3.util.ssl_ import create_urllib3_context

from .presign import ALGORITHM, Address, Credentials, signing_at

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

PASSING_STATUSES = frozenset({429, 500, 502, 503, 504})
PASSING_CODES = frozenset(
    {
        *("RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"),
        # Each attempt has a time of its own, and does not know what becomes of others for the same key.
        *("RequestTimeTooSkewed", "ConditionalRequestConflict", "OperationAborted"),
        *("SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded"),
    }
)
ANSWERED_IN_XML = frozenset(
    {"CreateMultipartUpload", "ListParts", "CompleteMultipartUpload", "CopyObject", "UploadPartCopy"}
)
"""What may fail after it began to answer 200: then the body is an error, or no document at all."""

PAUSE_SECONDS = 1.0
"""The longest first pause before another attempt; it doubles."""

Bytes = bytes | bytearray | memoryview

_chance = SystemRandom()
"""Unlike a generator in our memory, it is not the same in processes cloned from one image."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bucket answered, with a status below 300, and after how many attempts."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    attempts: int

    def xml(self) -> ElementTree.Element:
        """The body's root element."""
        return _xml(self.body)


class S3:
    """One bucket, as the SDK's client would reach it. For any number of threads."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        config: Any = client.meta.config
        path_style = config.s3["addressing_style"] == "path"
        self._address = Address.of(client.meta.endpoint_url, bucket, path_style)
        self._region = client.meta.region_name
        self._events = client.meta.events
        self._attempts: int = config.retries["total_max_attempts"]
        self._credentials = sdk_credentials()
        origin = self._address.origin
        proxies = ProxyConfiguration(get_environ_proxies(origin))
        proxy = proxies.proxy_url_for(origin)
        how = _how_to_connect(config, by_tls="https:" in (origin[:6], (proxy or "")[:6]))
        manager = (
            urllib3.ProxyManager(proxy, proxy_headers=proxies.proxy_headers_for(proxy), **how)
            if proxy
            else urllib3.PoolManager(**how)
        )
        self._connections = manager.connection_from_url(origin)
        # A proxy is told the whole URL, but for TLS, which goes through it in a tunnel.
        self._before_path = origin if proxy and origin.startswith("http:") else ""

    def ask(
        self,
        operation: str,
        method: str,
        key: str | None,
        *,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: Bytes = b"",
        attempts: int | None = None,
    ) -> Answer:
        """Make a request for an object, or for the bucket where there is no key.

        `query` is encoded and in the order of its names, the names of `headers` are in lower case. Raises
        botocore's ClientError for an answer of 300 or above, and BotoCoreError where none came, when all
        `attempts`, the SDK's unless told, are used up or another would not help.
        """
        path = self._address.root or "/" if key is None else self._address.path(key)
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send(operation, method, path, query, headers or {}, body)
            except urllib3.exceptions.HTTPError as lost:
                error: ClientError | BotoCoreError = HTTPClientError(error=lost)
            else:
                status, content = response.status, response.data
                if status == 200 and operation in ANSWERED_IN_XML and not _succeeded(content):
                    status = 500
                if status < 300:
                    return Answer(status, response.headers, content, attempt)
                error = _error(operation, status, content)
                if error.response["Error"]["Code"] not in PASSING_CODES and status not in PASSING_STATUSES:
                    raise error
            if attempt >= (attempts or self._attempts):
                raise error
            time.sleep(_chance.uniform(0, PAUSE_SECONDS * 2 ** (attempt - 1)))

    def _send(
        self,
        operation: str,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        body: Bytes,
    ) -> urllib3.BaseHTTPResponse:
        signing = signing_at(int(time.time()), self._region, self._credentials())
        digest = sha256(body).hexdigest()
        sent: Any = {
            "host": self._address.host,
            **headers,
            "x-amz-content-sha256": digest,
            "x-amz-date": signing.timestamp,
        }
        if signing.token:
            sent["x-amz-security-token"] = signing.token
        names = sorted(sent)
        signed = ";".join(names)
        lines = "".join(f"{name}:{sent[name]}\n" for name in names)
        # A parameter without a value is signed as one that is empty.
        asked = query if not query or "=" in query else f"{query}="
        canonical = sha256(f"{method}\n{path}\n{asked}\n{lines}\n{signed}\n{digest}".encode())
        sent["authorization"] = (
            f"{ALGORITHM} Credential={signing.credential},SignedHeaders={signed},"
            f"Signature={signing.sign_request(canonical.hexdigest())}"
        )
        target = f"{path}?{query}" if query else path
        url = f"{self._address.origin}{target}"
        # Whatever is like bytes will do, here and below.
        request = AWSPreparedRequest(method, url, sent, cast("bytes", body), False)
        self._events.emit(f"before-send.s3.{operation}", request=request)
        return self._connections.urlopen(
            method,
            f"{self._before_path}{target}",
            body=cast("bytes", body) or None,
            headers=sent,
            retries=False,
            redirect=False,
            assert_same_host=False,
            decode_content=False,
        )


@cache
def sdk_credentials() -> Callable[[], Credentials]:
    """What asks the SDK's chain for credentials: loaded once, renewed when they end, the same for all."""
    # To make another one takes as long as a hundred requests.
    session = boto3.DEFAULT_SESSION or boto3.Session()

    def current() -> Credentials:
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        return cast("Credentials", credentials.get_frozen_credentials())

    return current


def _how_to_connect(config: Any, *, by_tls: bool) -> dict[str, Any]:
    """What the SDK's client tells its connections."""
    how = {
        "maxsize": config.max_pool_connections,
        "timeout": urllib3.Timeout(connect=config.connect_timeout, read=config.read_timeout),
    }
    if by_tls:
        bundle: Any = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("REQUESTS_CA_BUNDLE")
        # One for all connections: to read the certificates takes 20 ms.
        context = create_urllib3_context()
        context.load_verify_locations(get_cert_path(bundle or True))
        how |= {"cert_reqs": "CERT_REQUIRED", "ssl_context": context}
    return how


def _xml(body: bytes) -> ElementTree.Element:
    # White space, with which S3 keeps a long answer alive, may stand before the declaration.
    return ElementTree.fromstring(body.lstrip())  # noqa: S314 -- our own bucket says it


def _succeeded(body: bytes) -> bool:
    """Whether an answer that began as a success ended as one, which a long one need not."""
    try:
        return _xml(body).tag.endswith("Result")
    except ElementTree.ParseError:
        return False


def _error(operation: str, status: int, body: bytes) -> ClientError:
    """The SDK's exception for an answer. What has no document, as after HEAD, has its status for a code."""
    code, message = str(status), ""
    if body:
        try:
            document = _xml(body)
        except ElementTree.ParseError:
            message = body[:200].decode(errors="replace")
        else:
            code = document.findtext("{*}Code") or code
            message = document.findtext("{*}Message") or ""
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(response, operation)  # type: ignore[arg-type]
