"""The command line on a running Bucketscribe: what its docs say, and what only real servers show."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from bucketscribe.cli.main import app
from bucketscribe.client import UploadStore
from typer.main import get_command

from tests.integration.test_story import up
from tests.media.make import JFK

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "cli.md"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up") / "data"


@pytest.fixture(scope="module")
def server(data: Path) -> Iterator[str]:
    with up(data, BUCKETSCRIBE_MODEL="tiny.en") as url:
        yield url


def shell(script: str, server: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """A script as a person types it, in a folder, with the errors of every part of a pipe."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "BUCKETSCRIBE_SERVER": server,
            "XDG_STATE_HOME": str(folder / "state"),
            **more,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


# The documentation


def test_every_command_and_option_is_documented_and_no_other() -> None:
    group = get_command(app)
    commands = params_of(group)
    words = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", DOCS.read_text()))
    options = {
        option
        for params in (group.params, *commands.values())
        for param in params
        for option in (*param.opts, *param.secondary_opts)
        if option.startswith("--")
    }
    assert words == options | {"--help"}
    assert set(re.findall(r"^### `bucketscribe ([\w ]+)`", DOCS.read_text(), re.MULTILINE)) == set(commands)


def params_of(group: Any, before: str = "") -> dict[str, list[Any]]:
    """The parameters of every command, by the words it is called with."""
    found: dict[str, list[Any]] = {}
    for name, command in group.commands.items():
        words = f"{before}{name}"
        found |= params_of(command, f"{words} ") if hasattr(command, "commands") else {words: command.params}
    return found


def blocks(language: str) -> list[str]:
    """The examples that are marked as run by this file."""
    found = re.findall(
        rf"<!-- run by \S*test_cli\.py -->\n```{language}\n(.*?)```", DOCS.read_text(), re.DOTALL
    )
    assert found
    return found


@pytest.mark.long
def test_the_shell_examples_of_the_documentation_run(server: str, tmp_path: Path) -> None:
    (tmp_path / "talks" / "old").mkdir(parents=True)
    for name in ("talk.wav", "talks/one.wav", "talks/old/two.wav"):
        (tmp_path / name).write_bytes(JFK.read_bytes())
    for script in blocks("bash"):
        done = shell(script, server, tmp_path)
        assert done.returncode == 0, script + done.stdout + done.stderr


def test_the_python_example_of_the_documentation_runs(server: str, tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(JFK.read_bytes())
    for program in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", program.replace("http://127.0.0.1:8000", server)],
            cwd=tmp_path,
            env={"XDG_STATE_HOME": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "country" in done.stdout


# The commands


def test_several_recordings_become_files_in_a_folder(server: str, tmp_path: Path) -> None:
    for name in ("talk.wav", "b/talk.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(JFK.read_bytes())
    done = shell("bucketscribe transcribe '**/*.wav' -f vtt -o out/", server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["talk-2.vtt", "talk.vtt"]
    assert all(file.read_text().startswith("WEBVTT") for file in (tmp_path / "out").iterdir())


def test_a_recording_without_a_name_comes_through_a_pipe(server: str, tmp_path: Path) -> None:
    done = shell(f"cat {JFK} | bucketscribe transcribe - --quiet", server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "country" in done.stdout
    assert done.stderr == ""


@pytest.mark.long
def test_what_ls_prints_is_what_the_others_read(server: str, tmp_path: Path) -> None:
    script = f"""
        ID=$(bucketscribe transcribe {JFK} --no-wait --quiet)
        bucketscribe show $ID --json | grep -q $ID
        until bucketscribe get $ID > /dev/null 2>&1; do sleep 0.2; done
        bucketscribe ls --json --limit 1 | bucketscribe get - | grep country
        bucketscribe ls | bucketscribe rm -
        bucketscribe ls
    """
    done = shell(script, server, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "country" in done.stdout
    assert "completed" not in done.stdout


@pytest.mark.long
def test_an_upload_that_was_interrupted_goes_on_from_another_folder(server: str, tmp_path: Path) -> None:
    recording = tmp_path / "long.wav"
    with recording.open("wb") as file:
        file.write(JFK.read_bytes())
        file.truncate(512 * 1024**2)
    state = tmp_path / "state"
    environment = {"PATH": os.environ["PATH"], "BUCKETSCRIBE_SERVER": server, "XDG_STATE_HOME": str(state)}
    process = subprocess.Popen(
        [BIN / "bucketscribe", "transcribe", recording, "--no-wait"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for_a_part(server, UploadStore(state / "bucketscribe" / "uploads"))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == (
        "What was sent of long.wav is kept: run it again within 10 minutes to go on."
    )
    script = "ID=$(bucketscribe transcribe ../long.wav --no-wait) && bucketscribe rm $ID"
    (tmp_path / "elsewhere").mkdir()
    done = shell(script, server, tmp_path / "elsewhere", XDG_STATE_HOME=str(state))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^resumed at \d+ %$", done.stderr, re.MULTILINE)


def wait_for_a_part(server: str, store: UploadStore) -> None:
    """Until the bucket has a part of the one upload in the store."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for file in store.folder.glob("*.json"):
            begun = store.find(file.stem)
            if begun is not None:
                url = f"{server}/s3/multipart/{begun.uploadId}"
                if httpx2.get(url, params={"key": begun.key}).json():
                    return
        time.sleep(0.01)  # another process is at work; nothing tells of its parts
    raise AssertionError("no part arrived")


# Keys


def test_keys_are_made_in_the_bucket_of_a_running_bucketscribe(
    server: str, data: Path, tmp_path: Path
) -> None:
    script = f"""
        bucketscribe keys new me --data-dir {data} > key.txt
        bucketscribe keys ls --data-dir {data} | cut -f 6 | grep -qx me
        bucketscribe keys revoke - --data-dir {data} < key.txt
        test -z "$(bucketscribe keys ls --data-dir {data})"
    """
    done = shell(script, server, tmp_path)
    assert done.returncode == 0, done.stderr
    # This one's settings have everybody let in.
    assert "[not_taken]" in done.stderr
    assert (tmp_path / "key.txt").read_text().strip() not in done.stdout + done.stderr


# Doctor


def test_doctor_finds_a_running_bucketscribe_in_order(server: str, data: Path, tmp_path: Path) -> None:
    done = shell(f"bucketscribe doctor --data-dir {data} --json", server, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    findings = [json.loads(line) for line in done.stdout.splitlines()]
    assert {finding["part"] for finding in findings} == {"server", "bucket", "queue"}
    assert [finding for finding in findings if finding["verdict"] == "missing"] == []


def test_doctor_takes_the_operator_s_environment(server: str, data: Path, tmp_path: Path) -> None:
    keys = json.loads((data / "credentials.json").read_text())
    ports = json.loads((data / "ports.json").read_text())
    done = shell(
        "bucketscribe doctor",
        server,
        tmp_path,
        BUCKETSCRIBE_S3_ENDPOINT=f"http://127.0.0.1:{ports['s3']}",
        AWS_ACCESS_KEY_ID=keys["access_key"],
        AWS_SECRET_ACCESS_KEY="wrong",
    )
    assert done.returncode == 1
    assert re.search(r"MISSING  bucket .*403", done.stdout)
    assert done.stdout.endswith("To be put right: bucket.\n")


def test_doctor_without_a_server_says_what_to_do(tmp_path: Path) -> None:
    done = shell("bucketscribe doctor", "http://127.0.0.1:9", tmp_path)
    assert done.returncode == 1
    assert "MISSING  server" in done.stdout
    assert "start one with `bucketscribe up`" in done.stdout
    assert "--data-dir" in done.stdout


def test_doctor_says_that_a_folder_is_none_of_up_s(server: str, tmp_path: Path) -> None:
    done = shell("bucketscribe doctor --data-dir .", server, tmp_path)
    assert done.returncode == 2
    assert "is no data folder" in done.stderr
