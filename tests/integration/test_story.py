"""The whole story, as a newcomer lives it: `bucketscribe up`, then the command line in front of it."""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import httpx2
import pytest
from bucketscribe.client import Client
from bucketscribe.up.ports import is_free

from tests.media.make import JFK

READY_SECONDS = 90
GIB = 1024**3


def free_port() -> int:
    return next(port for port in range(18100, 20000) if is_free("127.0.0.1", port))


@contextmanager
def up(data: Path, **settings: str) -> Iterator[str]:
    """`bucketscribe up` on a free port; gives the API's URL once it says that it is ready."""
    port = free_port()
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"BUCKETSCRIBE_PORT": str(port), "BUCKETSCRIBE_DATA_DIR": str(data)} | settings
    process = subprocess.Popen(
        [sys.executable, "-m", "bucketscribe.cli.main", "up"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: Queue[str] = Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said.put(line)

    threading.Thread(target=read, daemon=True).start()
    try:
        lines: list[str] = []
        while not re.search(r"is ready: (\S+)", lines[-1] if lines else ""):
            lines.append(said.get(timeout=READY_SECONDS))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


def command(server: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "BUCKETSCRIBE_SERVER": server}
    return subprocess.run(
        [sys.executable, "-m", "bucketscribe.cli.main", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_recording_goes_in_and_a_correct_transcript_comes_out(tmp_path: Path) -> None:
    with up(tmp_path / "data") as server:
        begun = time.monotonic()
        done = command(server, "transcribe", str(JFK), "--format", "srt")
        assert done.returncode == 0, done.stderr
        assert time.monotonic() - begun < 30
        cues = re.findall(r"(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n(.+)", done.stdout)
        words = re.sub(r"[^a-z ]", "", " ".join(text for *_, text in cues).lower()).split()
        assert (
            words
            == (
                "and so my fellow americans ask not what your country can do for you "
                "ask what you can do for your country"
            ).split()
        )
        ids = re.findall(r"[0-9a-f-]{36}", command(server, "ls").stdout)
        assert len(ids) == 1
        assert "WEBVTT" in command(server, "get", ids[0], "--format", "vtt").stdout
        assert command(server, "retry", ids[0]).returncode == 1
        assert command(server, "rm", ids[0]).returncode == 0
        assert command(server, "show", ids[0]).returncode == 1
        assert command(server, "ls", "--json").stdout.strip() == ""


@pytest.mark.long
def test_what_is_no_media_is_refused_with_the_reason(tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("no recording")
    disguised = tmp_path / "notes.mp3"
    disguised.write_text("no recording at all " * 100)
    with up(tmp_path / "data") as server:
        for file in (notes, disguised):
            refused = command(server, "transcribe", str(file))
            assert refused.returncode == 1
            assert "unsupported_media" in refused.stderr
            assert "Traceback" not in refused.stderr


@pytest.mark.long
def test_an_upload_left_alone_for_20_seconds_is_gone_within_90(tmp_path: Path) -> None:
    with up(tmp_path / "data", BUCKETSCRIBE_UPLOAD_IDLE_SECONDS="20") as server:
        begun = httpx2.post(f"{server}/s3/multipart", json={"filename": "talk.wav"}).json()
        path = f"{server}/s3/multipart/{begun['uploadId']}"
        url = httpx2.get(f"{path}/1", params={"key": begun["key"]}).json()["url"]
        assert httpx2.put(url, content=JFK.read_bytes()).status_code == 200
        left = time.monotonic()
        with httpx2.stream(
            "GET", f"{server}/transcriptions/{begun['id']}/events?wait=90", timeout=95
        ) as stream:
            assert any('"state":"expired"' in line for line in stream.iter_lines())
        assert time.monotonic() - left < 90
        assert httpx2.get(path, params={"key": begun["key"]}).status_code == 410
        assert httpx2.put(url, content=JFK.read_bytes()).status_code == 404


@pytest.mark.long
def test_a_gibibyte_goes_by_without_the_api_s_memory(tmp_path: Path) -> None:
    recording = tmp_path / "long.wav"
    with recording.open("wb") as file:
        file.write(JFK.read_bytes())
        file.truncate(GIB)
    with up(tmp_path / "data") as server:
        api = api_process(server)
        command(server, "transcribe", str(JFK), "--no-wait")  # so that everything is imported
        before = memory(api, "VmRSS")
        transcription = Client(server).upload(recording, {}, None)
        assert transcription.state in ("queued", "running")
        assert memory(api, "VmHWM") - before < 20 * 1024**2
        httpx2.delete(f"{server}/transcriptions/{transcription.id}")


def api_process(server: str) -> int:
    """The process id of the API, told by its command line and its port."""
    port = f"BUCKETSCRIBE_PORT={server.rpartition(':')[2]}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                told = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[1:4] == [b"-m", b"bucketscribe.cli.main", b"api"] and port in told:
                return int(folder.name)
    raise AssertionError("no API process")


def memory(process: int, field: str) -> int:
    """Bytes of memory, by the kernel's account."""
    status = Path(f"/proc/{process}/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024
