"""What an owner may begin, and what becomes of that which is larger or longer than it may be."""

from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest
from botocore.exceptions import ClientError
from bucketscribe.api.app import create_app
from bucketscribe.bucket import Written
from bucketscribe.errors import Problem
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import HERE, MIB, Uploader
from tests.integration.test_sweep import IDLE
from tests.integration.test_uploading import SPEECH, leftovers, refused
from tests.integration.test_working import work_off

DAY = timedelta(days=1)


def limited(service: Service, **settings: Any) -> Service:
    """The service with other settings."""
    return Service.of(service.settings.model_copy(update=settings), service.bucket, service.queue)


def calling(service: Service) -> TestClient:
    return TestClient(create_app(service), HERE)


def begin(api: TestClient, **metadata: Any) -> httpx2.Response:
    return api.post("/s3/multipart", json={"filename": "talk.wav", "metadata": metadata})


def begin_form(api: TestClient, **metadata: Any) -> httpx2.Response:
    options = {f"metadata[{name}]": value for name, value in metadata.items()}
    return api.get("/s3/params", params={"filename": "talk.wav", **options})


def keys(bucket: LaterBucket) -> list[str]:
    uploads = bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", [])
    return [entry.key for entry in bucket.listing("")] + [upload["Key"] for upload in uploads]


def noon(bucket: LaterBucket) -> datetime:
    """Put the clock forward to noon, so that no midnight comes while a test runs."""
    now = bucket.now()
    bucket.later += (now + DAY).replace(hour=12, minute=0, second=0) - now
    return bucket.now()


# How many are open


def test_no_more_uploads_and_forms_are_begun_than_may_be_open(service: Service, bucket: LaterBucket) -> None:
    small = limited(service, max_open_uploads=2)
    api = calling(small)
    assert begin(api).status_code == begin_form(api).status_code == 200
    before = keys(bucket)
    for answer in (begin(api), begin_form(api)):
        problem = refused(answer, 429, "too_many_uploads")
        assert problem["maxOpenUploads"] == 2
        assert problem["detail"].startswith("2 uploads are open")
    assert keys(bucket) == before


def test_what_others_have_open_does_not_count(service: Service) -> None:
    small = limited(service, max_open_uploads=1)
    small.intake.begin("ann-0123456789abcdef", "talk.wav", None, {})
    small.intake.begin("ann-0123456789abcde", "talk.wav", None, {})
    with pytest.raises(Problem, match="too_many_uploads"):
        small.intake.begin("ann-0123456789abcde", "talk.wav", None, {})


@pytest.mark.parametrize("end", ["abort", "complete", "expire"])
def test_what_has_ended_is_not_open(service: Service, bucket: LaterBucket, end: str) -> None:
    small = limited(service, max_open_uploads=1)
    api = calling(small)
    upload = Uploader(api).begin()
    refused(begin(api), 429, "too_many_uploads")
    match end:
        case "abort":
            upload.abort()
        case "complete":
            upload.complete([upload.put(1, SPEECH)])
        case "expire":
            bucket.later = IDLE * 2
            Sweep(small).run()
    assert begin(api).status_code == 200


def test_where_no_limit_is_set_nothing_is_listed_or_counted(
    service: Service, bucket: LaterBucket, api: TestClient
) -> None:
    seen: list[str] = []
    bucket.client.meta.events.register(
        "before-send.s3", lambda event_name, **_: seen.append(event_name.rpartition(".")[2])
    )
    assert begin(api).status_code == begin_form(api).status_code == 200
    # Marker, upload and record; marker and record.
    assert seen == ["PutObject", "CreateMultipartUpload", "PutObject", "PutObject", "PutObject"]
    assert list(bucket.listing("quota/")) == []


# How much in a day


def test_no_more_bytes_are_begun_in_a_day_than_may_be(service: Service, bucket: LaterBucket) -> None:
    api = calling(limited(service, max_daily_bytes=1000))
    now = noon(bucket)
    assert begin(api, size=600).status_code == 200
    before = keys(bucket)
    for answer in (begin(api, size=401), begin_form(api, size=401)):
        problem = refused(answer, 429, "daily_limit_reached")
        assert (problem["maxDailyBytes"], problem["begunBytes"]) == (1000, 600)
        assert f"{(now + DAY).date()}T00:00:00+00:00" in problem["detail"]
        assert 12 * 3600 - 60 < int(answer.headers["retry-after"]) <= 12 * 3600
    assert keys(bucket) == before
    assert begin_form(api, size=400).status_code == 200
    assert refused(begin(api, size=1), 429, "daily_limit_reached")["begunBytes"] == 1000


def test_what_others_have_begun_does_not_count(service: Service, bucket: LaterBucket) -> None:
    small = limited(service, max_daily_bytes=1000)
    noon(bucket)
    small.intake.begin("ann-0123456789abcdef", "talk.wav", None, {"size": 1000})
    assert begin(calling(small), size=1000).status_code == 200


def test_what_was_begun_counts_until_the_day_is_over(service: Service, bucket: LaterBucket) -> None:
    small = limited(service, max_daily_bytes=1000)
    api = calling(small)
    noon(bucket)
    upload = Uploader(api).begin(size=1000)
    upload.abort()
    refused(begin(api, size=1), 429, "daily_limit_reached")
    bucket.later += DAY / 2 + timedelta(seconds=1)
    assert begin(api, size=1000).status_code == 200


def test_what_a_full_bucket_did_not_let_begin_does_not_count(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = calling(limited(service, max_daily_bytes=1000))
    noon(bucket)
    put = bucket.put

    def crammed(key: str, body: bytes, content_type: str = "application/json") -> Written:
        """Stands in for a full SeaweedFS, which still takes empty objects."""
        if body:
            raise ClientError({"Error": {"Code": "XMinioStorageFull"}}, "PutObject")
        return put(key, body, content_type)

    with monkeypatch.context() as patch:
        patch.setattr(bucket, "put", crammed)
        for answer in (begin(api, size=1000), begin_form(api, size=1000)):
            refused(answer, 507, "storage_full")
    assert keys(bucket) == []
    assert begin(api, size=1000).status_code == 200


def test_an_upload_of_unknown_size_counts_as_the_largest(service: Service, bucket: LaterBucket) -> None:
    api = calling(limited(service, max_daily_bytes=1000, max_upload_bytes=600))
    noon(bucket)
    assert begin(api).status_code == 200
    problem = refused(begin_form(api), 429, "daily_limit_reached")
    assert problem["begunBytes"] == 600
    assert "counts as 600" in problem["detail"]
    assert begin_form(api, size=400).status_code == 200


def test_the_sweep_removes_the_counts_of_past_days_once_a_day(service: Service, bucket: LaterBucket) -> None:
    small = limited(service, max_daily_bytes=1000)
    api, sweep = calling(small), Sweep(small)

    def days() -> list[str]:
        found = [entry.key.split("/") for entry in bucket.listing("quota/local/")]
        return [day for _, _, day, _ in found]

    first = noon(bucket).date()
    assert begin(api, size=1).status_code == begin(api, size=2).status_code == 200
    bucket.put("quota/stray", b"")
    sweep.run()
    bucket.later += DAY
    assert begin(api, size=1).status_code == 200
    sweep.run()
    assert days() == [str(first), str(first), str(first + DAY)]
    bucket.later += DAY
    sweep.run()
    assert days() == [str(first + DAY)]
    bucket.put(f"quota/local/{first}/1-019aa5b2-7c1e-7d3a-9f00-0242ac120002", b"")
    sweep.run()
    assert days() == [str(first), str(first + DAY)]


# What must be declared


def test_where_the_size_is_required_what_is_missing_is_named(service: Service, bucket: LaterBucket) -> None:
    api = calling(limited(service, require_size=True))
    before = keys(bucket)
    for answer, missing in (
        (begin(api), ["size", "partSize"]),
        (begin(api, size=1000), ["partSize"]),
        (begin(api, partSize=5 * MIB), ["size"]),
        (begin_form(api), ["size"]),
    ):
        problem = refused(answer, 422, "size_required")
        assert problem["missing"] == missing
        assert problem["detail"].startswith(f"Declare {' and '.join(missing)} ")
    assert keys(bucket) == before
    assert begin(api, size=1000, partSize=5 * MIB).status_code == 200
    assert begin_form(api, size=1000).status_code == 200


def test_a_form_with_a_declared_size_takes_no_other(api: TestClient, bucket: LaterBucket) -> None:
    form = begin_form(api, size=len(SPEECH)).json()
    for body in (SPEECH[:-1], SPEECH + b"\0"):
        assert httpx2.post(form["url"], data=form["fields"], files={"file": body}).status_code >= 400
        assert bucket.find(form["key"]) is None
    assert httpx2.post(form["url"], data=form["fields"], files={"file": SPEECH}).status_code == 201
    assert api.get(f"/transcriptions/{form['id']}").json()["state"] == "queued"


# What grows too large


@pytest.mark.parametrize("declared", [{}, {"size": 6 * MIB}])
def test_an_upload_that_outgrows_its_limit_is_ended_by_the_sweep(
    service: Service, bucket: LaterBucket, declared: dict[str, Any]
) -> None:
    limit = 20 * MIB if declared else 6 * MIB
    small = limited(service, max_upload_bytes=limit)
    upload = Uploader(calling(small)).begin(**declared)
    url = upload.url(3)
    parts = [upload.put(number, bytes(5 * MIB)) for number in (1, 2)]
    bucket.later = IDLE / 2
    Sweep(small).run()
    shown = upload.api.get(f"/transcriptions/{upload.id}").json()
    assert (shown["state"], shown["error"]["code"], shown["error"]["stage"]) == (
        "failed",
        "too_large",
        "uploading",
    )
    assert leftovers(bucket, upload.id) == []
    for answer in (upload.complete(parts), upload.parts()):
        assert f"{10 * MIB} bytes, and {6 * MIB} " in refused(answer, 413, "too_large")["detail"]
    assert httpx2.put(url, content=b"more").status_code == 404
    assert upload.abort().json() == {}


def test_an_upload_that_outgrows_its_limit_is_ended_when_its_client_lists_its_parts(
    service: Service, bucket: LaterBucket
) -> None:
    upload = Uploader(calling(limited(service, max_upload_bytes=6 * MIB))).begin()
    upload.put(1, bytes(5 * MIB))
    assert len(upload.parts().json()) == 1
    upload.put(2, bytes(5 * MIB))
    refused(upload.parts(), 413, "too_large")
    assert upload.state() == "failed"
    assert leftovers(bucket, upload.id) == []


def test_a_part_that_was_sent_twice_counts_once(service: Service, bucket: LaterBucket) -> None:
    small = limited(service, max_upload_bytes=6 * MIB)
    upload = Uploader(calling(small)).begin()
    upload.put(1, bytes(5 * MIB))
    upload.put(1, b"\1" * (5 * MIB))
    bucket.later = IDLE / 2
    Sweep(small).run()
    assert upload.state() == "uploading"


# What is too long


def test_a_recording_that_is_too_long_fails_and_is_not_tried_again(
    uploader: Uploader, api: TestClient, service: Service
) -> None:
    upload = uploader.send(SPEECH)
    work_off(limited(service, max_recording_hours=0.002))
    shown = api.get(f"/transcriptions/{upload.id}").json()
    assert (shown["state"], shown["partial"], shown["attempts"]) == ("failed", False, 0)
    assert (shown["error"]["code"], shown["error"]["stage"]) == ("too_long", "decoding")
    assert "longer than 0.002 hours" in shown["error"]["message"]
    assert leftovers(service.bucket, upload.id) == [upload.key]
