"""Uploads as a client meets them: the wire contract, and what the bucket itself refuses."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import httpx2
import pytest
from bucketscribe.bucket import Bucket
from bucketscribe.markers import Markers
from bucketscribe.service import Service
from fastapi.testclient import TestClient

from tests.integration.conftest import MIB, Uploader, calling
from tests.media.make import JFK

SPEECH = JFK.read_bytes()


def leftovers(bucket: Bucket, id: str) -> list[str]:
    """Everything in the bucket that belongs to a transcription, but for its record."""
    keys = [entry.key for entry in bucket.listing("") if id in entry.key]
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [key for key in keys if not key.startswith("records/")] + [
        upload["Key"] for upload in uploads if id in upload["Key"]
    ]


def refused(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """See that an answer is this problem, complete and in the shape of RFC 9457."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    if answer.request.method == "HEAD":
        assert (answer.status_code, answer.content) == (status, b"")
        return {}
    document: dict[str, Any] = answer.json()
    assert (answer.status_code, document["status"], document["code"]) == (status, status, code), document
    error = document["error"]
    # OpenAI's clients read an object there.
    assert (
        document["detail"] == document["message"] == (error["message"] if isinstance(error, dict) else error)
    )
    return document


def test_an_upload_in_parts_becomes_one_queued_transcription(
    uploader: Uploader, service: Service, api: TestClient
) -> None:
    body = SPEECH + bytes(11 * MIB)
    upload = uploader.begin(size=len(body), partSize=5 * MIB, language="en")
    parts = [
        upload.put(n, body[(n - 1) * 5 * MIB : n * 5 * MIB]) for n in range(1, -(-len(body) // (5 * MIB)) + 1)
    ]
    listed = upload.parts().json()
    assert [part["PartNumber"] for part in listed] == [1, 2, 3]
    assert sum(part["Size"] for part in listed) == len(body)
    answer = upload.complete(parts)
    assert answer.status_code == 200
    assert answer.json() | {"state": "queued", "id": upload.id, "key": upload.key} == answer.json()
    found = service.bucket.find(upload.key)
    assert found is not None
    assert found.size == len(body)
    assert service.queue.count() == 1
    transcription = api.get(f"/transcriptions/{upload.id}").json()
    assert transcription["options"]["language"] == "en"
    assert leftovers(service.bucket, upload.id) == [f"open/jobs/local/{upload.id}.1", upload.key]


def test_completing_again_repeats_the_answer_and_queues_nothing(uploader: Uploader, service: Service) -> None:
    upload = uploader.begin()
    parts = [upload.put(1, SPEECH)]
    first, second = upload.complete(parts), upload.complete(parts)
    assert first.json() == second.json()
    assert service.queue.count() == 1


def test_eight_completes_at_once_make_one_job(uploader: Uploader, service: Service) -> None:
    upload = uploader.begin()
    parts = [upload.put(1, SPEECH)]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: upload.complete(parts), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["id"] for answer in answers} == {upload.id}
    assert service.queue.count() == 1
    assert len(list(Markers(service.bucket).listing())) == 1


def test_a_batch_is_signed_in_ranges(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin()
    answer = api.get(f"{upload.path}/batch", params={"key": upload.key, "partNumbers": "1,2,5-9"})
    assert list(answer.json()["presignedUrls"]) == ["1", "2", "5", "6", "7", "8", "9"]
    url = answer.json()["presignedUrls"]["2"]
    assert httpx2.put(url, content=bytes(100)).status_code == 200


@pytest.mark.parametrize("numbers", ["0", "10001", "5-4", "1,,2", "a", "1-99999", "-1"])
def test_a_batch_of_impossible_parts_is_refused(uploader: Uploader, api: TestClient, numbers: str) -> None:
    upload = uploader.begin()
    answer = api.get(f"{upload.path}/batch", params={"key": upload.key, "partNumbers": numbers})
    refused(answer, 422, "invalid_part_number")


def test_a_begin_signs_the_first_parts_if_it_is_asked_to(api: TestClient) -> None:
    metadata = {"size": 6 * MIB, "partSize": 5 * MIB}
    answer = api.post("/s3/multipart", json={"filename": "talk.mp3", "metadata": metadata, "sign": 18}).json()
    assert list(answer["presignedUrls"]) == ["1", "2"]
    assert answer["urlsExpire"] == 3600
    assert httpx2.put(answer["presignedUrls"]["2"], content=bytes(MIB)).status_code == 200
    plain = api.post("/s3/multipart", json={"filename": "talk.mp3", "metadata": metadata}).json()
    assert set(plain) == set(answer) - {"presignedUrls", "urlsExpire"}


def test_with_a_declared_size_there_are_no_more_parts(uploader: Uploader, api: TestClient) -> None:
    upload = uploader.begin(size=6 * MIB, partSize=5 * MIB)
    problem = refused(api.get(f"{upload.path}/3", params={"key": upload.key}), 422, "invalid_part_number")
    assert problem["lastPart"] == 2


# What the bucket refuses by itself


def _changed(url: str, **changes: str) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changes
    return urlunsplit(parts._replace(query=urlencode(query)))


@pytest.mark.parametrize(
    "changes",
    [
        {"partNumber": "2"},
        {"uploadId": "another"},
        {"X-Amz-Expires": "7200"},
        {"X-Amz-Signature": "0" * 64},
        {"X-Amz-Date": "20200101T000000Z"},
    ],
)
def test_a_changed_url_is_refused_by_the_bucket(uploader: Uploader, changes: dict[str, str]) -> None:
    url = _changed(uploader.begin().url(1), **changes)
    assert httpx2.put(url, content=b"x").status_code == 403


def test_a_url_for_another_key_is_refused_by_the_bucket(uploader: Uploader) -> None:
    url = uploader.begin().url(1).replace("talk.wav", "walk.wav")
    assert httpx2.put(url, content=b"x").status_code == 403


@pytest.mark.parametrize("length", [5 * MIB - 1, 5 * MIB + 1, 0])
def test_a_part_of_another_length_is_refused_by_the_bucket(uploader: Uploader, length: int) -> None:
    upload = uploader.begin(size=6 * MIB, partSize=5 * MIB)
    assert httpx2.put(upload.url(1), content=bytes(length)).status_code == 403


def test_an_expired_url_is_refused_by_the_bucket(service: Service) -> None:
    # A URL signed in the past, so that nobody waits for one to expire.
    from datetime import UTC, datetime, timedelta

    begun = service.intake.begin("local", "talk.wav", "audio/wav", {})
    key = begun.key
    url = service.presigner.part(
        key, "any", 1, expires_seconds=60, now=datetime.now(UTC) - timedelta(seconds=120)
    )
    assert httpx2.put(url, content=b"x").status_code == 403


def test_the_part_of_an_ended_upload_is_refused_by_the_bucket(uploader: Uploader) -> None:
    upload = uploader.begin()
    url = upload.url(1)
    assert upload.abort().json() == {}
    assert httpx2.put(url, content=SPEECH).status_code == 404


# Bad input


@pytest.mark.parametrize(
    ("filename", "type"),
    [("notes.txt", "text/plain"), ("virus.exe", ""), ("talk.mp3", "text/html"), ("noextension", "")],
)
def test_what_is_no_media_is_refused_before_anything_is_created(
    api: TestClient, service: Service, filename: str, type: str
) -> None:
    for answer in (
        api.post("/s3/multipart", json={"filename": filename, "type": type}),
        api.get("/s3/params", params={"filename": filename, "type": type}),
    ):
        refused(answer, 415, "unsupported_media")
    assert list(service.bucket.listing("")) == []


def test_a_declared_size_over_the_limit_is_refused_before_anything_is_created(
    api: TestClient, service: Service
) -> None:
    body = {"filename": "long.wav", "metadata": {"size": 5368709121}}
    refused(api.post("/s3/multipart", json=body), 413, "too_large")
    assert list(service.bucket.listing("")) == []


@pytest.mark.parametrize(
    ("metadata", "code", "option"),
    [
        ({"langauge": "en"}, "unknown_option", "langauge"),
        ({"\ud800": "en"}, "unknown_option", "?"),
        ({"initial_prompt": "\ud800"}, "invalid_option", "initial_prompt"),
        ({"name": "\ud800.wav"}, "invalid_option", "name"),
        ({"language": "klingon"}, "invalid_option", "language"),
        ({"language": 5}, "invalid_option", "language"),
        ({"task": "summarize"}, "invalid_option", "task"),
        ({"model": "enormous"}, "invalid_option", "model"),
        ({"model": ["base"]}, "invalid_option", "model"),
        ({"diarize": "perhaps"}, "invalid_option", "diarize"),
        ({"min_speakers": "many"}, "invalid_option", "min_speakers"),
        ({"min_speakers": 3, "max_speakers": 2}, "invalid_option", "min_speakers"),
        ({"size": "big"}, "invalid_option", "size"),
        ({"size": -1}, "invalid_option", "size"),
        ({"partSize": 1}, "invalid_option", "partSize"),
        ({"x-note": "\ud800"}, "invalid_option", "x-note"),
        ({"x-note": {"a": 1}}, "invalid_option", "x-note"),
        ({"webhook_url": "https://example.com/hook"}, "invalid_option", "webhook_url"),
    ],
)
def test_an_option_that_is_wrong_is_named(
    api: TestClient, service: Service, metadata: dict[str, Any], code: str, option: str
) -> None:
    body = json.dumps({"filename": "talk.wav", "metadata": metadata})
    answer = api.post("/s3/multipart", content=body, headers={"content-type": "application/json"})
    problem = refused(answer, 422, code)
    assert problem["option"] == option
    assert option == "?" or option in problem["detail"]
    assert list(service.bucket.listing("")) == []


def test_strings_and_empty_values_are_understood_as_uppy_sends_them(
    uploader: Uploader, api: TestClient
) -> None:
    upload = uploader.begin(
        name="Größe 大.wav",
        diarize="true",
        max_speakers="3",
        language="",
        relativePath=None,
        lastModified=1700000000,
        **{"x-campaign": "spring"},
    )
    options = api.get(f"/transcriptions/{upload.id}").json()["options"]
    assert (options["diarize"], options["max_speakers"], options["language"]) == (True, 3, None)
    assert api.get(f"/transcriptions/{upload.id}").json()["metadata"] == {"x-campaign": "spring"}
    assert upload.key.endswith("/Größe 大.wav")


def test_of_a_form_a_field_the_file_does_not_have_is_absent_as_uppy_6_writes_it(api: TestClient) -> None:
    metadata = {"language": "undefined", "hotwords": "undefined", "model": "null", "diarize": "true"}
    asked = {f"metadata[{name}]": value for name, value in metadata.items()}
    form = api.get("/s3/params", params={"filename": "talk.wav"} | asked).json()
    options = api.get(f"/transcriptions/{form['id']}").json()["options"]
    assert {name: options[name] for name in metadata} == dict.fromkeys(metadata) | {"diarize": True}


@pytest.mark.parametrize(
    "key",
    [
        "uploads/somebody-else/019aa5b2-7c1e-7d3a-9f00-0242ac120002/talk.wav",
        "uploads/local/../keys/x",
        "uploads/local/not-an-id/talk.wav",
        "records/local/x.json",
        "",
        "uploads/local/019aa5b2-7c1e-7d3a-9f00-0242ac120002/a/b.wav",
        "uploads/local/019aa5b2-7c1e-4d3a-9f00-0242ac120002/talk.wav",
        "\x00",
    ],
)
def test_a_key_that_is_foreign_or_malformed_is_refused_without_a_request(
    uploader: Uploader, service: Service, api: TestClient, key: str
) -> None:
    upload = uploader.begin()
    asked: list[object] = []
    service.bucket.client.meta.events.register("before-send.s3.*", lambda **event: asked.append(event))
    params = {"key": key}
    for answer in (
        api.get(f"{upload.path}/1", params=params),
        api.get(f"{upload.path}/batch", params=params | {"partNumbers": "1"}),
        api.get(upload.path, params=params),
        api.post(f"{upload.path}/complete", params=params, json={"parts": []}),
        api.delete(upload.path, params=params),
    ):
        refused(answer, 403, "not_yours")
    assert asked == []


@pytest.mark.parametrize("seal", ["x", "AAAA", "é", "A" * 200, "AQAAAAAAAAAAAAAAAAAAAAA"])
def test_a_broken_seal_is_an_unknown_upload_without_a_request(
    uploader: Uploader, service: Service, api: TestClient, seal: str
) -> None:
    upload = uploader.begin()
    asked: list[object] = []
    service.bucket.client.meta.events.register("before-send.s3.*", lambda **event: asked.append(event))
    for answer in (
        api.get(f"/s3/multipart/{seal}/1", params={"key": upload.key}),
        api.get(f"/s3/multipart/{seal}", params={"key": upload.key}),
        api.post(f"/s3/multipart/{seal}/complete", params={"key": upload.key}, json={"parts": []}),
        api.delete(f"/s3/multipart/{seal}", params={"key": upload.key}),
    ):
        refused(answer, 404, "no_such_upload")
    assert asked == []


def test_the_seal_of_one_upload_does_not_open_another(uploader: Uploader, api: TestClient) -> None:
    one, other = uploader.begin(), uploader.begin()
    refused(api.get(f"{one.path}/1", params={"key": other.key}), 404, "no_such_upload")


def test_complete_refuses_parts_that_are_not_those_the_bucket_holds_and_can_go_on(uploader: Uploader) -> None:
    upload = uploader.begin(size=11 * MIB, partSize=5 * MIB)
    first = upload.put(1, SPEECH + bytes(5 * MIB - len(SPEECH)))
    second = upload.put(2, bytes(5 * MIB))
    wrong = second | {"ETag": '"00000000000000000000000000000000"'}
    third = {"PartNumber": 3, "ETag": second["ETag"]}
    for parts in (
        [],
        [second],
        [first],
        [first, wrong],
        [second, first],
        [first, second, third],
        [first, first],
    ):
        refused(upload.complete(parts), 400, "invalid_part")
        assert upload.state() == "uploading"
    refused(upload.complete([first, second]), 400, "invalid_part")
    last = upload.put(3, bytes(MIB))
    assert upload.complete([first, second, last]).json()["state"] == "queued"


def test_complete_refuses_a_part_that_is_too_small_and_can_go_on(uploader: Uploader) -> None:
    upload = uploader.begin()
    parts = [upload.put(1, SPEECH), upload.put(2, SPEECH)]
    problem = refused(upload.complete(parts), 400, "invalid_part")
    assert problem["partNumber"] == 1
    parts[0] = upload.put(1, SPEECH + bytes(5 * MIB))
    assert upload.complete(parts).json()["state"] == "queued"


def test_a_part_sent_twice_counts_once_and_the_newest(uploader: Uploader, service: Service) -> None:
    upload = uploader.begin()
    old = upload.put(1, bytes(1000))
    new = upload.put(1, SPEECH)
    assert len(upload.parts().json()) == 1
    del old
    assert upload.complete([new]).json()["state"] == "queued"
    found = service.bucket.find(upload.key)
    assert found is not None
    assert found.size == len(SPEECH)


NOT_MEDIA = {
    "text": b"Just some words, and then some more of them.\n" * 50,
    "zip": b"PK\x03\x04\x14\x00\x00\x00\x08\x00" + bytes(range(256)) * 4,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(range(256)),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<<>>\nendobj\n",
    "html": b"<!DOCTYPE html><html><body>hello</body></html>",
    "playlist": b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
    "zeros": bytes(4096),
    "empty": b"",
}


@pytest.mark.parametrize("kind", NOT_MEDIA)
def test_bytes_that_are_no_media_are_refused_at_complete_and_removed(
    uploader: Uploader, service: Service, api: TestClient, kind: str
) -> None:
    upload = uploader.begin("talk.mp3", "audio/mpeg")
    parts = [upload.put(1, NOT_MEDIA[kind])]
    first = refused(upload.complete(parts), 415, "unsupported_media")
    assert refused(upload.complete(parts), 415, "unsupported_media") == first
    transcription = api.get(f"/transcriptions/{upload.id}").json()
    assert transcription["state"] == "failed"
    assert transcription["error"]["code"] == "unsupported_media"
    assert leftovers(service.bucket, upload.id) == []
    assert service.queue.count() == 0


def test_an_object_over_the_limit_is_refused_and_removed(service: Service) -> None:
    small = Service.of(
        service.settings.model_copy(update={"max_upload_bytes": 1000}), service.bucket, service.queue
    )

    uploader = Uploader(calling(small))
    upload = uploader.begin()
    refused(upload.complete([upload.put(1, SPEECH)]), 413, "too_large")
    assert leftovers(service.bucket, upload.id) == []


def test_an_aborted_upload_leaves_nothing_and_is_unknown(uploader: Uploader, service: Service) -> None:
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    assert upload.abort().status_code == 200
    refused(upload.parts(), 404, "no_such_upload")
    refused(upload.complete([part]), 404, "no_such_upload")
    assert upload.abort().json() == {}
    assert upload.state() == "canceled"
    assert leftovers(service.bucket, upload.id) == []


def test_a_finished_upload_is_not_aborted(uploader: Uploader) -> None:
    upload = uploader.send(SPEECH)
    assert upload.abort().json() == {}
    assert upload.state() == "queued"


# Forms


def test_a_small_file_goes_by_one_form_and_is_found_by_reading_it(api: TestClient, service: Service) -> None:
    form = api.get(
        "/s3/params", params={"filename": "talk.wav", "type": "audio/wav", "metadata[language]": "en"}
    ).json()
    assert form["method"] == "POST"
    sent = httpx2.post(form["url"], data=form["fields"], files={"file": ("talk.wav", SPEECH)})
    assert sent.status_code == 201, sent.text
    transcription = api.get(f"/transcriptions/{form['id']}").json()
    assert (transcription["state"], transcription["options"]["language"]) == ("queued", "en")
    assert leftovers(service.bucket, form["id"]) == [f"open/jobs/local/{form['id']}.1", form["key"]]


def test_a_form_takes_no_other_key(api: TestClient) -> None:
    form = api.get("/s3/params", params={"filename": "talk.wav", "type": "audio/wav"}).json()
    fields = form["fields"] | {"key": form["fields"]["key"].replace("talk", "walk")}
    assert httpx2.post(form["url"], data=fields, files={"file": SPEECH}).status_code == 403


# The wire itself


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "no_such_route"),
        ("PUT", "/s3/multipart", 405, "method_not_allowed"),
        ("POST", "/s3/multipart", 422, "invalid_request"),
        ("GET", "/s3/multipart/x/notanumber?key=y", 422, "invalid_request"),
        ("GET", "/transcriptions?limit=0", 422, "invalid_request"),
        ("GET", "/transcriptions?state=lost", 422, "invalid_request"),
        ("GET", "/transcriptions?cursor=../../keys", 422, "invalid_cursor"),
    ],
)
def test_every_refusal_is_a_problem(api: TestClient, method: str, path: str, status: int, code: str) -> None:
    refused(api.request(method, path), status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff",
        b'{"filename": 1}',
        b'{"filename": ""}',
        b'{"filename": "\\ud800.wav"}',
    ],
)
def test_a_body_that_is_no_request_is_a_problem(api: TestClient, body: bytes) -> None:
    answer = api.post("/s3/multipart", content=body, headers={"content-type": "application/json"})
    refused(answer, 422, "invalid_request")


def test_a_page_of_another_site_is_not_let_in(api: TestClient) -> None:
    for origin in ("https://app.example", "http://localhost.example", "http://127.0.0.1.example:80"):
        answer = api.get("/transcriptions", headers={"Origin": origin})
        assert "access-control-allow-origin" not in answer.headers


def test_a_page_on_another_port_of_this_machine_may_read_the_etag(
    uploader: Uploader, api: TestClient
) -> None:
    upload = uploader.begin()
    origin = {"Origin": "http://localhost:5173"}
    answer = httpx2.put(upload.url(1), content=SPEECH, headers=origin)
    assert "etag" in answer.headers["access-control-expose-headers"].lower()
    assert answer.headers["access-control-allow-origin"] in ("*", origin["Origin"])
    answer = api.get(f"/transcriptions/{upload.id}", headers=origin)
    assert "ETag" in answer.headers["access-control-expose-headers"]
