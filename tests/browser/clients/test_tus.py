"""tus-js-client as its makers publish it, in Node and in Chromium, with only `/uploads/files/` behind it."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bucketscribe.client import Client
from playwright.sync_api import BrowserContext

from tests.browser.clients.conftest import HERE, JFK
from tests.browser.clients.test_uppy import arrived, digest, finished, the_only_one, written
from tests.browser.clients.tus_js_client import Node, Tab, TusJsClient, answers, succeeded
from tests.browser.conftest import Watch
from tests.browser.line import Line
from tests.browser.stack import Stack
from tests.integration.test_up import BUCKET, wait_until
from tests.sizes import LARGE_BYTES

MIB = 1024**2
ENDPOINT = "/uploads/files/"

SLOWLY = 16 * MIB
"""Bytes a second, so that there is a middle in which something can happen."""

NOTHING = 0.001

AT_ONCE_AGAIN = "status of (409|423)"
"""What a browser logs where an upload goes on before its last request has ended; the client asks again."""

SMALL_CHUNK = 4 * MIB


@pytest.fixture
def node(tmp_path: Path, site: str) -> Iterator[Node]:
    node = Node(tmp_path / "uploads.json")
    yield node
    node.close()


@pytest.fixture
def tab(context: BrowserContext, site: str) -> Tab:
    page = context.new_page()
    # Large files and a worker beside them: a busy machine takes its time.
    page.set_default_timeout(60_000)
    return Tab(page, site)


@pytest.fixture(params=["node", "tab"])
def tus(request: pytest.FixtureRequest) -> TusJsClient:
    """One upload in either of the two."""
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


def recording_of(stack: Stack, id: str) -> str:
    """Its key in the bucket."""
    key = stack.client.get(id).key
    assert key is not None
    return key


def whole(stack: Stack, id: str, file: Path) -> None:
    """The bucket holds exactly the file, once, and nothing of the upload besides."""
    assert arrived(stack, recording_of(stack, id)) == digest(file)
    assert stack.open_uploads() == []
    assert [key for key in stack.objects() if key.startswith("tus/")] == []


def nothing_of_it_is_left(stack: Stack, id: str) -> bool:
    """Whether no byte of an upload is in the bucket. Its marker stays, for what may still be on its way."""
    left = {key.split("/")[0] for key in stack.objects() if id in key}
    return stack.open_uploads() == [] and left <= {"records", "open"}


def bytes_sent(line: Line) -> int:
    """Bytes of recordings that reached the API, but for those it refused because another was writing."""
    taken = [seen for seen in line.requests if seen.method in ("PATCH", "POST")]
    return sum(seen.sent for seen in taken if seen.status not in (409, 423))


def in_the_middle(tus: TusJsClient, api_line: Line, talk: Path, **options: object) -> None:
    """An upload of which a good piece has been sent, and more is on its way."""
    tus.open(talk, f"{api_line.url}{ENDPOINT}", **options)
    api_line.bytes_per_second = SLOWLY
    tus.do("start")
    tus.heard("progress", lambda said: said["sent"] > 12 * MIB)


def standing_still(line: Line) -> Callable[[], bool]:
    """Whether a piece is on its way and has not moved since it was last asked."""
    before = -1

    def still() -> bool:
        nonlocal before
        sent, before = before, sum(seen.sent for seen in line.requests)
        return sent == before and any(seen.taken > seen.sent and not seen.over for seen in line.requests)

    return still


class TestDocumentation:
    """docs/tus.md: its code, word for word, on a page of its own."""

    def test_its_version_is_the_one_that_is_tested(self) -> None:
        asked_for = json.loads((HERE / "tus/package.json").read_text())["dependencies"]["tus-js-client"]
        assert f"tus-js-client {asked_for}" in (HERE.parents[2] / "docs/tus.md").read_text()

    def test_its_page_tells_the_transcriptions_id(
        self, clean: Stack, context: BrowserContext, site: str
    ) -> None:
        page = context.new_page()
        page.goto(f"{site}/tus/documented.html?endpoint={clean.url}")
        with page.expect_console_message(lambda said: "transcription" in said.text) as told:
            page.get_by_label("Recordings").set_input_files(JFK)
        assert told.value.text == f"jfk.wav is transcription {the_only_one(clean).id}"
        assert the_only_one(clean).options["language"] == "en"


def test_a_recording_becomes_a_transcript(tus: TusJsClient, clean: Stack) -> None:
    metadata = {"filename": "Grüße, 世界.wav", "filetype": "audio/wav", "language": "en", "x-project": "moon"}
    tus.open(JFK, f"{clean.url}{ENDPOINT}", metadata=metadata)
    tus.do("start")
    id = succeeded(tus)
    whole(clean, id, JFK)
    done = finished(clean, recording_of(clean, id))
    assert (done.name, done.size) == ("Grüße, 世界.wav", JFK.stat().st_size)
    assert done.options["language"] == "en"


def test_a_large_file_arrives_as_it_was_in_chunks_that_fit_through_a_lambda(
    node: Node, clean: Stack, talk: Path
) -> None:
    node.open(talk, f"{clean.url}{ENDPOINT}", metadata={"filename": "talk.wav"}, chunkSize=SMALL_CHUNK)
    node.do("start")
    whole(clean, succeeded(node), talk)
    assert len(answers(node, "PATCH")) == -(-talk.stat().st_size // SMALL_CHUNK)


def test_what_the_page_must_read_it_can(tab: Tab, clean: Stack) -> None:
    tab.open(JFK, f"{clean.url}{ENDPOINT}", metadata={"filename": "jfk.wav"}, addRequestId=True)
    tab.do("start")
    id = succeeded(tab)
    (created,) = answers(tab, "POST")
    assert created["status"] == 201
    assert created["headers"]["Location"].endswith(f"/uploads/files/{id}")
    assert created["headers"]["Upload-Expires"].endswith("GMT")
    (last,) = answers(tab, "PATCH")
    assert last["status"] == 204
    assert last["headers"]["Upload-Offset"] == str(JFK.stat().st_size)
    assert last["headers"]["Tus-Resumable"] == "1.0.0"
    assert last["headers"]["Bucketscribe-Transcription"] == id


def test_a_paused_upload_goes_on_where_it_was(node: Node, clean: Stack, api_line: Line, talk: Path) -> None:
    in_the_middle(node, api_line, talk, metadata={"filename": "talk.wav"})
    node.do("abort")
    node.heard("aborted")
    api_line.bytes_per_second = None
    node.do("start")
    whole(clean, succeeded(node), talk)
    assert bytes_sent(api_line) < talk.stat().st_size + 8 * MIB
    assert len(clean.client.list().transcriptions) == 1


def test_after_a_restart_an_upload_is_found_by_its_file(
    tus: TusJsClient, clean: Stack, watch: Watch, api_line: Line, talk: Path
) -> None:
    watch.expect(AT_ONCE_AGAIN)
    in_the_middle(tus, api_line, talk, metadata={"filename": "talk.wav"})
    begun = the_only_one(clean).id
    tus.reopen()
    api_line.bytes_per_second = None
    tus.do("resume")
    assert tus.heard("found")["previous"]["uploadUrl"].endswith(begun)
    assert succeeded(tus) == begun
    whole(clean, begun, talk)
    assert bytes_sent(api_line) < talk.stat().st_size + 8 * MIB


def test_four_pieces_at_once_become_one_recording(tus: TusJsClient, clean: Stack, talk: Path) -> None:
    metadata = {"filename": "talk.wav", "language": "en"}
    tus.open(talk, f"{clean.url}{ENDPOINT}", metadata=metadata, parallelUploads=4)
    tus.do("start")
    id = succeeded(tus)
    assert [answer["status"] for answer in answers(tus, "POST")] == [201] * 5
    whole(clean, id, talk)
    # The pieces are nobody's transcription.
    assert the_only_one(clean).id == id
    assert the_only_one(clean).options["language"] == "en"


def test_four_pieces_at_once_go_on_after_a_restart(
    node: Node, clean: Stack, api_line: Line, talk: Path
) -> None:
    in_the_middle(node, api_line, talk, metadata={"filename": "talk.wav"}, parallelUploads=4)
    node.reopen()
    api_line.bytes_per_second = None
    node.do("resume")
    assert len(node.heard("found")["previous"]["parallelUploadUrls"]) == 4
    whole(clean, succeeded(node), talk)
    assert bytes_sent(api_line) < talk.stat().st_size + 8 * MIB


def test_what_is_terminated_leaves_nothing_in_the_bucket(
    node: Node, clean: Stack, api_line: Line, talk: Path
) -> None:
    in_the_middle(node, api_line, talk, metadata={"filename": "talk.wav"})
    upload = the_only_one(clean)
    node.do("terminate")
    node.heard("aborted")
    assert [answer["status"] for answer in answers(node, "DELETE")] == [204]
    assert clean.client.get(upload.id).state == "canceled"
    wait_until("nothing of it is left", lambda: nothing_of_it_is_left(clean, upload.id), 30)


def test_a_stream_tells_its_length_at_its_end(node: Node, clean: Stack, talk: Path) -> None:
    node.open_piped(
        talk,
        f"{clean.url}{ENDPOINT}",
        metadata={"filename": "talk.wav"},
        uploadLengthDeferred=True,
        chunkSize=SMALL_CHUNK,
    )
    node.do("start")
    whole(clean, succeeded(node), talk)


def test_the_first_bytes_may_come_with_the_creation(node: Node, clean: Stack, talk: Path) -> None:
    node.open(
        talk,
        f"{clean.url}{ENDPOINT}",
        metadata={"filename": "talk.wav"},
        uploadDataDuringCreation=True,
        chunkSize=24 * MIB,
    )
    node.do("start")
    whole(clean, succeeded(node), talk)
    assert [said["accepted"] for event, said in node.said() if event == "chunk"] == [
        24 * MIB,
        talk.stat().st_size,
    ]


def test_all_bytes_may_come_with_the_creation(tab: Tab, clean: Stack) -> None:
    tab.open(JFK, f"{clean.url}{ENDPOINT}", metadata={"filename": "jfk.wav"}, uploadDataDuringCreation=True)
    tab.do("start")
    whole(clean, succeeded(tab), JFK)
    assert answers(tab, "PATCH") == []


def test_where_patch_is_not_allowed_post_does(tab: Tab, clean: Stack) -> None:
    tab.open(JFK, f"{clean.url}{ENDPOINT}", metadata={"filename": "jfk.wav"}, overridePatchMethod=True)
    tab.do("start")
    whole(clean, succeeded(tab), JFK)
    assert [answer["status"] for answer in answers(tab, "POST")] == [201, 204]


def test_an_api_that_is_killed_costs_no_more_than_what_was_under_way(
    node: Node, clean: Stack, api_line: Line, talk: Path
) -> None:
    delays = [0, 1000, 3000, 5000, 10_000, 20_000, 20_000]
    in_the_middle(node, api_line, talk, metadata={"filename": "talk.wav"}, retryDelays=delays)
    begun = the_only_one(clean).id
    said = len(clean.up.lines)
    os.kill(clean.up.child("api"), signal.SIGKILL)
    api_line.bytes_per_second = None
    clean.up.says("api is back", after=said)
    assert succeeded(node) == begun
    whole(clean, begun, talk)


def test_whoever_lost_its_connection_gets_in_again_while_the_old_one_hangs(
    node: Node, clean: Stack, api_line: Line, talk: Path
) -> None:
    in_the_middle(node, api_line, talk, metadata={"filename": "talk.wav"})
    begun = the_only_one(clean).id
    # What is on its way stays there, and nobody tells the API that the client has gone.
    api_line.bytes_per_second = NOTHING
    wait_until("nothing moves", standing_still(api_line), 20)
    node.reopen()
    api_line.bytes_per_second = None
    node.do("resume")
    assert succeeded(node) == begun
    assert 423 in [answer["status"] for answer in answers(node, "PATCH")]
    whole(clean, begun, talk)


def test_from_another_origin_with_a_key(tab: Tab, clean: Stack, talk: Path, site: str) -> None:
    key = clean.new_key("Ann")
    with (
        clean.api(auth="keys", allowed_origins=site) as strict,
        Client(strict, api_key=key) as ann,
    ):
        headers = {"Authorization": f"Bearer {key}"}
        tab.open(talk, f"{strict}{ENDPOINT}", metadata={"filename": "talk.wav"}, headers=headers)
        tab.do("start")
        id = succeeded(tab)
        assert ann.get(id).name == "talk.wav"
        ann.delete(id)


def test_what_is_no_recording_is_refused_in_our_words(
    tab: Tab, clean: Stack, watch: Watch, tmp_path: Path
) -> None:
    watch.expect("status of 415")
    notes = written(tmp_path / "notes.txt")
    tab.open(notes, f"{clean.url}{ENDPOINT}", metadata={"filename": "notes.txt"})
    tab.do("start")
    refused = tab.heard("error")
    assert refused["status"] == 415
    assert json.loads(refused["body"])["code"] == "unsupported_media"
    assert clean.client.list().transcriptions == ()


def test_what_only_looks_like_a_recording_is_refused_at_its_end(
    tab: Tab, clean: Stack, watch: Watch, tmp_path: Path
) -> None:
    watch.expect("status of 415")
    tab.open(written(tmp_path / "fake.mp3"), f"{clean.url}{ENDPOINT}", metadata={"filename": "fake.mp3"})
    tab.do("start")
    refused = tab.heard("error")
    assert refused["status"] == 415
    assert "Send a recording" in json.loads(refused["body"])["detail"]
    assert the_only_one(clean).state == "failed"


def test_a_large_recording_arrives_as_it_was(
    tus: TusJsClient, clean: Stack, recording: Callable[[str, int], Path]
) -> None:
    long = recording("long.wav", LARGE_BYTES)
    tus.open(long, f"{clean.url}{ENDPOINT}", metadata={"filename": "long.wav"})
    tus.do("start")
    id = succeeded(tus)
    # Nine hours of silence are not for the worker.
    clean.client.cancel(id)
    key = recording_of(clean, id)
    assert clean.s3.head_object(Bucket=BUCKET, Key=key)["ContentLength"] == LARGE_BYTES
    assert arrived(clean, key) == digest(long)
