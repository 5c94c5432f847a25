"""A store that takes no more: what is said of it, and that nothing is lost by it.

SeaweedFS is full for real: it may make no more volumes, those there are take a megabyte each, and it is
written to until none is left that takes anything, as when its disk is full. What MinIO and Ceph answer is
said by a bucket that stands in for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from bucketscribe.bucket import Bucket, Written
from bucketscribe.client.transfer import is_passing, refusal
from bucketscribe.probe import Probe, Verdict
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from bucketscribe.up.child import NotReady
from fastapi.testclient import TestClient
from urllib3 import HTTPResponse

from tests.conftest import LaterBucket
from tests.integration.conftest import Uploader, calling
from tests.integration.test_transcriptions import claimed
from tests.integration.test_uploading import SPEECH, refused
from tests.servers import Server, Servers

LITTLE = ("-volume.max=1", "-master.volumeSizeLimitMB=1")
FILLER = bytes(1024**2)


def answers(bucket: Bucket) -> None:
    """All that a full server can be asked for to see that it is ready."""
    try:
        bucket.now()
        bucket.put("ready", b"")
        bucket.delete("ready")
    except (ClientError, BotoCoreError) as error:
        raise NotReady(str(error)) from error


@contextmanager
def full(servers: Servers, bucket: Bucket) -> Iterator[None]:
    """The same server with the same data, on a disk that is full."""
    child = servers.seaweedfs.child
    crammed = Server(replace(child, command=(*child.command, *LITTLE), make_ready=partial(answers, bucket)))
    servers.seaweedfs.kill()
    try:
        crammed.start()
        fill(bucket)
        yield
    finally:
        crammed.kill()
        servers.seaweedfs.start()
        bucket.delete_all("fill/")


def fill(bucket: Bucket) -> None:
    """Write until nothing is taken any more, however small."""
    for number in range(1000):
        try:
            bucket.put(f"fill/{number}", FILLER)
            bucket.put(f"fill/{number}-small", b"{}")
        except ClientError as error:
            if bucket.is_full(error):
                return
    raise AssertionError("there is always room")


def test_seaweedfs_on_a_full_disk_is_told_as_it_is_and_all_goes_on_after(
    servers: Servers,
    service: Service,
    uploader: Uploader,
    api: TestClient,
    bucket: LaterBucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bucketscribe.s3.PAUSE_SECONDS", 0.01)
    halfway, waiting, doomed = uploader.begin(), uploader.send(SPEECH), uploader.send(SPEECH)
    first = halfway.put(1, SPEECH)
    keys = [entry.key for entry in bucket.listing("")]
    with full(servers, bucket):
        begin = {"filename": "talk.wav", "type": "audio/wav"}
        said = refused(api.post("/s3/multipart", json=begin), 507, "storage_full")["detail"]
        assert "Nothing is lost" in said
        assert "bucketscribe purge" in said
        refused(halfway.complete([first]), 507, "storage_full")
        refused(api.post(f"/transcriptions/{waiting.id}/cancel"), 507, "storage_full")
        # What is there can be read, and nothing was changed or left behind.
        assert halfway.state() == "uploading"
        refused(halfway.parts(), 507, "storage_full")
        media = api.get(f"/transcriptions/{waiting.id}/media")
        assert httpx2.get(media.headers["location"]).content == SPEECH
        # Of a part the server itself gives no reason.
        url = halfway.url(2)
        assert httpx2.put(url, content=SPEECH).status_code == 500
        doctor = Probe(bucket, service.presigner, [], "full")
        with doctor:
            found = {finding.name: finding for finding in doctor.findings()}
        assert (found["free space"].verdict, found["free space"].grave) == (Verdict.MISSING, True)
        assert {name for name, finding in found.items() if finding.grave} == {"free space"}
        # What is deleted for room needs none.
        bucket.delete(doomed.key)
        bucket.later = timedelta(hours=1)
        Sweep(service).run()
        bucket.later = timedelta()
    assert sorted([entry.key for entry in bucket.listing("")] + [doomed.key]) == keys
    assert halfway.complete([first]).json()["state"] == "queued"
    claimed(service, waiting.id)


def test_a_server_that_stumbles_is_not_called_full(service: Service) -> None:
    stumbled: Any = {"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    assert not service.bucket.is_full(ClientError(stumbled, "PutObject"))
    assert not service.bucket.is_full(ClientError(stumbled, "GetObject"))
    assert [entry.key for entry in service.bucket.listing("probe/")] == []


def test_many_writes_that_fail_at_once_try_only_once_whether_there_is_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refusing(operation: str, *_: Any) -> HTTPResponse:
        """Stands in for a server that fails whatever it is asked."""
        asked.append(operation)
        return HTTPResponse(b"", status=500, preload_content=True)

    monkeypatch.setattr(service.bucket._s3, "_send", refusing)
    stumbled: Any = {"Error": {"Code": "InternalError"}, "ResponseMetadata": {"HTTPStatusCode": 500}}
    for _ in range(3):
        assert not service.bucket.is_full(ClientError(stumbled, "PutObject"))
    assert asked == ["PutObject"]
    monkeypatch.setattr("bucketscribe.bucket.REMEMBERED_SECONDS", 0)
    assert not service.bucket.is_full(ClientError(stumbled, "PutObject"))
    assert asked == ["PutObject"] * 2


class Crammed(LaterBucket):
    """Stands in for MinIO and Ceph, which answer so where there is no room."""

    status, code, message = 507, "XMinioStorageFull", "Storage backend has reached its minimum free drive…"

    def _put(self, key: str, body: bytes, content_type: str, condition: dict[str, str]) -> Written:
        answer: Any = {
            "Error": {"Code": self.code, "Message": self.message},
            "ResponseMetadata": {"HTTPStatusCode": self.status},
        }
        raise ClientError(answer, "PutObject")


FULL = [
    (507, "XMinioStorageFull", "Storage backend has reached its minimum free drive threshold."),
    (400, "XMinioAdminBucketQuotaExceeded", "Bucket quota exceeded"),
    (500, "InternalError", "We encountered an internal error: cause(write /data: No space left on device)"),
    (403, "QuotaExceeded", ""),
]
OTHERWISE = [(403, "AccessDenied", ""), (503, "SlowDown", ""), (500, "InternalError", "Please try again.")]


@pytest.mark.parametrize(("status", "code", "message"), FULL)
def test_what_others_say_when_they_are_full_is_507(
    service: Service, status: int, code: str, message: str
) -> None:
    crammed = Crammed.connect(service.settings)
    crammed.status, crammed.code, crammed.message = status, code, message
    with calling(Service.of(service.settings, crammed, service.queue)) as api:
        answer = api.post("/s3/multipart", json={"filename": "talk.wav"})
        refused(answer, 507, "storage_full")
        assert answer.headers["content-type"] == "application/problem+json"
    assert [entry.key for entry in service.bucket.listing("")] == []


@pytest.mark.parametrize(("status", "code", "message"), OTHERWISE)
def test_what_is_no_want_of_room_is_still_a_503(
    service: Service, status: int, code: str, message: str
) -> None:
    crammed = Crammed.connect(service.settings)
    crammed.status, crammed.code, crammed.message = status, code, message
    with calling(Service.of(service.settings, crammed, service.queue)) as api:
        refused(api.post("/s3/multipart", json={"filename": "talk.wav"}), 503, "storage_unavailable")


@pytest.mark.parametrize(
    ("status", "code", "message", "is_full"),
    [
        *((*case, True) for case in FULL),
        *((*case, False) for case in OTHERWISE),
    ],
)
def test_a_client_whose_part_finds_no_room_stops_and_says_so(
    status: int, code: str, message: str, is_full: bool
) -> None:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    error = refusal(HTTPResponse(body, status=status, preload_content=True), "part 3")
    assert error.code == ("storage_full" if is_full else "bucket_refused")
    if is_full:
        assert not is_passing(error)
        assert "free space" in error.detail
