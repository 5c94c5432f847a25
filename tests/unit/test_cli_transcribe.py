"""`bucketscribe transcribe` with several recordings, with patterns and with standard input.

The server is a stand-in (`standins.py`) in which each recording has an id of its own: `id-` and its name.
"""

import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.unit.standins import (
    KEY,
    ApiHandler,
    ApiStandIn,
    BucketHandler,
    BucketStandIn,
    document,
    slow_down,
    stream,
)
from tests.unit.test_cli import command, environment, run

WAV = b"RIFF\x04\x00\x00\x00WAVEfmt "
FAILURE = {"code": "undecodable", "message": "It is broken.", "stage": "transcribing", "at_seconds": 60}


@pytest.fixture
def api(bucket: BucketStandIn) -> Iterator[ApiStandIn]:
    with ApiStandIn(bucket) as server:
        server.routes["POST /s3/multipart"] = begin
        yield server


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    folder = tmp_path / "talks"
    for name in ("b.wav", "a.wav", "old/c.wav", "notes.txt"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(WAV)
    return folder


def begin(request: ApiHandler) -> None:
    asked = json.loads(request.body())
    request.server.begun.append(asked)
    id = f"id-{asked['filename']}"
    begun = {"id": id, "key": KEY, "uploadId": "sealed/id", "bucket": "b", "partSize": 65536, "expires": 600}
    request.answer_json(200, begun)


def ends(api: ApiStandIn, name: str, state: str = "completed", **more: Any) -> None:
    """Let the recording of this name end so, with a transcript that tells it from others."""
    path = f"/transcriptions/{quote(f'id-{name}')}"
    shown = document(state, **more) | {"id": f"id-{name}", "name": name}
    api.routes[f"GET {path}"] = lambda request: request.answer_json(200, shown)
    api.routes[f"GET {path}/events"] = lambda request: stream(request, (1, shown))
    for format in ("txt", "srt"):
        api.routes[f"GET {path}/transcript.{format}"] = lambda request: request.answer(
            200, f"This is {name}.\n".encode()
        )


def names(api: ApiStandIn) -> list[str]:
    return [begun["filename"] for begun in api.begun]


# Which recordings


def test_a_quoted_pattern_is_looked_up_in_the_order_of_names(api: ApiStandIn, talks: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        ends(api, name)
    assert run("transcribe", f"{talks}/**/*.wav", "--no-wait", "--server", api.url).returncode == 0
    assert names(api) == ["a.wav", "b.wav", "c.wav"]


def test_a_file_named_twice_is_sent_once_and_the_order_given_is_kept(api: ApiStandIn, talks: Path) -> None:
    for name in ("a.wav", "b.wav"):
        ends(api, name)
    result = run("transcribe", f"{talks}/b.wav", f"{talks}/*.wav", "--no-wait", "--server", api.url)
    assert result.stdout == "id-b.wav\nid-a.wav\n"


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(api: ApiStandIn, talks: Path) -> None:
    (talks / "[ab].wav").write_bytes(WAV)
    ends(api, "[ab].wav")
    assert run("transcribe", f"{talks}/[ab].wav", "--no-wait", "--server", api.url).returncode == 0
    assert names(api) == ["[ab].wav"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{talks}/*.mp3"], "no file matches"),
        (["{talks}"], "is a folder"),
        (["{talks}/a.wav", "{talks}/none.wav"], "No such file"),
        (["{talks}/a.wav", "-"], "must be the only recording"),
        (["{talks}/*.wav", "--name", "x.wav"], "a name is for one recording only"),
        (["{talks}/*.wav", "--format", "srt"], "give a folder with --output"),
        (["{talks}/*.wav", "--output", "{talks}/all.txt"], "is not a folder"),
        (["{talks}/a.wav", "--output", "{talks}/a.wav"], "is a recording"),
        (["{talks}/a.wav", "--output", "{talks}/other.MP3", "--format", "srt"], "is a recording"),
        (["{talks}/a.wav", "--output", "{talks}/a.doc"], "tells no format"),
        (["{talks}/a\x1b2J.wav"], "a\ufffd2J.wav: No such file"),
        (["/dev/null"], "is not a regular file"),
        (["{talks}/a.wav", "--no-wait", "--format", "srt"], "there is no transcript yet"),
        (["{talks}/a.wav", "--output", "{talks}/a.wav/"], "File exists"),
    ],
)
def test_what_makes_no_sense_is_status_2_before_anything_is_sent(
    api: ApiStandIn, talks: Path, arguments: list[str], said: str
) -> None:
    words = [argument.format(talks=talks) for argument in arguments]
    result = run("transcribe", *words, "--server", api.url)
    assert result.returncode == 2
    assert said in result.stderr
    assert api.begun == []


# Standard input


def piped(api: ApiStandIn, data: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command("transcribe", "-", *arguments, "--server", api.url),
        input=data,
        capture_output=True,
        timeout=60,
        env=environment(),
        check=False,
    )


def test_what_is_piped_in_arrives_whole_under_the_name_given(api: ApiStandIn, bucket: BucketStandIn) -> None:
    ends(api, "talk.mp3")
    result = piped(api, WAV * 1000, "--name", "talk.mp3")
    assert (result.returncode, result.stdout) == (0, b"This is talk.mp3.\n")
    assert bucket.parts == {1: WAV * 1000}


def test_the_first_bytes_tell_what_is_piped_in_and_none_is_lost(
    api: ApiStandIn, bucket: BucketStandIn
) -> None:
    ends(api, "recording.wav")
    assert piped(api, WAV * 1000).returncode == 0
    assert bucket.parts == {1: WAV * 1000}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", b"empty"),
        (b"Dear diary, today I spoke to nobody.", b"looks like text"),
        ((b"\x47" + bytes(187)) * 30, b"--name"),
    ],
)
def test_what_its_first_bytes_do_not_tell_is_status_2(api: ApiStandIn, data: bytes, said: bytes) -> None:
    result = piped(api, data)
    assert result.returncode == 2
    assert said in result.stderr
    assert api.begun == []


# Several


def test_several_transcripts_are_told_apart_by_their_headers(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav")
    ends(api, "b.wav")
    result = run("transcribe", f"{talks}/b.wav", f"{talks}/a.wav", "--quiet", "--server", api.url)
    assert result.stdout == "==> b.wav <==\nThis is b.wav.\n\n==> a.wav <==\nThis is a.wav.\n"
    assert (result.returncode, result.stderr) == (0, "")


def test_a_folder_is_made_and_gets_a_file_for_each(api: ApiStandIn, talks: Path, tmp_path: Path) -> None:
    (talks / "A.wav").write_bytes(WAV)
    for name in ("a.wav", "b.wav", "c.wav", "A.wav"):
        ends(api, name)
    folder = tmp_path / "new" / "folder"
    words = ["--format", "srt", "--output", f"{folder}/", "--server", api.url]
    result = run("transcribe", f"{talks}/a.wav", f"{talks}/**/*.wav", *words)
    assert (result.returncode, result.stdout) == (0, "")
    written = {file.name: file.read_text() for file in folder.iterdir()}
    assert written == {
        "a.srt": "This is a.wav.\n",
        "A-2.srt": "This is A.wav.\n",
        "b.srt": "This is b.wav.\n",
        "c.srt": "This is c.wav.\n",
    }


def test_one_that_is_refused_does_not_stop_the_others(api: ApiStandIn, talks: Path) -> None:
    def refuse_a(request: ApiHandler) -> None:
        if b'"a.wav"' in (body := request.body()):
            request.problem(415, "unsupported_media")
        else:
            request.body = lambda: body  # type: ignore[method-assign]
            begin(request)

    api.routes["POST /s3/multipart"] = refuse_a
    ends(api, "b.wav")
    result = run("transcribe", f"{talks}/*.wav", "--server", api.url)
    assert (result.returncode, result.stdout) == (1, "\n==> b.wav <==\nThis is b.wav.\n")
    assert "Error: a.wav: This is unsupported_media. [unsupported_media]" in result.stderr.splitlines()


def test_one_that_fails_is_status_3_and_the_others_are_delivered(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav", "failed", error=FAILURE)
    ends(api, "b.wav")
    result = run("transcribe", f"{talks}/*.wav", "--server", api.url)
    assert result.returncode == 3
    assert "This is b.wav." in result.stdout
    assert "This is a.wav." not in result.stdout
    assert "Error: a.wav: The transcription failed in stage transcribing at 60 s" in result.stderr


def test_the_part_there_is_of_a_failed_one_is_delivered_with_status_3(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav", "failed", error=FAILURE, partial=True)
    result = run("transcribe", f"{talks}/a.wav", "--server", api.url)
    assert (result.returncode, result.stdout) == (3, "This is a.wav.\n")
    assert "It is broken. [undecodable]" in result.stderr
    got = run("get", "id-a.wav", "--server", api.url)
    assert (got.returncode, got.stdout) == (3, "This is a.wav.\n")
    assert "It is broken. [undecodable]" in got.stderr


def test_a_slow_one_does_not_change_the_order_given(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav")
    ends(api, "b.wav")
    last: list[Callable[[ApiHandler], None]] = [api.routes["GET /transcriptions/id-a.wav/events"]]

    def after_b(request: ApiHandler) -> None:
        if api.calls["GET /transcriptions/id-b.wav/events"]:
            last[0](request)
        else:
            stream(request, (1, document("running") | {"id": "id-a.wav"}))

    api.routes["GET /transcriptions/id-a.wav/events"] = after_b
    result = run("transcribe", f"{talks}/*.wav", "--quiet", "--server", api.url)
    assert result.stdout == "==> a.wav <==\nThis is a.wav.\n\n==> b.wav <==\nThis is b.wav.\n"


def test_json_is_a_line_for_each_whatever_became_of_it(api: ApiStandIn, talks: Path, tmp_path: Path) -> None:
    ends(api, "a.wav", "failed", error=FAILURE)
    ends(api, "b.wav")
    words = ["--json", "--output", f"{tmp_path}/out/", "--quiet", "--server", api.url]
    result = run("transcribe", f"{talks}/*.wav", *words)
    assert result.returncode == 3
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "id": "id-a.wav",
            "name": "a.wav",
            "state": "failed",
            "output": None,
            "error": {"code": "undecodable", "message": "It is broken."},
        },
        {
            "id": "id-b.wav",
            "name": "b.wav",
            "state": "completed",
            "output": f"{tmp_path}/out/b.txt",
            "error": None,
        },
    ]


def test_a_log_says_whose_news_it_is(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav")
    ends(api, "b.wav")
    result = run("transcribe", f"{talks}/*.wav", "--server", api.url)
    assert sorted(result.stderr.splitlines()) == [
        "a.wav: completed",
        "b.wav: completed",
        "uploading a.wav (16 bytes)",
        "uploading b.wav (16 bytes)",
    ]


def test_a_transcript_without_room_is_told_and_the_next_one_delivered(
    api: ApiStandIn, talks: Path, tmp_path: Path
) -> None:
    ends(api, "a.wav")
    ends(api, "b.wav")
    (tmp_path / "out" / "a.txt").mkdir(parents=True)
    words = ["--json", "--quiet", "--output", f"{tmp_path}/out", "--server", api.url]
    result = run("transcribe", f"{talks}/*.wav", *words)
    assert result.returncode == 1
    assert result.stderr == (
        f"Error: a.wav: {tmp_path}/out/a.txt: Is a directory. "
        "The transcript stays: bucketscribe get id-a.wav [not_written]\n"
    )
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["output"], line["error"] and line["error"]["code"]) for line in lines] == [
        (None, "not_written"),
        (f"{tmp_path}/out/b.txt", None),
    ]


def test_a_transcript_replaces_an_older_one_whole(api: ApiStandIn, talks: Path, tmp_path: Path) -> None:
    ends(api, "a.wav")
    older = tmp_path / "a.txt"
    older.write_text("older")
    (tmp_path / "same.txt").hardlink_to(older)
    assert run("transcribe", f"{talks}/a.wav", "-o", str(older), "--server", api.url).returncode == 0
    assert older.read_text() == "This is a.wav.\n"
    assert (tmp_path / "same.txt").read_text() == "older", "it was written beside the older one"
    assert {file.name for file in tmp_path.iterdir()} == {"talks", "a.txt", "same.txt"}


def test_an_output_of_a_minus_is_standard_output(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav")
    result = run("transcribe", f"{talks}/a.wav", "-o", "-", "--format", "srt", "--server", api.url)
    assert (result.returncode, result.stdout) == (0, "This is a.wav.\n")


def test_an_error_after_the_upload_says_how_to_go_on(api: ApiStandIn, talks: Path) -> None:
    ends(api, "a.wav")
    api.routes["GET /transcriptions/id-a.wav/events"] = lambda request: request.problem(403, "not_yours")
    result = run("transcribe", f"{talks}/a.wav", "--server", api.url)
    assert result.stderr.splitlines()[-1] == (
        "Error: This is not_yours. [not_yours] See: bucketscribe get id-a.wav"
    )


def test_what_is_finished_is_delivered_while_another_is_uploaded(
    api: ApiStandIn, bucket: BucketStandIn, talks: Path, tmp_path: Path
) -> None:
    """The second upload is let go on by the first one's transcript."""
    ends(api, "a.wav")
    ends(api, "b.wav")
    delivered = threading.Event()
    transcript = api.routes["GET /transcriptions/id-a.wav/transcript.txt"]

    def deliver(request: ApiHandler) -> None:
        transcript(request)
        delivered.set()

    def wait(request: BucketHandler) -> None:
        in_time.append(delivered.wait(30))
        slow_down(request)

    def second(request: ApiHandler) -> None:
        bucket.faults = {1: [wait]} if api.begun else {}
        begin(request)

    in_time: list[bool] = []
    api.routes["GET /transcriptions/id-a.wav/transcript.txt"] = deliver
    api.routes["POST /s3/multipart"] = second
    words = ["--output", f"{tmp_path}/out/", "--quiet", "--server", api.url]
    assert run("transcribe", f"{talks}/*.wav", *words).returncode == 0
    assert in_time == [True]


def test_standard_input_that_does_not_wait_is_waited_for(api: ApiStandIn, bucket: BucketStandIn) -> None:
    ends(api, "recording.wav")
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    begun = threading.Event()

    def begin_and_tell(request: ApiHandler) -> None:
        begin(request)
        begun.set()

    api.routes["POST /s3/multipart"] = begin_and_tell
    words = command("transcribe", "-", "--server", api.url)
    with subprocess.Popen(words, stdin=reading, stdout=subprocess.DEVNULL, env=environment()) as process:
        os.close(reading)
        os.write(writing, WAV * 1000)
        assert begun.wait(30)
        os.write(writing, WAV * 1000)
        os.close(writing)
    assert process.returncode == 0
    assert bucket.parts == {1: WAV * 2000}
