"""The inbox: what any S3 tool puts there becomes a transcription, once, whoever finds it."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError
from bucketscribe import inbox
from bucketscribe import sweep as sweep_module
from bucketscribe.api import completions
from bucketscribe.arrivals import Arrival
from bucketscribe.auth import Scope, owner_slug
from bucketscribe.bucket import Bucket, Conflict, Listed, UploadGone
from bucketscribe.deadletters import DeadLetters
from bucketscribe.inbox import id_of
from bucketscribe.keys import Keys
from bucketscribe.markers import Kind, Markers
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Record, State, record_key
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import MIB, Uploader, calling
from tests.integration.test_uploading import SPEECH, refused

KEY = "inbox/local/meetings/talk.wav"
TEXT = b"These are the minutes of a meeting, and nobody can listen to them.\n" * 20
MINUTES = timedelta(minutes=2)


def drop(bucket: Bucket, key: str = KEY, body: bytes = SPEECH, type: str = "binary/octet-stream") -> str:
    bucket.put(key, body, type)
    return key


def put_again(bucket: Bucket, body: bytes, key: str = KEY) -> None:
    """Put an object there in a later second than the one that is there: a version of its own."""
    before = bucket.find(key)
    assert before is not None
    while bucket.find(key) == before or (now := bucket.find(key)) is None or now.modified == before.modified:
        bucket.put(key, body)


def records(service: Service, owner: str = "local") -> list[Record]:
    return service.transcriptions.page(owner, None, None, 100)[0]


def only(service: Service) -> Record:
    (record,) = records(service)
    return record


def inboxed(bucket: Bucket) -> list[str]:
    return [entry.key for entry in bucket.listing("inbox/")]


# Taken


def test_what_is_dropped_is_found_by_the_sweep_and_leaves_the_inbox(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    drop(bucket)
    sweep.run()
    record = only(service)
    assert (record.state, record.name, record.content_type) == (State.QUEUED, "talk.wav", "audio/wav")
    assert record.key == f"uploads/local/{record.id}/talk.wav"
    copy = bucket.get(record.key)
    assert copy is not None
    assert (copy.body, copy.etag) == (SPEECH, record.etag)
    assert service.queue.count() == 1
    assert inboxed(bucket) == [KEY], "whoever put it there may want to see it"
    bucket.later = MINUTES
    sweep.run()
    assert inboxed(bucket) == []
    assert [marker.kind for marker in Markers(bucket).listing()] == [Kind.JOBS]
    assert len(records(service)) == 1


def test_an_event_a_sweep_and_a_request_at_once_make_one_transcription(
    service: Service, api: TestClient, bucket: LaterBucket
) -> None:
    drop(bucket)
    acts = [
        lambda: service.inbox.take(KEY),
        lambda: Sweep(service).run(),
        lambda: api.post("/transcriptions", json={"key": KEY}).raise_for_status(),
    ] * 3
    with ThreadPoolExecutor(len(acts)) as threads:
        for done in [threads.submit(act) for act in acts]:
            done.result()
    assert only(service).state is State.QUEUED
    assert service.queue.count() == 1
    assert [marker.kind for marker in Markers(bucket).listing()] == [Kind.JOBS]


def test_a_large_object_is_copied_in_parts_and_what_was_copied_is_not_copied_again(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    body = SPEECH + bytes(16 * MIB)
    drop(bucket, body=body)
    begun = service.inbox.begin(KEY)
    assert begun is not None
    copied: list[int] = []
    copy_part = Bucket.copy_part

    def dies_at_the_third(self: Bucket, *arguments: object) -> str:
        if len(copied) == 2:
            raise SystemExit
        etag = copy_part(self, *arguments)  # type: ignore[arg-type]
        copied.append(int(str(arguments[-1])))
        return etag

    monkeypatch.setattr(inbox, "COPIES_AT_ONCE", 1)
    monkeypatch.setattr(Bucket, "copy_part", dies_at_the_third)
    with pytest.raises(SystemExit):
        service.inbox.go_on(begun[0])
    assert copied == [1, 2]
    monkeypatch.setattr(Bucket, "copy_part", copy_part)
    again: list[int] = []

    def counted(self: Bucket, *arguments: object) -> str:
        again.append(int(str(arguments[-1])))
        return copy_part(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Bucket, "copy_part", counted)
    bucket.later = timedelta(minutes=5)
    Sweep(service).run()
    assert again == [3, 4]
    record = only(service)
    assert record.state is State.QUEUED
    whole = bucket.get(record.key)
    assert whole is not None
    assert hashlib.sha256(whole.body).digest() == hashlib.sha256(body).digest()
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")


@pytest.mark.long
def test_eight_at_once_copy_a_large_object_to_one_transcription(
    service: Service, settings: object, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    drop(bucket, body=SPEECH + bytes(11 * MIB))
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(service.inbox.take, [KEY] * 8))
    assert {record.id for record in taken if record is not None} == {only(service).id}
    bucket.later = timedelta(minutes=20)
    Sweep(service).run()
    assert only(service).state is State.QUEUED
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")
    assert [marker.kind for marker in Markers(bucket).listing()] == [Kind.JOBS]
    assert service.queue.count() == 1


def test_an_upload_that_the_bucket_has_forgotten_is_begun_anew(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    drop(bucket, body=SPEECH + bytes(6 * MIB))
    begun = service.inbox.begin(KEY)
    assert begun is not None

    def forgotten(*arguments: object) -> str:
        bucket.abort_uploads(begun[0].record.key)
        raise UploadGone

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "copy_part", forgotten)
        assert service.inbox.go_on(begun[0]).record.state is State.UPLOADING
    taken = service.inbox.take(KEY)
    assert taken is not None
    assert taken.state is State.QUEUED


def test_whatever_an_object_is_called_it_is_copied(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    paths = [
        "a b+c&d=e?f#g%2F;h.wav",
        "Über die Brücke – 日本語.mp3",
        # No backslash: SeaweedFS takes it for a slash.
        "'\"<>{}|^`~.wav",
        "deep/er/and/deeper/talk.wav",
        ".hidden.wav",
        "x" * 240 + ".wav",
    ]
    for path in paths:
        drop(bucket, f"inbox/local/{path}")
    sweep.run()
    assert {record.state for record in records(service)} == {State.QUEUED}
    assert {record.name for record in records(service)} == {path.rpartition("/")[2] for path in paths}
    bucket.later = MINUTES
    sweep.run()
    assert inboxed(bucket) == []


def test_what_is_in_nobody_s_inbox_is_left_alone(service: Service, sweep: Sweep, bucket: LaterBucket) -> None:
    nobodys = ["talk.wav", "Alice/talk.wav", "alice/talk.wav", "local-0123/talk.wav"]
    keys = {drop(bucket, f"inbox/{path}") for path in nobodys} | {drop(bucket, "inbox/local/folder/", b"")}
    sweep.run()
    assert set(inboxed(bucket)) == keys
    assert not list(bucket.listing("records/"))
    assert not list(Markers(bucket).listing())


def test_an_object_has_one_key(service: Service, api: TestClient, bucket: LaterBucket) -> None:
    drop(bucket)
    # What SeaweedFS finds it by, too, and what other servers may.
    for path in ("meetings\\talk.wav", "/meetings/talk.wav", "meetings//talk.wav", "./meetings/talk.wav",
                 "x/../meetings/talk.wav", "meetings/./talk.wav", "..", "meetings/.."):  # fmt: skip
        refused(api.post("/transcriptions", json={"key": f"inbox/local/{path}"}), 403, "not_yours")
        assert service.inbox.take(f"inbox/local/{path}") is None
    assert records(service) == []


def test_where_people_sign_in_local_is_nobody_unless_they_ask(service: Service, bucket: LaterBucket) -> None:
    settings = service.settings.model_copy(update={"auth": ("keys",)})
    service = Service.of(settings, bucket, service.queue)
    drop(bucket)
    sweep = Sweep(service)
    for later in (timedelta(), MINUTES):
        bucket.later = later
        sweep.run()
        service.arrivals.arrived(Arrival(bucket.name, KEY))
    assert (inboxed(bucket), records(service)) == ([KEY], [])
    key = Keys(bucket).new("whose recordings are local's", "local", tuple(Scope), None)
    with calling(service) as client:
        answer = client.post("/transcriptions", json={"key": KEY}, headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    bucket.later = 2 * MINUTES
    sweep.run()
    assert inboxed(bucket) == []


def test_an_empty_object_is_left_alone(service: Service, sweep: Sweep, bucket: LaterBucket) -> None:
    drop(bucket, body=b"")
    sweep.run()
    assert service.inbox.take(KEY) is None
    assert (inboxed(bucket), records(service)) == ([KEY], [])


def test_an_owner_s_inbox_is_theirs(service: Service, sweep: Sweep, bucket: LaterBucket) -> None:
    ann = owner_slug("keys", "Ann")
    drop(bucket, f"inbox/{ann}/talk.wav")
    sweep.run()
    assert [record.owner for record in records(service, ann)] == [ann]


# Refused


def test_what_is_refused_fails_and_stays_in_the_inbox(service: Service, bucket: LaterBucket) -> None:
    most = service.settings.model_copy(update={"max_upload_bytes": len(SPEECH)})
    service = Service.of(most, bucket, service.queue)
    drops = {
        "inbox/local/minutes.txt": (SPEECH, "unsupported_media"),
        "inbox/local/nameless": (SPEECH, "unsupported_media"),
        "inbox/local/talk.mp3": (TEXT, "unsupported_media"),
        "inbox/local/talk.wav": (SPEECH + bytes(1), "too_large"),
    }
    for key, (body, _) in drops.items():
        drop(bucket, key, body)
    sweep = Sweep(service)
    for _ in range(3):
        sweep.run()
        bucket.later += timedelta(minutes=15)
    found = {record.inbox.key: record for record in records(service) if record.inbox is not None}
    assert {record.state for record in found.values()} == {State.FAILED}
    codes = {key: record.error and record.error.code for key, record in found.items()}
    assert codes == {key: code for key, (_, code) in drops.items()}
    left = [entry.key for entry in bucket.listing("") if not entry.key.startswith("records/")]
    assert left == sorted(drops), "each may be the only copy"
    assert service.queue.count() == 0


def test_a_name_that_says_nothing_is_taken_at_the_tool_s_word(service: Service, bucket: LaterBucket) -> None:
    taken = service.inbox.take(drop(bucket, "inbox/local/nameless", type="audio/x-wav"))
    assert taken is not None
    assert (taken.state, taken.content_type) == (State.QUEUED, "audio/x-wav")


def test_what_stays_costs_a_sweep_nothing_but_the_listing(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    for number in range(3):
        drop(bucket, f"inbox/local/{number}.txt", TEXT)
    sweep.run()
    asked: list[str] = []
    bucket.client.meta.events.register("before-send.s3", lambda request, **_: asked.append(request.url))
    sweep.run()
    assert not [url for url in asked if "/records/" in url or "/inbox/" in url]


def test_a_sweep_goes_on_where_the_last_one_had_no_more_time(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    for number in range(3):
        drop(bucket, f"inbox/local/{number}.wav")
    for taken in range(1, 4):
        # Asked before each look at a marker, and before each at the inbox: there is time for one of those.
        answers = [True] * (len(list(Markers(bucket).listing())) + 1)
        sweep.run(lambda answers=answers: bool(answers) and answers.pop())  # type: ignore[misc]
        assert len(records(service)) == taken


# Changed meanwhile


def test_an_object_that_is_replaced_is_a_transcription_of_its_own(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    drop(bucket)
    sweep.run()
    put_again(bucket, SPEECH + bytes(2))
    sweep.run()
    assert len({record.etag for record in records(service)}) == 2
    bucket.later = MINUTES
    sweep.run()
    assert inboxed(bucket) == []
    assert len(records(service)) == 2


def test_what_was_put_there_again_is_not_removed_with_what_was_taken(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    drop(bucket)
    taken = service.inbox.take(KEY)
    assert taken is not None
    assert taken.inbox is not None
    put_again(bucket, SPEECH)
    assert not bucket.delete_version(KEY, taken.inbox.etag, taken.inbox.modified)
    sweep.run()
    assert len(records(service)) == 2


@pytest.mark.parametrize(
    ("large", "replaced"),
    [(False, False), (True, False), (False, True), pytest.param(True, True, marks=pytest.mark.long)],
)
def test_what_goes_before_it_was_copied_is_canceled(
    service: Service, sweep: Sweep, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch, large: bool,
    replaced: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    drop(bucket, body=SPEECH + bytes(6 * MIB * large))
    begun = service.inbox.begin(KEY)
    assert begun is not None
    if replaced:
        put_again(bucket, SPEECH + bytes(1))
    else:
        bucket.delete(KEY)
    assert service.inbox.go_on(begun[0]).record.state is State.CANCELED
    sweep.run()
    states = {record.id: record.state for record in records(service)}
    assert states.pop(begun[0].record.id) is State.CANCELED
    assert list(states.values()) == ([State.QUEUED] if replaced else [])
    bucket.later = timedelta(minutes=20)
    sweep.run()
    assert not bucket.client.list_multipart_uploads(Bucket=bucket.name).get("Uploads")
    assert {marker.id for marker in Markers(bucket).listing()} == set(states)


def test_a_transcription_that_is_deleted_does_not_come_back(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    for key in (KEY, "inbox/local/minutes.txt"):
        drop(bucket, key, SPEECH)
    sweep.run()
    for record in records(service):
        service.transcriptions.delete("local", record.id)
    for _ in range(3):
        bucket.later += timedelta(minutes=15)
        sweep.run()
    assert not list(bucket.listing(""))


def test_a_begin_whose_object_is_gone_is_ended(service: Service, sweep: Sweep, bucket: LaterBucket) -> None:
    id = id_of(KEY, '"an etag"', bucket.now())
    # It died after its marker, and the object was removed.
    service.markers.put(Kind.UPLOADS, "local", id, key=f"uploads/local/{id}/talk.wav", inbox=KEY)
    bucket.later = timedelta(minutes=5)
    sweep.run()
    assert only(service).state is State.EXPIRED
    assert not list(Markers(bucket).listing())


def test_a_canceled_copy_leaves_nothing_but_the_object(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    drop(bucket)
    begun = service.inbox.begin(KEY)
    assert begun is not None
    record = begun[0].record
    service.transcriptions.cancel("local", record.id)
    # Somebody was at it, and knew nothing of that.
    assert record.inbox is not None
    bucket.copy(KEY, record.inbox.etag, record.key, "audio/wav")
    for _ in range(3):
        bucket.later += timedelta(minutes=15)
        sweep.run()
    assert only(service).state is State.CANCELED
    left = [entry.key for entry in bucket.listing("") if not entry.key.startswith("records/")]
    assert left == [KEY]


def test_what_the_bucket_does_not_let_us_copy_fails_after_an_hour(
    service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    drop(bucket)
    begun = service.inbox.begin(KEY)
    assert begun is not None

    def denied(request: object, **_: object) -> None:
        # What a stand-in for a policy does: the signature no longer fits.
        request.headers["x-amz-copy-source"] = quote("/nobody-s-bucket/key")  # type: ignore[attr-defined]

    bucket.client.meta.events.register("before-send.s3.CopyObject", denied)
    bucket.later = timedelta(minutes=30)
    sweep.run()
    assert only(service).state is State.UPLOADING
    bucket.later = timedelta(minutes=70)
    sweep.run()
    record = only(service)
    assert record.error is not None
    assert (record.state, record.error.code) == (State.FAILED, "recording_unreadable")
    assert inboxed(bucket) == [KEY]


def test_a_copy_that_always_fails_fails_after_a_day_and_bothers_nobody_before(
    service: Service, sweep: Sweep, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    monkeypatch.setattr(Bucket, "copy", failing(500))
    # Nobody is told to tell again.
    service.arrivals.arrived(Arrival(bucket.name, KEY))
    service.arrivals.arrived(Arrival(bucket.name, KEY))
    bucket.later = timedelta(hours=23)
    sweep.run()
    assert only(service).state is State.UPLOADING
    bucket.later = timedelta(hours=25)
    sweep.run()
    error = only(service).error
    assert error is not None
    assert (only(service).state, error.code) == (State.FAILED, "recording_unreadable")
    assert "InternalError" in error.message
    assert inboxed(bucket) == [KEY]


def test_a_copy_into_a_full_bucket_waits_until_there_is_room(
    service: Service, sweep: Sweep, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "copy", failing(507))
        patch.setattr(Bucket, "is_full", lambda *_: True)
        for days in range(3):
            bucket.later = timedelta(days=days)
            sweep.run()
        assert only(service).state is State.UPLOADING
    bucket.later = timedelta(days=4)
    sweep.run()
    assert only(service).state is State.QUEUED


def failing(status: int) -> Callable[..., None]:
    """A copy that the bucket answers so."""

    def copy(*_: object) -> None:
        response: Any = {
            "Error": {"Code": "InternalError"},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }
        raise ClientError(response, "CopyObject")

    return copy


# Copies wait for the rest of a sweep


def test_a_sweep_copies_last(
    service: Service, uploader: Uploader, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    assert service.inbox.begin(KEY) is not None
    idle = uploader.begin()
    drained: list[int] = []
    seen: list[tuple[str, list[int]]] = []
    copy = Bucket.copy

    def noting(self: Bucket, *arguments: str) -> None:
        seen.append((idle.state(), list(drained)))
        copy(self, *arguments)

    monkeypatch.setattr(DeadLetters, "drain", lambda self: drained.append(1))
    monkeypatch.setattr(Bucket, "copy", noting)
    bucket.later = timedelta(minutes=20)
    Sweep(service).run()
    assert seen == [("expired", [1])]
    assert {record.state for record in records(service)} == {State.QUEUED, State.EXPIRED}


def test_a_sweep_copies_as_long_as_there_is_time_and_the_next_goes_on(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(inbox, "COPIES_AT_ONCE", 1)
    drop(bucket, body=SPEECH + bytes(16 * MIB))
    begun = service.inbox.begin(KEY)
    assert begun is not None
    left = [True] * 2
    after = service.inbox.go_on(begun[0], lambda: bool(left) and left.pop())
    assert after.record.state is State.UPLOADING
    record = only(service)
    held = bucket.list_parts(record.key, record.upload_id or "")
    assert held is not None
    assert [part.number for part in held[0]] == [1, 2]
    bucket.later = timedelta(minutes=5)
    with monkeypatch.context() as patch:
        patch.setattr(sweep_module, "INBOX_SECONDS", -1.0)
        Sweep(service).run()
    assert only(service).state is State.UPLOADING
    Sweep(service).run()
    assert only(service).state is State.QUEUED


def test_a_copy_that_another_sweep_looks_at_is_theirs(
    service: Service, bucket: LaterBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(bucket)
    begun = service.inbox.begin(KEY)
    assert begun is not None
    record = begun[0].record

    def another(_: DeadLetters) -> None:
        # Between this sweep's listing and its copies.
        service.markers.put(Kind.UPLOADS, "local", record.id, key=record.key, inbox=KEY)

    monkeypatch.setattr(Bucket, "copy", failing(500))
    monkeypatch.setattr(service.inbox, "go_on", lambda *_: pytest.fail("it is theirs"))
    monkeypatch.setattr(DeadLetters, "drain", another)
    bucket.later = timedelta(minutes=5)
    assert Sweep(service).run() == 0


def test_a_copy_whose_marker_was_lost_goes_on(service: Service, sweep: Sweep, bucket: LaterBucket) -> None:
    drop(bucket)
    begun = service.inbox.begin(KEY)
    assert begun is not None
    # As `finish` puts it there again.
    record = begun[0].record
    service.markers.put(Kind.UPLOADS, "local", record.id, key=record.key, restored=True)
    for _ in range(2):
        bucket.later += timedelta(minutes=5)
        sweep.run()
    assert only(service).state is State.QUEUED


# The bucket's side


def test_a_copy_is_of_the_version_asked_for_and_of_no_other(bucket: LaterBucket) -> None:
    etag = bucket.put("inbox/local/a.wav", SPEECH).etag
    with pytest.raises(Conflict):
        bucket.copy("inbox/local/a.wav", '"00000000000000000000000000000000"', "copy", "audio/wav")
    with pytest.raises(KeyError):
        bucket.copy("inbox/local/none.wav", etag, "copy", "audio/wav")
    assert bucket.find("copy") is None


def test_the_id_is_that_of_the_version_in_whole_seconds(bucket: LaterBucket) -> None:
    drop(bucket)
    (listed,) = bucket.listing("inbox/")
    found = bucket.find(KEY)
    assert found is not None
    finer = Listed(listed.key, listed.size, listed.etag, listed.modified + timedelta(milliseconds=999))
    ids = {id_of(KEY, told.etag, told.modified) for told in (listed, found, finer)}
    others = {
        id_of(KEY + "x", found.etag, found.modified),
        id_of(KEY, '"other"', found.modified),
        id_of(KEY, found.etag, found.modified + timedelta(seconds=1)),
    }
    assert (len(ids), len(others | ids)) == (1, 4)


# On request


def test_an_object_is_transcribed_on_request_with_options(
    service: Service, api: TestClient, bucket: LaterBucket
) -> None:
    drop(bucket)
    asked = {"key": KEY, "options": {"language": "en", "diarize": "true", "x-note": "mine"}}
    answer = api.post("/transcriptions", json=asked)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert answer.headers["location"] == f"/transcriptions/{told['id']}"
    assert (told["state"], told["inbox"], told["metadata"]) == ("queued", KEY, {"x-note": "mine"})
    assert told["options"]["language"] == "en"
    assert told["options"]["diarize"] is True
    assert api.get(answer.headers["location"]).json()["id"] == told["id"]
    again = api.post("/transcriptions", json=asked)
    assert (again.status_code, again.json()["id"]) == (200, told["id"])
    bucket.later = MINUTES
    Sweep(service).run()
    assert inboxed(bucket) == []
    afterwards = api.post("/transcriptions", json=asked)
    assert (afterwards.status_code, afterwards.json()["id"]) == (200, told["id"])
    assert service.queue.count() == 1


def test_options_asked_for_after_it_was_found_hold_for_the_worker(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    drop(bucket)
    sweep.run()
    answer = api.post("/transcriptions", json={"key": KEY, "options": {"language": "de", "x-note": "mine"}})
    assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    assert (only(service).options.language, only(service).metadata) == ("de", {"x-note": "mine"})
    assert service.queue.count() == 1


@pytest.mark.parametrize("given_back", [False, True])
def test_who_asks_when_a_worker_has_had_it_is_told_that_the_options_are_others(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket, given_back: bool
) -> None:
    drop(bucket)
    sweep.run()
    record = only(service)
    claim = service.transcriptions.claim(Job(record.owner, record.id, record.run), "worker")
    assert claim is not None
    if given_back:
        service.transcriptions.release(claim)
    same = api.post("/transcriptions", json={"key": KEY, "options": {"language": "auto"}})
    assert same.status_code == 200
    answer = api.post("/transcriptions", json={"key": KEY, "options": {"language": "de"}})
    problem = refused(answer, 409, "not_possible")
    assert problem["id"] == record.id
    assert only(service).options.language in (None, "auto")


def test_other_options_than_those_asked_for_first_are_refused(
    api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    drop(bucket)
    assert api.post("/transcriptions", json={"key": KEY, "options": {"language": "de"}}).status_code == 201
    refused(
        api.post("/transcriptions", json={"key": KEY, "options": {"language": "en"}}), 409, "not_possible"
    )
    assert only(service).options.language == "de"


def test_values_of_one_s_own_are_kept_also_when_a_worker_has_it(
    api: TestClient, sweep: Sweep, service: Service, bucket: LaterBucket
) -> None:
    drop(bucket)
    sweep.run()
    record = only(service)
    assert service.transcriptions.claim(Job(record.owner, record.id, record.run), "worker") is not None
    mine = {"key": KEY, "options": {"x-order": "42"}}
    for _ in range(2):
        answer = api.post("/transcriptions", json=mine)
        assert (answer.status_code, answer.json()["metadata"]) == (200, {"x-order": "42"})
    other = {"key": KEY, "options": {"x-order": "43"}}
    refused(api.post("/transcriptions", json=other), 409, "not_possible")
    # All that is asked for, or nothing.
    both = {"key": KEY, "options": {"x-order": "42", "language": "de"}}
    refused(api.post("/transcriptions", json=both), 409, "not_possible")
    assert (only(service).metadata, only(service).state) == ({"x-order": "42"}, State.RUNNING)


def test_one_record_that_cannot_be_read_hides_no_other(
    api: TestClient, service: Service, uploader: Uploader, bucket: LaterBucket
) -> None:
    drop(bucket)
    taken = service.inbox.take(KEY)
    assert taken is not None
    bucket.delete(KEY)
    bucket.put(record_key("local", uploader.begin().id), b'{"schema": 2}')
    assert api.post("/transcriptions", json={"key": KEY}).json()["id"] == taken.id
    refused(api.post("/transcriptions", json={"key": "inbox/local/none.wav"}), 404, "not_in_inbox")


def test_what_was_canceled_before_it_was_copied_can_be_put_there_again(
    api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    drop(bucket)
    begun = service.inbox.begin(KEY)
    assert begun is not None
    id = begun[0].record.id
    service.transcriptions.cancel("local", id)
    problem = refused(api.post("/transcriptions", json={"key": KEY}), 409, "not_possible")
    assert problem["id"] == id
    assert "Put the object there again" in problem["detail"]
    retried = refused(api.post(f"/transcriptions/{id}/retry"), 409, "not_possible")
    assert "put it into the inbox again" in retried["detail"]
    put_again(bucket, SPEECH)
    answer = api.post("/transcriptions", json={"key": KEY})
    assert (answer.status_code, answer.json()["state"]) == (201, "queued")
    assert answer.json()["id"] != id


def test_who_may_send_and_not_read_is_told_the_id_and_no_more(service: Service, bucket: LaterBucket) -> None:
    ann = owner_slug("keys", "Ann")
    key = drop(bucket, f"inbox/{ann}/talk.wav")
    settings = service.settings.model_copy(update={"auth": ("keys",)})
    keys = Keys(bucket)
    with calling(Service.of(settings, bucket, service.queue)) as client:

        def ask(*scopes: Scope) -> dict[str, Any]:
            headers = {"Authorization": f"Bearer {keys.new('a test', ann, scopes, None)}"}
            answer = client.post("/transcriptions", json={"key": key}, headers=headers)
            assert answer.is_success, answer.text
            told: dict[str, Any] = answer.json()
            return told

        told = ask(Scope.UPLOAD)
        assert told == {"id": told["id"], "state": "queued", "inbox": key, "url": None}
        whole = ask(Scope.UPLOAD, Scope.READ)
        assert (whole["id"], whole["name"], whole["options"]["language"]) == (told["id"], "talk.wav", None)


def test_copies_that_take_long_hold_up_no_upload(
    api: TestClient, service: Service, uploader: Uploader, bucket: LaterBucket,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    keys = [drop(bucket, f"inbox/local/{number}.wav") for number in range(completions.THREADS)]
    upload = uploader.begin()
    part = upload.put(1, SPEECH)
    goes_on, copying = threading.Event(), threading.Semaphore(0)
    copy = Bucket.copy

    def slow(self: Bucket, *arguments: str) -> None:
        copying.release()
        assert goes_on.wait(60)
        copy(self, *arguments)

    monkeypatch.setattr(Bucket, "copy", slow)
    with ThreadPoolExecutor(len(keys)) as threads:
        asked = [threads.submit(api.post, "/transcriptions", json={"key": key}) for key in keys]
        try:
            assert copying.acquire(timeout=30)
            while len(records(service)) <= len(keys):
                assert not any(one.done() for one in asked)
            assert upload.complete([part]).status_code == 200
            assert upload.state() == "queued"
        finally:
            goes_on.set()
        assert {one.result().status_code for one in asked} == {201}


CANNOT_BE_TAKEN: list[tuple[dict[str, object], int, str]] = [
    ({"key": "inbox/local/none.wav"}, 404, "not_in_inbox"),
    ({"key": "inbox/local/../local/talk.wav"}, 403, "not_yours"),
    ({"key": "inbox/local/\x00\x1f.wav"}, 404, "not_in_inbox"),
    ({"key": "inbox/somebody-0123456789abcdef/talk.wav"}, 403, "not_yours"),
    ({"key": "uploads/local/x/talk.wav"}, 403, "not_yours"),
    ({"key": "inbox/local/folder/"}, 403, "not_yours"),
    ({"key": "inbox/local/" + "\u20ac" * 900}, 403, "not_yours"),
    ({"key": "talk.wav"}, 403, "not_yours"),
    ({"key": KEY, "options": {"langauge": "en"}}, 422, "unknown_option"),
    ({"key": KEY, "options": {"size": 5}}, 422, "unknown_option"),
    ({"key": KEY, "options": {"language": "elvish"}}, 422, "invalid_option"),
    ({"key": KEY, "url": "https://example.org/talk.wav"}, 422, "invalid_request"),
    ({"key": KEY, "colour": "blue"}, 422, "invalid_request"),
    ({"key": ""}, 422, "invalid_request"),
    ({"key": 5}, 422, "invalid_request"),
]


def test_what_cannot_be_taken_is_said(api: TestClient, service: Service, bucket: LaterBucket) -> None:
    drop(bucket)
    for asked, status, code in CANNOT_BE_TAKEN:
        refused(api.post("/transcriptions", json=asked), status, code)
    assert records(service) == []


def test_half_a_character_in_a_key_is_refused(api: TestClient) -> None:
    answer = api.post(
        "/transcriptions",
        content='{"key": "inbox/local/\\ud800.wav"}',
        headers={"Content-Type": "application/json"},
    )
    refused(answer, 422, "invalid_request")


def test_who_asks_for_what_is_refused_is_told_why_however_often(
    api: TestClient, service: Service, bucket: LaterBucket
) -> None:
    ids = set()
    # By its name, and by its first bytes.
    for key in (drop(bucket, "inbox/local/a.txt", TEXT), drop(bucket, "inbox/local/a.mp3", TEXT)) * 2:
        ids.add(refused(api.post("/transcriptions", json={"key": key}), 415, "unsupported_media")["id"])
    asked = {"key": "inbox/local/a.mp3", "options": {"language": "en"}}
    ids.add(refused(api.post("/transcriptions", json=asked), 415, "unsupported_media")["id"])
    assert ids == {record.id for record in records(service)}
    assert len(ids) == 2


def test_a_queue_that_is_away_keeps_nothing_in_the_inbox_from_being_taken(
    service: Service, bucket: LaterBucket
) -> None:
    away = service.settings.model_copy(update={"sqs_endpoint": "http://127.0.0.1:1"})
    drop(bucket)
    taken = Service.of(away, bucket, Queue.connect(away)).inbox.take(KEY)
    assert taken is not None
    assert taken.state is State.QUEUED
