"""The Python client when things go wrong, against the stand-ins of `standins.py`.

That it gets along with the real API and a real bucket is tested elsewhere.
"""

import json
import re
import socket
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from bucketscribe import records
from bucketscribe.client import (
    BucketRefused,
    Client,
    ServerProblem,
    Transcription,
    Unreachable,
    UploadFailed,
    UploadProgress,
)
from bucketscribe.client.api import RETRY_AFTER_SECONDS
from bucketscribe.client.events import Event, parse
from bucketscribe.client.model import FINAL
from bucketscribe.client.recording import MAX_PARTS, PART_BYTES, part_bytes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.standins import (
    FAST,
    ID,
    PART,
    ApiHandler,
    ApiStandIn,
    BucketHandler,
    BucketStandIn,
    Fault,
    StandIns,
    chunk,
    cut_in_the_middle,
    damaged,
    document,
    expired,
    expired_and_hung_up,
    no_such_upload,
    slow_down,
    standing_in,
    stream,
    too_slow,
    write_recording,
)


@pytest.fixture
def standins() -> Iterator[StandIns]:
    with standing_in() as running:
        yield running


@pytest.fixture
def bucket(standins: StandIns) -> BucketStandIn:
    return standins.bucket


@pytest.fixture
def api(standins: StandIns) -> ApiStandIn:
    return standins.api


@pytest.fixture
def client(standins: StandIns) -> Client:
    return standins.client


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return write_recording(tmp_path / "täl k.wav")


# Uploading


def test_an_upload_arrives_whole_and_is_completed_in_order(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    told: list[UploadProgress] = []
    transcription = client.upload(recording, {"language": "en", "model": None}, told.append)
    assert transcription.id == ID
    assert bucket.arrived() == recording.read_bytes()
    assert [part["PartNumber"] for part in api.completed[0]] == [1, 2, 3, 4, 5, 6]
    assert api.completed[0][5]["ETag"] == bucket.etags[6]
    assert (told[-1].sent, told[-1].size) == (recording.stat().st_size, recording.stat().st_size)
    assert api.aborted == 0


def test_begin_declares_size_part_size_and_the_options_given(
    client: Client, api: ApiStandIn, recording: Path
) -> None:
    client.upload(recording, {"language": "en", "model": None})
    size = recording.stat().st_size
    assert api.begun == [
        {
            "filename": "täl k.wav",
            "type": "application/octet-stream",
            "metadata": {"language": "en", "size": size, "partSize": PART_BYTES},
        }
    ]


def test_parts_are_sent_a_few_at_a_time_with_their_exact_length(
    client: Client, bucket: BucketStandIn, recording: Path
) -> None:
    client.upload(recording)
    assert bucket.most_at_once <= 3
    lengths = sorted(int(headers["Content-Length"]) for headers in bucket.headers_seen)
    assert lengths == [7, *[PART] * 5]
    assert all("Transfer-Encoding" not in headers for headers in bucket.headers_seen)


def test_urls_are_signed_a_hundred_at_a_time(client: Client, api: ApiStandIn, tmp_path: Path) -> None:
    api.part_size = 1
    recording = tmp_path / "talk.wav"
    recording.write_bytes(b"x" * 250)
    client.upload(recording)
    assert api.batches == ["1-100", "101-200", "201-250"]


def test_a_large_part_is_never_held_in_memory(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, tmp_path: Path
) -> None:
    api.part_size = 64 * 1024**2
    bucket.keep_bodies = False
    recording = tmp_path / "talk.wav"
    with recording.open("wb") as file:
        file.truncate(2 * api.part_size)
    tracemalloc.start()
    try:
        client.upload(recording)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024**2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("fault", [cut_in_the_middle, slow_down, too_slow, expired, expired_and_hung_up])
def test_a_part_that_fails_is_sent_again(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path, fault: Fault
) -> None:
    bucket.faults = {2: [fault], 6: [fault, fault]}
    client.upload(recording)
    assert bucket.arrived() == recording.read_bytes()
    assert (bucket.tries[1], bucket.tries[2], bucket.tries[6]) == (1, 2, 3)
    assert len(api.batches) > 1, "a new try has a new URL"


def test_a_part_that_arrives_damaged_is_sent_again(
    client: Client, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {2: [damaged], 6: [damaged]}
    client.upload(recording)
    assert bucket.arrived() == recording.read_bytes()


def test_a_part_sent_again_is_not_counted_twice(
    client: Client, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {number: [cut_in_the_middle, slow_down] for number in range(1, 6)}
    told: list[UploadProgress] = []
    client.upload(recording, on_progress=told.append)
    assert max(progress.sent for progress in told) == told[-1].sent == recording.stat().st_size


def test_urls_that_expired_while_the_upload_slept_are_signed_anew(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    def wake_up(request: BucketHandler) -> None:
        bucket.valid_from = 2
        expired(request)

    bucket.faults = {1: [wake_up]}
    client.upload(recording)
    assert bucket.arrived() == recording.read_bytes()


def test_a_part_refused_however_signed_ends_the_upload_and_aborts_it(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.valid_from = 1_000_000
    with pytest.raises(BucketRefused, match=r"bucket_refused: The bucket refused part \d: 403 AccessDenied"):
        client.upload(recording)
    assert api.aborted == 1
    assert not api.completed


def test_a_bucket_that_stays_down_is_unreachable_in_the_end(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {3: [cut_in_the_middle] * 5}
    with pytest.raises(Unreachable, match=bucket.url):
        client.upload(recording)
    assert bucket.tries[3] == FAST.tries
    assert api.aborted == 1


def test_an_upload_that_ended_meanwhile_is_begun_anew_once(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {1: [no_such_upload]}
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, document("expired"))
    told: list[str | None] = []
    client.upload(recording, on_progress=lambda progress: told.append(progress.waiting))
    assert bucket.arrived() == recording.read_bytes()
    assert (len(api.begun), len(api.completed)) == (2, 1)
    assert "the upload had ended; it begins anew" in told


def test_an_upload_that_ends_again_is_explained_by_the_api(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {1: [no_such_upload] * 2}
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, document("expired"))
    api.routes["GET /s3/multipart/sealed%2Fid"] = lambda request: request.problem(410, "upload_expired")
    with pytest.raises(ServerProblem) as raised:
        client.upload(recording)
    assert (raised.value.status, raised.value.code) == (410, "upload_expired")
    assert len(api.begun) == 2


def test_an_upload_canceled_by_somebody_is_not_begun_anew(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {1: [no_such_upload]}
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, document("canceled"))
    api.routes["GET /s3/multipart/sealed%2Fid"] = lambda request: request.problem(404, "no_such_upload")
    with pytest.raises(ServerProblem, match="no_such_upload"):
        client.upload(recording)
    assert len(api.begun) == 1


def test_an_upload_that_somebody_else_completed_is_accepted(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    bucket.faults = {6: [no_such_upload]}
    assert client.upload(recording).state == "queued"
    assert (len(api.begun), len(api.completed), api.aborted) == (1, 0, 0)


def test_parts_the_bucket_says_are_others_are_sent_again(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    call = "POST /s3/multipart/sealed%2Fid/complete"

    def refuse(request: ApiHandler) -> None:
        del api.routes[call], bucket.parts[2]
        request.body()
        request.problem(400, "invalid_part")

    api.routes[call] = refuse
    client.upload(recording)
    assert bucket.arrived() == recording.read_bytes()
    assert bucket.tries == {1: 1, 2: 2, 3: 1, 4: 1, 5: 1, 6: 1}


def test_a_slow_upload_gives_signs_of_life(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    seen = threading.Event()

    def listing(request: ApiHandler) -> None:
        seen.set()
        request.answer_json(200, [])

    def slow(request: BucketHandler) -> None:
        assert seen.wait(10)
        slow_down(request)

    api.expires = 0.1
    api.routes["GET /s3/multipart/sealed%2Fid"] = listing
    bucket.faults = {1: [slow]}
    client.upload(recording)
    assert bucket.arrived() == recording.read_bytes()


def test_a_bucket_that_is_away_too_long_is_unreachable(
    api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    told: list[str | None] = []
    bucket.pause()
    with Client(api.url, patient=FAST, offline_seconds=0.3) as client, pytest.raises(Unreachable):
        client.upload(recording, on_progress=lambda progress: told.append(progress.waiting))
    host = bucket.url.removeprefix("http://")
    assert f"no connection to {host}: Connection refused" in told
    assert api.aborted == 1


def test_a_server_that_is_away_is_waited_for_in_the_end_too(
    client: Client, api: ApiStandIn, recording: Path
) -> None:
    """It goes when all parts are there, and comes back when the first wait has been told."""
    call = "POST /s3/multipart/sealed%2Fid/complete"
    told: list[str | None] = []

    def away(request: ApiHandler) -> None:
        del api.routes[call]
        api.pause()
        request.reset()

    def hear(progress: UploadProgress) -> None:
        told.append(progress.waiting)
        if progress.waiting and not told[:-1].count(progress.waiting):
            api.resume()

    api.routes[call] = away
    client.upload(recording, on_progress=hear)
    assert len(api.completed) == 1
    assert f"no connection to {api.url.removeprefix('http://')}: Connection refused" in told


def test_ctrl_c_aborts_the_upload(client: Client, api: ApiStandIn, recording: Path) -> None:
    def interrupt(_progress: UploadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload(recording, on_progress=interrupt)
    assert api.aborted == 1
    assert not api.completed


def test_a_file_changed_while_it_was_sent_is_not_transcribed(
    client: Client, api: ApiStandIn, recording: Path
) -> None:
    def change(_progress: UploadProgress) -> None:
        with recording.open("ab") as file:
            file.write(b"more")

    with pytest.raises(UploadFailed, match="file_changed"):
        client.upload(recording, on_progress=change)
    assert (api.aborted, api.completed) == (1, [])


def test_a_file_that_became_shorter_is_not_waited_for(
    client: Client, api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    def shorten(request: BucketHandler) -> None:
        with recording.open("r+b") as file:
            file.truncate(10)
        slow_down(request)

    bucket.faults = {number: [shorten] for number in range(1, 7)}
    with pytest.raises(UploadFailed, match="file_changed"):
        client.upload(recording)
    assert api.aborted == 1


@pytest.mark.parametrize("what", ["empty_file", "not_a_file", "file_unreadable"])
def test_what_is_no_recording_is_refused_before_anything_is_asked(
    client: Client, api: ApiStandIn, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "talk.wav"
    if what == "empty_file":
        path.touch()
    elif what == "not_a_file":
        path.mkdir()
    with pytest.raises(UploadFailed) as raised:
        client.upload(path)
    assert raised.value.code == what
    assert not api.calls


def test_complete_is_asked_again_when_its_answer_is_lost(
    client: Client, api: ApiStandIn, recording: Path
) -> None:
    call = "POST /s3/multipart/sealed%2Fid/complete"

    def lose(request: ApiHandler) -> None:
        del api.routes[call]
        request.body()
        request.reset()

    api.routes[call] = lose
    client.upload(recording)
    assert len(api.completed) == 1
    assert api.calls[call] == 2


def test_begin_is_not_asked_twice_when_its_answer_is_lost(
    client: Client, api: ApiStandIn, recording: Path
) -> None:
    api.routes["POST /s3/multipart"] = lambda request: request.reset()
    with pytest.raises(Unreachable):
        client.upload(recording)
    assert api.calls["POST /s3/multipart"] == 1


@given(st.integers(1, 5 * 1024**4))
def test_part_sizes_keep_the_limits_of_s3(size: int) -> None:
    chosen = part_bytes(size)
    assert chosen >= PART_BYTES
    assert -(-size // chosen) <= MAX_PARTS
    assert chosen == PART_BYTES or size > PART_BYTES * MAX_PARTS


# Who asks


def test_a_key_is_brought_to_the_api_and_never_to_the_bucket(
    api: ApiStandIn, bucket: BucketStandIn, recording: Path
) -> None:
    seen: list[str | None] = []

    def note(request: ApiHandler, route: Callable[[ApiHandler], None]) -> None:
        seen.append(request.headers["Authorization"])
        route(request)

    api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: stream(
        request, (1, document("completed"))
    )
    for name in ("transcript.txt", "peaks"):
        api.routes[f"GET /transcriptions/{ID}/{name}"] = lambda request: request.answer(
            307, Location=f"{bucket.url}/result"
        )
    for call, route in api.routes.items():
        api.routes[call] = partial(note, route=route)
    with Client(api.url, api_key="bks_secret", headers={"X-Proxy": "p"}, quick=FAST, patient=FAST) as client:
        client.upload(recording)
        client.wait(ID)
        client.transcript(ID)
        client.peaks(ID)
    assert set(seen) == {"Bearer bks_secret"}
    assert len(seen) >= 4
    assert len(bucket.headers_seen) == 6 + 2
    assert not [
        name for names in bucket.headers_seen for name in names if name in ("Authorization", "X-Proxy")
    ]


@pytest.mark.parametrize("key", ["", "bks_secret\r\nHost: x", "bks_ secret", "bks_sécret"])
def test_what_cannot_be_a_key_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ValueError, match="an API key has") as refused:
        Client("http://127.0.0.1:9", api_key=key)
    assert "cret" not in str(refused.value)


def test_no_text_of_the_client_or_its_errors_has_the_key(api: ApiStandIn, recording: Path) -> None:
    api.routes["GET /transcriptions"] = lambda request: request.problem(401, "bad_credentials")
    api.routes["POST /s3/multipart"] = lambda request: request.reset()
    with Client(api.url, api_key="bks_secret", quick=FAST, patient=FAST) as client:
        with pytest.raises(ServerProblem) as refused:
            client.list()
        with pytest.raises(Unreachable) as lost:
            client.upload(recording)
    nobody = Client("http://127.0.0.1:9", api_key="bks_secret", quick=FAST)
    with nobody, pytest.raises(Unreachable) as unreachable:
        nobody.list()
    errors = [caught.value for caught in (refused, lost, unreachable)]
    told = [text for error in errors for text in (str(error), repr(error), repr(vars(error)))]
    traces = ["".join(traceback.format_exception(error)) for error in errors]
    assert not [text for text in (repr(client), *told, *traces) if "secret" in text]


# Problems


@pytest.mark.parametrize("code", ["too_many_uploads", "daily_limit_reached"])
def test_a_limit_that_no_pause_outlasts_is_told_at_once(
    client: Client, api: ApiStandIn, recording: Path, code: str
) -> None:
    call = "POST /s3/multipart"

    def refuse(request: ApiHandler) -> None:
        request.body()
        request.problem(429, code)

    api.routes[call] = refuse
    with pytest.raises(ServerProblem, match=code):
        client.upload(recording)
    assert api.calls[call] == 1


def test_a_problem_document_becomes_a_server_problem(client: Client, api: ApiStandIn) -> None:
    api.routes[f"POST /transcriptions/{ID}/retry"] = lambda request: request.problem(
        409, "not_possible", state="running"
    )
    with pytest.raises(ServerProblem, match=r"^not_possible: This is not_possible\.$") as raised:
        client.retry(ID)
    assert (raised.value.status, raised.value.code) == (409, "not_possible")
    assert raised.value.document["state"] == "running"


def test_an_error_that_is_no_problem_document_is_told_by_its_status(client: Client, api: ApiStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer(500, b"<html>Oops</html>")
    with pytest.raises(ServerProblem, match=r"^http_500: Internal Server Error$"):
        client.get(ID)


def test_an_answer_of_another_server_is_no_transcription(client: Client, api: ApiStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer(200, b"<html>Welcome</html>")
    with pytest.raises(ServerProblem, match=r"^bad_answer: "):
        client.get(ID)


def test_a_busy_server_is_asked_again(client: Client, api: ApiStandIn) -> None:
    call = f"POST /transcriptions/{ID}/cancel"

    def busy(request: ApiHandler) -> None:
        api.routes[call] = lambda request: request.answer_json(200, document("canceled"))
        request.problem(503, "busy")

    api.routes[call] = busy
    assert client.cancel(ID).state == "canceled"


def test_a_server_that_asks_for_time_gets_it(
    client: Client, api: ApiStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = f"POST /transcriptions/{ID}/cancel"
    pauses: list[float] = []
    monkeypatch.setattr("bucketscribe.client.api.time.sleep", pauses.append)

    def busy(request: ApiHandler) -> None:
        api.routes[call] = lambda request: request.answer_json(200, document("canceled"))
        request.answer(429, Retry_After="3600")

    api.routes[call] = busy
    assert client.cancel(ID).state == "canceled"
    assert pauses == [RETRY_AFTER_SECONDS]


def test_a_server_that_failed_is_asked_again_for_what_may_be_repeated(
    client: Client, api: ApiStandIn
) -> None:
    for call in (f"GET /transcriptions/{ID}", f"POST /transcriptions/{ID}/retry"):
        api.routes[call] = lambda request: request.problem(500, "internal")
    for ask in (client.get, client.retry):
        with pytest.raises(ServerProblem, match="internal"):
            ask(ID)
    assert api.calls == {f"GET /transcriptions/{ID}": FAST.tries, f"POST /transcriptions/{ID}/retry": 1}


def test_a_redirect_has_done_nothing(client: Client, api: ApiStandIn) -> None:
    api.routes[f"DELETE /transcriptions/{ID}"] = lambda request: request.answer(302, Location="/login")
    with pytest.raises(ServerProblem, match="bad_answer"):
        client.delete(ID)


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_what_would_be_another_address_is_no_id(client: Client, api: ApiStandIn, id: str) -> None:
    with pytest.raises(ServerProblem, match="no_such_transcription"):
        client.delete(id)
    assert not api.calls


def test_nobody_there_is_told_with_the_address_and_the_reason() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with Client(url, quick=FAST) as client, pytest.raises(Unreachable) as raised:
            client.get(ID)
    assert str(raised.value) == f"unreachable: {url} does not answer: Connection refused."


@pytest.mark.parametrize("server", ["", "localhost:8000", "ftp://localhost", "http://"])
def test_what_is_no_url_is_no_server(server: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        Client(server)


# Reading


def test_fields_and_states_of_a_newer_server_are_kept(client: Client, api: ApiStandIn) -> None:
    newer = document("pondering", mood="good", progress={"stage": "tea", "percent": 12, "cups": 2})
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, newer)
    transcription = client.get(ID)
    assert transcription.state == "pondering"
    assert not transcription.final
    assert transcription.model_dump()["mood"] == "good"


def test_a_list_asks_for_what_is_given_and_for_nothing_else(client: Client, api: ApiStandIn) -> None:
    asked: list[dict[str, list[str]]] = []

    def page(request: ApiHandler) -> None:
        asked.append(request.query)
        request.answer_json(200, {"transcriptions": [document()], "cursor": "a&b"})

    api.routes["GET /transcriptions"] = page
    first = client.list(state="queued")
    client.list(cursor=first.cursor, limit=5)
    assert asked == [{"state": ["queued"]}, {"cursor": ["a&b"], "limit": ["5"]}]


def test_a_transcript_comes_from_the_bucket_which_sees_no_header_of_the_api(
    client: Client, api: ApiStandIn, bucket: BucketStandIn
) -> None:
    seen: list[str | None] = []

    def redirect(request: ApiHandler) -> None:
        seen.append(request.headers["Authorization"])
        request.answer(307, Location=f"{bucket.url}/transcript.txt")

    api.routes[f"GET /transcriptions/{ID}/transcript.txt"] = redirect
    assert client.transcript(ID, "txt") == b"And so, my fellow Americans\n"
    assert seen == ["Bearer secret"]
    assert "Authorization" not in bucket.headers_seen[0]


def test_a_transcript_that_is_not_ready_is_a_problem(client: Client, api: ApiStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}/transcript.srt"] = lambda request: request.problem(
        409, "not_ready", state="running"
    )
    with pytest.raises(ServerProblem, match="not_ready"):
        client.transcript(ID, "srt")


def test_peaks_come_from_the_bucket(client: Client, api: ApiStandIn, bucket: BucketStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}/peaks"] = lambda request: request.answer(
        307, Location=f"{bucket.url}/peaks"
    )
    assert client.peaks(ID) == b"And so, my fellow Americans\n"


@pytest.mark.parametrize(("status", "said"), [(200, "ok"), (503, "unavailable")])
def test_health_is_what_the_server_says_of_itself(
    client: Client, api: ApiStandIn, status: int, said: str
) -> None:
    health = {"status": said, "bucket": "ok", "queue": "Connection refused", "worker": None}
    api.routes["GET /health/ready"] = lambda request: request.answer_json(status, health)
    assert client.health().model_dump() == health
    assert client.health().ok == (status == 200)


def test_a_gateways_error_is_no_health(client: Client, api: ApiStandIn) -> None:
    api.routes["GET /health/ready"] = lambda request: request.answer(503, b"<html>Oops</html>")
    with pytest.raises(ServerProblem, match="http_503"):
        client.health()


# Waiting


def test_waiting_goes_on_after_the_last_event_when_the_stream_breaks(client: Client, api: ApiStandIn) -> None:
    resumed: list[str | None] = []

    def events(request: ApiHandler) -> None:
        resumed.append(request.headers["Last-Event-ID"])
        if len(resumed) == 1:
            request.send_response(200)
            request.send_header("Content-Type", "text/event-stream; charset=utf-8")
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            data = json.dumps(document("running", progress={"stage": "decoding", "percent": 5}))
            chunk(request, f": hello\n\nid: 4\nevent: transcription\ndata: {data}\n\nid: 5\nda".encode())
            request.reset()
        else:
            stream(request, (6, document("completed")))

    api.routes[f"GET /transcriptions/{ID}/events"] = events
    told: list[str] = []
    assert client.wait(ID, lambda news: told.append(news.state)).state == "completed"
    assert told == ["running", "completed"]
    assert resumed == [None, "4"]


def test_waiting_survives_a_server_that_restarts(client: Client, api: ApiStandIn) -> None:
    answers: list[Callable[[ApiHandler], None]] = [
        lambda request: request.reset(),
        lambda request: request.problem(503, "storage_unavailable"),
        lambda request: stream(request, (1, document("failed"))),
    ]
    api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: answers.pop(0)(request)
    assert client.wait(ID).state == "failed"


def test_waiting_sits_out_a_lost_connection_and_says_so(client: Client, api: ApiStandIn) -> None:
    call = f"GET /transcriptions/{ID}/events"
    told: list[str | None] = []

    def away(request: ApiHandler) -> None:
        api.routes[call] = lambda request: stream(request, (1, document("completed")))
        api.pause()
        request.reset()

    def hear(waiting: str | None) -> None:
        if not told:
            api.resume()
        told.append(waiting)

    api.routes[call] = away
    assert client.wait(ID, on_waiting=hear).state == "completed"
    assert told[0] == f"no connection to {api.url.removeprefix('http://')}: Connection refused"
    assert told[-1] is None


@pytest.mark.parametrize("how", ["no_route", "no_stream", "silent"])
def test_waiting_polls_where_there_is_no_stream(client: Client, api: ApiStandIn, how: str) -> None:
    states = ["queued", "queued", "running", "canceled"]
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(
        200, document(states.pop(0))
    )
    if how == "no_stream":
        api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: request.answer(200, b"{}")
    if how == "silent":
        api.routes[f"GET /transcriptions/{ID}/events"] = stream
    told: list[str] = []
    assert client.wait(ID, lambda news: told.append(news.state)).state == "canceled"
    assert told == ["queued", "running", "canceled"]
    assert api.calls[f"GET /transcriptions/{ID}/events"] == 1


def test_a_stream_with_nothing_new_is_followed_by_a_look(client: Client, api: ApiStandIn) -> None:
    turns: list[Callable[[ApiHandler], None]] = [
        lambda request: stream(request, (1, document("running")), rest=b": still here\n\n"),
        stream,
    ]
    api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: turns.pop(0)(request)
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, document("completed"))
    assert client.wait(ID).state == "completed"


def test_waiting_for_what_is_not_there_is_a_problem(client: Client, api: ApiStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: request.problem(
        404, "no_such_transcription"
    )
    with pytest.raises(ServerProblem, match="no_such_transcription"):
        client.wait(ID)


def test_the_client_waits_for_the_states_the_records_call_final() -> None:
    assert records.FINAL - {records.State.DELETED} == FINAL


# Server-sent events

STREAM = (
    "\ufeff: a comment\nretry: 10\nevent: transcription\nid: 7\ndata: one\ndata:two\n\n"
    "data: ünï\n\nid: 8\n\nid\ndata\n\ndata: cut off"
)
EVENTS = [Event("7", "transcription", "one\ntwo"), Event("7", "message", "ünï"), Event("", "message", "")]


@given(st.lists(st.integers(0, 200)), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_are_read_however_they_are_cut_into_blocks(cuts: list[int], ending: str) -> None:
    whole = re.sub("\n", ending, STREAM).encode()
    edges = [0, *sorted(cuts), len(whole)]
    blocks = [whole[start:end] for start, end in pairwise(edges)]
    assert list(parse(blocks)) == EVENTS


def test_an_id_with_a_null_is_ignored() -> None:
    assert list(parse([b"id: 1\0\ndata: x\n\n"])) == [Event(None, "message", "x")]


def test_a_transcription_needs_little_to_be_read() -> None:
    transcription = Transcription.model_validate(
        document("expired", warnings=[{"code": "w", "message": "m"}])
    )
    assert transcription.final
    assert transcription.warnings[0].code == "w"
