"""tus concatenation: partial uploads, as of a client that sends several at once, become one recording."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx2
import pytest
from bucketscribe.auth import Scope
from bucketscribe.bucket import Written
from bucketscribe.keys import Keys
from bucketscribe.markers import Kind
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.test_limits import limited
from tests.integration.test_sweep import IDLE
from tests.integration.test_tus_protocol import arrived, content, record_of, serving
from tests.integration.test_uploading import leftovers, refused
from tests.tus import ENDPOINT, MIB, SPEECH, TusUpload, ask, checksum, create, created, metadata, recording

PART = 5 * MIB
TALK = metadata(filename="talk.wav")
SIZES = {
    "tiny ones": (400_000, 1, 2, 3),
    "one alone": (400_000,),
    "parts exactly": (PART, PART),
    "uneven": (6 * MIB + 1, 400_000, 5 * MIB - 1, 1),
    "large ones": (70 * MIB + 3, 11 * MIB + 3),
    "an empty one between": (400_000, 0, 6 * MIB),
}


def partial(api: httpx2.Client, body: bytes, **headers: str) -> TusUpload:
    """A partial upload, finished."""
    upload = create(api, len(body), Upload_Concat="partial", Upload_Metadata=None, **headers)
    if body:
        assert upload.patch(0, body, **headers).status_code == 204
    return upload


def finally_of(partials: Sequence[TusUpload]) -> str:
    return "final;" + " ".join(upload.path for upload in partials)


def final(api: httpx2.Client, partials: Sequence[TusUpload], **headers: str) -> httpx2.Response:
    return ask(api, -1, Upload_Concat=finally_of(partials), **headers)


def cut(body: bytes, sizes: Sequence[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    return pieces


def left(service: Service) -> list[str]:
    """All that is still there of partials."""
    keys = [entry.key for entry in service.bucket.listing("")]
    uploads = service.bucket.client.list_multipart_uploads(Bucket=service.bucket.name).get("Uploads", [])
    return [key for key in keys if key.startswith(("tus/", "open/partials/"))] + [
        upload["Key"] for upload in uploads
    ]


@pytest.mark.parametrize(
    "sizes",
    [
        pytest.param(sizes, id=name, marks=pytest.mark.long if name == "large ones" else ())
        for name, sizes in SIZES.items()
    ],
)
def test_partials_of_any_size_become_one_recording(
    api: TestClient, service: Service, sizes: tuple[int, ...]
) -> None:
    body = recording(sum(sizes))
    with ThreadPoolExecutor(4) as threads:
        partials = list(threads.map(lambda piece: partial(api, piece), cut(body, sizes)))
    assert list(service.records.listing("local")) == []
    assert api.get("/transcriptions").json()["transcriptions"] == []
    made = final(api, partials)
    upload = created(api, made)
    assert made.headers["bucketscribe-transcription"] == upload.id
    arrived(service, upload, body)
    assert left(service) == []


def test_they_are_put_together_in_the_order_in_which_they_are_named(
    api: TestClient, service: Service
) -> None:
    pieces = cut(recording(7 * MIB), (400_000, 6 * MIB, 7 * MIB))
    one, two, three = [partial(api, piece) for piece in pieces]
    upload = created(api, final(api, [one, three, two]))
    arrived(service, upload, pieces[0] + pieces[2] + pieces[1])


def test_a_final_upload_says_what_it_is(api: TestClient) -> None:
    partials = [partial(api, piece) for piece in cut(recording(MIB), (400_000, MIB))]
    assert partials[0].head().headers["upload-concat"] == "partial"
    upload = created(api, final(api, partials))
    head = upload.head()
    assert head.headers["upload-concat"] == finally_of(partials)
    assert head.headers["upload-length"] == str(MIB)
    refused(upload.patch(MIB, b""), 403, "not_appendable")
    refused(upload.patch(0, b"x"), 403, "not_appendable")


def test_partials_may_be_named_by_whole_urls(api: TestClient, service: Service) -> None:
    body = recording(MIB)
    partials = [partial(api, piece) for piece in cut(body, (400_000, MIB))]
    urls = [TusUpload(api, str(api.base_url.join(upload.path))) for upload in partials]
    arrived(service, created(api, final(api, urls)), body)


def test_the_finals_metadata_counts(api: TestClient, service: Service) -> None:
    partials = [partial(api, SPEECH)]
    told = metadata(filename="talk.wav", language="de", taskId="mine")
    upload = created(api, final(api, partials, Upload_Metadata=told))
    record = record_of(service, upload)
    assert (record.name, record.options.language) == ("talk.wav", "de")
    # Its id is that of its parts.
    assert record.ignored == ("taskId",)


def test_an_unfinished_partial_is_waited_for(api: TestClient, service: Service) -> None:
    body = recording(6 * MIB)
    done = partial(api, body[:MIB])
    begun = create(api, 5 * MIB, Upload_Concat="partial", Upload_Metadata=None)
    begun.patch(0, body[MIB : 2 * MIB])
    refused(final(api, [done, begun]), 400, "invalid_concatenation")
    assert list(service.records.listing("local")) == []
    assert begun.patch(MIB, body[2 * MIB :]).status_code == 204
    arrived(service, created(api, final(api, [done, begun])), body)


def test_a_partial_goes_on_where_it_was_interrupted(api: TestClient, service: Service) -> None:
    body = recording(7 * MIB)
    upload = create(api, len(body), Upload_Concat="partial", Upload_Metadata=None)
    upload.append(body, 3 * MIB - 7)
    arrived(service, created(api, final(api, [upload])), body)


def test_a_partial_may_have_checksums_and_come_with_its_creation(api: TestClient, service: Service) -> None:
    body = recording(6 * MIB)
    made = ask(api, len(body), body, Upload_Concat="partial", Upload_Metadata=None, **checksum(body))
    arrived(service, created(api, final(api, [created(api, made)])), body)


NO_PARTIALS = (
    *("final;", "final", "partial;", "whole", "", "final;/uploads/files/", "final;https://"),
    *("final;/uploads/files/x", "final;/etc/passwd", f"final;{ENDPOINT}0199c0de-0000-7000-8000-000000000000"),
)


def test_what_names_no_partials_is_refused(api: TestClient, service: Service) -> None:
    for told in NO_PARTIALS:
        answer = ask(api, -1, Upload_Concat=told)
        assert (told, answer.status_code) == (told, 400), answer.text
    assert list(service.bucket.listing("")) == []


def test_a_final_upload_brings_no_bytes_and_no_length(api: TestClient) -> None:
    done = partial(api, SPEECH)
    refused(ask(api, -1, b"more", Upload_Concat=finally_of([done])), 400, "invalid_tus_request")
    refused(ask(api, 10, Upload_Concat=finally_of([done])), 400, "invalid_tus_request")
    assert final(api, [done]).status_code == 201


def test_a_whole_upload_is_no_partial(api: TestClient) -> None:
    upload = create(api, len(SPEECH))
    answer = final(api, [upload])
    assert answer.status_code in (400, 404), answer.text


def test_another_owners_partials_are_as_unknown_as_none(service: Service) -> None:
    guarded = limited(service, auth=("keys",))
    keys = Keys(service.bucket)
    ann, ben = (
        {"Authorization": f"Bearer {keys.new('test', f'{name}-0123456789abcdef', tuple(Scope), None)}"}
        for name in ("ann", "ben")
    )
    with serving(guarded) as api:
        done = partial(api, SPEECH, **ann)
        taken = final(api, [done], **ben)
        never = final(api, [TusUpload(api, f"{ENDPOINT}0199c0de-0000-7000-8000-000000000000")], **ben)
        assert taken.status_code == never.status_code == 404 or (
            taken.status_code == never.status_code == 400
        )
        assert taken.json()["code"] == never.json()["code"]
        assert final(api, [done], **ann).status_code == 201


def test_together_they_may_not_be_too_large(service: Service) -> None:
    with serving(limited(service, max_upload_bytes=6 * MIB)) as api:
        body = recording(7 * MIB)
        partials = [partial(api, piece) for piece in cut(body, (4 * MIB, 3 * MIB))]
        refused(final(api, partials), 413, "too_large")
        assert list(service.records.listing("local")) == []


def test_what_is_no_recording_is_refused_and_nothing_is_left(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    partials = [partial(api, b"MZ" + bytes(6 * MIB)), partial(api, SPEECH)]
    refused(final(api, partials), 415, "unsupported_media")
    bucket.later = timedelta(hours=2)
    sweep.run()
    assert left(service) == []


def test_a_partial_that_is_given_up_leaves_nothing(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    begun = create(api, 20 * MIB, Upload_Concat="partial", Upload_Metadata=None)
    begun.append(recording(7 * MIB))
    assert begun.delete().status_code == 204
    assert begun.head().status_code == 404
    # What tells of it stays for as long as a request may write to it.
    assert [key.rpartition("/")[2] for key in left(service)] == [begun.id, "partial.json"]
    bucket.later = 2 * IDLE
    sweep.run()
    assert left(service) == []


def test_an_idle_partial_is_ended_and_a_finished_one_waits_an_hour(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    idle = create(api, 20 * MIB, Upload_Concat="partial", Upload_Metadata=None)
    idle.append(recording(7 * MIB))
    body = recording(6 * MIB)
    done, waiting = partial(api, body), partial(api, body)
    bucket.later = IDLE + timedelta(seconds=5)
    sweep.run()
    assert idle.head().status_code == 410
    assert done.offset() == len(body)
    bucket.later = timedelta(minutes=55)
    sweep.run()
    assert leftovers(bucket, idle.id) == []
    upload = created(api, final(api, [done]))
    assert content(service, upload) == body
    assert leftovers(bucket, done.id) == []
    bucket.later = timedelta(hours=3)
    sweep.run()
    assert waiting.head().status_code == 410
    bucket.later = timedelta(hours=4)
    sweep.run()
    assert left(service) == []


def test_partials_stay_as_long_as_an_upload_is_put_together_of_them(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    body = recording(13 * MIB)
    ids = [partial(api, piece).id for piece in cut(body, (6 * MIB, 7 * MIB))]
    bucket.later = timedelta(minutes=59)
    upload = TusUpload(api, ENDPOINT + service.concatenation.begin("local", ids, TALK).record.id)
    for bucket.later in (timedelta(minutes=63), timedelta(hours=30)):
        for marker in service.markers.listing(Kind.PARTIALS):
            service.tus.partials.look(marker)
    assert record_of(service, upload).state is State.UPLOADING
    sweep.run()
    arrived(service, upload, body)
    assert left(service) == []


def test_partials_whose_final_upload_was_never_begun_go_after_an_hour(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    body = recording(6 * MIB)
    once, again = partial(api, body), partial(api, body)
    wrong = metadata(filename="talk.wav", language="nobody's")
    bucket.later = timedelta(minutes=59)
    for upload in (once, again):
        refused(final(api, [upload], Upload_Metadata=wrong), 422, "invalid_option")
    bucket.later = timedelta(minutes=115)
    sweep.run()
    assert content(service, created(api, final(api, [again]))) == body
    assert once.offset() == len(body)
    for bucket.later in (timedelta(minutes=120), timedelta(hours=3)):
        sweep.run()
        assert once.head().status_code in (404, 410)
    assert left(service) == []


class RivaledBucket(LaterBucket):
    """A bucket in which `rival` is faster than whoever is about to change a document."""

    rival: Callable[[], object] | None = None

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Written:
        if key.endswith("partial.json") and self.rival is not None:
            rival, self.rival = self.rival, None
            rival()
        return super().replace(key, body, etag, content_type)


def test_a_partial_whose_last_bytes_come_as_the_sweep_would_end_it_is_not_ended(
    api: TestClient, service: Service
) -> None:
    body = recording(7 * MIB)
    upload = create(api, len(body), Upload_Concat="partial", Upload_Metadata=None)
    upload.append(body[:MIB])
    made: list[str] = []

    def come_back() -> None:
        assert upload.patch(MIB, body[MIB:]).status_code == 204
        made.append(service.concatenation.begin("local", [upload.id], TALK).record.id)

    theirs = RivaledBucket.connect(service.settings)
    theirs.later, theirs.rival = 2 * IDLE, come_back
    sweep = Sweep(Service.of(service.settings, theirs, service.queue))
    sweep.run()
    (id,) = made
    sweep.run()
    arrived(service, TusUpload(api, ENDPOINT + id), body)
    assert left(service) == []


def test_a_partial_that_the_bucket_takes_long_to_complete_is_waited_for(
    api: TestClient, service: Service, sweep: Sweep, bucket: LaterBucket
) -> None:
    body = recording(6 * MIB)
    late, never = (create(api, len(body), Upload_Concat="partial", Upload_Metadata=None) for _ in range(2))
    keys = []
    for upload in (late, never):
        found = service.tus.partials.read("local", upload.id)
        assert found is not None
        bucket.abort_upload(found[0].key, found[0].upload_id)
        keys.append(found[0].key)
    bucket.later = 2 * IDLE
    sweep.run()
    bucket.put(keys[0], body, "application/octet-stream")
    sweep.run()
    assert content(service, created(api, final(api, [late]))) == body
    for bucket.later in (timedelta(hours=2), timedelta(hours=3)):
        sweep.run()
        assert never.head().status_code == 404
    assert left(service) == []


def test_a_partial_that_is_named_twice_is_refused_and_can_still_be_used(
    api: TestClient, service: Service
) -> None:
    body = recording(7 * MIB)
    one, other = (partial(api, piece) for piece in cut(body, (6 * MIB, MIB)))
    for named in ([one, one], [one, other, one], [one, TusUpload(api, str(api.base_url.join(one.path)))]):
        assert "twice" in refused(final(api, named), 400, "invalid_concatenation")["detail"]
    assert list(service.records.listing("local")) == []
    arrived(service, created(api, final(api, [one, other])), body)


def test_a_final_upload_that_is_asked_for_twice_is_one_transcription_or_refused(
    api: TestClient, service: Service
) -> None:
    done = partial(api, recording(6 * MIB))
    upload = created(api, final(api, [done]))
    again = final(api, [done])
    assert again.status_code in (201, 400, 404), again.text
    assert len(service.records.listing("local")) == 1
    assert record_of(service, upload).state is State.QUEUED
    assert content(service, upload) == recording(6 * MIB)
