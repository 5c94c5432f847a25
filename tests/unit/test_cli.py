"""The command line as its users see it: what it prints where, its exit status, and how fast it starts.

Commands are run as processes. Where a server has to answer it is a stand-in (`standins.py`); the way from a
file to its transcript through the real ones is tested elsewhere.
"""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from bucketscribe.auth import Scope
from bucketscribe.cli import keys
from bucketscribe.cli.arguments import Format, State
from bucketscribe.cli.main import app
from bucketscribe.options import OPTION_NAMES
from bucketscribe.records import State as RecordState
from bucketscribe.transcript import FORMATS
from typer.testing import CliRunner

from tests.unit.standins import ID, ApiHandler, ApiStandIn, BucketHandler, BucketStandIn, document, stream

COMMANDS = "transcribe ls show get cancel retry rm doctor setup purge up api worker sweep".split()
GROUPS = {"keys": "new ls revoke".split(), "models": "get ls".split()}
NOBODY = "http://127.0.0.1:9"
KEY = f"bks_{'5ec2e7' * 6}0123"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bucketscribe.cli.main", *arguments]


def environment(**more: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith("BUCKETSCRIBE_")}
    return {**ours, "COLUMNS": "200", **more}


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(**more),
        check=False,
    )


@pytest.fixture
def api(bucket: BucketStandIn) -> Iterator[ApiStandIn]:
    with ApiStandIn(bucket) as server:
        yield server


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(b"RIFF....WAVEfmt ")
    return path


def finishes(api: ApiStandIn, *documents: dict[str, object]) -> None:
    """Let the transcription go through these, and its transcript be there."""
    versions = list(enumerate(documents, 1))
    api.routes[f"GET /transcriptions/{ID}/events"] = lambda request: stream(request, *versions)
    for format in Format:
        api.routes[f"GET /transcriptions/{ID}/transcript.{format}"] = lambda request: request.answer(
            307, Location=f"{api.bucket.url}/transcript"
        )


# Help and start


@pytest.mark.parametrize(
    "name", [*COMMANDS, *(f"{group} {name}" for group in GROUPS for name in GROUPS[group])]
)
def test_the_help_of_every_command_shows_an_example_of_it(name: str) -> None:
    result = CliRunner().invoke(app, [*name.split(), "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"bucketscribe {name}" in result.output.partition("Examples:\n")[2]


def test_these_are_all_commands() -> None:
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance is not None]
    assert [group.info.name for group in groups] == list(GROUPS)
    for typer, names in zip((app, *groups), (COMMANDS, *GROUPS.values()), strict=True):
        assert [info.callback.__name__ for info in typer.registered_commands if info.callback] == names


def test_the_exit_statuses_are_told() -> None:
    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).output.partition("Exit statuses:")[2]
    assert re.findall(r"^ +(\d+)  ", told, re.MULTILINE) == ["0", "1", "2", "3", "130", "141"]


def test_nothing_heavy_is_imported_at_the_start_nor_by_a_client_command() -> None:
    heavy = ["boto3", "botocore", "fastapi", "uvicorn", "av", "faster_whisper", "numpy", "pysubs2"]
    program = (
        "import sys; from bucketscribe.cli.main import app; light = 'urllib3' not in sys.modules\n"
        "try: app(['ls', '--server', 'http://127.0.0.1:9'])\n"
        f"except SystemExit: print(light, [name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout == "True []\n"


def test_formats_states_and_scopes_are_those_of_the_server() -> None:
    assert [*map(str, keys.Scope)] == [*map(str, Scope)]
    assert {*map(str, Format)} == set(FORMATS)
    assert {*map(str, State), "deleted"} == {*map(str, RecordState)}


@pytest.mark.parametrize("arguments", [["--help"], ["transcribe", "--help"]])
def test_help_needs_none_of_what_the_commands_need(arguments: Sequence[str]) -> None:
    program = (
        "import sys; from bucketscribe.cli.main import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit: print([name for name in ('rich', 'urllib3', 'boto3') if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_every_option_of_the_api_can_be_given(api: ApiStandIn, recording: Path) -> None:
    finishes(api, document("completed"))
    words = "--language en --model base --task translate --prompt Hm --hotwords Zoë --no-word-timestamps"
    more = "--diarize --min-speakers 2 --max-speakers 3 --webhook-url https://example.com/hook"
    result = run("transcribe", str(recording), *words.split(), *more.split(), "--server", api.url)
    assert result.returncode == 0
    given = api.begun[0]["metadata"]
    assert {name: given.get(name) for name in OPTION_NAMES} == {
        "language": "en",
        "model": "base",
        "task": "translate",
        "initial_prompt": "Hm",
        "hotwords": "Zoë",
        "word_timestamps": False,
        "diarize": True,
        "min_speakers": 2,
        "max_speakers": 3,
        "webhook_url": "https://example.com/hook",
    }


# Errors


@pytest.mark.parametrize("arguments", [["ls"], ["show", ID], ["get", ID], ["cancel", ID], ["rm", ID]])
def test_an_unreachable_server_is_one_line_and_status_1(arguments: Sequence[str]) -> None:
    result = run(*arguments, BUCKETSCRIBE_SERVER=NOBODY)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"Error: {NOBODY} does not answer: Connection refused.")
    assert result.stderr.endswith("[unreachable]\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["get"],
        ["get", ID, "--format", "doc"],
        ["ls", "--server", "localhost"],
        ["transcribe", "/no/such/file.wav"],
        ["get", ID, "--output", "/no/such/folder/talk.txt"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_status_2(arguments: Sequence[str]) -> None:
    result = run(*arguments, BUCKETSCRIBE_SERVER=NOBODY)
    assert result.returncode == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.stderr


def test_a_problem_is_one_line_with_its_code(api: ApiStandIn) -> None:
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.problem(404, "no_such_transcription")
    result = run("show", ID, "--server", api.url)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "Error: This is no_such_transcription. [no_such_transcription]\n"


@pytest.mark.parametrize("name", ["up", "worker", "sweep"])
def test_a_setting_that_makes_no_sense_is_one_line(name: str) -> None:
    result = run(name, BUCKETSCRIBE_PORT="eighty", BUCKETSCRIBE_MAX_ATTEMPTS="0")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("BUCKETSCRIBE_PORT: ")
    assert lines[1].startswith("BUCKETSCRIBE_MAX_ATTEMPTS: ")


# Who asks


class Doorkeeper(ApiStandIn):
    """Lets in who brings the key, and remembers by which routes others came."""

    def __init__(self, bucket: BucketStandIn) -> None:
        super().__init__(bucket)
        self.strangers: list[str] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        DoorkeepersHandler(request, client_address, self)


class DoorkeepersHandler(ApiHandler):
    def handle_any(self) -> None:
        if self.headers["Authorization"] != f"Bearer {KEY}":
            cast("Doorkeeper", self.server).strangers.append(f"{self.command} {self.path}")
        super().handle_any()


@pytest.fixture
def doorkeeper(bucket: BucketStandIn) -> Iterator[Doorkeeper]:
    with Doorkeeper(bucket) as server:
        finishes(server, document("completed"))
        page = {"transcriptions": [document()], "cursor": None}
        server.routes["GET /transcriptions"] = lambda request: request.answer_json(200, page)
        for call in ("cancel", "retry"):
            server.routes[f"POST /transcriptions/{ID}/{call}"] = lambda request: request.answer_json(
                200, document()
            )
        server.routes[f"DELETE /transcriptions/{ID}"] = lambda request: request.answer_json(202, {})
        health = {"status": "ok", "bucket": "ok", "queue": "ok"}
        server.routes["GET /health/ready"] = lambda request: request.answer_json(200, health)
        yield server


@pytest.mark.parametrize(
    "words",
    ["transcribe {}", "ls", f"show {ID}", f"get {ID}", f"cancel {ID}", f"retry {ID}", f"rm {ID}", "doctor"],
)
def test_every_command_brings_the_key_to_the_api_and_never_to_the_bucket(
    doorkeeper: Doorkeeper, bucket: BucketStandIn, recording: Path, words: str
) -> None:
    result = run(
        *words.format(recording).split(), "--server", doorkeeper.url, BUCKETSCRIBE_API_KEY=f"{KEY}\n"
    )
    assert result.returncode == 0, result.stderr
    # What the API can do, it tells everyone.
    assert [call for call in doorkeeper.strangers if call != "GET /openapi.json"] == []
    assert sum(doorkeeper.calls.values()) > 0
    assert all("Authorization" not in seen for seen in bucket.headers_seen)
    assert KEY not in result.stdout + result.stderr


def test_a_key_is_not_in_the_list_of_processes(
    api: ApiStandIn, sending: threading.Event, recording: Path
) -> None:
    process = subprocess.Popen(
        command("transcribe", str(recording), "--server", api.url),
        stderr=subprocess.DEVNULL,
        env=environment(BUCKETSCRIBE_API_KEY=KEY),
    )
    assert sending.wait(30)
    shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.kill()
    process.wait()
    assert recording.name in shown
    assert KEY not in shown


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "sign_in_required"),
        (401, "bad_credentials"),
        (401, "credentials_expired"),
        (403, "scope_missing"),
    ],
)
@pytest.mark.parametrize("words", [["ls"], ["rm", ID]])
def test_who_is_not_let_in_is_told_what_to_set(
    api: ApiStandIn, status: int, code: str, words: Sequence[str]
) -> None:
    for call in ("GET /transcriptions", f"DELETE /transcriptions/{ID}"):
        api.routes[call] = lambda request: request.problem(status, code)
    result = run(*words, "--server", api.url, BUCKETSCRIBE_API_KEY=KEY)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(rf"Error: .*This is {code}\. .*BUCKETSCRIBE_API_KEY.* \[{code}\]\n", result.stderr)
    assert KEY not in result.stderr


def test_what_cannot_be_a_key_is_status_2_and_not_repeated() -> None:
    result = run("ls", "--server", NOBODY, BUCKETSCRIBE_API_KEY="bks_sécret\r\nHost: x")
    assert result.returncode == 2
    assert "Invalid value for BUCKETSCRIBE_API_KEY" in result.stderr
    assert "cret" not in result.stderr.lower().replace("bucketscribe", "")


@pytest.mark.parametrize(
    ("key", "verdict", "status"), [("", "unknown", 0), (KEY, "missing", 1)], ids=["no key", "a bad key"]
)
def test_doctor_says_whether_its_caller_is_let_in(
    doorkeeper: Doorkeeper, key: str, verdict: str, status: int
) -> None:
    doorkeeper.routes["GET /transcriptions"] = lambda request: request.problem(401, "sign_in_required")
    result = run("doctor", "--json", "--server", doorkeeper.url, BUCKETSCRIBE_API_KEY=key)
    found = {finding["name"]: finding for finding in map(json.loads, result.stdout.splitlines())}
    assert (found["your access"]["verdict"], result.returncode) == (verdict, status)
    assert "BUCKETSCRIBE_API_KEY" in found["your access"]["means"]


# Keys


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new", KEY], "list of processes"),
        (["revoke", KEY], "list of processes"),
        (["new", ""], "can be printed"),
        (["new", "a\x1b[2J"], "can be printed"),
        (["new", "x" * 101], "can be printed"),
        (["new", "me", "--owner", " "], "can be printed"),
        (["new", "me", "--scope", "root"], "root"),
        (["new", "me", "--expires", "soon"], "such as 90d"),
        (["new", "me", "--expires", "2027-02-30"], "such as 90d"),
        (["revoke", "-"], "is no API key"),
    ],
)
def test_a_command_on_keys_that_makes_no_sense_is_status_2(arguments: Sequence[str], said: str) -> None:
    result = run("keys", *arguments, BUCKETSCRIBE_S3_ENDPOINT=NOBODY)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert KEY not in result.stderr


def test_keys_say_where_they_look_for_a_bucket() -> None:
    result = run("keys", "ls")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: No bucket is known here: give --data-dir")
    assert result.stderr.endswith("[no_bucket]\n")


def test_a_bucket_that_does_not_answer_is_one_line() -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    result = run("keys", "new", "me", BUCKETSCRIBE_S3_ENDPOINT=NOBODY, **credentials)
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"Error: The bucket bucketscribe: .* \[storage_unavailable\]\n", result.stderr)


# Transcribing


def test_a_transcript_is_all_there_is_on_standard_output(api: ApiStandIn, recording: Path) -> None:
    warning = {"code": "no_diarization", "message": "Speakers were not told apart."}
    finishes(
        api,
        document("running", progress={"stage": "decoding", "percent": 0}),
        document("running", progress={"stage": "decoding", "percent": 80}),
        document("completed", warnings=[warning]),
    )
    result = run("transcribe", str(recording), "--language", "en", "--task", "translate", "--server", api.url)
    assert (result.returncode, result.stdout) == (0, "And so, my fellow Americans\n")
    assert result.stderr.splitlines() == [
        "uploading talk.wav (16 bytes)",
        "running (decoding)",
        "completed",
        "Warning: Speakers were not told apart. [no_diarization]",
    ]
    given = api.begun[0]["metadata"]
    assert (given["language"], given["task"]) == ("en", "translate")
    assert "model" not in given


def test_a_terminal_sees_bars_while_standard_output_stays_clean(api: ApiStandIn, recording: Path) -> None:
    finishes(api, document("running", progress={"stage": "decoding", "percent": 40}), document("completed"))
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        command("transcribe", str(recording), "--server", api.url),
        stdout=subprocess.PIPE,
        stderr=its_end,
        text=True,
        env=environment(TERM="xterm"),
    )
    os.close(its_end)
    shown = b""
    # Linux says EIO, others nothing, once the other end is closed.
    with suppress(OSError):
        while block := os.read(terminal, 65536):
            shown += block
    os.close(terminal)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "And so, my fellow Americans\n")
    assert b"talk.wav" in shown
    assert b"decoding" in shown
    assert b"40%" in shown


def test_the_name_of_the_output_decides_its_format_unless_told(
    api: ApiStandIn, recording: Path, tmp_path: Path
) -> None:
    finishes(api, document("completed"))
    output = tmp_path / "talk.SRT"
    result = run("transcribe", str(recording), "-o", str(output), "--server", api.url)
    assert (result.returncode, result.stdout) == (0, "")
    assert output.read_text() == "And so, my fellow Americans\n"
    assert run("get", ID, "-o", str(output), "-f", "vtt", "--server", api.url).returncode == 0
    asked = [call.rpartition(".")[2] for call in api.calls if "transcript." in call]
    assert asked == ["srt", "vtt"]


def test_without_waiting_the_id_is_printed(api: ApiStandIn, recording: Path) -> None:
    result = run("transcribe", str(recording), "--no-wait", "--server", api.url)
    assert (result.returncode, result.stdout) == (0, f"{ID}\n")


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (document("canceled"), "The transcription is canceled."),
        (
            document(
                "failed",
                error={
                    "code": "undecodable",
                    "message": "It\x1b[2J cannot\nbe decoded.",
                    "stage": "decode",
                    "at_seconds": 12.5,
                },
            ),
            "The transcription failed in stage decode at 12.5 s of the recording: "
            "It\ufffd[2J cannot be decoded. [undecodable]",
        ),
    ],
)
def test_no_transcript_is_status_3(
    api: ApiStandIn, recording: Path, last: dict[str, object], said: str
) -> None:
    finishes(api, last)
    result = run("transcribe", str(recording), "--server", api.url)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.splitlines()[-1] == f"Error: {said} See: bucketscribe show {ID}"


@pytest.mark.parametrize(("state", "status"), [("running", 1), ("failed", 3)])
def test_a_transcript_not_ready_yet_is_told_from_one_that_never_will_be(
    api: ApiStandIn, state: str, status: int
) -> None:
    api.routes[f"GET /transcriptions/{ID}/transcript.txt"] = lambda request: request.problem(
        409, "not_ready", state=state
    )
    result = run("get", ID, "--server", api.url)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.endswith("[not_ready]\n")


def test_ctrl_c_while_waiting_says_how_to_go_on(api: ApiStandIn, recording: Path) -> None:
    waiting, over = threading.Event(), threading.Event()

    def events(request: ApiHandler) -> None:
        waiting.set()
        over.wait(30)
        stream(request)

    api.routes[f"GET /transcriptions/{ID}/events"] = events
    status, errors = interrupt(["transcribe", str(recording), "--server", api.url], waiting)
    over.set()
    assert status == 130
    assert errors.splitlines()[-1] == f"The transcription goes on: bucketscribe get {ID}"
    assert api.aborted == 0


@pytest.fixture
def sending(bucket: BucketStandIn) -> Iterator[threading.Event]:
    """Set when the first part is on its way, which takes until the test's end."""
    begun, over = threading.Event(), threading.Event()

    def hang(request: BucketHandler) -> None:
        begun.set()
        over.wait(30)
        request.reset()

    bucket.faults = {1: [hang]}
    yield begun
    over.set()


def test_ctrl_c_while_uploading_keeps_what_was_sent(
    api: ApiStandIn, sending: threading.Event, recording: Path, tmp_path: Path
) -> None:
    api.expires = 90
    arguments = ["transcribe", str(recording), "--server", api.url]
    status, errors = interrupt(arguments, sending, XDG_STATE_HOME=str(tmp_path / "state"))
    assert status == 130
    assert errors.splitlines()[-1] == (
        "What was sent of talk.wav is kept: run it again within 1.5 minutes to go on."
    )
    assert api.aborted == 0


def test_ctrl_c_while_a_stream_is_uploaded_promises_nothing(
    api: ApiStandIn, sending: threading.Event
) -> None:
    status, errors = interrupt(
        ["transcribe", "-", "--name", "talk.wav", "--server", api.url], sending, stdin=b"RIFF....WAVEfmt "
    )
    assert (status, errors) == (130, "uploading talk.wav\n")
    assert api.aborted == 1


def interrupt(
    arguments: Sequence[str], when: threading.Event, stdin: bytes = b"", **more: str
) -> tuple[int, str]:
    """Press Ctrl-C at that moment; the exit status, and what was said."""
    process = subprocess.Popen(
        command(*arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(**more),
        # A shell's background jobs, and so perhaps this test, ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin is not None
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    assert when.wait(30)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    return process.returncode, errors.decode()


# Lists and single ones


def test_a_list_goes_on_over_pages_and_keeps_to_its_limit(api: ApiStandIn) -> None:
    def page(request: ApiHandler) -> None:
        more = "cursor" not in request.query
        request.answer_json(200, {"transcriptions": [document()] * 2, "cursor": "next" if more else None})

    api.routes["GET /transcriptions"] = page
    assert len(run("ls", "--server", api.url).stdout.splitlines()) == 4
    assert len(run("ls", "--limit", "3", "--server", api.url).stdout.splitlines()) == 3


def test_lists_and_single_ones_come_as_json(api: ApiStandIn) -> None:
    one = document("running", progress={"stage": "decoding", "percent": 5}, mood="good")
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [one, one], "cursor": None}
    )
    api.routes[f"GET /transcriptions/{ID}"] = lambda request: request.answer_json(200, one)
    lines = [json.loads(line) for line in run("ls", "--json", "--server", api.url).stdout.splitlines()]
    shown = json.loads(run("show", ID, "--json", "--server", api.url).stdout)
    assert lines == [shown, shown]
    assert (shown["id"], shown["mood"]) == (ID, "good")
    assert "running (decoding 5 %)" in run("show", ID, "--server", api.url).stdout


def test_one_that_cannot_be_helped_does_not_stop_the_others(api: ApiStandIn) -> None:
    api.routes[f"DELETE /transcriptions/{ID}"] = lambda request: request.answer_json(202, {})
    api.routes["DELETE /transcriptions/unknown"] = lambda request: request.problem(
        404, "no_such_transcription"
    )
    result = run("rm", "unknown", ID, "--server", api.url)
    assert (result.returncode, result.stdout) == (1, f"{ID}  deleted\n")
    assert result.stderr == "Error: unknown: This is no_such_transcription. [no_such_transcription]\n"


def test_a_list_in_a_pipe_is_made_for_cut(api: ApiStandIn) -> None:
    one = document("completed", duration=11.5)
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [one], "cursor": None}
    )
    output = run("ls", "--server", api.url).stdout
    assert output == f"{ID}\t2026-11-03T10:00:00Z\tcompleted\t11.5\ttäl k.wav\n"


def test_a_list_on_a_terminal_has_a_head_and_whole_ids(api: ApiStandIn) -> None:
    one = document("running", duration=3723.0, progress={"stage": "transcribing", "percent": 45})
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [one], "cursor": None}
    )
    shown = on_a_terminal("ls", "--server", api.url, COLUMNS="100", NO_COLOR="1")
    head, line = (re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.splitlines()[:2])
    assert head.split() == ["id", "created", "state", "length", "name"]
    assert line.split()[0] == ID
    assert "running 45 %" in line
    assert "1:02:03" in line


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_is_asked_before_anything_is_deleted(api: ApiStandIn, answer: str) -> None:
    api.routes[f"DELETE /transcriptions/{ID}"] = lambda request: request.answer_json(202, {})
    shown = on_a_terminal("rm", ID, "--server", api.url, answer=f"{answer}\n")
    assert "Delete this transcription and its recording? [y/N]" in shown
    assert api.calls[f"DELETE /transcriptions/{ID}"] == (answer == "y")


def test_ids_come_from_standard_input_in_every_form_a_list_has(api: ApiStandIn) -> None:
    for id in "abcd":
        api.routes[f"POST /transcriptions/{id}/retry"] = lambda request: request.answer_json(200, document())
    piped = 'a\tb\tc\n\nb  queued\n{"id": "c", "state": "failed"}\na\n'
    result = subprocess.run(
        command("retry", "-", "d", "--server", api.url),
        input=piped,
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "a  queued\nb  queued\nc  queued\nd  queued\n")


@pytest.mark.parametrize("line", ['{"name": "talk"}', '{"id": null}', '{"id": 7}', "{"])
def test_a_line_of_json_without_an_id_is_status_2(line: str) -> None:
    result = subprocess.run(
        command("rm", "-", "--server", NOBODY),
        input=f"{line}\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    assert result.returncode == 2
    assert "no id in this line" in result.stderr


def test_output_that_nobody_reads_is_status_141_without_a_word(api: ApiStandIn) -> None:
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [document()], "cursor": None}
    )
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        command("ls", "--server", api.url),
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, "")


def test_closed_streams_are_no_error_of_ours(api: ApiStandIn) -> None:
    api.routes[f"DELETE /transcriptions/{ID}"] = lambda request: request.answer_json(202, {})
    words = ["bash", "-c", '"$@" <&- >&-', "bash", *command("rm", ID, "--server", api.url)]
    result = subprocess.run(
        words, stderr=subprocess.PIPE, text=True, timeout=60, env=environment(), check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_what_a_server_names_cannot_steer_a_terminal(api: ApiStandIn) -> None:
    one = document("queued\x1b[2J", name="\u202etalk\x9b2J")
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [one], "cursor": None}
    )
    api.routes[f"POST /transcriptions/{ID}/cancel"] = lambda request: request.answer_json(200, one)
    for words in (["ls"], ["ls", "--json"], ["cancel", ID]):
        output = run(*words, "--server", api.url).stdout
        assert output.replace("\t", "").replace("\n", "").isprintable()


def test_output_that_finds_no_room_is_one_line(api: ApiStandIn) -> None:
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": [document()], "cursor": None}
    )
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            command("ls", "--server", api.url),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            env=environment(),
            check=False,
        )
    assert result.returncode == 1
    assert result.stderr == "Error: standard output: No space left on device. [not_written]\n"


def on_a_terminal(*arguments: str, answer: str = "", **more: str) -> str:
    """What a terminal shows of a command that has it for everything, and is answered when it asks."""
    terminal, its_end = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        env=environment(TERM="xterm", **more),
        # Or else it may ask at the terminal that this test is run from.
        start_new_session=True,
    )
    os.close(its_end)
    shown = b""
    # Linux says EIO, others nothing, once the other end is closed.
    with suppress(OSError):
        while block := os.read(terminal, 65536):
            shown += block
            if answer and shown.endswith(b": "):
                os.write(terminal, answer.encode())
                answer = ""
    os.close(terminal)
    process.wait(30)
    return shown.decode()


@pytest.mark.parametrize("command", ["worker", "sweep"])
def test_what_a_process_cannot_do_without_is_told_in_a_line(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUEUE_URL", "SECRET"):
        monkeypatch.delenv(f"BUCKETSCRIBE_{name}", raising=False)
    ended = CliRunner().invoke(app, [command])
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == "Error: BUCKETSCRIBE_QUEUE_URL is not set [cannot_serve]\n"


def test_a_server_that_begins_to_serve_looks_for_no_garbage_in_what_it_has_loaded() -> None:
    served = """
import gc
import uvicorn
from bucketscribe.cli.main import app

uvicorn.run = lambda *_, **__: print(gc.get_freeze_count(), len(gc.get_objects()))
app(["api"])
"""
    result = subprocess.run(
        [sys.executable, "-c", served],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(
            BUCKETSCRIBE_BUCKET="bucketscribe",
            BUCKETSCRIBE_QUEUE_URL=f"{NOBODY}/queue",
            BUCKETSCRIBE_SECRET="s" * 32,
        ),
        check=False,
    )
    assert result.returncode == 0, result.stderr
    frozen, looked_through = map(int, result.stdout.split())
    assert looked_through < frozen / 10
