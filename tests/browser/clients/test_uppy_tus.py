"""`@uppy/tus` as its makers publish it, for Uppy 5 and 6, with nothing but `/uploads/files/` behind it."""

import json
from collections.abc import Callable
from pathlib import Path

from bucketscribe.client.model import Transcription

from tests.browser.clients.conftest import HERE, JFK
from tests.browser.clients.test_tus import (
    AT_ONCE_AGAIN,
    ENDPOINT,
    MIB,
    SLOWLY,
    bytes_sent,
    nothing_of_it_is_left,
    recording_of,
    whole,
)
from tests.browser.clients.test_uppy import finished, the_only_one, written
from tests.browser.clients.uppy import ERROR, SUCCESS, Uppy
from tests.browser.conftest import Watch
from tests.browser.line import Line
from tests.browser.stack import Stack
from tests.integration.test_up import wait_until
from tests.sizes import LARGE_BYTES


def uploaded(uppy: Uppy) -> str:
    """The transcription's id, as `upload-success` tells it."""
    (details,) = uppy.heard(SUCCESS)
    return str(details[1]["uploadURL"]).rpartition("/")[2]


def in_the_middle(uppy: Uppy, stack: Stack, api_line: Line, talk: Path) -> Transcription:
    """An upload of which a good piece has been sent, and more is on its way."""
    uppy.open(f"{api_line.url}{ENDPOINT}", by_tus=True)
    api_line.bytes_per_second = SLOWLY
    uppy.send(talk)
    uppy.page.wait_for_function(
        "(bytes) => window.uppy.getFiles()[0].progress.bytesUploaded > bytes", arg=12 * MIB
    )
    return the_only_one(stack)


class TestDocumentation:
    """docs/tus.md: its code, word for word, on a page of its own."""

    def test_its_versions_are_those_that_are_tested(self, uppy: Uppy, clean: Stack) -> None:
        uppy.open(clean.url, documented=True, by_tus=True)
        versions = uppy.do("return window.versions;")
        asked_for = json.loads((HERE / f"uppy{uppy.major}/package.json").read_text())["dependencies"]
        assert versions == {"core": asked_for["@uppy/core"], "tus": asked_for["@uppy/tus"]}
        assert versions["tus"] in (HERE.parents[2] / "docs/tus.md").read_text()

    def test_its_page_tells_the_transcriptions_id(self, uppy: Uppy, clean: Stack) -> None:
        uppy.open(clean.url, documented=True, by_tus=True)
        with uppy.page.expect_console_message(lambda said: "transcription" in said.text) as told:
            uppy.send(JFK)
        assert told.value.text == f"jfk.wav is transcription {the_only_one(clean).id}"
        assert the_only_one(clean).options["language"] == "en"


def test_a_small_file_becomes_a_transcript(uppy: Uppy, clean: Stack, tmp_path: Path) -> None:
    named = tmp_path / "Grüße, 世界.wav"
    named.write_bytes(JFK.read_bytes())
    uppy.open(f"{clean.url}{ENDPOINT}", by_tus=True, meta_language="en", meta_x_project="moon")
    uppy.send(named)
    id = uploaded(uppy)
    whole(clean, id, JFK)
    done = finished(clean, recording_of(clean, id))
    assert (done.name, done.size) == (named.name, JFK.stat().st_size)
    assert done.options["language"] == "en"


def test_a_large_recording_arrives_as_it_was(
    uppy: Uppy, clean: Stack, recording: Callable[[str, int], Path]
) -> None:
    long = recording("long.wav", LARGE_BYTES)
    uppy.open(f"{clean.url}{ENDPOINT}", by_tus=True)
    uppy.send(long)
    id = uploaded(uppy)
    clean.client.cancel(id)
    whole(clean, id, long)


def test_a_paused_upload_goes_on_where_it_was(
    uppy: Uppy, clean: Stack, watch: Watch, api_line: Line, talk: Path
) -> None:
    watch.expect(AT_ONCE_AGAIN)
    upload = in_the_middle(uppy, clean, api_line, talk)
    uppy.do("uppy.pauseAll();")
    api_line.bytes_per_second = None
    uppy.do("uppy.resumeAll();")
    assert uploaded(uppy) == upload.id
    whole(clean, upload.id, talk)
    assert bytes_sent(api_line) < talk.stat().st_size + 8 * MIB


def test_after_a_reload_an_upload_goes_on_where_it_was(
    uppy: Uppy, clean: Stack, watch: Watch, api_line: Line, talk: Path
) -> None:
    watch.expect(AT_ONCE_AGAIN)
    upload = in_the_middle(uppy, clean, api_line, talk)
    uppy.page.reload()
    api_line.bytes_per_second = None
    uppy.page.wait_for_function("() => window.uppy")
    uppy.send(talk)
    assert uploaded(uppy) == upload.id
    whole(clean, upload.id, talk)
    assert bytes_sent(api_line) < talk.stat().st_size + 8 * MIB


def test_what_is_canceled_leaves_nothing_in_the_bucket(
    uppy: Uppy, clean: Stack, watch: Watch, api_line: Line, talk: Path
) -> None:
    watch.expect(AT_ONCE_AGAIN)
    upload = in_the_middle(uppy, clean, api_line, talk)
    with uppy.page.expect_response(lambda answer: answer.request.method == "DELETE") as answered:
        uppy.do("uppy.cancelAll();")
    assert answered.value.status == 204
    assert clean.client.get(upload.id).state == "canceled"
    wait_until("nothing of it is left", lambda: nothing_of_it_is_left(clean, upload.id), 30)


def test_what_is_refused_is_said_in_our_words(uppy: Uppy, clean: Stack, watch: Watch, tmp_path: Path) -> None:
    watch.expect("status of 415", "Send audio or video")
    uppy.open(f"{clean.url}{ENDPOINT}", by_tus=True)
    uppy.send(written(tmp_path / "notes.txt"))
    (details,) = uppy.heard(ERROR)
    assert "A file named .txt is not a recording." in details[1]["message"]
    assert clean.client.list().transcriptions == ()
