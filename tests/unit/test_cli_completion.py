"""Completion as a shell asks for it: bash itself, and the machinery that zsh and fish call."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucketscribe.cli.complete import transcriptions
from typer import Context
from typer.core import TyperCommand

from tests.unit.standins import ID, ApiHandler, ApiStandIn, BucketStandIn, document
from tests.unit.test_cli import NOBODY, environment

PROGRAM = Path(sys.executable).with_name("bucketscribe")


@pytest.fixture
def api() -> Iterator[ApiStandIn]:
    with BucketStandIn() as bucket, ApiStandIn(bucket) as server:
        server.routes["GET /transcriptions"] = lambda request: request.answer_json(
            200, {"transcriptions": [document()], "cursor": None}
        )
        yield server


def completed(*words: str, server: str = NOBODY) -> list[str]:
    """What bash offers for the last of these words."""
    script = """
        eval "$(bucketscribe --show-completion bash)"
        COMP_WORDS=(bucketscribe "$@"); COMP_CWORD=$#
        $(complete -p bucketscribe | sed 's/.*-F \\([^ ]*\\).*/\\1/') bucketscribe
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    result = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(
            PATH=f"{PROGRAM.parent}:{os.environ['PATH']}",
            BUCKETSCRIBE_SERVER=server,
            _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
        ),
        check=True,
    )
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tran"], ["transcribe"]),
        (["transcribe", "--word"], ["--word-timestamps"]),
        (["get", "--format", "s"], ["srt"]),
        (["ls", "--state", "c"], ["completing", "completed", "canceled"]),
        (["transcribe", "--language", "e"], ["el", "en", "es", "et", "eu"]),
        (["transcribe", ""], []),
    ],
)
def test_bash_completes(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_bash_completes_ids_the_server_knows_once_each(api: ApiStandIn) -> None:
    assert completed("show", ID[:4], server=api.url) == [ID]
    assert completed("rm", "", server=api.url) == [ID]
    assert completed("rm", ID, "", server=api.url) == []


def test_completion_brings_the_key(api: ApiStandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKETSCRIBE_API_KEY", "bks_one")
    seen: list[str | None] = []

    def list_them(request: ApiHandler) -> None:
        seen.append(request.headers["Authorization"])
        request.answer_json(200, {"transcriptions": [document()], "cursor": None})

    api.routes["GET /transcriptions"] = list_them
    context = Context(TyperCommand("show"))
    context.params = {"server": api.url}
    assert [id for id, _ in transcriptions(context, "")] == [ID]
    assert seen == ["Bearer bks_one"]
    monkeypatch.setenv("BUCKETSCRIBE_API_KEY", "no\nkey")
    assert transcriptions(context, "") == []


def test_a_server_that_does_not_answer_offers_nothing_and_says_nothing() -> None:
    assert completed("show", "", server=NOBODY) == []
    assert completed("show", "", server="nonsense") == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_what_an_id_stands_for(api: ApiStandIn, shell: str) -> None:
    result = subprocess.run(
        [PROGRAM],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(
            BUCKETSCRIBE_SERVER=api.url,
            _BUCKETSCRIBE_COMPLETE=f"complete_{shell}",
            _TYPER_COMPLETE_ARGS="bucketscribe show ",
            _TYPER_COMPLETE_FISH_ACTION="get-args",
        ),
        check=True,
    )
    assert ID in result.stdout
    assert "queued täl k.wav" in result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_can_be_had(shell: str) -> None:
    result = subprocess.run(
        [PROGRAM, "--show-completion", shell],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"),
        check=True,
    )
    assert "_BUCKETSCRIBE_COMPLETE=complete_" in result.stdout
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=result.stdout, text=True, check=False).returncode == 0


def test_nothing_a_shell_could_run_is_offered(api: ApiStandIn) -> None:
    named = [document() | {"name": "a\\$(touch /tmp/x)`id`;[b]:'.wav"}, document() | {"id": "$(id)"}]
    api.routes["GET /transcriptions"] = lambda request: request.answer_json(
        200, {"transcriptions": named, "cursor": None}
    )
    context = Context(TyperCommand("show"))
    context.params = {"server": api.url}
    assert transcriptions(context, "") == [(ID, "queued a   touch  tmp x  id   b   .wav")]
