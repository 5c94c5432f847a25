"""Recordings that are online: fetched by a worker from real servers of this machine, into the real bucket."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bucketscribe import fetch
from bucketscribe.markers import Kind
from bucketscribe.queue import Job
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.transcriptions import Claim
from bucketscribe.worker.endings import RunFailed
from bucketscribe.worker.fetching import fetched
from bucketscribe.worker.main import MOST_FETCHED, Worker, make_engine
from bucketscribe.worker.status import Status, Stopped
from fastapi.testclient import TestClient

from tests.conftest import OWNER, LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_working import download, work_off
from tests.unit.test_public_addresses import Names
from tests.website import Gate, Website

SPEECH = Path("tests/media/jfk.wav").read_bytes()
MIB = 1024**2


@cache
def long_recording(mib: int) -> bytes:
    """A WAV file's head, and bytes of which no two pieces are the same."""
    return SPEECH[:44] + np.random.default_rng(7).bytes(mib * MIB)


@pytest.fixture
def site() -> Iterator[Website]:
    with Website() as site:
        yield site


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"private_hosts": ("127.0.0.1", "talks.test")})


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are for servers in trouble; these are not."""
    monkeypatch.setattr(fetch, "LONGEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PATIENCE_SECONDS", 0.2)


def ask(api: TestClient, url: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/transcriptions", json={"url": url, **more})
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/transcriptions/{shown['id']}"
    return shown


def claimed(service: Service, id: str, run: int = 1) -> Claim:
    claim = service.transcriptions.claim(Job(OWNER, id, run), "worker")
    assert claim is not None
    return claim


def fetch_now(service: Service, api: TestClient, url: str, **more: Any) -> bytes:
    """Ask for a URL and be the worker that fetches it; what the bucket holds then."""
    claim = fetched(service.online, claimed(service, ask(api, url, **more)["id"]), Status())
    found = service.bucket.open(claim.record.key, 100 * MIB)
    assert found is not None
    assert (found[0].etag, found[0].size) == (claim.record.etag, claim.record.size)
    return found[1]


def refused(service: Service, api: TestClient, url: str) -> tuple[str, str]:
    """Why a URL's transcription fails: code and message; nothing of it is in the bucket then."""
    with pytest.raises(RunFailed) as failed:
        fetched(service.online, claimed(service, ask(api, url)["id"]), Status())
    assert failed.value.failure.stage == "fetching"
    assert left(service.bucket) == []
    return failed.value.failure.code, failed.value.failure.message


def left(bucket: Any) -> list[str]:
    """Recordings and uploads in progress."""
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [entry.key for entry in bucket.listing("uploads/")] + [upload["Key"] for upload in uploads]


def test_what_is_at_a_url_becomes_a_transcript(site: Website, api: TestClient, service: Service) -> None:
    site.put("/talks/jfk.wav", SPEECH, headers={"Content-Type": "audio/wav"})
    shown = ask(api, f"{site.url}/talks/jfk.wav?x=1#t=3", options={"language": "en"})
    assert (shown["state"], shown["name"], shown["size"], shown["accepted"]) == (
        "queued",
        "jfk.wav",
        None,
        False,
    )
    assert shown["url"] == f"{site.url}/talks/jfk.wav?x=1"
    site.pages["/talks/jfk.wav?x=1"] = site.pages.pop("/talks/jfk.wav")
    work_off(service)
    shown = api.get(f"/transcriptions/{shown['id']}").json()
    assert (shown["state"], shown["accepted"], shown["size"]) == ("completed", True, len(SPEECH))
    text = download(api, f"/transcriptions/{shown['id']}/transcript.txt").decode()
    assert "ask not what your country" in text.replace("\n", " ")
    assert download(api, f"/transcriptions/{shown['id']}/media") == SPEECH
    assert list(service.markers.listing()) == []


def test_redirects_of_every_kind_are_followed(site: Website, api: TestClient, service: Service) -> None:
    kinds = [301, 302, 303, 307, 308]
    for kind, next in zip(kinds, [*kinds[1:], "new/talk.wav?a=b"], strict=True):
        site.put(f"/{kind}", status=kind, headers={"Location": f"{next}"})
    site.put("/new/talk.wav?a=b", SPEECH)
    assert fetch_now(service, api, f"{site.url}/301") == SPEECH


def test_redirects_without_end_are_not_followed(site: Website, api: TestClient, service: Service) -> None:
    site.put("/round", status=302, headers={"Location": "/round"})
    code, message = refused(service, api, f"{site.url}/round")
    assert (code, "5 times" in message, len(site.seen)) == ("fetch_failed", True, 6)


@pytest.mark.parametrize(
    "place",
    [
        "http://127.0.0.2:{port}/talk",
        "http://[::1]:{port}/talk",
        "file:///etc/passwd",
        "//u:p@127.0.0.1/x",
    ],
)
def test_a_redirect_to_where_nobody_may_ask_is_refused(
    site: Website, api: TestClient, service: Service, place: str
) -> None:
    site.put("/there", status=302, headers={"Location": place.format(port=site.port)})
    site.put("/talk", SPEECH)
    assert refused(service, api, f"{site.url}/there")[0] == "fetch_refused"
    assert [seen.path for seen in site.seen] == ["/there"]


def test_what_is_private_is_refused_unless_it_is_named(
    site: Website, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = service.settings.model_copy(update={"private_hosts": ()})
    closed_service = Service.of(closed, service.bucket, service.queue)
    looked_up = socket.getaddrinfo
    inside = Names(["10.1.2.3"])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda name, *a, **how: (inside if name == "inside.test" else looked_up)(name, *a, **how),
    )
    with calling(closed_service) as api:
        for host in ("localhost", "[::ffff:127.0.0.1]", "0x7f.1", "169.254.169.254", "inside.test"):
            code, message = refused(closed_service, api, f"http://{host}:{site.port}/talk")
            assert (code, "no public address" in message, site.seen) == ("fetch_refused", True, []), host


def test_a_name_that_is_moved_inside_in_the_middle_is_refused_there(
    site: Website, api: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = long_recording(6)
    site.put("/talk", body, headers={"ETag": '"one"'}, breaks=[5 * MIB])
    looked_up, names = socket.getaddrinfo, Names(["127.0.0.1"], ["127.0.0.2"])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda name, *a, **how: (names if name == "moved.test" else looked_up)(name, *a, **how),
    )
    assert refused(service, api, f"http://moved.test:{site.port}/talk")[0] == "fetch_refused"
    assert [seen.address for seen in site.seen] == ["127.0.0.1"]


def test_only_hosts_that_are_allowed_are_asked(site: Website, service: Service) -> None:
    named = service.settings.model_copy(update={"url_hosts": ("*.example.org", "127.0.0.1")})
    named_service = Service.of(named, service.bucket, service.queue)
    site.put("/there", status=302, headers={"Location": f"http://talks.test:{site.port}/talk"})
    with calling(named_service) as api:
        answer = api.post("/transcriptions", json={"url": "https://example.com/a.wav"})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
        assert refused(named_service, api, f"{site.url}/there")[0] == "fetch_refused"


def test_what_is_no_url_is_refused_at_once(api: TestClient) -> None:
    long = f"https://example.org/{'ü' * 400}"
    for url in ("ftp://example.org/a.wav", "http://u:p@example.org/", "talk.wav", "http://", long):
        answer = api.post("/transcriptions", json={"url": url})
        assert answer.status_code == 422, url
        assert (answer.json()["code"], answer.json()["option"]) == ("invalid_option", "url")


def test_what_is_no_request_is_told_by_what_it_wants_to_be(api: TestClient) -> None:
    for body, where in [
        ({"url": "https://example.org/", "key": "inbox/local/a.wav"}, "body.url.key"),
        ({"key": "inbox/local/a.wav", "name": "b"}, "body.key.name"),
        ({}, "body.key.key"),
    ]:
        answer = api.post("/transcriptions", json=body)
        assert (answer.status_code, answer.json()["faults"][0]["where"]) == (422, where)
    for option, code in [("name", "unknown_option"), ("size", "unknown_option"), ("speed", "unknown_option")]:
        asked = {"url": "https://example.org/", "options": {option: "1"}}
        assert api.post("/transcriptions", json=asked).json()["code"] == code


def test_a_recording_that_says_it_is_too_large_is_refused_before_any_of_it_comes(
    site: Website, service: Service
) -> None:
    small = service.settings.model_copy(update={"max_upload_bytes": 6 * MIB})
    small_service = Service.of(small, service.bucket, service.queue)
    site.put("/talk", long_recording(7), before=Gate(0))
    with calling(small_service) as api:
        assert refused(small_service, api, f"{site.url}/talk")[0] == "too_large"


def test_a_recording_that_turns_out_too_large_is_not_fetched_on(site: Website, service: Service) -> None:
    small = service.settings.model_copy(update={"max_upload_bytes": 9 * MIB})
    small_service = Service.of(small, service.bucket, service.queue)
    site.put("/talk", long_recording(10), length=False)
    with calling(small_service) as api:
        assert refused(small_service, api, f"{site.url}/talk")[0] == "too_large"


def test_a_recording_of_unknown_length_is_fetched_to_its_end(
    site: Website, api: TestClient, service: Service
) -> None:
    body = long_recording(9)
    site.put("/talk", body, length=False)
    assert fetch_now(service, api, f"{site.url}/talk") == body


@pytest.mark.parametrize(
    "body", [b"<!doctype html><title>Sign in</title>" * 300, b""], ids=["page", "nothing"]
)
def test_what_is_no_recording_is_refused_by_its_first_bytes(
    site: Website, api: TestClient, service: Service, body: bytes
) -> None:
    # It says it was a recording, and of the page nothing but the beginning is ever sent.
    gate = Gate(65536)
    site.put("/talk.wav", body * 200, headers={"Content-Type": "audio/wav"}, before=gate)
    assert refused(service, api, f"{site.url}/talk.wav")[0] == "unsupported_media"
    gate.open()


def test_a_broken_connection_goes_on_where_it_was(site: Website, api: TestClient, service: Service) -> None:
    body = long_recording(12)
    site.put("/talk", body, headers={"ETag": '"one"'}, breaks=[5 * MIB + 17, 3 * MIB])
    assert fetch_now(service, api, f"{site.url}/talk") == body
    first, *rest = site.seen
    assert "range" not in first.headers
    assert first.headers["accept-encoding"] == "identity"
    assert len(rest) == 2
    assert all(seen.headers["if-range"] == '"one"' for seen in rest)
    starts = [int(seen.headers["range"].removeprefix("bytes=").rstrip("-")) for seen in rest]
    # How much of what was sent had come, the reset decides.
    assert 0 < starts[0] <= starts[1]


def test_a_recording_that_changes_in_the_middle_is_fetched_anew(
    site: Website, api: TestClient, service: Service
) -> None:
    body, other = long_recording(7), long_recording(6)
    page = site.put("/talk", body, headers={"ETag": '"one"'}, breaks=[6 * MIB])

    def replaced(sent: int) -> None:
        if sent > 5 * MIB:
            site.put("/talk", other, headers={"ETag": '"two"'})

    page.before = replaced
    assert fetch_now(service, api, f"{site.url}/talk") == other
    assert left(service.bucket) == [f"uploads/{OWNER}/{ids(service)[0]}/talk"]


def ids(service: Service) -> list[str]:
    return [entry.key.split("/")[2] for entry in service.bucket.listing(f"uploads/{OWNER}/")]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}], ids=["none", "weak"])
def test_where_the_server_does_not_tell_versions_apart_it_is_fetched_anew(
    site: Website, api: TestClient, service: Service, headers: dict[str, str]
) -> None:
    body = long_recording(6)
    site.put("/talk", body, headers=headers, breaks=[5 * MIB])
    assert fetch_now(service, api, f"{site.url}/talk") == body
    assert all("range" not in seen.headers for seen in site.seen)


def test_a_server_that_breaks_off_at_the_same_place_again_and_again_is_given_up(
    site: Website, api: TestClient, service: Service
) -> None:
    site.put("/talk", long_recording(6), breaks=[MIB] * 9)
    code, message = refused(service, api, f"{site.url}/talk")
    assert (code, "again and again" in message) == ("fetch_failed", True)
    assert len(site.seen) == fetch.MOST_BEGINNINGS + 1


def test_a_body_that_is_shorter_than_it_was_to_be_is_broken(
    site: Website, api: TestClient, service: Service
) -> None:
    body = long_recording(1)
    page = site.put("/talk", body[:-100], headers={"Content-Length": str(len(body)), "ETag": '"one"'})
    page.length = False

    def whole(sent: int) -> None:
        site.put("/talk", body, headers={"ETag": '"one"'})

    page.before = whole
    assert fetch_now(service, api, f"{site.url}/talk") == body
    assert site.seen[1].headers["range"] == f"bytes={len(body) - 100}-"


def test_an_answer_that_is_not_what_was_asked_for_fails_at_once(
    site: Website, api: TestClient, service: Service
) -> None:
    for status in (400, 401, 403, 404, 410, 204):
        site.put("/talk", b"", status)
        site.seen.clear()
        code, message = refused(service, api, f"{site.url}/talk")
        assert (code, str(status) in message, len(site.seen)) == ("fetch_failed", True, 1)


def test_what_may_pass_is_asked_again(
    site: Website, api: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LONGEST_PAUSE_SECONDS", 30)
    statuses = [429, 500, 503, 200]
    page = site.put("/talk", SPEECH, statuses.pop(0), headers={"Retry-After": "7"})
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        page.status = statuses.pop(0)

    claim = claimed(service, ask(api, f"{site.url}/talk")["id"])
    service.online.fetch(claim, lambda share: None, wait)
    assert waited == [7.0, 7.0, 7.0]


@pytest.mark.usefixtures("impatient")
def test_what_does_not_pass_fails_after_a_while(site: Website, api: TestClient, service: Service) -> None:
    site.put("/talk", b"", 503)
    code, message = refused(service, api, f"{site.url}/talk")
    assert (code, "503" in message) == ("fetch_failed", True)
    assert len(site.seen) > 1
    code, message = refused(service, api, "http://nobody.invalid/talk.wav")
    assert (code, "looked up" in message) == ("fetch_failed", True)


def test_a_worker_that_is_told_to_stop_in_a_pause_does_not_wait(
    site: Website, api: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "LONGEST_PAUSE_SECONDS", 30)
    site.put("/talk", b"", 503, headers={"Retry-After": "25"})
    status, claim = Status(), claimed(service, ask(api, f"{site.url}/talk")["id"])
    threading.Timer(0.3, status.stop.set).start()
    with pytest.raises(Stopped):
        fetched(service.online, claim, status)


NAMES: list[tuple[str, dict[str, str], str | None, str, str]] = [
    ("/talk.mp3?x=1", {}, None, "talk.mp3", "audio/mpeg"),
    ("/t%C3%A4lk%20one.wav", {}, None, "tälk one.wav", "audio/wav"),
    ("/download", {"Content-Type": "audio/mpeg; x=y"}, None, "download.mp3", "audio/mpeg"),
    ("/", {"Content-Type": "video/mp4"}, None, "recording.mp4", "video/mp4"),
    (
        "/a?id=3",
        {"Content-Disposition": 'attachment; filename="b/Talk 3.m4a"'},
        None,
        "Talk 3.m4a",
        "audio/mp4",
    ),
    (
        "/a.wav",
        {"Content-Disposition": "attachment; filename=\"x.wav\"; filename*=UTF-8''%e2%82%ac.wav"},
        None,
        "€.wav",
        "audio/wav",
    ),
    ("/a.wav", {"Content-Disposition": 'inline; filename="b.wav"'}, "My talk", "My talk", "audio/wav"),
    ("/a.php", {"Content-Type": "text/html"}, None, "a.php", "application/octet-stream"),
]
"""Path, headers, name that was asked for: what it is called, and of which type it is."""


def test_a_recording_is_called_as_asked_or_as_its_server_calls_it(
    site: Website, api: TestClient, service: Service
) -> None:
    for path, headers, asked, name, type in NAMES:
        site.put(path, SPEECH, headers=headers)
        more = {} if asked is None else {"name": asked}
        id = ask(api, site.url + path, **more)["id"]
        fetched(service.online, claimed(service, id), Status())
        shown = api.get(f"/transcriptions/{id}").json()
        assert (shown["name"], shown["type"]) == (name, type)


def test_a_name_it_was_given_meanwhile_stays(site: Website, api: TestClient, service: Service) -> None:
    id = ask(api, f"{site.url}/talk")["id"]

    def renamed(sent: int) -> None:
        assert api.patch(f"/transcriptions/{id}", json={"name": "Mine"}).status_code == 200

    disposition = {"Content-Disposition": "attachment; filename=theirs.wav"}
    site.put("/talk", SPEECH[:60000], headers=disposition, before=renamed)
    fetched(service.online, claimed(service, id), Status())
    assert api.get(f"/transcriptions/{id}").json()["name"] == "Mine"


def test_what_had_no_effect_is_a_warning(site: Website, api: TestClient, service: Service) -> None:
    site.put("/jfk.wav", SPEECH)
    from bucketscribe.options import read_metadata

    asked = read_metadata({}, service.settings)
    stored = service.online.request(OWNER, f"{site.url}/jfk.wav", asked, ignored=("device", "beam_size"))
    work_off(service)
    (warning,) = api.get(f"/transcriptions/{stored.record.id}").json()["warnings"]
    assert (warning["code"], "device, beam_size" in warning["message"]) == ("option_ignored", True)


def test_a_range_that_is_shorter_than_it_was_to_be_is_not_taken_for_the_end(
    site: Website, api: TestClient, service: Service
) -> None:
    body = long_recording(6)
    page = site.put("/talk", body, headers={"ETag": '"one"'}, length=False, breaks=[MIB])
    page.most = 2 * MIB
    assert fetch_now(service, api, f"{site.url}/talk") == body
    assert len(site.seen) > 3


def test_what_is_sent_compressed_is_not_taken_for_the_recording(
    site: Website, api: TestClient, service: Service
) -> None:
    site.put("/talk.wav", SPEECH, headers={"Content-Encoding": "gzip"})
    code, message = refused(service, api, f"{site.url}/talk.wav")
    assert (code, "compressed" in message) == ("fetch_failed", True)


HARMFUL = [
    ("attachment; filename*=idna'en'a%2eb", "talk.wav"),
    ("attachment; filename*=utf-7'en'%2B2AA-.wav", "_.wav"),
    ("attachment; filename*=UTF-8''%1B%5B2J%0D%0A%00.wav", "_[2J___.wav"),
    (f'attachment; filename="{"a" * 3000}.wav"', f"{'a' * 196}.wav"),
    ('attachment; filename="..\\..\\x/../.wav"', "_.wav"),
    ("attachment; filename*0*=utf-8''a%; filename*2=c; filename*1*=%zz", "a%%zzc.wav"),
]
"""Content-Disposition, and what it is called."""


def test_a_name_that_a_server_makes_up_to_do_harm_does_none(
    site: Website, api: TestClient, service: Service
) -> None:
    for disposition, name in HARMFUL:
        headers = {"Content-Disposition": disposition, "Content-Type": "audio/wav"}
        site.put("/talk.wav", SPEECH, headers=headers)
        id = ask(api, f"{site.url}/talk.wav")["id"]
        fetched(service.online, claimed(service, id), Status())
        assert api.get(f"/transcriptions/{id}").json()["name"] == name


def test_a_name_in_a_url_has_no_characters_that_do_harm_either(api: TestClient) -> None:
    assert ask(api, "https://example.org/%1B%5B2J%00%E2%80%AE.wav")["name"] == "_[2J__.wav"


def test_a_url_with_half_of_a_character_is_refused_at_once(api: TestClient) -> None:
    body = json.dumps({"url": "https://example.org/\ud800"})
    answer = api.post("/transcriptions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text


# What becomes of it


def test_a_cancel_that_is_late_to_clear_up_spoils_nothing_of_the_run_after_it(
    site: Website, api: TestClient, service: Service
) -> None:
    site.put("/jfk.wav", SPEECH)
    id = ask(api, f"{site.url}/jfk.wav")["id"]
    before = service.transcriptions.get(OWNER, id).record
    api.post(f"/transcriptions/{id}/cancel")
    api.post(f"/transcriptions/{id}/retry")
    claim = fetched(service.online, claimed(service, id, 2), Status())
    service.transcriptions.discard_recording(before)
    assert left(service.bucket) == [claim.record.key]


def test_a_cancel_in_the_middle_of_a_download_leaves_nothing(
    site: Website, api: TestClient, service: Service, bucket: LaterBucket, sweep: Sweep
) -> None:
    gate = Gate(9 * MIB)
    site.put("/talk", long_recording(12), before=gate)
    settings = service.settings.model_copy(update={"heartbeat_seconds": 0.1})
    service = Service.of(settings, bucket, service.queue)
    id = ask(api, f"{site.url}/talk")["id"]
    worker = Worker(service, make_engine(settings))
    claim = worker._next()
    assert claim is not None
    attempt = worker._begin(claim)
    assert gate.reached.wait(20)
    deadline = time.monotonic() + 20
    while (
        progress := service.transcriptions.get(OWNER, id).record.progress
    ) is None or progress.percent < 50:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert progress.stage == "fetching"
    assert api.post(f"/transcriptions/{id}/cancel").json()["state"] == "canceled"
    gate.open()
    attempt.join(20)
    assert left(bucket) == []
    # What a worker that knows nothing of it yet leaves goes later.
    record = service.transcriptions.get(OWNER, id).record
    bucket.begin_upload(record.key, "audio/wav")
    bucket.put(record.key, b"late")
    bucket.later = timedelta(seconds=settings.upload_idle_seconds + settings.lease_seconds + 5)
    sweep.run()
    assert left(bucket) == []
    assert list(service.markers.listing()) == []


def test_a_worker_that_died_while_it_fetched_is_followed_by_another(
    site: Website, api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    body = long_recording(6)
    site.put("/talk", body)
    id = ask(api, f"{site.url}/talk")["id"]
    stale = claimed(service, id)
    upload_id, _ = bucket.begin_upload(stale.record.key, "audio/wav")
    bucket.put_part(stale.record.key, upload_id, 1, body[: 5 * MIB])
    bucket.later = timedelta(seconds=service.settings.lease_seconds + 2)
    claim = fetched(service.online, claimed(service, id), Status())
    assert left(bucket) == [claim.record.key]
    assert claim.record.size == len(body)
    # The one that was dead is not; but it writes where nobody reads, and clears that up.
    site.put("/talk", SPEECH)
    with pytest.raises(Stopped):
        fetched(service.online, stale, Status())
    assert left(bucket) == [claim.record.key]
    found = bucket.find(claim.record.key)
    assert found is not None
    assert found.etag == claim.record.etag


def test_a_failed_download_is_fetched_again_by_a_retry(
    site: Website, api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    id = ask(api, f"{site.url}/jfk.wav")["id"]
    work_off(service)
    shown = api.get(f"/transcriptions/{id}").json()
    assert (shown["state"], shown["error"]["code"], shown["error"]["stage"]) == (
        "failed",
        "fetch_failed",
        "fetching",
    )
    site.put("/jfk.wav", SPEECH)
    assert api.post(f"/transcriptions/{id}/retry").json()["state"] == "queued"
    fetched(service.online, claimed(service, id, 2), Status())
    shown = api.get(f"/transcriptions/{id}").json()
    assert (shown["accepted"], shown["run"], shown["error"]) == (True, 2, None)
    bucket.later = timedelta(hours=1)
    sweep.run()
    assert left(bucket) == [shown["key"]]
    assert [marker.kind for marker in service.markers.listing()] == [Kind.JOBS]


def test_a_recording_that_is_no_longer_kept_is_fetched_again_by_a_retry(
    site: Website, api: TestClient, service: Service
) -> None:
    site.put("/jfk.wav", SPEECH)
    id = ask(api, f"{site.url}/jfk.wav")["id"]
    claim = fetched(service.online, claimed(service, id), Status())
    api.post(f"/transcriptions/{id}/cancel")
    assert left(service.bucket) == [claim.record.key]
    service.bucket.delete(claim.record.key)
    shown = api.post(f"/transcriptions/{id}/retry").json()
    assert (shown["state"], shown["accepted"], shown["size"]) == ("queued", False, None)
    fetched(service.online, claimed(service, id, 2), Status())
    assert api.get(f"/transcriptions/{id}").json()["accepted"]


def test_deleting_what_is_online_leaves_nothing(
    site: Website, api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    site.put("/jfk.wav", SPEECH)
    waiting, under_way, done = (ask(api, f"{site.url}/jfk.wav")["id"] for _ in range(3))
    fetched(service.online, claimed(service, done), Status())
    claim = claimed(service, under_way)
    bucket.begin_upload(claim.record.key, "audio/wav")
    for id in (waiting, under_way, done):
        assert api.delete(f"/transcriptions/{id}").status_code == 202
        assert api.get(f"/transcriptions/{id}").status_code == 404
    bucket.later = timedelta(
        seconds=service.settings.upload_idle_seconds + service.settings.lease_seconds + 5
    )
    sweep.run()
    assert [entry.key for entry in bucket.listing("")] == []
    assert left(bucket) == []


def test_a_request_that_wakes_after_the_sweep_ended_it_is_told_so(
    service: Service, bucket: LaterBucket, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = service.records.create

    def late(record: Any) -> Any:
        monkeypatch.undo()
        bucket.later = timedelta(seconds=service.settings.job_look_seconds + 2)
        sweep.run()
        return create(record)

    monkeypatch.setattr(service.records, "create", late)
    with calling(service) as api:
        answer = api.post("/transcriptions", json={"url": "https://example.org/talk.wav"})
    assert (answer.status_code, answer.json()["code"]) == (503, "begin_lost")
    (stored,) = [service.records.read_key(key) for key in service.records.listing(OWNER)]
    assert stored is not None
    assert stored.record.state is State.EXPIRED
    assert list(service.markers.listing(Kind.JOBS)) == []


def test_a_lost_message_of_what_is_online_is_sent_again(
    site: Website, api: TestClient, service: Service, bucket: LaterBucket, sweep: Sweep
) -> None:
    site.put("/jfk.wav", SPEECH)
    id = ask(api, f"{site.url}/jfk.wav")["id"]
    message = service.queue.receive(5)
    assert message is not None
    service.queue.delete(message)
    bucket.later = timedelta(seconds=service.settings.job_look_seconds + 2)
    sweep.run()
    again = service.queue.receive(5)
    assert again is not None
    assert again.job == Job(OWNER, id, 1)


def test_others_have_the_engine_while_one_is_fetched(
    site: Website, api: TestClient, service: Service
) -> None:
    gate = Gate(0)
    site.put("/slow.wav", SPEECH, before=gate)
    site.put("/jfk.wav", SPEECH)
    slow, quick = (ask(api, f"{site.url}/{name}")["id"] for name in ("slow.wav", "jfk.wav"))
    worker = Worker(service, make_engine(service.settings))
    attempts = []
    for _ in range(2):
        assert worker._wants_more()
        claim = worker._next()
        assert claim is not None
        attempts.append(worker._begin(claim))
    by_id = {attempt.claim.record.id: attempt for attempt in attempts}
    by_id[quick].join(60)
    states = [service.transcriptions.get(OWNER, id).record.state for id in (slow, quick)]
    assert states == [State.RUNNING, State.COMPLETED]
    by_id[slow].status.stop.set()
    gate.open()
    by_id[slow].join(60)


def test_downloads_that_do_not_end_keep_nobody_else_waiting(
    site: Website, api: TestClient, service: Service
) -> None:
    gate = Gate(0)
    site.put("/slow.wav", SPEECH, before=gate)
    worker = Worker(service, make_engine(service.settings))

    def claims(id: str) -> Claim | None:
        assert worker._wants_more()
        claim = worker._next()
        assert claim is None or claim.record.id == id
        return claim

    for _ in range(MOST_FETCHED):
        claim = claims(ask(api, f"{site.url}/slow.wav")["id"])
        assert claim is not None
        worker._begin(claim)
    one_more = ask(api, f"{site.url}/slow.wav")["id"]
    assert claims(one_more) is None
    assert service.transcriptions.get(OWNER, one_more).record.state is State.QUEUED
    here = Uploader(api).send(SPEECH).id
    assert claims(here) is not None
    for attempt in worker.attempts:
        attempt.status.stop.set()
    gate.open()
    for attempt in worker.attempts:
        attempt.join(60)
