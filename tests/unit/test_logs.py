"""What a log line may not tell, and what it may not look like."""

import io
import json
import logging
import logging.config
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from typing import Any, Literal

import pytest
import structlog
import uvicorn.config
from bucketscribe import logs
from bucketscribe.settings import Settings
from hypothesis import assume, given
from hypothesis import strategies as st

Format = Literal["text", "json"]

BASE64URL = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
HOSTILE = "talk.mp3\r\n2026-11-21T10:00:00Z [info] completed id=forged\x1b[2J\x85\u2028\u202e.mp3"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def said(format: Format, say: Callable[[], object]) -> str:
    """What a process logs in this format."""
    with redirect_stderr(io.StringIO()) as stderr:
        logs.configure(Settings(log_format=format))
        say()
    return stderr.getvalue()


def fail(message: str) -> None:
    """Log an exception, as somebody's cause, with a traceback."""
    try:
        try:
            raise ValueError(message)
        except ValueError as error:
            raise RuntimeError("it failed") from error
    except RuntimeError:
        structlog.get_logger().exception("failed", code="internal")


def fail_elsewhere(message: str) -> None:
    """Log an exception by the standard library, as uvicorn and botocore do."""
    try:
        raise ValueError(message)
    except ValueError:
        logging.getLogger("elsewhere").exception("failed with %s", message)


class Thing:
    """Something with a representation of its own."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return f"<Thing {self.text}>"


WAYS: dict[str, Callable[[str], object]] = {
    "event": lambda text: structlog.get_logger().info(text),
    "field": lambda text: structlog.get_logger().info("said", reason=text, id="1"),
    "bound": lambda text: structlog.get_logger().bind(reason=text).info("said"),
    "list": lambda text: structlog.get_logger().info("said", names=["a", text]),
    "nested": lambda text: structlog.get_logger().info("said", facts={"a": [{"b": (1, text)}]}),
    "name in a dict": lambda text: structlog.get_logger().info("said", facts={text: 1}),
    "bytes": lambda text: structlog.get_logger().info("said", body=text.encode(errors="replace")),
    "object": lambda text: structlog.get_logger().info("said", thing=Thing(text)),
    "traceback": fail,
    "foreign line": lambda text: logging.getLogger("elsewhere").warning("said %s", text),
    "foreign traceback": fail_elsewhere,
}

key = st.text(BASE64URL, min_size=20, max_size=43)
ways = st.sampled_from(sorted(WAYS))
formats = st.sampled_from(["text", "json"])


@given(secret=key, before=st.text(), after=st.text(), way=ways, format=formats)
def test_an_api_key_is_never_said_wherever_it_stands(
    secret: str, before: str, after: str, way: str, format: Format
) -> None:
    assume(secret not in before + after)
    out = said(format, lambda: WAYS[way](f"{before}bks_{secret}{after}"))
    assert logs.REDACTED in out
    assert secret not in out


@given(secret=key, before=st.text(), after=st.text(), way=ways, format=formats)
def test_the_secret_of_webhooks_is_never_said_wherever_it_stands(
    secret: str, before: str, after: str, way: str, format: Format
) -> None:
    assume(secret not in before + after)
    assert secret not in said(format, lambda: WAYS[way](f"{before}whsec_{secret}={after}"))


@given(secret=key, before=st.text(), after=st.text(), way=ways, format=formats)
def test_a_token_is_never_said_wherever_it_stands(
    secret: str, before: str, after: str, way: str, format: Format
) -> None:
    assume(secret not in before + after)
    out = said(format, lambda: WAYS[way](f"{before}eyJ{secret}.{secret}.{secret}{after}"))
    assert secret not in out


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "text",
    [
        "GET http://b/k?X-Amz-Credential=SECRET%2Fs3&X-Amz-Date=1&X-Amz-Signature=SECRET&partNumber=1",
        "GET http://b/k?x-amz-security-token=SECRET//SECRET+a==",
        "the form {'X-Amz-Signature': 'SECRET', 'key': 'uploads/a'}",
        "POST /u/SECRET/s3/multipart",
        "http://127.0.0.1:8000/u/SECRET",
        "Authorization: Bearer SECRET",
        "authorization=Basic SECRET SECRET",
        "headers {'Authorization': 'Bearer SECRET'}",
        "headers [(b'authorization', b'Bearer SECRET')]",
        "Cookie: theme=dark; __Host-bucketscribe=SECRET",
        'set-cookie: a="b"; c="SECRET"',
        "the session __Host-bucketscribe=SECRET",
        "401 for the token hf_SECRET",
    ],
)
def test_what_signs_and_who_signs_in_is_never_said(format: Format, way: str, text: str) -> None:
    secret = "AQEBQmFzZTY0dXJsLXRva2Vu"
    out = said(format, lambda: WAYS[way](text.replace("SECRET", secret)))
    assert logs.REDACTED in out
    assert secret not in out


def test_a_field_that_is_a_header_is_not_said() -> None:
    out = said(
        "json", lambda: structlog.get_logger().info("said", authorization="Basic c2VjcmV0", Cookie="a=b")
    )
    assert {json.loads(out)["authorization"], json.loads(out)["Cookie"]} == {logs.REDACTED}


@pytest.mark.parametrize(
    "text",
    [
        "/u/{token}/s3/multipart/{upload_id}",
        "eyjafjallajokull.mp3 and eyJ.mp3",
        "an API key begins with bks_",
        "set BUCKETSCRIBE_HF_TOKEN, or hf_token",
        "X-Amz-SignedHeaders=host&X-Amz-Date=20261121",
        "uploads/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.mp3",
    ],
)
def test_what_is_no_secret_is_said(text: str) -> None:
    line = json.loads(said("json", lambda: structlog.get_logger().info(text, name=text)))
    assert (line["event"], line["name"]) == (text, text)


def test_only_the_secret_of_a_line_is_left_out() -> None:
    url = "http://b/k?X-Amz-Signature=0f0f0f0f&partNumber=1"
    line = json.loads(said("json", lambda: structlog.get_logger().info("said", url=url, parts=[1, 2])))
    assert line["url"] == "http://b/k?X-Amz-Signature=[redacted]&partNumber=1"
    assert line["parts"] == [1, 2]


def test_a_traceback_is_said_without_the_key_in_it() -> None:
    out = said("text", lambda: fail("the key bks_0123456789abcdef is unknown"))
    assert "ValueError: the key bks_[redacted] is unknown" in out
    assert "RuntimeError: it failed" in out


def test_what_uvicorn_says_goes_the_same_way() -> None:
    def say() -> None:
        logging.getLogger("uvicorn.error").error("bad request with bks_0123456789abcdef")
        logging.getLogger("uvicorn.access").info("GET /u/0123456789abcdef/s3/multipart")

    logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
    out = said("json", say)
    assert json.loads(out)["event"] == "bad request with bks_[redacted]"


@pytest.mark.parametrize("way", WAYS)
def test_a_hostile_name_makes_no_line_of_its_own_in_text(way: str) -> None:
    out = said("text", lambda: WAYS[way](HOSTILE)).removesuffix("\n")
    first, *more = out.splitlines()
    assert first.startswith("20")
    assert all(line.startswith("    ") for line in more)
    assert not set(out) & set("\r\x1b\x85\u2028\u202e")


@given(name=st.text(), way=ways)
def test_no_name_makes_a_line_of_its_own_in_text(name: str, way: str) -> None:
    _, *more = said("text", lambda: WAYS[way](name)).removesuffix("\n").splitlines()
    assert all(line.startswith("    ") for line in more)


@given(name=st.text(), way=ways)
def test_each_event_is_one_line_of_json(name: str, way: str) -> None:
    (line,) = said("json", lambda: WAYS[way](name)).removesuffix("\n").splitlines()
    told: dict[str, Any] = json.loads(line)
    assert told["level"] in ("info", "warning", "error")
    assert told["timestamp"]
