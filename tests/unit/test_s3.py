"""Requests to the bucket: how they are signed, when they are made again, and what is raised in the end.

A server of scripted answers stands in where SeaweedFS cannot be made to give them.
"""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoCredentialsError
from bucketscribe import s3
from bucketscribe.bucket import Bucket, Conflict, PartsRefused, UploadGone, error_code
from bucketscribe.settings import Settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

KEY, SECRET, TOKEN = "AKIDEXAMPLE", "secret/+=key", "token/+=" * 20
NOW = datetime(2026, 11, 21, 12, 0, 1, tzinfo=UTC)
HEAD = (
    b"HTTP/1.1 %s\r\nDate: Sat, 21 Nov 2026 12:00:00 GMT\r\n"
    b'Last-Modified: Sat, 21 Nov 2026 11:00:00 GMT\r\nETag: "e"\r\n'
)
UPLOAD = b"<InitiateMultipartUploadResult><UploadId>u-1</UploadId></InitiateMultipartUploadResult>"
NO_UPLOADS = b"<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
PARTS = (
    b"<ListPartsResult><Part><PartNumber>1</PartNumber><LastModified>2026-11-21T12:00:00Z</LastModified>"
    b'<ETag>"e"</ETag><Size>5</Size></Part></ListPartsResult>'
)
DONE = b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"


def answer(status: str, body: bytes = b"", headers: bytes = b"") -> bytes:
    return HEAD % status.encode() + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


def refusal(status: str, code: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>".encode())


OK = answer("200 OK", b"{}")
DOWN = refusal("503 Service Unavailable", "ServiceUnavailable")
HANGS_UP = b""


class Scripted(socketserver.StreamRequestHandler):
    """Answers each request with the next line of the script, and remembers what was asked."""

    server: "Server"

    def handle(self) -> None:
        while self.server.script:
            line = self.rfile.readline().decode().rstrip()
            if not line:
                return
            headers = {}
            while header := self.rfile.readline().decode().rstrip():
                name, _, value = header.partition(": ")
                headers[name.lower()] = value
            body = self.rfile.read(int(headers.get("content-length", 0)))
            self.server.asked.append((line.removesuffix(" HTTP/1.1"), headers, body))
            self.wfile.write(said := self.server.script.pop(0))
            if said == HANGS_UP:
                return


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Who does not trust us hangs up."""

    def __init__(self, *script: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Scripted)
        self.script = list(script)
        self.asked: list[tuple[str, dict[str, str], bytes]] = []


@contextmanager
def bucket_that_says(*script: bytes) -> Iterator[tuple[Bucket, Server]]:
    with Server(*script) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield Bucket.connect(Settings(s3_endpoint=f"http://127.0.0.1:{server.server_address[1]}")), server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True, scope="module")
def credentials() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", KEY)
        environment.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        environment.setenv("AWS_SESSION_TOKEN", TOKEN)
        environment.setattr(boto3, "DEFAULT_SESSION", None)
        environment.setattr(s3, "PAUSE_SECONDS", 0.001)
        s3.sdk_credentials.cache_clear()
        yield
    s3.sdk_credentials.cache_clear()


class Captured(Exception):
    """The request that would have gone out."""

    def __init__(self, request: Any) -> None:
        self.request = request


@cache
def capturing(endpoint: str, path_style: bool) -> s3.S3:
    def capture(request: Any, **_: Any) -> None:
        raise Captured(request)

    bucket = Bucket.connect(Settings(s3_endpoint=endpoint, s3_path_style=path_style, bucket="recordings"))
    bucket.client.meta.events.register("before-send.s3.Operation", capture)
    return s3.S3(bucket.client, bucket.name)


@given(
    endpoint=st.sampled_from(["http://127.0.0.1:8333", "https://s3.example.com"]),
    path_style=st.booleans(),
    method=st.sampled_from(["GET", "PUT", "POST", "HEAD", "DELETE"]),
    key=st.text(min_size=1).filter(lambda key: key.isprintable()),
    query=st.sampled_from(["", "uploads", "uploadId=a%2Fb", "part-number-marker=7&uploadId=u"]),
    headers=st.sampled_from([{}, {"if-none-match": "*"}, {"range": "bytes=0-9", "if-match": '"e"'}]),
    body=st.binary(max_size=20),
)
def test_a_request_is_signed_as_botocore_signs_it(
    endpoint: str,
    path_style: bool,
    method: str,
    key: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
) -> None:
    bucket = capturing(endpoint, path_style)
    with pytest.raises(Captured) as captured, patch("time.time", NOW.timestamp):
        bucket.ask("Operation", method, key, query=query, headers=headers, body=body)
    ours = captured.value.request

    theirs = AWSRequest(method, ours.url, headers, body)
    theirs.context["payload_signing_enabled"] = True
    with patch("botocore.auth.get_current_datetime", lambda: NOW.replace(tzinfo=None)):
        S3SigV4Auth(Credentials(KEY, SECRET, TOKEN), "s3", "us-east-1").add_auth(theirs)
    assert ours.headers["authorization"].replace(",", ", ") == theirs.headers["Authorization"]


@pytest.mark.parametrize("passing", [DOWN, HANGS_UP, answer("500 Oh"), refusal("400 No", "RequestTimeout")])
def test_what_may_pass_is_tried_again(passing: bytes) -> None:
    with bucket_that_says(passing, OK) as (bucket, server):
        document = bucket.get("a b/ü")
        assert document is not None
        assert document.body == b"{}"
        assert [asked for asked, _, _ in server.asked] == ["GET /bucketscribe/a%20b/%C3%BC"] * 2


def test_a_server_that_throttles_is_asked_again() -> None:
    with bucket_that_says(refusal("503 Slow", "SlowDown"), answer("429 Too"), OK) as (bucket, _):
        assert bucket.find("k") is not None


def test_the_third_failure_is_the_last() -> None:
    with bucket_that_says(DOWN, DOWN, DOWN, OK) as (bucket, server):
        with pytest.raises(ClientError, match="so it is") as raised:
            bucket.put("k", b"{}")
        assert error_code(raised.value) == (503, "ServiceUnavailable")
        assert len(server.asked) == 3


def test_a_server_that_hangs_up_again_and_again_raises_the_sdks_exception() -> None:
    with bucket_that_says(*[HANGS_UP] * 3) as (bucket, _), pytest.raises(BotoCoreError):
        bucket.get("k")


def test_a_refusal_is_not_tried_again() -> None:
    with bucket_that_says(refusal("412 No", "PreconditionFailed"), OK) as (bucket, server):
        with pytest.raises(Conflict):
            bucket.create("k", b"{}")
        assert len(server.asked) == 1
        assert server.asked[0][1]["if-none-match"] == "*"


def test_every_attempt_is_signed_for_its_own_time() -> None:
    with bucket_that_says(DOWN, OK) as (bucket, server):
        with patch("time.time", iter([NOW.timestamp(), NOW.timestamp() + 1]).__next__):
            bucket.get("k")
        dates = [headers["x-amz-date"] for _, headers, _ in server.asked]
        assert dates == ["20261121T120001Z", "20261121T120002Z"]


@pytest.mark.parametrize("late", [refusal("200 OK", "InternalError"), answer("200 OK", b"  <Complete")])
def test_a_completion_that_fails_after_it_began_to_answer_is_tried_again(late: bytes) -> None:
    with bucket_that_says(late, refusal("404 No", "NoSuchUpload")) as (bucket, server):
        with pytest.raises(UploadGone):
            bucket.complete_upload("k", "u", [(1, '"e"')])
        assert len(server.asked) == 2


def test_a_completion_refused_after_it_began_to_answer_is_refused() -> None:
    with (
        bucket_that_says(*[refusal("200 OK", "InvalidPart")] * 3) as (bucket, _),
        pytest.raises(PartsRefused),
    ):
        bucket.complete_upload("k", "u", [(1, '"e"')])


def test_a_list_of_parts_that_ends_in_an_error_is_no_empty_list() -> None:
    with bucket_that_says(refusal("200 OK", "InternalError"), answer("200 OK", PARTS)) as (bucket, _):
        listed = bucket.list_parts("k", "u")
        assert listed is not None
        assert [part.number for part in listed[0]] == [1]


def test_a_write_that_meets_another_under_way_is_tried_again() -> None:
    with bucket_that_says(refusal("409 No", "ConditionalRequestConflict"), OK) as (bucket, server):
        bucket.create("k", b"{}")
        assert len(server.asked) == 2


def test_a_write_that_others_stay_in_the_way_of_is_no_lost_race() -> None:
    busy = refusal("409 No", "ConditionalRequestConflict")
    with bucket_that_says(busy, busy, busy) as (bucket, _), pytest.raises(ClientError):
        bucket.create("k", b"{}")


def test_a_server_that_gives_more_than_was_asked_for_is_understood() -> None:
    with bucket_that_says(answer("200 OK", b"0123456789")) as (bucket, _):
        opened = bucket.open("k", 4)
        assert opened is not None
        assert (opened[0].size, opened[1]) == (10, b"0123")


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_is_told_its_password(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    with bucket_that_says(OK) as (_, server):
        monkeypatch.setenv("http_proxy", f"{scheme}user:secret@127.0.0.1:{server.server_address[1]}")
        monkeypatch.setenv("no_proxy", "")
        bucket = Bucket.connect(Settings(s3_endpoint="http://s3.example.com"))
        assert bucket.get("k") is not None
        request, headers, _ = server.asked[0]
        assert request == "GET http://s3.example.com/bucketscribe/k"
        assert headers["proxy-authorization"] == "Basic dXNlcjpzZWNyZXQ="


def test_white_space_that_keeps_a_completion_alive_is_no_failure() -> None:
    chunks = b"1\r\n \r\n1\r\n\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(DONE), DONE)
    slow = HEAD % b"200 OK" + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    with bucket_that_says(slow) as (bucket, server):
        bucket.complete_upload("k", "u", [(1, '"a"'), (2, '"&"')])
        request, _, body = server.asked[0]
        assert request == "POST /bucketscribe/k?uploadId=u"
        assert b'<Part><ETag>"&amp;"</ETag><PartNumber>2</PartNumber></Part></Complete' in body


def test_after_a_lost_answer_to_a_create_other_uploads_of_the_key_are_looked_for() -> None:
    script = (HANGS_UP, answer("200 OK", UPLOAD), answer("200 OK", NO_UPLOADS))
    with bucket_that_says(*script) as (bucket, server):
        assert bucket.begin_upload("k", "audio/wav")[0] == "u-1"
        assert "?uploads" in server.asked[0][0]
        assert server.asked[0][0] == server.asked[1][0]
        assert "prefix=k" in server.asked[2][0]


def test_a_create_that_was_answered_at_once_costs_no_listing() -> None:
    with bucket_that_says(answer("200 OK", UPLOAD)) as (bucket, server):
        bucket.begin_upload("k", "audio/wav")
        assert len(server.asked) == 1


def test_without_credentials_the_sdks_exception_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boto3.Session.get_credentials", lambda _: None)
    with bucket_that_says(OK) as (bucket, _), pytest.raises(NoCredentialsError):
        bucket.get("k")


# TLS


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Certificates of 127.0.0.1 and of another, each its own authority, with their keys."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, host in (("ours", "127.0.0.1"), ("stranger", "127.0.0.1"), ("elsewhere", "127.0.0.2")):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(host))]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        made[name] = folder / f"{name}.pem"
        made[name].write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    return made


@pytest.mark.parametrize(
    ("shown", "trusted", "refused"),
    [
        ("ours", "ours", None),
        ("stranger", "ours", "self-signed certificate"),
        ("elsewhere", "elsewhere", "doesn't match|mismatch"),
    ],
)
def test_a_server_must_show_a_certificate_of_its_name_from_an_authority_we_trust(
    certificates: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    shown: str,
    trusted: str,
    refused: str | None,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates[shown])
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates[trusted]))
    with Server(OK, OK) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            bucket = Bucket.connect(Settings(s3_endpoint=f"https://127.0.0.1:{server.server_address[1]}"))
            if refused is None:
                assert bucket.get("k") is not None
            else:
                with pytest.raises(BotoCoreError, match=refused):
                    bucket.get("k")
        finally:
            server.shutdown()
            thread.join()


def test_an_error_without_an_answer_has_no_code() -> None:
    assert error_code(HTTPClientError(error=OSError("hung up"))) == (0, "")
