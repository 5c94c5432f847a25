"""Presigned URLs and forms: byte for byte what boto3 signs, for every key, style and credential."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from email.message import Message
from functools import cache
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import parse_qs, parse_qsl, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4PostAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from bucketscribe.presign import Presigner, content_disposition
from hypothesis import given
from hypothesis import strategies as st

NOW = datetime(2026, 11, 3, 23, 59, 58, tzinfo=UTC)
REGION = "eu-central-1"
TOKEN = "IQoJb3JpZ2luX2VjE+/==" * 20


class Keys(NamedTuple):
    """Credentials of the shape botocore freezes them into."""

    access_key: str
    secret_key: str
    token: str | None = None


class Target(NamedTuple):
    """A bucket as its clients reach it."""

    endpoint: str | None
    bucket: str
    path_style: bool


TARGETS = [
    Target(None, "recordings", path_style=False),
    Target(None, "recordings", path_style=True),
    Target(None, "dotted.bucket.name", path_style=False),
    Target("http://127.0.0.1:18333", "recordings", path_style=True),
    Target("http://localhost:80", "recordings", path_style=True),
    Target("https://s3.example.com:8443", "recordings", path_style=False),
    Target("https://s3.example.com:443", "recordings", path_style=False),
    Target("https://example.com/storage/", "recordings", path_style=True),
    Target("http://[::1]:9000", "recordings", path_style=True),
]
TOKENS = [None, TOKEN]

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40).map(
    "uploads/local/x".__add__
)
awkward_keys = st.text(" +%~/\"'&=?#;,:@!$()*[]{}|^`<>_.-éß語🎙", min_size=1).map("uploads/".__add__)
targets = st.sampled_from(TARGETS)
tokens = st.sampled_from(TOKENS)
# Further than the end of the year either way, so that days and signing keys change.
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
expiries = st.integers(1, 604800)


@cache
def boto(target: Target, token: str | None) -> Any:
    """Return boto3's own client for the same bucket."""
    session = boto3.Session("AKIDEXAMPLE", "secret/+=key", token, region_name=REGION)
    config = Config(
        signature_version="s3v4", s3={"addressing_style": "path" if target.path_style else "virtual"}
    )
    return session.client("s3", endpoint_url=target.endpoint, config=config)


def ours(target: Target, token: str | None) -> Presigner:
    keys = Keys("AKIDEXAMPLE", "secret/+=key", token)
    return Presigner(target.endpoint, target.bucket, REGION, target.path_style, lambda: keys)


def theirs(
    target: Target, token: str | None, now: datetime, method: str, expires: int, **params: object
) -> str:
    with patch("botocore.auth.get_current_datetime", lambda: now.replace(tzinfo=None)):
        url: str = boto(target, token).generate_presigned_url(
            method, Params={"Bucket": target.bucket, **params}, ExpiresIn=expires
        )
    return url


def taken_apart(url: str) -> tuple[str, str | None, int, str, list[tuple[str, str]]]:
    """Return what must agree: the order of the parameters is free, and a default port may be left out."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return parts.scheme, parts.hostname, port, parts.path, sorted(parse_qsl(parts.query, strict_parsing=True))


@given(
    target=targets,
    token=tokens,
    key=keys | awkward_keys,
    upload=st.text("aZ09-_.~+/= ", min_size=1),
    number=st.integers(1, 10000),
    length=st.none() | st.integers(0, 5 * 1024**3),
    now=moments,
    expires=expiries,
)
def test_a_part_url_is_the_one_boto3_signs(
    target: Target,
    token: str | None,
    key: str,
    upload: str,
    number: int,
    length: int | None,
    now: datetime,
    expires: int,
) -> None:
    url = ours(target, token).part(
        key, upload, number, expires_seconds=expires, now=now, content_length=length
    )

    params = {"Key": key, "UploadId": upload, "PartNumber": number}
    if length is not None:
        params["ContentLength"] = length
    assert taken_apart(url) == taken_apart(theirs(target, token, now, "upload_part", expires, **params))


@given(
    target=targets,
    token=tokens,
    key=keys | awkward_keys,
    filename=st.text(max_size=30),
    now=moments,
    expires=expiries,
)
def test_a_get_url_is_the_one_boto3_signs(
    target: Target, token: str | None, key: str, filename: str, now: datetime, expires: int
) -> None:
    url = ours(target, token).get(
        key,
        expires_seconds=expires,
        now=now,
        filename=filename,
        content_type="audio/mpeg",
        disposition="inline",
    )

    assert taken_apart(url) == taken_apart(
        theirs(
            target,
            token,
            now,
            "get_object",
            expires,
            Key=key,
            ResponseContentType="audio/mpeg",
            ResponseContentDisposition=content_disposition(filename, "inline"),
        )
    )


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("token", TOKENS, ids=["long-lived", "session"])
def test_a_form_is_the_one_boto3_signs(target: Target, token: str | None) -> None:
    key = "uploads/local/x/É t+u%20\"d'e.mp3"
    form = ours(target, token).post(
        key, content_type="audio/mpeg", min_bytes=1, max_bytes=1000, expires_seconds=600, now=NOW
    )

    fields = {"success_action_status": "201", "Content-Type": "audio/mpeg"}
    with (
        patch("botocore.auth.get_current_datetime", lambda: NOW.replace(tzinfo=None)),
        patch("botocore.signers.get_current_datetime", lambda: NOW.replace(tzinfo=None)),
    ):
        expected = boto(target, token).generate_presigned_post(
            target.bucket,
            key,
            Fields=fields,
            Conditions=[{k: v} for k, v in fields.items()] + [["content-length-range", 1, 1000]],
            ExpiresIn=600,
        )
    assert form["method"] == "POST"
    assert taken_apart(form["url"]) == taken_apart(expected["url"])
    assert opened(form["fields"].pop("policy")) == opened(expected["fields"].pop("policy"))
    form["fields"].pop("x-amz-signature")
    expected["fields"].pop("x-amz-signature")
    assert form["fields"] == expected["fields"]


def opened(policy: str) -> tuple[str, list[str]]:
    document = json.loads(base64.b64decode(policy))
    return document["expiration"], sorted(json.dumps(condition) for condition in document["conditions"])


def test_a_policy_is_signed_as_boto3_signs_it() -> None:
    form = ours(TARGETS[0], TOKEN).post(
        "k", content_type=None, min_bytes=1, max_bytes=2, expires_seconds=60, now=NOW
    )
    signer = S3SigV4PostAuth(Credentials("AKIDEXAMPLE", "secret/+=key", TOKEN), "s3", REGION)
    request = AWSRequest("POST", form["url"])
    request.context["timestamp"] = form["fields"]["x-amz-date"]

    assert form["fields"]["x-amz-signature"] == signer.signature(form["fields"]["policy"], request)


def test_a_form_without_a_type_leaves_the_type_out() -> None:
    form = ours(TARGETS[0], None).post(
        "k", content_type=None, min_bytes=1, max_bytes=2, expires_seconds=60, now=NOW
    )

    assert "Content-Type" not in form["fields"]
    assert "x-amz-security-token" not in form["fields"]


def test_the_example_of_the_aws_documentation_has_its_published_signature() -> None:
    example = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    presigner = Presigner("https://s3.amazonaws.com", "examplebucket", "us-east-1", False, lambda: example)

    url = presigner.get(
        "test.txt",
        expires_seconds=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
        filename=None,
        content_type=None,
    )

    assert url == (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256"
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
        "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
        "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )


def test_a_batch_holds_what_single_calls_return() -> None:
    presigner = ours(TARGETS[3], TOKEN)
    lengths: list[tuple[int, int | None]] = [(1, 8388608), (2, None), (10000, 5)]

    batch = presigner.parts("uploads/a b", "upload", lengths, expires_seconds=60, now=NOW)

    assert batch == {
        number: presigner.part(
            "uploads/a b", "upload", number, expires_seconds=60, now=NOW, content_length=length
        )
        for number, length in lengths
    }


def test_rotated_credentials_are_used_at_the_next_call() -> None:
    rotation = [Keys("A", "one", "t1"), Keys("A", "two", "t2"), Keys("B", "two")]
    upcoming = iter(rotation)
    presigner = Presigner(None, "recordings", REGION, False, lambda: next(upcoming))

    urls = [presigner.part("k", "u", 1, expires_seconds=60, now=NOW) for _ in range(3)]

    queries = [parse_qs(urlsplit(url).query) for url in urls]
    assert [query.get("X-Amz-Security-Token") for query in queries] == [["t1"], ["t2"], None]
    assert [query["X-Amz-Credential"][0][0] for query in queries] == ["A", "A", "B"]
    assert urls == [signed_with(keys) for keys in rotation]


def signed_with(keys: Keys) -> str:
    presigner = Presigner(None, "recordings", REGION, False, lambda: keys)
    return presigner.part("k", "u", 1, expires_seconds=60, now=NOW)


def test_missing_credentials_are_reported() -> None:
    with pytest.raises(ValueError, match="no credentials"):
        signed_with(Keys("", ""))


def test_the_next_day_is_signed_with_the_next_days_key() -> None:
    presigner, tomorrow = ours(TARGETS[0], None), NOW + timedelta(seconds=3)

    presigner.part("k", "u", 1, expires_seconds=60, now=NOW)
    url = presigner.part("k", "u", 1, expires_seconds=60, now=tomorrow)

    params = {"Key": "k", "UploadId": "u", "PartNumber": 1}
    assert taken_apart(url) == taken_apart(theirs(TARGETS[0], None, tomorrow, "upload_part", 60, **params))


def test_a_time_in_another_zone_is_signed_as_utc() -> None:
    presigner, elsewhere = ours(TARGETS[0], None), NOW.astimezone(timezone(timedelta(hours=9)))

    assert presigner.part("k", "u", 1, expires_seconds=60, now=elsewhere) == presigner.part(
        "k", "u", 1, expires_seconds=60, now=NOW
    )


def test_a_part_url_holds_no_checksum_and_nothing_else_that_was_not_asked_for() -> None:
    url = ours(TARGETS[0], TOKEN).part("k", "u", 1, expires_seconds=60, now=NOW, content_length=9)

    assert sorted(parse_qs(urlsplit(url).query)) == [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
        "partNumber",
        "uploadId",
    ]


def test_china_has_its_own_domain() -> None:
    presigner = Presigner(None, "b", "cn-north-1", False, lambda: Keys("A", "s"))

    url = presigner.get("k", expires_seconds=1, now=NOW, filename=None, content_type=None)

    assert urlsplit(url).netloc == "b.s3.cn-north-1.amazonaws.com.cn"


@pytest.mark.parametrize("endpoint", ["s3.example.com", "ftp://s3.example.com", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        Presigner(endpoint, "b", REGION, True, lambda: Keys("A", "s"))


@pytest.mark.parametrize(
    ("filename", "fallback"),
    [
        ("talk.mp3", "talk.mp3"),
        ("Ménière é.srt", "Meniere e.srt"),
        ('a"b\\c%41.txt', "a_b_c_41.txt"),
        ("日本", "_"),
        ("a\r\nSet-Cookie: b", "a__Set-Cookie: b"),
    ],
)
def test_a_download_name_has_an_ascii_form_for_old_clients(filename: str, fallback: str) -> None:
    header = Message()
    header["Content-Disposition"] = content_disposition(filename)

    assert f'attachment; filename="{fallback}"; ' in header["Content-Disposition"]
    assert content_disposition(filename).isascii()
    assert content_disposition(filename).isprintable()


@given(st.text())
def test_any_download_name_survives_in_its_extended_form(filename: str) -> None:
    encoded = content_disposition(filename).partition("filename*=")[2]

    assert parse_qs(f"n={encoded.removeprefix("UTF-8''")}", keep_blank_values=True)["n"] == [filename]


def test_a_download_name_with_half_a_surrogate_pair_is_still_a_header() -> None:
    assert content_disposition("a\ud83c.mp3").isascii()
