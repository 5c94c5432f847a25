"""tus on the wire, at its edges: a real server, real HTTP, and curl where a library would smooth it out."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx2
import pytest
from bucketscribe.api import tus_body
from bucketscribe.api.app import create_app
from bucketscribe.auth import Scope
from bucketscribe.keys import Keys
from bucketscribe.records import Record, State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.crash.test_processes import until
from tests.integration.test_limits import limited
from tests.integration.test_sign_in import listening, raw
from tests.integration.test_sweep import IDLE
from tests.integration.test_uploading import leftovers, refused
from tests.tus import (
    BYTES,
    ENDPOINT,
    MIB,
    SPEECH,
    VERSION,
    TusUpload,
    ask,
    checksum,
    create,
    created,
    in_time,
    metadata,
    recording,
)

ORIGIN = "http://localhost:3000"
EXPOSED = {
    *("location", "upload-offset", "upload-length", "tus-resumable", "tus-version", "tus-extension"),
    *("tus-max-size", "upload-expires", "bucketscribe-transcription"),
}
LIMIT = 5368709120
PART = 5 * MIB


@contextmanager
def serving(service: Service) -> Iterator[httpx2.Client]:
    """A client of a real server on a service, whose bucket's clock can be put forward."""
    with (
        listening(create_app(service)) as port,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        yield client


def record_of(service: Service, upload: TusUpload, owner: str = "local") -> Record:
    stored = service.records.read(owner, upload.id)
    assert stored is not None
    return stored.record


def content(service: Service, upload: TusUpload) -> bytes:
    """The bytes of the recording in the bucket."""
    key = record_of(service, upload).key
    return bytes(service.bucket.client.get_object(Bucket=service.bucket.name, Key=key)["Body"].read())


def arrived(service: Service, upload: TusUpload, body: bytes, queued: int = 1) -> None:
    """See that an upload has become one queued transcription of these bytes, and nothing else."""
    assert record_of(service, upload).state is State.QUEUED
    assert content(service, upload) == body
    assert service.queue.count() == queued
    key = record_of(service, upload).key
    assert leftovers(service.bucket, upload.id) == [f"open/jobs/local/{upload.id}.1", key]
    assert [entry.key for entry in service.bucket.listing("tus/")] == []


# Core


def test_a_recording_sent_in_pieces_becomes_one_queued_transcription(
    wire: httpx2.Client, service: Service
) -> None:
    body = recording(11 * MIB + 2)
    upload = create(wire, len(body))
    assert upload.path == f"{ENDPOINT}{upload.id}"
    assert upload.offset() == 0
    offset = 0
    for size in (1, 3 * MIB, PART, 2 * MIB, MIB):
        answer = upload.patch(offset, body[offset : offset + size])
        offset += size
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(offset))
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert "bucketscribe-transcription" not in answer.headers
        assert upload.offset() == offset
    last = upload.patch(offset, body[offset:])
    assert (last.status_code, last.headers["bucketscribe-transcription"]) == (204, upload.id)
    arrived(service, upload, body)


def test_a_recording_of_any_size_comes_in_one_patch(api: TestClient, service: Service) -> None:
    sizes = (len(SPEECH), PART - 1, PART, PART + 1, 2 * PART)
    for number, size in enumerate(sizes, start=1):
        body = recording(size)
        upload = create(api, size)
        assert upload.patch(0, body).status_code == 204
        arrived(service, upload, body, queued=number)


def test_what_has_ended_says_so_however_often_it_is_asked(api: TestClient, service: Service) -> None:
    upload = create(api, len(SPEECH))
    upload.append(SPEECH)
    for _ in range(2):
        head = upload.head()
        assert head.status_code == 200
        assert head.headers["upload-offset"] == head.headers["upload-length"] == str(len(SPEECH))
        assert head.headers["bucketscribe-transcription"] == upload.id
        again = upload.patch(len(SPEECH))
        assert (again.status_code, again.headers["upload-offset"]) == (204, str(len(SPEECH)))
        assert again.headers["bucketscribe-transcription"] == upload.id
    refused(upload.patch(0, SPEECH), 409, "offset_mismatch")
    assert upload.delete().status_code == 204
    arrived(service, upload, SPEECH)


def test_what_an_upload_says_of_itself(api: TestClient, bucket: LaterBucket) -> None:
    told = metadata(filename="talk.wav", filetype="audio/wav", relativePath="null")
    made = ask(api, 2 * MIB, Upload_Metadata=told)
    upload = created(api, made)
    answers = [made, upload.head(), upload.patch(0, SPEECH), upload.head()]
    for answer in answers:
        left = parsedate_to_datetime(answer.headers["upload-expires"]) - bucket.now()
        assert abs(left - IDLE) <= timedelta(seconds=3)
        assert answer.headers["tus-resumable"] == "1.0.0"
    for answer, offset in ((answers[1], 0), (answers[3], len(SPEECH))):
        assert answer.status_code == 200
        assert answer.headers["upload-length"] == str(2 * MIB)
        assert answer.headers["upload-offset"] == str(offset)
        assert answer.headers["upload-metadata"] == told
        assert answer.headers["cache-control"] == "no-store"
        assert answer.content == b""
    assert answers[2].headers["upload-offset"] == str(len(SPEECH))


def test_a_server_says_what_it_can_do(api: TestClient) -> None:
    upload = create(api, len(SPEECH))
    for path in (ENDPOINT, ENDPOINT.rstrip("/"), upload.path):
        answer = api.options(path)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == answer.headers["tus-resumable"] == "1.0.0"
        assert answer.headers["tus-max-size"] == str(LIMIT)
        assert set(answer.headers["tus-checksum-algorithm"].split(",")) == {"sha1", "sha256", "md5", "crc32"}
        assert set(answer.headers["tus-extension"].split(",")) == {
            *("creation", "creation-with-upload", "creation-defer-length", "expiration", "termination"),
            *("checksum", "concatenation"),
        }


def test_another_version_of_the_protocol_is_refused(api: TestClient, service: Service) -> None:
    upload = create(api, len(SPEECH))
    for version in ("0.2.2", "1.0.1", "", None):
        headers = {} if version is None else {"Tus-Resumable": version}
        refused(upload.patch(0, SPEECH, Tus_Resumable=version), 412, "wrong_tus_version")
        refused(ask(api, 10, Tus_Resumable=version), 412, "wrong_tus_version")
        refused(api.delete(upload.path, headers=headers), 412, "wrong_tus_version")
        head = api.head(upload.path, headers=headers)
        assert (head.status_code, head.headers["tus-version"]) == (412, "1.0.0")
        assert upload.offset() == 0
    upload.append(SPEECH)
    arrived(service, upload, SPEECH)


def test_a_body_of_another_type_is_refused(api: TestClient) -> None:
    upload = create(api, len(SPEECH))
    for type in ("application/octet-stream", "audio/wav", "", None):
        refused(upload.patch(0, SPEECH, Content_Type=type), 415, "wrong_content_type")
        assert upload.offset() == 0


def test_another_offset_than_the_uploads_is_refused(api: TestClient, service: Service) -> None:
    body = recording(6 * MIB)
    upload = create(api, len(body))
    refused(upload.patch(1, body[1:]), 409, "offset_mismatch")
    upload.patch(0, body[: 2 * MIB])
    for wrong in (0, 2 * MIB - 1, 2 * MIB + 1, len(body) - MIB):
        refused(upload.patch(wrong, body[:MIB]), 409, "offset_mismatch")
        assert upload.offset() == 2 * MIB
    for broken in ("-1", "1.0", "", "1e3", "0x10", "+2", None):
        refused(upload.patch(0, b"", Upload_Offset=broken), 400, "invalid_tus_request")
    refused(upload.patch(0, b"", Upload_Offset="1" * 30), 409, "offset_mismatch")
    upload.append(body)
    arrived(service, upload, body)


def test_a_patch_without_bytes_changes_nothing(api: TestClient) -> None:
    upload = create(api, len(SPEECH))
    for offset in (0, 1000):
        upload.append(SPEECH[:offset]) if offset else None
        answer = upload.patch(offset)
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(offset))
        assert upload.offset() == offset


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
@pytest.mark.parametrize("size", [MIB, 8 * MIB], ids=["small", "of parts"])
def test_more_bytes_than_were_declared_are_never_taken(
    wire: httpx2.Client, service: Service, size: int, chunked: bool
) -> None:
    body = recording(size)
    upload = create(wire, size)
    more = body + b"more"
    refused(upload.patch(0, iter([more]) if chunked else more), 413, "body_too_large")
    offset = upload.offset()
    assert offset <= size
    assert record_of(service, upload).state is State.UPLOADING
    # What fitted may have been kept; what did not is in nobody's way.
    upload.append(body)
    arrived(service, upload, body)


# Creation


def test_a_declared_length_beyond_the_limit_is_refused(api: TestClient, service: Service) -> None:
    assert refused(ask(api, LIMIT + 1), 413, "too_large")["maxBytes"] == LIMIT
    for beyond in (10**17, 10**18, 10**22, "9" * 9000):
        assert refused(ask(api, -1, Upload_Length=str(beyond)), 413, "too_large")["maxBytes"] == LIMIT
    assert list(service.bucket.listing("")) == []
    assert created(api, ask(api, LIMIT)).delete().status_code == 204


def test_what_grows_beyond_the_limit_is_refused_when_it_does(service: Service) -> None:
    small = limited(service, max_upload_bytes=6 * MIB)
    body = recording(7 * MIB)
    with serving(small) as api:
        assert api.options(ENDPOINT).headers["tus-max-size"] == str(6 * MIB)
        upload = create(api, None)
        upload.append(body[: 2 * MIB])
        refused(upload.patch(2 * MIB, body[2 * MIB :]), 413, "too_large")
        refused(upload.patch(upload.offset(), iter([body[upload.offset() :]])), 413, "too_large")
        refused(upload.patch(upload.offset(), b"", Upload_Length=str(7 * MIB)), 413, "too_large")
        rest = body[upload.offset() : 6 * MIB]
        upload.patch(upload.offset(), rest, Upload_Length=str(6 * MIB))
    arrived(service, upload, body[: 6 * MIB])


def test_a_length_that_is_none_is_refused(api: TestClient) -> None:
    for length in ("-1", "1.0", "", "ten", "1 1", "1,1"):
        refused(ask(api, -1, Upload_Length=length), 400, "invalid_tus_request")


def test_a_length_is_declared_once_or_left_open(api: TestClient) -> None:
    refused(ask(api, -1), 400, "invalid_tus_request")
    refused(ask(api, 10, Upload_Defer_Length="1"), 400, "invalid_tus_request")
    refused(ask(api, -1, Upload_Defer_Length="2"), 400, "invalid_tus_request")


def test_an_empty_recording_is_refused(api: TestClient, service: Service) -> None:
    refused(ask(api, 0), 415, "unsupported_media")
    assert list(service.bucket.listing("")) == []


BROKEN = (
    *("filename !!!", "filename dGFsaw", "filename dGFsay53YXY= x", "filename a,filename a", ",,"),
    *("name dGFs\u00e9", "filename,filename", "n\u00e4me dGFsay53YXY=", "filename " + "A" * 20_000),
)
NAMES = (
    *("Vorstand – Straße.wav", "会議の録音.wav", "🎙️ e\u0301té.wav", "a\u0000b/..\\c.wav"),
    "x" * 300 + ".wav",
)


def test_metadata_that_is_broken_is_refused(wire: httpx2.Client, service: Service) -> None:
    for text in BROKEN:
        headers = {**VERSION, "Upload-Length": "100"}
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        answer = wire.post(ENDPOINT, headers=[*raw, (b"Upload-Metadata", text.encode())])
        problem = refused(answer, 400, "invalid_upload_metadata")
        assert ("at most" in problem["detail"]) == (len(text) > 16_384)
    assert list(service.bucket.listing("")) == []


def test_a_name_in_any_script_is_kept(api: TestClient, service: Service) -> None:
    for number, name in enumerate(NAMES, start=1):
        told = metadata(filename=name, filetype="audio/wav")
        upload = create(api, len(SPEECH), Upload_Metadata=told)
        assert upload.head().headers["upload-metadata"] == told
        upload.append(SPEECH)
        assert record_of(service, upload).name == name
        arrived(service, upload, SPEECH, queued=number)


def test_what_cannot_be_done_is_refused_before_a_byte_comes(api: TestClient, service: Service) -> None:
    text = metadata(filename="notes.txt", filetype="text/plain")
    refused(ask(api, 100, Upload_Metadata=text), 415, "unsupported_media")
    for name, value in {"language": "klingon", "diarize": "perhaps", "model": "/etc/passwd"}.items():
        told = metadata(filename="talk.wav", **{name: value})
        problem = refused(ask(api, 100, Upload_Metadata=told), 422, "invalid_option")
        assert (problem["option"], "Value error" in problem["detail"]) == (name, False)
    assert list(service.bucket.listing("")) == []


def test_options_in_the_metadata_reach_the_record(api: TestClient, service: Service) -> None:
    told = {"name": "talk.wav", "type": "audio/wav", "language": "de", "diarize": "true", "max_speakers": "3"}
    free = {"x-case": "4711", "lastModified": "1", "relativePath": "null", "batch_size": "8", "empty": ""}
    upload = create(api, len(SPEECH), Upload_Metadata=metadata(**told, **free) + ",is_confidential")
    record = record_of(service, upload)
    options = record.options
    assert (options.language, options.diarize, options.max_speakers) == ("de", True, 3)
    assert record.metadata == {"x-case": "4711"}
    assert "batch_size" in record.ignored
    assert not {"lastModified", "relativePath", "name", "x-case"} & set(record.ignored)


def test_an_upload_without_a_name_is_taken_by_its_type(api: TestClient, service: Service) -> None:
    upload = create(api, len(SPEECH), Upload_Metadata=metadata(filetype="audio/wav"))
    upload.append(SPEECH)
    arrived(service, upload, SPEECH)


def test_the_first_bytes_may_come_with_the_creation(api: TestClient, service: Service) -> None:
    body = recording(7 * MIB)
    made = ask(api, len(body), body[: 6 * MIB])
    upload = created(api, made)
    assert made.headers["upload-offset"] == str(6 * MIB) == str(upload.offset())
    upload.append(body)
    arrived(service, upload, body)


def test_all_bytes_may_come_with_the_creation(api: TestClient, service: Service) -> None:
    made = ask(api, len(SPEECH), SPEECH)
    upload = created(api, made)
    assert made.headers["bucketscribe-transcription"] == upload.id
    arrived(service, upload, SPEECH)


def test_a_creation_whose_body_is_no_recording_leaves_nothing(api: TestClient, service: Service) -> None:
    refused(ask(api, 4096, bytes(4096)), 415, "unsupported_media")
    keys = [entry.key for entry in service.bucket.listing("")]
    assert [key for key in keys if not key.startswith("records/")] == []


def test_a_length_may_be_told_later(api: TestClient, service: Service) -> None:
    body = recording(6 * MIB)
    upload = create(api, None)
    head = upload.head()
    assert head.headers["upload-defer-length"] == "1"
    assert "upload-length" not in head.headers
    upload.patch(0, body[: 3 * MIB])
    answer = upload.patch(3 * MIB, body[3 * MIB : 4 * MIB], Upload_Length=str(len(body)))
    assert answer.status_code == 204
    head = upload.head()
    assert head.headers["upload-length"] == str(len(body))
    assert "upload-defer-length" not in head.headers
    refused(upload.patch(4 * MIB, b"", Upload_Length=str(len(body) - 1)), 400, "invalid_tus_request")
    upload.append(body)
    arrived(service, upload, body)


def test_a_length_of_nothing_that_is_told_later_is_refused_and_the_upload_goes_on(
    api: TestClient, service: Service
) -> None:
    upload = create(api, None)
    refused(upload.patch(0, b"", Upload_Length="0"), 415, "unsupported_media")
    assert upload.head().headers["upload-defer-length"] == "1"
    upload.append(SPEECH, Upload_Length=str(len(SPEECH)))
    arrived(service, upload, SPEECH)


def test_a_length_may_be_told_with_no_bytes_left_to_send(api: TestClient, service: Service) -> None:
    body = recording(6 * MIB)
    upload = create(api, None)
    upload.append(body)
    assert record_of(service, upload).state is State.UPLOADING
    refused(upload.patch(len(body), b"", Upload_Length=str(len(body) - 1)), 400, "invalid_tus_request")
    answer = upload.patch(len(body), b"", Upload_Length=str(len(body)))
    assert answer.headers["bucketscribe-transcription"] == upload.id
    arrived(service, upload, body)


# What is refused at the end


def test_what_is_no_recording_is_refused_with_its_last_byte_and_leaves_nothing(
    api: TestClient, service: Service
) -> None:
    body = b"MZ" + bytes(6 * MIB)
    upload = create(api, len(body))
    upload.append(body[: 5 * MIB])
    refused(upload.patch(5 * MIB, body[5 * MIB :]), 415, "unsupported_media")
    assert record_of(service, upload).state is State.FAILED
    assert leftovers(service.bucket, upload.id) == []
    refused(upload.patch(len(body)), 415, "unsupported_media")
    refused(upload.delete(), 404, "no_such_upload")
    assert service.queue.count() == 0


# Termination and expiration


def test_what_is_given_up_leaves_nothing(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = create(api, 20 * MIB)
    upload.append(recording(7 * MIB))
    assert upload.delete().status_code == 204
    # Its marker stays for as long as a request may write to it.
    assert leftovers(service.bucket, upload.id) == [f"open/uploads/local/{upload.id}"]
    bucket.later = IDLE * 2
    sweep.run()
    assert leftovers(service.bucket, upload.id) == []
    assert record_of(service, upload).state is State.CANCELED
    assert upload.head().status_code == 404
    refused(upload.patch(7 * MIB, b"more"), 404, "no_such_upload")
    refused(upload.delete(), 404, "no_such_upload")


def test_an_idle_upload_is_ended_and_says_so(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = create(api, 20 * MIB)
    upload.append(recording(7 * MIB))
    bucket.later = IDLE + timedelta(seconds=5)
    sweep.run()
    assert upload.head().status_code == 410
    refused(upload.patch(7 * MIB, b"more"), 410, "upload_expired")
    refused(upload.delete(), 410, "upload_expired")
    assert leftovers(service.bucket, upload.id) == []


def test_an_upload_whose_client_lives_is_left_alone(
    api: TestClient, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = create(api, 20 * MIB)
    upload.append(SPEECH)
    bucket.later = IDLE - timedelta(seconds=60)
    left = parsedate_to_datetime(upload.head().headers["upload-expires"]) - bucket.now()
    assert abs(left - IDLE) <= timedelta(seconds=3)
    bucket.later = IDLE + timedelta(seconds=60)
    sweep.run()
    assert upload.offset() == len(SPEECH)
    bucket.later = 2 * IDLE + timedelta(seconds=90)
    sweep.run()
    assert upload.head().status_code == 410


def test_an_upload_all_of_which_came_is_finished_by_the_sweep(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    upload = create(api, None)
    upload.append(SPEECH)
    # Its length is known, and nobody comes to complete it, as if the server had died just then.
    service.records.change(
        "local", upload.id, lambda record, now: record.to(State.UPLOADING, size=len(SPEECH))
    )
    bucket.later = IDLE / 2
    sweep.run()
    arrived(service, upload, SPEECH)


# Whose it is


def test_another_owners_upload_is_as_unknown_as_one_that_never_was(service: Service) -> None:
    guarded = limited(service, auth=("keys",))
    keys = Keys(service.bucket)
    ann, ben = (
        {"Authorization": f"Bearer {keys.new('test', f'{name}-0123456789abcdef', tuple(Scope), None)}"}
        for name in ("ann", "ben")
    )
    with serving(guarded) as api:
        refused(ask(api, 10), 401, "sign_in_required")
        upload = created(api, ask(api, len(SPEECH), **ann))
        unknown = TusUpload(api, f"{ENDPOINT}0199c0de-0000-7000-8000-000000000000")
        for other in (upload, unknown):
            assert api.head(other.path, headers=VERSION | ben).status_code == 404
            assert other.patch(0, SPEECH, **ben).json()["code"] == "no_such_upload"
            assert api.delete(other.path, headers=VERSION | ben).json()["code"] == "no_such_upload"
        assert upload.patch(0, SPEECH, **ann).headers["bucketscribe-transcription"] == upload.id


def test_an_id_that_is_none_is_unknown(api: TestClient) -> None:
    for id in ("x", "..%2f..%2fkeys", "0199C0DE-0000-7000-8000-000000000000", "%00", "a" * 500):
        upload = TusUpload(api, f"{ENDPOINT}{id}")
        answers = [upload.head(), upload.patch(0, b"x"), upload.delete()]
        assert {answer.status_code for answer in answers} == {404}


def test_what_comes_by_another_way_is_no_tus_upload(api: TestClient, service: Service) -> None:
    begun = service.intake.begin("local", "talk.wav", None, {})
    upload = TusUpload(api, f"{ENDPOINT}{begun.id}")
    assert upload.head().status_code == 404
    refused(upload.patch(0, b"x"), 404, "no_such_upload")
    refused(upload.delete(), 404, "no_such_upload")


def test_limits_count_what_comes_by_tus(service: Service, bucket: LaterBucket) -> None:
    with serving(limited(service, max_open_uploads=1)) as api:
        first = create(api, len(SPEECH))
        refused(ask(api, 10), 429, "too_many_uploads")
        first.append(SPEECH)
        assert ask(api, 10).status_code == 201


def test_where_sizes_are_required_none_may_be_left_open(service: Service) -> None:
    with serving(limited(service, require_size=True)) as api:
        for concat in (None, "partial"):
            problem = refused(ask(api, None, Upload_Concat=concat), 422, "size_required")
            assert problem["missing"] == ["Upload-Length"]
            assert problem["detail"].startswith("Send Upload-Length, ")
            create(api, len(SPEECH), Upload_Concat=concat).append(SPEECH)


# Browsers


def test_a_page_may_read_every_header_it_needs(api: TestClient) -> None:
    origin = {"Origin": ORIGIN}
    upload = create(api, len(SPEECH), **origin)
    for path in (ENDPOINT, upload.path):
        preflight = api.options(
            path,
            headers={
                **origin,
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "tus-resumable,upload-offset,content-type,upload-checksum",
            },
        )
        assert preflight.status_code in (200, 204)
        assert preflight.headers["access-control-allow-origin"] == ORIGIN
        assert "PATCH" in preflight.headers["access-control-allow-methods"]
        assert "upload-offset" in preflight.headers["access-control-allow-headers"].lower()
    for answer in (
        api.head(upload.path, headers=VERSION | origin),
        upload.patch(1, b"x", **origin),
        upload.patch(0, SPEECH, **origin),
    ):
        exposed = {
            name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")
        }
        assert exposed >= EXPOSED
        assert answer.headers["access-control-allow-origin"] == ORIGIN


# What only curl shows


def curl(
    api: httpx2.Client, path: str, *arguments: str, body: bytes = b""
) -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the last answer."""
    told = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "-i", *arguments, str(api.base_url.join(path))],
        input=body,
        capture_output=True,
        check=True,
    ).stdout.decode()
    while told.startswith("HTTP/1.1 100"):
        told = told.partition("\r\n\r\n")[2]
    head, _, rest = told.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    pairs = (line.partition(": ") for line in lines)
    return int(status.split()[1]), {name.lower(): value for name, _, value in pairs}, rest


TOLD = ("-H", "Tus-Resumable: 1.0.0", "-H", f"Content-Type: {BYTES}")
APPEND = ("-X", "PATCH", *TOLD, "-H", "Upload-Offset: 0", "--data-binary", "@-")


WAYS_OF_HTTP = (
    (),
    ("-H", "Expect: 100-continue"),
    ("-H", "Transfer-Encoding: chunked"),
    ("-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"),
    ("--http1.0",),
    ("-H", "Connection: close"),
)


def test_a_body_may_come_in_every_way_of_http(wire: httpx2.Client, service: Service) -> None:
    body = recording(MIB)
    for number, how in enumerate(WAYS_OF_HTTP, start=1):
        upload = create(wire, len(body))
        status, headers, _ = curl(wire, upload.path, *APPEND, *how, body=body)
        assert (how, status, headers["bucketscribe-transcription"]) == (how, 204, upload.id)
        arrived(service, upload, body, queued=number)


def test_who_waits_to_be_told_to_go_on_is_refused_before_a_byte_is_sent(wire: httpx2.Client) -> None:
    upload = create(wire, 6 * MIB)
    host = f"{wire.base_url.host}:{wire.base_url.port}"
    with socket.create_connection((wire.base_url.host, wire.base_url.port or 80), timeout=10) as connection:
        connection.sendall(
            f"PATCH {upload.path} HTTP/1.1\r\nHost: {host}\r\nTus-Resumable: 1.0.0\r\n"
            f"Content-Type: {BYTES}\r\nUpload-Offset: 7\r\nContent-Length: 1000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 409 ")
    assert upload.offset() == 0


def test_a_method_may_be_told_in_a_header(wire: httpx2.Client, service: Service) -> None:
    upload, unwanted = create(wire, len(SPEECH)), create(wire, len(SPEECH))
    override = ("-X", "POST", *TOLD, "-H")
    head, headers, rest = curl(wire, upload.path, *override, "X-HTTP-Method-Override: HEAD")
    assert (head, headers["upload-offset"], rest) == (200, "0", "")
    body = ("-H", "Upload-Offset: 0", "--data-binary", "@-")
    patch, headers, _ = curl(
        wire, upload.path, *override, "X-HTTP-Method-Override: patch", *body, body=SPEECH
    )
    assert (patch, headers["upload-offset"]) == (204, str(len(SPEECH)))
    arrived(service, upload, SPEECH)
    delete, _, _ = curl(wire, unwanted.path, *override, "X-HTTP-Method-Override: DELETE")
    assert (delete, record_of(service, unwanted).state) == (204, State.CANCELED)


def test_a_method_told_in_a_header_that_is_none_of_tus_is_refused(api: TestClient) -> None:
    upload = create(api, len(SPEECH))
    for method in ("TRACE", "GET", "", "PUT", "../x"):
        answer = api.post(upload.path, headers=VERSION | {"X-HTTP-Method-Override": method})
        assert answer.status_code == 400, answer.text
    assert upload.offset() == 0


def test_a_method_in_a_header_is_never_taken_for_another(api: TestClient, service: Service) -> None:
    upload = create(api, len(SPEECH))
    upload.append(SPEECH[:1000])
    override = "X-HTTP-Method-Override"
    for method, told in (("DELETE", "PATCH"), ("DELETE", "HEAD"), ("PATCH", "DELETE"), ("HEAD", "DELETE")):
        headers = VERSION | {override: told, "Content-Type": BYTES, "Upload-Offset": "1000"}
        answer = api.request(method, upload.path, headers=headers)
        assert (method, told, answer.status_code) == (method, told, 400)
    refused(ask(api, 10, X_HTTP_Method_Override="PATCH"), 400, "invalid_tus_request")
    assert upload.offset() == 1000
    rest = upload.patch(1000, SPEECH[1000:], X_HTTP_Method_Override="PATCH ")
    assert rest.headers["bucketscribe-transcription"] == upload.id
    arrived(service, upload, SPEECH)


def test_a_header_on_two_lines_says_one_thing(wire: httpx2.Client, service: Service) -> None:
    begin = ("-X", "POST", "-H", f"Upload-Length: {len(SPEECH)}", "-H", "Tus-Resumable: 1.0.0")
    told = [metadata(filename="talk.wav"), metadata(language="de")]
    status, headers, _ = curl(
        wire, ENDPOINT, *begin, *(part for line in told for part in ("-H", f"Upload-Metadata: {line}"))
    )
    upload = TusUpload(wire, headers["location"])
    assert (status, upload.head().headers["upload-metadata"]) == (201, ",".join(told))
    assert record_of(service, upload).options.language == "de"
    other = ("-H", "Upload-Length: 10")
    status, _, rest = curl(wire, ENDPOINT, *begin, *other)
    assert (status, "invalid_tus_request" in rest) == (400, True)
    sums = [f"Upload-Checksum: {checksum(body)['Upload-Checksum']}" for body in (SPEECH, b"other")]
    for two in (("-H", "Upload-Offset: 5"), ("-H", sums[0], "-H", sums[1])):
        status, _, rest = curl(wire, upload.path, *APPEND, *two, body=SPEECH)
        assert (status, "invalid_tus_request" in rest) == (400, True)
    assert upload.offset() == 0
    status, headers, _ = curl(wire, upload.path, *APPEND, "-H", "Upload-Offset: 0", body=SPEECH)
    assert (status, headers["upload-offset"]) == (204, str(len(SPEECH)))


def test_white_space_around_a_value_is_none_of_it(wire: httpx2.Client) -> None:
    for how in ("Upload-Length: 10 \t", "Upload-Defer-Length: 1  "):
        told = ("-H", "Tus-Resumable: 1.0.0 ", "-H", how, "-H", "Upload-Concat: partial\t")
        status, headers, _ = curl(wire, ENDPOINT, "-X", "POST", *told)
        assert status == 201
        end = ("-H", "Tus-Resumable: \t1.0.0  ", "-H", "X-HTTP-Method-Override: DELETE ")
        assert curl(wire, headers["location"], "-X", "POST", *end)[0] == 204


ENCODED = {
    "Content-Encoding: gzip": (415, "wrong_content_type"),
    "Content-Encoding: identity, br": (415, "wrong_content_type"),
    "Transfer-Encoding: gzip, chunked": (400, "invalid_tus_request"),
    "Trailer: Upload-Checksum": (400, "invalid_tus_request"),
}


def test_what_would_not_be_read_as_it_is_meant_is_refused(wire: httpx2.Client, service: Service) -> None:
    upload = create(wire, len(SPEECH))
    begin = ("-H", f"Upload-Length: {len(SPEECH)}", "-X", "POST", *TOLD, "--data-binary", "@-")
    for header, (status, code) in ENCODED.items():
        for path, request in ((upload.path, APPEND), (ENDPOINT, begin)):
            chunked = ("-H", "Transfer-Encoding: chunked") if header.startswith("Trailer") else ()
            answer = curl(wire, path, *request, *chunked, "-H", header, body=SPEECH)
            assert (header, answer[0], code in answer[2]) == (header, status, True)
    assert upload.offset() == 0
    status, _, _ = curl(wire, upload.path, *APPEND, "-H", "Content-Encoding: identity", body=SPEECH)
    assert status == 204
    arrived(service, upload, SPEECH)


def test_curl_uploads_a_file_with_what_the_documentation_says(
    wire: httpx2.Client, service: Service, tmp_path: Path
) -> None:
    (tmp_path / "talk.wav").write_bytes(SPEECH)
    begin = ("-X", "POST", "-H", "Tus-Resumable: 1.0.0", "-H", f"Upload-Length: {len(SPEECH)}")
    name = ("-H", f"Upload-Metadata: {metadata(filename='talk.wav')}")
    status, headers, _ = curl(wire, ENDPOINT, *begin, *name)
    assert status == 201
    upload = TusUpload(wire, headers["location"])
    send = ("-X", "PATCH", *TOLD, "-H", "Upload-Offset: 0", "--data-binary", f"@{tmp_path}/talk.wav")
    status, headers, _ = curl(wire, upload.path, *send)
    assert (status, headers["bucketscribe-transcription"]) == (204, upload.id)
    arrived(service, upload, SPEECH)


# The client goes away


def test_what_came_of_a_patch_is_kept_when_its_client_goes_away(
    wire: httpx2.Client, service: Service
) -> None:
    body = recording(12 * MIB)
    upload = create(wire, len(body))

    def cut_off() -> Iterator[bytes]:
        for start in range(0, 8 * MIB, MIB):
            yield body[start : start + MIB]
        raise ConnectionAbortedError

    headers = {**VERSION, "Content-Type": BYTES, "Upload-Offset": "0", "Content-Length": str(len(body))}
    with httpx2.Client(base_url=wire.base_url) as leaving, pytest.raises(ConnectionAbortedError):
        leaving.patch(upload.path, content=cut_off(), headers=headers)
    until(lambda: upload.offset() == 8 * MIB, "what was sent is kept")
    answer = in_time(lambda: upload.patch(8 * MIB, body[8 * MIB :]))
    assert answer.status_code == 204, answer.text
    arrived(service, upload, body)


STALLING = {
    "a PATCH": ("What came is kept", 6 * MIB),
    "a PATCH with a checksum": ("nothing of it is kept", 0),
    "a creation": ("No upload was begun", None),
}


@pytest.mark.parametrize("what", STALLING)
def test_who_falls_silent_is_told_to_come_again_and_what_became_of_the_bytes(
    wire: httpx2.Client, service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(tus_body, "STALLED_SECONDS", 1.0)
    told, kept = STALLING[what]
    body = recording(12 * MIB)
    upload = create(wire, len(body))
    host, port = wire.base_url.host, wire.base_url.port or 80
    lines = [f"Host: {host}:{port}", "Tus-Resumable: 1.0.0", f"Content-Type: {BYTES}"]
    if what == "a creation":
        lines += [f"Upload-Length: {len(body)}", f"Upload-Metadata: {metadata(filename='talk.wav')}"]
    else:
        lines += ["Upload-Offset: 0"]
    if what == "a PATCH with a checksum":
        lines += [f"Upload-Checksum: {checksum(body)['Upload-Checksum']}"]
    first = f"POST {ENDPOINT} HTTP/1.1" if what == "a creation" else f"PATCH {upload.path} HTTP/1.1"
    head = "\r\n".join([first, *lines, f"Content-Length: {len(body)}", "", ""]).encode()
    answer = raw(port, head + body[: 6 * MIB], host)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in answer
    assert b'"code":"body_stalled"' in answer
    assert told.encode() in answer
    assert upload.offset() == (kept or 0)
    if kept is None:
        records = service.transcriptions.page("local", None, None, 10)[0]
        assert {record.state for record in records if record.id != upload.id} == {State.CANCELED}
    monkeypatch.undo()
    if kept is not None:
        upload.append(body)
        arrived(service, upload, body)
