"""Presigned S3 URLs and POST policies, signed here because an SDK takes a hundred times as long a URL.

A batch of ten thousand part URLs is one request of a client, so whatever does not change from part to part
is computed once. Signing needs no network and fails (ValueError) only where there are no credentials: a URL
that is wrong, too old or signed with credentials that have ended is refused by the bucket (403).

A URL is good until it expires or the credentials that signed it end, whichever comes first. Credentials are
asked for at every call, and what is derived from them is cached by what it is derived from, so neither
outlives a rotation, a change of day, or a process image that is frozen and restored.

The rules come from the Amazon S3 API reference:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html (URLs) and
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-UsingHTTPPOST.html (forms). File names follow RFC 6266
and RFC 8187.
"""

import hmac
import json
import time
import unicodedata
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, Protocol
from urllib.parse import quote, urlsplit

ALGORITHM = "AWS4-HMAC-SHA256"
DEFAULT_PORTS = {"http": 80, "https": 443}

Disposition = Literal["attachment", "inline"]


class Credentials(Protocol):
    """What signs. botocore's frozen credentials are of this shape."""

    @property
    def access_key(self) -> str | None:
        """The public half, which becomes part of every URL."""

    @property
    def secret_key(self) -> str | None:
        """The secret half."""

    @property
    def token(self) -> str | None:
        """The session token of temporary credentials."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a bucket is: `origin` is scheme and host, `host` is as it is signed, `root` goes before a key."""

    origin: str
    host: str
    root: str

    @classmethod
    def of(cls, endpoint: str, bucket: str, path_style: bool) -> "Address":
        """The address of a bucket behind an S3 URL. Raises ValueError for what is no such URL."""
        url = urlsplit(endpoint)
        if url.scheme not in DEFAULT_PORTS or not url.hostname:
            raise ValueError(f"not an http or https URL: {endpoint!r}")
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        # Clients leave a default port out of the Host header, so it must not be signed.
        if url.port not in (None, DEFAULT_PORTS[url.scheme]):
            host = f"{host}:{url.port}"
        root = url.path.rstrip("/")
        # A wildcard certificate covers one label only: a dotted bucket cannot be a host name over TLS.
        if path_style or (url.scheme == "https" and "." in bucket):
            root = f"{root}/{bucket}"
        else:
            host = f"{bucket}.{host}"
        return cls(f"{url.scheme}://{host}", host, root)

    def path(self, key: str) -> str:
        """An object's path, encoded once and never normalized: S3 takes it as sent."""
        return f"{self.root}/{encode(key, '/~')}"


class Presigner:
    """Signs for one bucket, as its clients reach it: the host is part of every signature."""

    def __init__(
        self,
        endpoint: str | None,
        bucket: str,
        region: str,
        path_style: bool,
        credentials: Callable[[], Credentials],
    ) -> None:
        """Take the S3 URL that clients use, None for AWS; `credentials` is asked at every call."""
        self._address = Address.of(endpoint or _aws_endpoint(region), bucket, path_style)
        self._bucket = bucket
        self._region = region
        self._credentials = credentials

    @property
    def origin(self) -> str:
        """Scheme and host of every URL made here."""
        return self._address.origin

    def url(self, key: str) -> str:
        """Return the object's plain URL, unsigned."""
        return f"{self._address.origin}{self._address.path(key)}"

    def part(
        self,
        key: str,
        upload_id: str,
        part_number: int,
        *,
        expires_seconds: int,
        now: datetime,
        content_length: int | None = None,
    ) -> str:
        """Return the URL to PUT one part to. With `content_length` the bucket takes no other length."""
        numbers = [(part_number, content_length)]
        return self.parts(key, upload_id, numbers, expires_seconds=expires_seconds, now=now)[part_number]

    def parts(
        self,
        key: str,
        upload_id: str,
        numbers_with_lengths: Iterable[tuple[int, int | None]],
        *,
        expires_seconds: int,
        now: datetime,
    ) -> dict[int, str]:
        """Return the URLs to PUT parts to, by part number."""
        signing = self._signing(now)
        path = self._address.path(key)
        upload = f"&uploadId={encode(upload_id)}"
        urls = {}
        headers = ""
        for number, length in numbers_with_lengths:
            signed = "host" if length is None else "content-length;host"
            if signed != headers:
                headers = signed
                query = f"{signing.query(expires_seconds, headers)}&partNumber="
                # The requests for all parts begin and end alike: the beginning is hashed once.
                beginning = sha256(f"PUT\n{path}\n{query}".encode())
                end = f"host:{self._address.host}\n\n{headers}\nUNSIGNED-PAYLOAD"
                url = f"{self._address.origin}{path}?{query}"
            bound = "" if length is None else f"content-length:{length}\n"
            canonical = beginning.copy()
            canonical.update(f"{number}{upload}\n{bound}{end}".encode())
            signature = signing.sign_request(canonical.hexdigest())
            urls[number] = f"{url}{number}{upload}&X-Amz-Signature={signature}"
        return urls

    def get(
        self,
        key: str,
        *,
        expires_seconds: int,
        now: datetime,
        filename: str | None,
        content_type: str | None,
        disposition: Disposition = "attachment",
    ) -> str:
        """Return the URL to GET an object from, answered with this name and type where they are given."""
        signing = self._signing(now)
        path = self._address.path(key)
        # The parameters must be in the order of their names; ours come after all X-Amz-….
        query = signing.query(expires_seconds, "host")
        if filename is not None:
            query += f"&response-content-disposition={encode(content_disposition(filename, disposition))}"
        if content_type is not None:
            query += f"&response-content-type={encode(content_type)}"
        canonical = f"GET\n{path}\n{query}\nhost:{self._address.host}\n\nhost\nUNSIGNED-PAYLOAD"
        signature = signing.sign_request(sha256(canonical.encode()).hexdigest())
        return f"{self._address.origin}{path}?{query}&X-Amz-Signature={signature}"

    def post(
        self,
        key: str,
        *,
        content_type: str | None,
        min_bytes: int,
        max_bytes: int,
        expires_seconds: int,
        now: datetime,
    ) -> dict[str, Any]:
        """Return the form that uploads exactly this key: `method`, `url`, and the `fields` before the file.

        The bucket answers 201. The policy can be used more than once until it expires.
        """
        signing = self._signing(now)
        fields = {"key": key, "success_action_status": "201"}
        if content_type is not None:
            fields["Content-Type"] = content_type
        fields["x-amz-algorithm"] = ALGORITHM
        fields["x-amz-credential"] = signing.credential
        fields["x-amz-date"] = signing.timestamp
        if signing.token:
            fields["x-amz-security-token"] = signing.token
        # Every field of the form but the policy and its signature must be among the conditions.
        conditions: list[dict[str, str] | list[str | int]] = [{"bucket": self._bucket}]
        conditions += [{name: value} for name, value in fields.items()]
        conditions.append(["content-length-range", min_bytes, max_bytes])
        expiration = now.astimezone(UTC) + timedelta(seconds=expires_seconds)
        policy = {"expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": conditions}
        fields["policy"] = b64encode(json.dumps(policy).encode()).decode()
        fields["x-amz-signature"] = signing.sign_policy(fields["policy"])
        return {
            "method": "POST",
            "url": f"{self._address.origin}{self._address.root or '/'}",
            "fields": fields,
        }

    def _signing(self, now: datetime) -> "Signing":
        return signing_at(int(now.timestamp()), self._region, self._credentials())


@dataclass(frozen=True, slots=True)
class Signing:
    """What all signatures of one second share: the time, the scope and the credentials of that moment."""

    timestamp: str
    credential: str
    token: str | None
    before_expiry: str
    """A URL's parameters, encoded, up to the seconds it is good for."""
    after_expiry: str
    """Its parameters from there to the names of the signed headers."""
    policies: hmac.HMAC
    """The keyed hash, before anything was put into it."""
    requests: hmac.HMAC
    """The keyed hash of what every request's string to sign begins with."""

    def query(self, expires_seconds: int, signed_headers: str) -> str:
        """Return the authentication parameters, encoded and in the order of their names."""
        return f"{self.before_expiry}{expires_seconds}{self.after_expiry}{encode(signed_headers)}"

    def sign_request(self, digest: str) -> str:
        """Return the signature of a canonical request, given the SHA-256 of that in hex."""
        mac = self.requests.copy()
        mac.update(digest.encode())
        return mac.hexdigest()

    def sign_policy(self, text: str) -> str:
        """Return the signature of a form's policy."""
        mac = self.policies.copy()
        mac.update(text.encode())
        return mac.hexdigest()


def signing_at(second: int, region: str, credentials: Credentials) -> Signing:
    """Return what signs requests of one second since 1970. Raises ValueError without credentials."""
    access_key, secret_key = credentials.access_key, credentials.secret_key
    if not access_key or not secret_key:
        raise ValueError("there are no credentials to sign with")
    return _derived(second, region, access_key, secret_key, credentials.token)


@lru_cache(maxsize=8)
def _derived(second: int, region: str, access_key: str, secret_key: str, token: str | None) -> Signing:
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
    date = timestamp[:8]
    key = f"AWS4{secret_key}".encode()
    for text in (date, region, "s3", "aws4_request"):
        key = hmac.digest(key, text.encode(), "sha256")
    scope = f"{date}/{region}/s3/aws4_request"
    credential = f"{access_key}/{scope}"
    policies = hmac.new(key, digestmod="sha256")
    requests = policies.copy()
    requests.update(f"{ALGORITHM}\n{timestamp}\n{scope}\n".encode())
    return Signing(
        timestamp=timestamp,
        credential=credential,
        token=token,
        before_expiry=f"X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={encode(credential)}"
        f"&X-Amz-Date={timestamp}&X-Amz-Expires=",
        after_expiry=(f"&X-Amz-Security-Token={encode(token)}" if token else "") + "&X-Amz-SignedHeaders=",
        policies=policies,
        requests=requests,
    )


def content_disposition(filename: str, disposition: Disposition = "attachment") -> str:
    """Return a Content-Disposition header: the name as ASCII for old clients, then as it is (RFC 6266)."""
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    # Inside the quotes RFC 6266 (appendix D) advises against escapes and anything that looks like one; and
    # what only looked like a slash is one by now.
    fallback = "".join(c if c.isprintable() and c not in '"\\%/' else "_" for c in plain) or "_"
    encoded = quote(filename, safe="", errors="replace")
    return f"{disposition}; filename=\"{fallback}\"; filename*=UTF-8''{encoded}"


def _aws_endpoint(region: str) -> str:
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


@lru_cache(maxsize=256)
def encode(value: str, safe: str = "") -> str:
    """Encode as SigV4 wants it: everything but A-Z a-z 0-9 - . _ ~. Most values come again and again."""
    return quote(value, safe=safe)
