"""How one comes in: open mode and its wall, sessions, upload tokens, other pages, headers, and how often."""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, Literal

import httpx2
import pytest
import uvicorn
from bucketscribe import authentication
from bucketscribe.api import sessions, streams, transcriptions
from bucketscribe.api.app import create_app
from bucketscribe.api.guard import COOKIE, MAX_BODY_BYTES
from bucketscribe.api.http_protocol import HttpProtocol
from bucketscribe.api.rate_limit import RateLimit
from bucketscribe.api.this_machine import ThisMachineOnly
from bucketscribe.auth import Scope, owner_slug
from bucketscribe.authentication import Credentials, Kind
from bucketscribe.keys import Keys, digest_of
from bucketscribe.logs import redact
from bucketscribe.queue import Queue
from bucketscribe.records import Stored, new_id
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from fastapi import FastAPI
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from tests.conftest import LaterBucket
from tests.integration.conftest import HERE, Uploader, calling
from tests.integration.test_client import serving
from tests.integration.test_up import refused as command_refused
from tests.integration.test_uploading import SPEECH, refused

ANN = owner_slug("keys", "Ann")
BEGIN = {"filename": "talk.wav"}
ELSEWHERE = "https://evil.example"
PAGE = "https://page.example"
SITE = "https://transcripts.example.com"


class Clock:
    """Time that is put forward, in place of the module `time`."""

    later = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.later

    def time(self) -> float:
        return time.time() + self.later


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(authentication, "time", clock)
    monkeypatch.setattr(sessions, "time", clock)
    return clock


@pytest.fixture
def guarded(settings: Settings, bucket: LaterBucket, queue: Queue) -> Service:
    """A service that asks for keys, and lets one other page in."""
    named = {"auth": ("keys",), "allowed_origins": (PAGE,)}
    return Service.of(settings.model_copy(update=named), bucket, queue)


@pytest.fixture
def keys(bucket: LaterBucket) -> Keys:
    return Keys(bucket)


@pytest.fixture
def key(keys: Keys) -> str:
    return keys.new("a test's", ANN, tuple(Scope), None)


@pytest.fixture
def strict(guarded: Service) -> Iterator[TestClient]:
    """The API that asks for keys."""
    with calling(guarded) as client:
        yield client


@pytest.fixture
def requests(bucket: LaterBucket) -> list[str]:
    """The operations that the bucket is asked for from now on."""
    seen: list[str] = []
    bucket.client.meta.events.register(
        "before-send.s3", lambda event_name, **_: seen.append(event_name.rpartition(".")[2])
    )
    return seen


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def session(api: TestClient, key: str) -> dict[str, str]:
    """The Cookie header of a new session."""
    answer = api.post("/session", headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}


@contextmanager
def listening(app: FastAPI, host: str = "127.0.0.1") -> Iterator[int]:
    """The application on a real server; its port."""
    with socket.create_server((host, 0)) as listener:
        config = uvicorn.Config(app, http=HttpProtocol, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def raw(port: int, request: bytes, host: str = "127.0.0.1") -> bytes:
    """What is answered to these bytes, while nothing more is sent."""
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65536):
            answer += more
            head, _, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            if length is not None and len(body) >= int(length[1]):
                break
        return answer


# Open mode: only this machine


@pytest.mark.parametrize("command", ["api", "up"])
def test_a_command_that_would_be_open_to_others_says_in_a_line_what_to_set(command: str) -> None:
    said = command_refused(
        f"bucketscribe.cli.main {command}", host="0.0.0.0", secret="a secret for tests only"
    )
    assert len(said.splitlines()) == 1
    assert "Set BUCKETSCRIBE_AUTH to keys" in said


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "127.0.0.1:8000",
            "127.0.0.1:",
            "localhost",
            "localhost:80",
            "LOCALHOST:8000",
            "LocalHost",
        ),
        *("[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]:8000", "127.3.2.1"),
    ],
)
def test_this_machine_is_let_in_by_any_of_its_names(api: TestClient, host: str) -> None:
    assert api.get("/transcriptions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost.",
        ),
        *("0.0.0.0", "[::]", "192.0.2.2:8000", "[2001:db8::1]", "2130706433", "0x7f.1", "127.1", ""),
        *("[::1].evil.example", "[::1", "::1]", "127.0.0.1@evil.example", "127.0.0.1 evil.example"),
        *("127.0.0.1:80:80", "127.0.0.1:evil", "http://127.0.0.1", "127.0.0.1/", "127.0.0.1,evil.example"),
        *("\u017focalhost", "\x7f127.0.0.1"),
    ],
)
def test_a_page_whose_name_was_pointed_here_is_refused(api: TestClient, host: str) -> None:
    for path in ("/transcriptions", "/health", "/docs", "/openapi.json", "/nothing"):
        refused(api.get(path, headers={b"Host": host.encode()}), 403, "this_machine_only")


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "192.0.2.7"},
        {"X-Forwarded-For": "127.0.0.1, 2001:db8::1"},
        {"X-Forwarded-For": "unknown"},
        {"X-Forwarded-Host": "transcripts.example.com"},
        {"Forwarded": "for=192.0.2.7"},
        {"X-Real-IP": "192.0.2.7"},
        {"Via": "1.1 proxy"},
    ],
)
def test_what_a_proxy_passes_on_for_others_is_refused(api: TestClient, headers: dict[str, str]) -> None:
    refused(api.get("/transcriptions", headers=headers), 403, "this_machine_only")


def test_whoever_was_not_let_in_stands_in_the_log(api: TestClient) -> None:
    with capture_logs() as lines:
        api.get("/transcriptions", headers={"Host": "evil.example"})
    [line] = [line for line in lines if line["event"] == "request"]
    assert (line["status"], line["method"]) == (403, "GET")


def test_what_a_proxy_passes_on_for_this_machine_is_let_in(api: TestClient) -> None:
    headers = {"X-Forwarded-For": "127.0.0.1, ::1", "X-Forwarded-Host": "localhost:5173"}
    assert api.get("/transcriptions", headers=headers).status_code == 200


def _own_address() -> str | None:
    """An address of this machine that others can reach, if it has one. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith(("127.", "0.")) else address


def test_a_server_that_listens_everywhere_answers_the_loopback_only(service: Service) -> None:
    address = _own_address()
    if address is None:
        pytest.skip("this machine has the loopback only")
    with listening(create_app(service), "0.0.0.0") as port:
        assert httpx2.get(f"http://127.0.0.1:{port}/transcriptions").status_code == 200
        # By a name that would be right, too.
        for headers in ({}, {"Host": "127.0.0.1"}, {"Host": "localhost"}):
            answer = httpx2.get(f"http://{address}:{port}/transcriptions", headers=headers)
            refused(answer, 403, "this_machine_only")


@pytest.mark.parametrize(
    ("server", "let_in"),
    [
        (("127.0.0.1", 8000), True),
        (("::1", 8000), True),
        (("::ffff:127.0.0.1", 8000), True),
        (("/run/api.sock", None), True),
        (None, True),
        (("192.0.2.2", 8000), False),
        (("::ffff:192.0.2.2", 8000), False),
        (("fe80::1%eth0", 8000), False),
        (("0.0.0.0", 8000), False),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_the_address_a_connection_came_in_on_is_looked_at(server: Any, let_in: bool, named: bool) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    async def send(message: Any) -> None:
        pass

    headers = [(b"host", b"localhost")] if named else []
    scope = {"type": "http", "server": server, "headers": headers}
    coroutine = ThisMachineOnly(app)(scope, None, send)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert bool(reached) == (let_in and named)


# Open mode: other pages


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://127.0.0.1:8000.evil.example"},
        {"Origin": "http://127.0.0.1:8000@evil.example"},
        {"Origin": "http://["},
        {"Origin": ""},
        {"Origin": "file://"},
        {"Origin": ELSEWHERE, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Same-Origin, cross-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/s3/multipart"),
        ("GET", "/s3/params?filename=talk.wav"),
        ("DELETE", "/transcriptions/x"),
        ("POST", "/session"),
        ("POST", "/upload-tokens"),
        ("GET", "/metrics"),
    ],
)
def test_a_page_of_another_site_changes_nothing(
    api: TestClient, bucket: LaterBucket, method: str, path: str, headers: dict[str, str]
) -> None:
    refused(api.request(method, path, json=BEGIN, headers=headers), 403, "foreign_origin")
    assert list(bucket.listing("")) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost:5173"},
        {"Origin": "https://127.0.0.1"},
        {"Origin": "http://[::1]:8000"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_a_page_of_this_machine_and_what_is_no_browser_may(api: TestClient, headers: dict[str, str]) -> None:
    assert api.post("/s3/multipart", json=BEGIN, headers=headers).status_code == 200


@pytest.mark.parametrize(("allowed", "origin"), [((PAGE,), PAGE), (("*",), ELSEWHERE), (("*",), "null")])
def test_in_open_mode_pages_of_the_settings_may(
    service: Service, allowed: tuple[str, ...], origin: str
) -> None:
    settings = service.settings.model_copy(update={"allowed_origins": allowed})
    with calling(Service.of(settings, service.bucket, service.queue)) as api:
        answer = api.post("/s3/multipart", json=BEGIN, headers={"Origin": origin})
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ("*" if allowed == ("*",) else origin)


# Sessions


def test_a_session_s_cookie_is_for_this_host_and_for_browsers_only(strict: TestClient, key: str) -> None:
    answer = strict.post("/session", headers=bearer(key))
    assert answer.json() == {"owner": ANN, "scopes": ["admin", "read", "upload", "write"], "expires": 43200}
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(
        rf"{COOKIE}=[\w-]+; HttpOnly; Max-Age=43200; Path=/; SameSite=strict; Secure", cookie
    ), cookie
    assert COOKIE.startswith("__Host-")
    assert key not in cookie


NOBODY = {"auth": ["keys"], "owner": None, "scopes": [], "expires": None}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("bks_" + "0" * 40),
        bearer("please"),
        {"Cookie": f"{COOKIE}=x"},
        httpx2.Headers([("Authorization", "Bearer a"), ("Authorization", "Bearer b")]),
    ],
)
def test_who_is_not_signed_in_is_told_how_one_can(strict: TestClient, headers: Any) -> None:
    answer = strict.get("/session", headers=headers)
    assert (answer.status_code, answer.json()) == (200, NOBODY)


def test_in_open_mode_everybody_is_signed_in(api: TestClient) -> None:
    everything = {"auth": [], "owner": "local", "scopes": sorted(Scope), "expires": None}
    for headers in ({}, {"Cookie": f"{COOKIE}=of another time"}):
        assert api.get("/session", headers=headers).json() == everything


def test_a_session_says_whose_it_is_until_it_ends(strict: TestClient, key: str, clock: Clock) -> None:
    # As our own page asks.
    headers = session(strict, key) | {"Sec-Fetch-Site": "same-origin"}
    clock.later = 43190
    told = strict.get("/session", headers=headers).json()
    assert told.pop("expires") in (9, 10)
    assert told == {"auth": ["keys"], "owner": ANN, "scopes": ["admin", "read", "upload", "write"]}
    assert strict.get("/session", headers=bearer(key)).json()["expires"] is None
    clock.later = 43201
    assert strict.get("/session", headers=headers).json() == NOBODY


def test_a_session_of_a_key_that_was_revoked_is_nobody_s(
    strict: TestClient, key: str, keys: Keys, clock: Clock
) -> None:
    cookie = session(strict, key)
    keys.revoke(digest_of(key) or "")
    clock.later = 61
    assert strict.get("/session", headers=cookie).json() == NOBODY


def test_asking_who_one_is_finds_no_keys_by_trying(guarded: Service) -> None:
    settings = guarded.settings.model_copy(update={"max_requests_per_second": 1})
    with calling(Service.of(settings, guarded.bucket, guarded.queue)) as api:
        answers = [
            api.get("/session", headers=bearer(f"bks_{new_id().replace('-', ''):0<40}")) for _ in range(20)
        ]
        assert {answer.status_code for answer in answers} == {200, 429}
        # Who tries nothing is answered all the same.
        assert api.get("/session").json() == NOBODY


def test_ending_a_session_removes_the_cookie(strict: TestClient) -> None:
    answer = strict.delete("/session")
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f'{COOKIE}=""; ')
    for part in ("Max-Age=0", "Path=/", "HttpOnly", "Secure", "SameSite=strict"):
        assert f"; {part}" in cookie


def test_a_session_reads_whatever_page_its_browser_came_from(strict: TestClient, key: str) -> None:
    cookie = session(strict, key)
    for headers in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": ELSEWHERE}):
        answer = strict.get("/transcriptions", headers=cookie | headers)
        assert answer.status_code == 200
        # But no page of another site is let to read it.
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": ELSEWHERE},
        {"Origin": "null"},
        {"Origin": "http://localhost:5173"},
        {"Origin": f"{SITE}.evil.example"},
        {"Origin": f"{SITE}:8443"},
        {"Origin": SITE.replace("https", "http")},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": ELSEWHERE, "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_by_a_cookie_nothing_changes_from_elsewhere(
    guarded: Service, key: str, headers: dict[str, str]
) -> None:
    with TestClient(create_app(guarded), SITE) as api:
        cookie = session(api, key)
        for method, path in (("POST", "/s3/multipart"), ("GET", "/s3/params?filename=talk.wav")):
            answer = api.request(method, path, json=BEGIN, headers=cookie | headers)
            refused(answer, 403, "foreign_origin")
        assert list(guarded.bucket.listing("records/")) == []


@pytest.mark.parametrize(
    "headers",
    [{"Origin": SITE}, {"Origin": PAGE}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
)
def test_by_a_cookie_our_own_page_and_those_of_the_settings_may(
    guarded: Service, key: str, headers: dict[str, str]
) -> None:
    with TestClient(create_app(guarded), SITE) as api:
        cookie = session(api, key)
        assert api.post("/s3/multipart", json=BEGIN, headers=cookie | headers).status_code == 200


def test_behind_a_proxy_that_ends_tls_our_own_page_may(guarded: Service, key: str) -> None:
    with TestClient(create_app(guarded), SITE.replace("https", "http")) as api:
        headers = session(api, key) | {"Origin": SITE}
        assert api.post("/s3/multipart", json=BEGIN, headers=headers).status_code == 200


def test_a_key_in_a_header_may_from_anywhere(strict: TestClient, key: str) -> None:
    headers = bearer(key) | {"Origin": ELSEWHERE, "Sec-Fetch-Site": "cross-site"}
    assert strict.post("/s3/multipart", json=BEGIN, headers=headers).status_code == 200


def test_a_header_goes_before_a_cookie(strict: TestClient, key: str) -> None:
    headers = session(strict, key) | bearer("bks_" + "0" * 40)
    refused(strict.get("/transcriptions", headers=headers), 401, "bad_credentials")
    # Who signs in some other way, to a proxy for instance, has the cookie.
    headers = session(strict, key) | {"Authorization": "Basic eDp5"}
    assert strict.get("/transcriptions", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "cookie", ["", "x", '"x"', "\u00fc", "\x85", '"\\999"', "a=b=c", "=", "x" * 20_000, '"\\303\\274"']
)
def test_a_cookie_that_is_no_session_is_refused(strict: TestClient, cookie: str) -> None:
    headers = {b"Cookie": f"{COOKIE}={cookie}".encode("latin-1")}
    code = "bad_credentials" if cookie else "sign_in_required"
    refused(strict.get("/transcriptions", headers=headers), 401, code)


def test_a_session_ends_when_it_said(strict: TestClient, key: str, clock: Clock) -> None:
    cookie = session(strict, key)
    clock.later = 43190
    assert strict.get("/transcriptions", headers=cookie).status_code == 200
    # Nobody makes it last longer with itself.
    answer = strict.post("/session", headers=cookie | {"Sec-Fetch-Site": "same-origin"})
    assert answer.json()["expires"] <= 10
    clock.later = 43201
    refused(strict.get("/transcriptions", headers=cookie), 401, "credentials_expired")


def test_sessions_and_upload_tokens_end_with_their_key_a_minute_after_it_was_revoked(
    strict: TestClient, keys: Keys, key: str, clock: Clock
) -> None:
    cookie = session(strict, key)
    token = strict.post("/upload-tokens", headers=bearer(key)).json()["token"]
    keys.revoke(digest_of(key) or "")

    def answers() -> list[int]:
        return [
            strict.get("/transcriptions", headers=bearer(key)).status_code,
            strict.get("/transcriptions", headers=cookie).status_code,
            strict.get(f"/u/{token}/s3/params?filename=talk.wav").status_code,
        ]

    assert answers() == [200, 200, 200]
    clock.later = 61
    assert answers() == [401, 401, 401]


def test_a_session_is_worth_nothing_to_another_process_once_its_key_is_revoked(
    strict: TestClient, keys: Keys, key: str, guarded: Service
) -> None:
    cookie = session(strict, key)
    keys.revoke(digest_of(key) or "")
    with calling(guarded) as other:
        refused(other.get("/transcriptions", headers=cookie), 401, "bad_credentials")


def test_a_session_may_do_what_its_key_may_now(
    strict: TestClient, keys: Keys, bucket: LaterBucket, clock: Clock
) -> None:
    key = keys.new("a test's", ANN, (Scope.READ, Scope.WRITE), None)
    cookie = session(strict, key)
    held = keys.find(digest_of(key) or "")
    assert held is not None
    less = held[0].model_copy(update={"scopes": (Scope.WRITE,)})
    bucket.put(f"keys/{digest_of(key)}.json", less.model_dump_json(by_alias=True).encode())
    clock.later = 61
    refused(strict.get("/transcriptions", headers=cookie), 403, "scope_missing")


@pytest.mark.parametrize("of", ["one", "all"])
def test_a_stream_ends_with_the_key_it_was_asked_for_by(
    guarded: Service, keys: Keys, key: str, clock: Clock, of: str
) -> None:
    with listening(create_app(guarded)) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as api:
        id = api.post("/s3/multipart", json=BEGIN, headers=bearer(key)).json()["id"]
        path = f"/transcriptions/{id}/events" if of == "one" else "/transcriptions/events"
        with api.stream("GET", f"{path}?wait=3600", headers=bearer(key), timeout=30) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("id: ")
            keys.revoke(digest_of(key) or "")
            clock.later = 61
            # As long as it is not over there is no end of this.
            told = [line for line in lines if line.startswith("event: ")]
            assert told == ["event: transcription" if of == "one" else "event: list"]


@pytest.mark.parametrize("way", ["session", "upload-tokens"])
def test_what_open_mode_gave_out_is_worth_nothing_where_others_come_in(
    api: TestClient, strict: TestClient, way: str
) -> None:
    answer = api.post(f"/{way}")
    assert answer.status_code == 200
    if way == "session":
        headers = {"Cookie": f"{COOKIE}={answer.cookies[COOKIE]}"}
        refused(strict.get("/transcriptions", headers=headers), 401, "bad_credentials")
    else:
        path = f"/u/{answer.json()['token']}/s3/params?filename=talk.wav"
        assert api.get(path).status_code == 200
        refused(strict.get(path), 401, "bad_credentials")


# API keys


BROKEN_KEYS: dict[str, Callable[[str], str]] = {
    "of a newer version": lambda text: text.replace('"schema":1', '"schema":2'),
    "with a scope we do not know": lambda text: text.replace('"admin"', '"everything"'),
    "of nobody": lambda text: text.replace(ANN, ""),
    "of an owner who is none": lambda text: text.replace(ANN, "../local"),
    "that ends at no time of any place": lambda text: text.replace(
        '"expires":null', '"expires":"2999-01-01T00:00:00"'
    ),
    "that is no JSON": lambda text: text[1:],
    "that is empty": lambda text: "",
}


@pytest.mark.parametrize("what", BROKEN_KEYS)
def test_a_key_nobody_can_read_opens_nothing(
    strict: TestClient, bucket: LaterBucket, key: str, what: str
) -> None:
    name = f"keys/{digest_of(key)}.json"
    kept = bucket.get(name)
    assert kept is not None
    broken = BROKEN_KEYS[what](kept.body.decode())
    assert broken != kept.body.decode()
    bucket.put(name, broken.encode())
    refused(strict.get("/transcriptions", headers=bearer(key)), 401, "bad_credentials")


# How many requests it costs


def test_signing_asks_the_bucket_nothing_once_a_key_is_known(
    strict: TestClient, key: str, requests: list[str], clock: Clock
) -> None:
    begun = strict.post("/s3/multipart", json=BEGIN, headers=bearer(key)).json()
    token = strict.post("/upload-tokens", headers=bearer(key)).json()["token"]
    cookie = session(strict, key) | {"Sec-Fetch-Site": "same-origin"}
    requests.clear()

    def sign() -> None:
        path = f"/s3/multipart/{begun['uploadId']}/1"
        for prefix, headers in (("", bearer(key)), (f"/u/{token}", {}), ("", cookie)):
            answer = strict.get(f"{prefix}{path}", params={"key": begun["key"]}, headers=headers)
            assert answer.status_code == 200

    sign()
    assert requests == []
    clock.later = 61
    sign()
    assert requests == ["GetObject"]


def test_a_key_that_is_not_there_or_has_ended_is_asked_for_once_a_minute(
    strict: TestClient, keys: Keys, requests: list[str], clock: Clock, bucket: LaterBucket
) -> None:
    expired = keys.new("a test's", ANN, (Scope.READ,), bucket.now())
    for bad, code in (("bks_" + "0" * 40, "bad_credentials"), (expired, "credentials_expired")):
        requests.clear()
        for _ in range(5):
            refused(strict.get("/transcriptions", headers=bearer(bad)), 401, code)
        assert requests == ["GetObject"]
        clock.later += 61
        refused(strict.get("/transcriptions", headers=bearer(bad)), 401, code)
        assert requests == ["GetObject"] * 2


def test_a_key_that_has_an_end_is_not_remembered_beyond_it(
    strict: TestClient, keys: Keys, bucket: LaterBucket, clock: Clock
) -> None:
    brief = keys.new("a test's", ANN, (Scope.READ,), bucket.now() + timedelta(seconds=30))
    assert strict.get("/transcriptions", headers=bearer(brief)).status_code == 200
    clock.later = 31
    bucket.later = timedelta(seconds=31)
    refused(strict.get("/transcriptions", headers=bearer(brief)), 401, "credentials_expired")


def test_strangers_do_not_have_those_who_are_known_forgotten(
    strict: TestClient, key: str, requests: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authentication, "REMEMBERED", 10)
    strict.get("/s3/multipart/x/1?key=x", headers=bearer(key))
    for number in range(30):
        strict.get("/transcriptions", headers=bearer(f"bks_{number:040x}"))
    requests.clear()
    strict.get("/s3/multipart/x/1?key=x", headers=bearer(key))
    assert requests == []
    guard = strict.app.state.guard  # type: ignore[attr-defined]
    assert len(guard.authentication._remembered) <= 10


def test_what_is_no_key_on_its_face_asks_the_bucket_nothing(strict: TestClient, requests: list[str]) -> None:
    for bad in ("bks_", "bks_0", "bks_" + "0" * 41, "bks_" + "G" * 40, "x", "eyJ.e30.x"):
        refused(strict.get("/transcriptions", headers=bearer(bad)), 401, "bad_credentials")
    refused(strict.get("/u/x/s3/params?filename=talk.wav"), 401, "bad_credentials")
    refused(strict.get("/transcriptions"), 401, "sign_in_required")
    assert requests == []


def test_where_keys_are_no_way_to_sign_in_nobody_looks_for_one(
    settings: Settings, bucket: LaterBucket, queue: Queue, key: str, requests: list[str]
) -> None:
    named = {"auth": ("oidc",), "oidc_issuer": "http://127.0.0.1:9", "oidc_audience": "x"}
    with calling(Service.of(settings.model_copy(update=named), bucket, queue)) as api:
        refused(api.get("/transcriptions", headers=bearer(key)), 401, "bad_credentials")
    assert requests == []


# Upload tokens


def test_an_upload_token_s_endpoint_takes_a_whole_upload_and_nothing_else(
    strict: TestClient, key: str, bucket: LaterBucket
) -> None:
    told = strict.post("/upload-tokens", headers=bearer(key)).json()
    assert told["endpoint"] == f"{HERE}/u/{told['token']}"
    assert told["expires"] == 3600
    with TestClient(strict.app, told["endpoint"], raise_server_exceptions=False) as uppy:
        upload = Uploader(uppy).begin("talk.wav", size=len(SPEECH), partSize=8 * 1024**2)
        parts = [upload.put(1, SPEECH)]
        assert [part["ETag"] for part in upload.parts().json()] == [parts[0]["ETag"]]
        assert upload.complete(parts).json()["state"] == "queued"
        batch = uppy.get(f"{upload.path}/batch", params={"key": upload.key, "partNumbers": "1"})
        assert batch.status_code == 200
        assert Uploader(uppy).begin().abort().json() == {}
        assert upload.key.startswith(f"uploads/{ANN}/")
        for path in (
            "/transcriptions",
            f"/transcriptions/{upload.id}",
            "/session",
            "/metrics",
            "/docs",
            "/health",
        ):
            refused(uppy.get(path), 404, "no_such_route")
        refused(uppy.post("/upload-tokens"), 404, "no_such_route")


def test_an_upload_token_ends_when_it_said(strict: TestClient, key: str, clock: Clock) -> None:
    path = (
        f"/u/{strict.post('/upload-tokens', headers=bearer(key)).json()['token']}/s3/params?filename=talk.wav"
    )
    clock.later = 3590
    assert strict.get(path).status_code == 200
    clock.later = 3601
    refused(strict.get(path), 401, "credentials_expired")


def test_an_upload_token_ends_with_its_key(strict: TestClient, keys: Keys, bucket: LaterBucket) -> None:
    brief = keys.new("a test's", ANN, (Scope.UPLOAD,), bucket.now() + timedelta(seconds=100))
    assert strict.post("/upload-tokens", headers=bearer(brief)).json()["expires"] <= 100


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "transcripts.example.com"}, "http://transcripts.example.com"),
        ({"Host": "evil.example/x?y"}, HERE),
        ({"Host": "evil.example#"}, HERE),
        ({"Host": "a@evil.example"}, HERE),
        ({"X-Forwarded-Host": "evil.example"}, HERE),
        ({"Forwarded": "host=evil.example"}, HERE),
    ],
)
def test_the_endpoint_is_where_its_client_asked_and_nowhere_else(
    strict: TestClient, key: str, headers: dict[str, str], base: str
) -> None:
    told = strict.post("/upload-tokens", headers=bearer(key) | headers).json()
    assert told["endpoint"] == f"{base}/u/{told['token']}"


def test_credentials_are_in_no_log_and_in_no_problem(
    strict: TestClient, guarded: Service, keys: Keys, key: str
) -> None:
    with capture_logs() as lines:
        cookie = session(strict, key)
        token = strict.post("/upload-tokens", headers=bearer(key)).json()["token"]
        texts = [
            strict.get(f"/u/{token}/s3/params").text,
            strict.get(f"/u/{token}/s3/nothing").text,
            strict.get(f"/u/{token}x/s3/params?filename=talk.wav").text,
            strict.get("/transcriptions/x", headers=bearer(key)).text,
            strict.get("/transcriptions", headers=bearer(f"{key}0")).text,
            strict.get("/metrics?x=y", headers=cookie).text,
            strict.post("/upload-tokens", headers=cookie).text,
        ]
        keys.revoke(digest_of(key) or "")
        with calling(guarded) as other:
            texts.append(other.get(f"/u/{token}/s3/params?filename=talk.wav").text)
    assert len(lines) >= len(texts)
    said = str(lines) + str(texts)
    for secret in (key, token, cookie["Cookie"].partition("=")[2]):
        assert secret not in said


def test_a_token_is_known_by_its_shape_wherever_it_stands(strict: TestClient, key: str) -> None:
    token = strict.post("/upload-tokens", headers=bearer(key)).json()["token"]
    cookie = session(strict, key)["Cookie"].partition("=")[2]
    for secret in (token, cookie, key):
        assert secret not in redact(f"odd %2Fu%2F{secret} text='{secret}'")
    assert token not in repr(Credentials(Kind.PATH, token))


def test_an_owner_s_event_streams_are_counted_and_let_go(
    service: Service, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST", 1)
    id = uploader.begin().id
    with serving(service) as server:
        events = f"{server}/transcriptions/{id}/events"
        with httpx2.stream("GET", events) as first:
            lines = first.iter_lines()  # closes the stream when it is let go
            assert next(lines).startswith("id:")
            second = httpx2.get(events)
            assert (second.status_code, second.json()["code"]) == (429, "too_many_requests")
            assert second.headers["retry-after"] == "5"
        deadline = time.monotonic() + 10
        while httpx2.get(f"{events}?wait=0").status_code != 200:
            assert time.monotonic() < deadline, "the stream that was closed still counts"


def test_event_streams_that_are_opened_at_once_are_all_counted(
    service: Service, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "MOST", 2)
    looks, read = threading.Event(), transcriptions._read

    def slow(*of: Any) -> Stored:
        assert looks.wait(30)
        return read(*of)

    monkeypatch.setattr(transcriptions, "_read", slow)
    id = uploader.begin().id
    with serving(service) as server, ThreadPoolExecutor(5) as threads:
        events = f"{server}/transcriptions/{id}/events?wait=0"
        asked = [threads.submit(httpx2.get, events) for _ in range(5)]
        try:
            early = [answer.result().status_code for answer in islice(as_completed(asked, 10), 3)]
        finally:
            looks.set()
        assert early == [429] * 3
        assert sorted(answer.result().status_code for answer in asked) == [200, 200, 429, 429, 429]
        # What never begins does not count, either.
        for _ in range(3):
            assert httpx2.get(f"{server}/transcriptions/{new_id()}/events").status_code == 404


# Headers of every answer


@pytest.mark.parametrize(
    ("status", "ask"),
    [
        (200, lambda api, key: api.get("/health")),
        (200, lambda api, key: api.get("/transcriptions", headers=bearer(key))),
        (200, lambda api, key: api.get("/openapi.json")),
        (200, lambda api, key: api.get("/docs")),
        (204, lambda api, key: api.delete("/session")),
        (401, lambda api, key: api.get("/transcriptions")),
        (403, lambda api, key: api.get("/s3/multipart/x/1?key=x", headers=bearer(key))),
        (404, lambda api, key: api.get("/nothing")),
        (404, lambda api, key: api.get("/transcriptions/", headers=bearer(key))),
        (405, lambda api, key: api.put("/transcriptions")),
        (413, lambda api, key: api.post("/s3/multipart", content=b"x" * 2**22, headers=bearer(key))),
        (415, lambda api, key: api.post("/s3/multipart", json={"filename": "x.pdf"}, headers=bearer(key))),
        (422, lambda api, key: api.post("/s3/multipart", json={}, headers=bearer(key))),
        (200, lambda api, key: preflight(api, PAGE)),
        (400, lambda api, key: preflight(api, ELSEWHERE)),
    ],
)
def test_every_answer_tells_browsers_to_be_careful(
    strict: TestClient, key: str, status: int, ask: Callable[[TestClient, str], httpx2.Response]
) -> None:
    careful(ask(strict, key), status)


def careful(answer: httpx2.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    told = answer.headers
    assert told["x-content-type-options"] == "nosniff"
    assert told["x-frame-options"] == "DENY"
    assert told["referrer-policy"] == "no-referrer"
    assert told["cross-origin-opener-policy"] == "same-origin"
    assert "default-src 'none'" in told["content-security-policy"]
    assert "frame-ancestors 'none'" in told["content-security-policy"]
    assert told["cache-control"] in ("no-store", "private, no-cache")
    assert "strict-transport-security" not in told


def test_mistakes_and_redirects_and_refusals_of_open_mode_tell_browsers_to_be_careful(
    api: TestClient, service: Service, uploader: Uploader, monkeypatch: pytest.MonkeyPatch
) -> None:
    careful(api.get("/transcriptions", headers={"Host": "evil.example"}), 403)
    upload = uploader.send(SPEECH)
    careful(api.get(f"/transcriptions/{upload.id}"), 200)
    careful(api.get(f"/transcriptions/{upload.id}/media"), 307)
    careful(api.get(f"/transcriptions/{upload.id}/events?wait=0"), 200)
    careful(api.get(f"/transcriptions/{upload.id}/transcript.json"), 409)

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(service.transcriptions, "page", fail)
    careful(api.get("/transcriptions"), 500)


def test_over_tls_browsers_are_told_to_stay_with_it(guarded: Service) -> None:
    with TestClient(create_app(guarded), SITE) as api:
        assert api.get("/health").headers["strict-transport-security"] == "max-age=31536000"


def test_no_address_is_answered_by_a_redirect_to_another(strict: TestClient) -> None:
    for path in ("/transcriptions/", "/health/", f"{HERE}//health", "/s3/multipart/", "/session/"):
        refused(strict.get(path), 404, "no_such_route")


# CORS


def preflight(api: TestClient, origin: str, method: str = "POST") -> httpx2.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    return api.options("/s3/multipart", headers=headers)


def test_a_page_of_the_settings_may_ask_and_read(strict: TestClient, key: str) -> None:
    answer = preflight(strict, PAGE)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    answer = strict.get("/transcriptions", headers=bearer(key) | {"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]
    # So it may read why it was refused.
    assert (
        strict.get("/transcriptions", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == PAGE
    )


@pytest.mark.parametrize(
    "origin", [ELSEWHERE, "null", "http://localhost:5173", f"{PAGE}.evil.example", f"{PAGE}/"]
)
def test_where_one_signs_in_no_other_page_may(strict: TestClient, key: str, origin: str) -> None:
    answer = preflight(strict, origin)
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    answer = strict.get("/transcriptions", headers=bearer(key) | {"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers
    assert "Origin" in answer.headers["vary"]


def test_cookies_are_never_for_other_origins(strict: TestClient) -> None:
    for answer in (preflight(strict, PAGE), strict.get("/health", headers={"Origin": PAGE})):
        assert "access-control-allow-credentials" not in answer.headers


# How often


class StandingClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def limit(api: TestClient, which: str) -> StandingClock:
    """Let 10 requests through, and one more a second of a clock that stands still."""
    clock = StandingClock()
    setattr(api.app.state.guard, f"_{which}", RateLimit(1, clock))  # type: ignore[attr-defined]
    return clock


def test_who_asks_too_often_is_told_when_to_come_again(strict: TestClient, keys: Keys, key: str) -> None:
    cookie = session(strict, key)
    clock = limit(strict, "principals")
    # By whatever way, and for whatever they may not do either.
    for headers in [bearer(key), cookie] * 5:
        assert strict.get("/transcriptions", headers=headers).status_code == 200
    for headers in (bearer(key), cookie):
        answer = strict.get("/transcriptions", headers=headers)
        assert refused(answer, 429, "too_many_requests")["retryAfter"] == 1
        assert answer.headers["retry-after"] == "1"
    other = keys.new("a test's", ANN, (Scope.READ,), None)
    assert strict.get("/transcriptions", headers=bearer(other)).status_code == 200
    clock.now += 1
    assert strict.get("/transcriptions", headers=bearer(key)).status_code == 200
    assert strict.get("/transcriptions", headers=bearer(key)).status_code == 429
    # Nobody need be known for this.
    assert strict.get("/health").status_code == 200


def test_a_request_that_is_not_allowed_counts(strict: TestClient, keys: Keys) -> None:
    reader = keys.new("a test's", ANN, (Scope.READ,), None)
    limit(strict, "principals")
    for _ in range(10):
        refused(strict.get("/metrics", headers=bearer(reader)), 403, "scope_missing")
    refused(strict.get("/metrics", headers=bearer(reader)), 429, "too_many_requests")


def from_address(api: TestClient, address: str) -> TestClient:
    return TestClient(api.app, HERE, client=(address, 1234))


def test_what_strangers_have_looked_up_is_counted_by_their_address(
    strict: TestClient, key: str, requests: list[str]
) -> None:
    assert strict.get("/upload-tokens").status_code == 405
    strict.get("/s3/multipart/x/1?key=x", headers=bearer(key))
    clock = limit(strict, "strangers")
    requests.clear()
    stranger = from_address(strict, "192.0.2.7")
    for number in range(10):
        answer = stranger.get("/transcriptions", headers=bearer(f"bks_{number:040x}"))
        refused(answer, 401, "bad_credentials")
    answer = stranger.get("/transcriptions", headers=bearer("bks_" + "f" * 40))
    refused(answer, 429, "too_many_requests")
    assert answer.headers["retry-after"] == "1"
    assert requests == ["GetObject"] * 10
    # What is remembered needs no look-up; who is known is let in, from there too; and so are others.
    refused(stranger.get("/transcriptions", headers=bearer("bks_" + "0" * 40)), 401, "bad_credentials")
    assert stranger.get("/transcriptions", headers=bearer(key)).status_code == 200
    other = from_address(strict, "192.0.2.8")
    refused(other.get("/transcriptions", headers=bearer("bks_" + "e" * 40)), 401, "bad_credentials")
    clock.now += 1
    refused(stranger.get("/transcriptions", headers=bearer("bks_" + "f" * 40)), 401, "bad_credentials")


def test_of_ipv6_a_stranger_has_as_many_addresses_as_they_like_and_is_one_still(strict: TestClient) -> None:
    limit(strict, "strangers")
    codes = [
        from_address(strict, address).get("/transcriptions", headers=bearer(f"bks_{number:040x}")).status_code
        for number, address in enumerate(
            [f"2001:db8::{number:x}" for number in range(12)]
            + ["2001:db8:0:1::1", "::ffff:192.0.2.1", "::ffff:192.0.2.2"]
        )
    ]
    assert codes == [401] * 10 + [429] * 2 + [401] * 3


def test_in_open_mode_and_on_a_lambda_nobody_counts(
    api: TestClient, guarded: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "api")
    with calling(guarded) as on_lambda:
        apps: list[FastAPI] = [api.app, on_lambda.app]  # type: ignore[list-item]
    for app in apps:
        assert app.state.guard._principals._limit is None
        assert app.state.guard._strangers._limit is None


def test_whoever_asks_whether_we_are_ready_a_look_at_a_time_is_taken(
    settings: Settings, bucket: LaterBucket, queue: Queue, key: str
) -> None:
    class Slow(LaterBucket):
        looks = 0
        go = threading.Event()

        def now(self) -> Any:
            Slow.looks += 1
            assert self.go.wait(20)
            return super().now()

    slow = Slow(bucket.client, bucket.name)
    service = Service.of(settings.model_copy(update={"auth": ("keys",)}), slow, queue)
    app = create_app(service)
    came = threading.Semaphore(0)

    @app.middleware("http")
    async def count(request: Any, call_next: Any) -> Any:
        came.release()
        return await call_next(request)

    with listening(app) as port, ThreadPoolExecutor(30) as threads:
        url = f"http://127.0.0.1:{port}"
        answers = [threads.submit(httpx2.get, f"{url}/health/ready", timeout=30) for _ in range(30)]
        for _ in answers:
            assert came.acquire(timeout=20)
        # The threads of everybody else are free meanwhile.
        assert httpx2.get(f"{url}/transcriptions", headers=bearer(key)).status_code == 200
        Slow.go.set()
        assert {answer.result().status_code for answer in answers} == {200}
    assert Slow.looks == 1


def test_strangers_are_not_told_why_something_does_not_answer(
    settings: Settings, bucket: LaterBucket, queue: Queue
) -> None:
    gone = {"s3_endpoint": "http://127.0.0.1:9", "worker_health_url": "http://127.0.0.1:9", "auth": ("keys",)}
    with calling(Service.connect(settings.model_copy(update=gone))) as api:
        told = api.get("/health/ready").json()
    assert (told["bucket"], told["worker"]) == ("does not answer",) * 2


# On the wire


@pytest.fixture
def port(guarded: Service) -> Iterator[int]:
    with listening(create_app(guarded)) as port:
        yield port


def begin(*lines: str) -> bytes:
    head = ["POST /s3/multipart HTTP/1.1", "Host: x", "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(head).encode()


@pytest.mark.parametrize("length", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_who_is_not_known_is_answered_before_the_body_is_there(port: int, length: str) -> None:
    assert b'"code":"sign_in_required"' in raw(port, begin(length))
    assert b'"code":"bad_credentials"' in raw(port, begin(length, "Authorization: Bearer x"))


def test_a_body_that_says_it_is_too_large_is_not_waited_for(port: int, key: str) -> None:
    for length in (MAX_BODY_BYTES + 1, 10**15):
        answer = raw(port, begin(f"Content-Length: {length}", f"Authorization: Bearer {key}"))
        assert b'"code":"body_too_large"' in answer
        assert b" 413 " in answer.partition(b"\r\n")[0]


def test_a_body_that_says_nothing_is_read_up_to_the_limit(port: int, key: str) -> None:
    head = begin("Transfer-Encoding: chunked", f"Authorization: Bearer {key}")
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    # Its end is never sent.
    answer = raw(port, head + chunk * (MAX_BODY_BYTES // 0x10000 + 1))
    assert b'"code":"body_too_large"' in answer


def test_who_may_not_is_told_so_before_the_body_is_there(port: int, keys: Keys) -> None:
    reader = keys.new("a test's", ANN, (Scope.READ,), None)
    answer = raw(port, begin("Content-Length: 1000", f"Authorization: Bearer {reader}"))
    assert b'"code":"scope_missing"' in answer


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /transcriptions/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /transcriptions/%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /u/\xff/s3/params HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /transcriptions?cursor=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /transcriptions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /transcriptions HTTP/1.1\r\nHost: x\r\nCookie: \xff=\xfe; __Host-bucketscribe=\xff\r\n\r\n",
        b"GET /transcriptions HTTP/1.1\r\nHost: \xff\r\nOrigin: \xff\r\n\r\n",
        b"GET /transcriptions HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /transcriptions HTTP/1.0\r\n\r\n",
        b"GET http://evil.example/transcriptions HTTP/1.1\r\nHost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //evil.example HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /s3/multipart HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /s3/multipart HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_no_bytes_are_a_mistake_of_ours(port: int, request_bytes: bytes) -> None:
    status = re.match(rb"HTTP/1\.[01] (\d{3}) ", raw(port, request_bytes))
    assert status is not None
    assert 400 <= int(status[1]) < 500


def test_in_open_mode_a_client_that_says_no_name_is_refused(service: Service) -> None:
    with listening(create_app(service)) as port:
        assert b'"code":"this_machine_only"' in raw(port, b"GET /transcriptions HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize("auth", [(), ("keys",)])
def test_only_the_api_needs_the_secret(settings: Settings, auth: tuple[Literal["keys"], ...]) -> None:
    service = Service.connect(settings.model_copy(update={"secret": None, "auth": auth}))
    with pytest.raises(ValueError, match="BUCKETSCRIBE_SECRET is not set"):
        create_app(service)
