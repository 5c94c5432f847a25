"""`@uppy/aws-s3` as its makers publish it, versions 5 and 6, with nothing but our upload routes behind it."""

import hashlib
import json
import os
import signal
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from bucketscribe.client import Client
from bucketscribe.client.model import Transcription

from tests.browser.clients.conftest import HERE, JFK
from tests.browser.clients.uppy import PART_SENT, Uppy, id_of
from tests.browser.conftest import Watch
from tests.browser.line import Line
from tests.browser.stack import Stack
from tests.integration.test_up import BUCKET

SLOWLY = 16 * 1024**2
"""Bytes a second, so that there is a middle in which something can happen."""

MANY = 6
"""Parts of `talk`."""


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def written(path: Path) -> Path:
    """A file that is no recording, whatever its name says."""
    path.write_text("Buy milk. " * 1000)
    return path


def arrived(stack: Stack, key: str) -> str:
    """SHA-256 of what lies in the bucket."""
    body = stack.s3.get_object(Bucket=BUCKET, Key=key)["Body"]
    whole = hashlib.sha256()
    for chunk in body.iter_chunks(1024**2):
        whole.update(chunk)
    return whole.hexdigest()


def finished(stack: Stack, key: str) -> Transcription:
    """The one transcription there is, completed."""
    done = stack.client.wait(id_of(key))
    assert done.error is None
    assert (done.state, done.run) == ("completed", 1)
    assert [other.id for other in stack.client.list().transcriptions] == [done.id]
    assert "country" in stack.client.transcript(done.id).decode()
    return done


def the_only_one(stack: Stack) -> Transcription:
    (transcription,) = stack.client.list().transcriptions
    return transcription


def sent(line: Line) -> list[int]:
    """Numbers of the parts the bucket has taken."""
    return sorted(seen.part for seen in line.parts() if seen.part and seen.status == 200)


def in_the_middle(uppy: Uppy, stack: Stack, talk: Path, keep: int = 0) -> Transcription:
    """An upload of which some parts have arrived, and nothing more gets through."""
    uppy.open(stack.url, multipart=True, limit=2, keep=keep)
    stack.line.bytes_per_second = SLOWLY
    uppy.send(talk)
    uppy.heard(PART_SENT, 2)
    stack.line.hold()
    stack.line.bytes_per_second = None
    assert 2 <= len(sent(stack.line)) < MANY
    return the_only_one(stack)


class TestDocumentation:
    """docs/uppy.md: its code, word for word, on a page of its own."""

    def test_its_versions_are_those_that_are_tested(self, uppy: Uppy, clean: Stack) -> None:
        uppy.open(clean.url, documented=True)
        versions = uppy.do("return window.versions;")
        asked_for = json.loads((HERE / f"uppy{uppy.major}/package.json").read_text())["dependencies"]
        assert versions == {"core": asked_for["@uppy/core"], "awsS3": asked_for["@uppy/aws-s3"]}
        assert versions["awsS3"] in (HERE.parents[2] / "docs/uppy.md").read_text()

    def test_its_page_tells_the_transcriptions_id(self, uppy: Uppy, clean: Stack) -> None:
        uppy.open(clean.url, documented=True)
        with uppy.page.expect_console_message(lambda said: "transcription" in said.text) as told:
            uppy.send(JFK)
        assert told.value.text == f"jfk.wav is transcription {the_only_one(clean).id}"
        assert the_only_one(clean).options["language"] == "en"
        assert sent(clean.line) == [1]

    def test_its_page_refuses_before_anything_is_sent(self, uppy: Uppy, clean: Stack, tmp_path: Path) -> None:
        uppy.open(clean.url, documented=True)
        uppy.choose(written(tmp_path / "notes.txt"))
        assert uppy.refused_at_once().startswith("You can only upload: .3g2")
        assert clean.client.list().transcriptions == ()

    def test_its_page_says_in_our_words_what_was_refused_afterwards(
        self, uppy: Uppy, clean: Stack, watch: Watch, tmp_path: Path
    ) -> None:
        watch.expect("status of 415", "Companion request failed", "Send a recording")
        uppy.open(clean.url, documented=True)
        uppy.send(written(tmp_path / "fake.mp3"))
        # Uppy 6 says first, and by itself, that it failed; what the documentation adds comes then.
        *_, shown = uppy.heard("info-visible", 1 if uppy.major == 5 else 2)
        assert "Send a recording: audio, or video with sound." in json.dumps(shown)


def test_a_small_file_goes_by_one_form_and_becomes_a_transcript(
    uppy: Uppy, clean: Stack, watch: Watch
) -> None:
    if uppy.major == 5:
        # S3 answers a form with the object's address, SeaweedFS does not. Nothing comes of it.
        watch.expect("Could not read the Location header")
    uppy.open(clean.url, meta_language="en", meta_x_project="moon")
    uppy.send(JFK)
    key = uppy.key()
    assert arrived(clean, key) == digest(JFK)
    done = finished(clean, key)
    assert (done.name, done.size) == ("jfk.wav", JFK.stat().st_size)
    # The page allows hotwords to be sent, and this file has none.
    assert (done.options["language"], done.options["hotwords"]) == ("en", None)
    assert [seen.method for seen in clean.line.requests if seen.size] == ["POST"]


def test_a_small_file_may_go_in_parts_too(uppy: Uppy, clean: Stack) -> None:
    uppy.open(clean.url, multipart=True, meta_language="en")
    uppy.send(JFK)
    assert arrived(clean, uppy.key()) == digest(JFK)
    assert sent(clean.line) == [1]
    assert clean.client.get(id_of(uppy.key())).options["language"] == "en"


def test_a_large_file_goes_in_parts_and_arrives_as_it_was(uppy: Uppy, clean: Stack, talk: Path) -> None:
    uppy.open(clean.url, multipart=True)
    uppy.send(talk)
    key = uppy.key()
    assert arrived(clean, key) == digest(talk)
    assert sent(clean.line) == list(range(1, MANY + 1))
    assert clean.line.part_bytes() == talk.stat().st_size
    finished(clean, key)


def test_a_paused_upload_goes_on_with_the_parts_that_are_missing(
    uppy: Uppy, clean: Stack, talk: Path
) -> None:
    upload = in_the_middle(uppy, clean, talk)
    uppy.do("uppy.pauseAll();")
    clean.line.release()
    before = sent(clean.line)
    uppy.do("uppy.resumeAll();")
    assert id_of(uppy.key()) == upload.id
    assert arrived(clean, uppy.key()) == digest(talk)
    assert sent(clean.line) == list(range(1, MANY + 1)), f"{before} had been sent"


def test_what_is_canceled_leaves_nothing_in_the_bucket(uppy: Uppy, clean: Stack, talk: Path) -> None:
    upload = in_the_middle(uppy, clean, talk)
    with uppy.page.expect_response(lambda answer: answer.request.method == "DELETE") as answered:
        uppy.do("uppy.cancelAll();")
    assert answered.value.status == 200
    clean.line.release()
    assert clean.client.get(upload.id).state == "canceled"
    assert clean.open_uploads() == []
    left = [key for key in clean.objects() if upload.id in key]
    assert [key.split("/")[0] for key in left] == ["records"]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "chosen-again"])
def test_after_a_reload_golden_retriever_goes_on_with_the_parts_that_are_missing(
    uppy: Uppy, clean: Stack, talk: Path, kept: bool
) -> None:
    size = talk.stat().st_size
    keep = size if kept else 1
    upload = in_the_middle(uppy, clean, talk, keep=keep)
    assert upload.key is not None
    uppy.remembers(upload.key)
    uppy.page.reload()
    before = sent(clean.line)
    clean.line.start_over()
    uppy.heard("restored")
    if not kept:
        # Too large to be kept by the browser: its user is asked for it.
        assert uppy.do("return uppy.getFiles().map((file) => file.isGhost);") == [True]
        uppy.choose(talk)
    uppy.do("uppy.emit('restore-confirmed');")
    assert uppy.key() == upload.key
    assert sent(clean.line) == [number for number in range(1, MANY + 1) if number not in before]
    assert arrived(clean, upload.key) == digest(talk)
    assert the_only_one(clean).id == upload.id


def test_a_connection_that_breaks_is_made_up_for(uppy: Uppy, clean: Stack, watch: Watch, talk: Path) -> None:
    watch.expect("net::ERR_")
    upload = in_the_middle(uppy, clean, talk)
    clean.line.cut()
    clean.line.release()
    assert uppy.key() == upload.key
    assert arrived(clean, uppy.key()) == digest(talk)
    assert sent(clean.line) == list(range(1, MANY + 1))


def test_while_the_api_is_away_nothing_is_lost(uppy: Uppy, clean: Stack, watch: Watch, talk: Path) -> None:
    watch.expect("net::ERR_", "Failed to fetch", "Network")
    upload = in_the_middle(uppy, clean, talk)
    said = len(clean.up.lines)
    os.kill(clean.up.child("api"), signal.SIGKILL)
    clean.line.release()
    if uppy.major == 6:
        # Uppy 5 tries again by itself; here it is the user who does.
        assert uppy.refusal() == "Failed to fetch"
        clean.up.says("api is back", after=said)
        uppy.do("void uppy.retryAll();")
    assert uppy.key() == upload.key
    assert arrived(clean, uppy.key()) == digest(talk)
    assert sent(clean.line) == list(range(1, MANY + 1))


@pytest.mark.parametrize("uppy", [6], ids=["uppy6"], indirect=True)
def test_with_an_upload_token_in_the_path_nobody_signs_in(
    uppy: Uppy, clean: Stack, talk: Path, site: str
) -> None:
    key = clean.new_key("Ann")
    with (
        clean.api(auth="keys", allowed_origins=site, require_size="true") as strict,
        Client(strict, api_key=key) as ann,
    ):
        asked = Request(f"{strict}/upload-tokens", method="POST", headers={"Authorization": f"Bearer {key}"})
        with urlopen(asked) as answer:
            token = json.load(answer)
        assert token["endpoint"].startswith(f"{strict}/u/")
        uppy.open(token["endpoint"], multipart=True)
        uppy.send(talk)
        assert arrived(clean, uppy.key()) == digest(talk)
        (transcription,) = ann.list().transcriptions
        assert transcription.id == id_of(uppy.key())
        ann.delete(transcription.id)


class TestRefusals:
    """Uppy 5 shows the API's own sentence, Uppy 6 no more than the status: ask before, or afterwards."""

    @pytest.mark.parametrize("multipart", [True, False], ids=["in-parts", "by-form"])
    def test_a_file_of_the_wrong_type(
        self, uppy: Uppy, clean: Stack, watch: Watch, tmp_path: Path, multipart: bool
    ) -> None:
        watch.expect("status of 415", "Companion request failed", "Send audio or video")
        uppy.open(clean.url, multipart=multipart)
        uppy.send(written(tmp_path / "notes.txt"))
        if uppy.major == 5:
            assert uppy.refusal().startswith("A file named .txt is not a recording. Send audio or video")
        else:
            assert uppy.refusal() == "Companion request failed: Unsupported Media Type"
        assert clean.client.list().transcriptions == ()
        assert clean.open_uploads() == []

    def test_a_file_that_only_looks_like_a_recording(
        self, uppy: Uppy, clean: Stack, watch: Watch, tmp_path: Path
    ) -> None:
        watch.expect("status of 415", "Companion request failed", "Send a recording")
        uppy.open(clean.url, multipart=True)
        uppy.send(written(tmp_path / "fake.mp3"))
        refusal = uppy.refusal()
        (transcription,) = clean.client.list().transcriptions
        assert transcription.error is not None
        assert transcription.error.code == "unsupported_media"
        if uppy.major == 5:
            assert refusal == transcription.error.message
        else:
            assert refusal == "Companion request failed: Unsupported Media Type"
            assert uppy.do("return uppy.getFiles()[0].s3Multipart.key;") == transcription.key
