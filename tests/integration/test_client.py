"""The Python client against the real API and a real bucket, when processes die and servers go away."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from bucketscribe.api.app import create_app
from bucketscribe.bucket import Bucket
from bucketscribe.client import Backoff, Client, UploadProgress, UploadStore
from bucketscribe.service import Service
from bucketscribe.settings import Settings

from tests.conftest import OWNER
from tests.media.make import JFK
from tests.servers import Servers

PART = 8 * 1024**2
PARTS = 6
SOON = Backoff(tries=10, first=0.05, longest=0.5)


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """The API in front of a service; its address."""
    running = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="warning"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join()


@pytest.fixture
def server(service: Service) -> Iterator[str]:
    with serving(service) as address:
        yield address


@pytest.fixture
def client(server: str) -> Iterator[Client]:
    with Client(server, patient=SOON) as client:
        yield client


@pytest.fixture
def store(tmp_path: Path) -> UploadStore:
    return UploadStore(tmp_path / "uploads")


def sound(length: int) -> bytes:
    """As many bytes as one likes that begin as a recording does."""
    return JFK.read_bytes()[:44] + os.urandom(length - 44)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    path.write_bytes(sound((PARTS - 1) * PART + 1000))
    return path


def interrupt(client: Client, recording: Path, store: UploadStore) -> None:
    """Ctrl-C when two parts and a bit have been sent."""

    def stop(progress: UploadProgress) -> None:
        if progress.sent > 2 * PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.upload(recording, on_progress=stop, resume=store)


def arrived(bucket: Bucket, key: str | None) -> bytes:
    """The object."""
    return bytes(bucket.client.get_object(Bucket=bucket.name, Key=key or "")["Body"].read())


SEND = """
import json, os, signal, sys
from pathlib import Path
from bucketscribe.client import Client, UploadStore

server, folder, file, dies_at = sys.argv[1:]

def told(progress):
    global last
    last = progress
    if int(dies_at) and progress.sent > int(dies_at):
        os.kill(os.getpid(), signal.SIGKILL)

with Client(server, parallel=1) as client:
    found = client.upload(file, on_progress=told, resume=UploadStore(Path(folder)))
print(json.dumps({"id": found.id, "key": found.key, "resumed": last.resumed, "sent": last.sent}))
"""


def send(server: str, store: UploadStore, file: str, where: Path, dies_at: int = 0) -> Any:
    """Upload in a process of its own, which can die; what it printed, or the signal that ended it."""
    words = [sys.executable, "-c", SEND, server, str(store.folder), file, str(dies_at)]
    done = subprocess.run(words, cwd=where, stdout=subprocess.PIPE, timeout=60, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else -done.returncode


def test_an_upload_killed_in_its_middle_goes_on_in_another_folder(
    server: str, recording: Path, store: UploadStore, bucket: Bucket, tmp_path: Path
) -> None:
    assert send(server, store, "talk.wav", tmp_path, dies_at=3 * PART + 1) == signal.SIGKILL
    (tmp_path / "elsewhere").mkdir()
    shutil.move(recording, tmp_path / "elsewhere")
    done = send(server, store, "talk.wav", tmp_path / "elsewhere")
    whole = (tmp_path / "elsewhere" / "talk.wav").read_bytes()
    assert 3 * PART <= done["resumed"] < done["sent"] == len(whole)
    assert arrived(bucket, done["key"]) == whole
    assert not list(store.folder.iterdir())


def test_an_upload_that_expired_meanwhile_is_begun_anew(
    client: Client, service: Service, recording: Path, store: UploadStore, bucket: Bucket
) -> None:
    interrupt(client, recording, store)
    [interrupted] = client.list().transcriptions
    service.uploads.expire(OWNER, interrupted.id)
    told: list[UploadProgress] = []
    found = client.upload(recording, on_progress=told.append, resume=store)
    assert found.id != interrupted.id
    assert told[0].waiting == "the upload had ended; it begins anew"
    assert told[-1].resumed == 0
    assert arrived(bucket, found.key) == recording.read_bytes()


def test_an_upload_whose_completion_was_never_heard_of_is_found_accepted(
    client: Client, recording: Path, store: UploadStore
) -> None:
    class Unforgetting(UploadStore):
        def remove(self, *_: object) -> None:
            """As a process that dies before it gets here."""

    first = client.upload(recording, resume=Unforgetting(store.folder))
    told: list[UploadProgress] = []
    again = client.upload(recording, on_progress=told.append, resume=store)
    assert (again.id, again.state) == (first.id, "queued")
    assert not told
    assert not list(store.folder.iterdir())


def test_two_processes_that_resume_the_same_upload_finish_it_once(
    client: Client, server: str, recording: Path, store: UploadStore, bucket: Bucket
) -> None:
    interrupt(client, recording, store)
    together = threading.Barrier(2)
    ids: list[str] = []

    def go_on() -> None:
        waited = False

        def wait(_progress: UploadProgress) -> None:
            nonlocal waited
            if not waited:
                waited = True
                together.wait(30)

        with Client(server, patient=SOON) as another:
            ids.append(another.upload(recording, on_progress=wait, resume=store).id)

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [found] = client.list().transcriptions
    assert ids == [found.id] * 2
    assert arrived(bucket, found.key) == recording.read_bytes()


def test_a_bucket_that_goes_and_comes_back_is_waited_for(
    client: Client, servers: Servers, recording: Path, bucket: Bucket
) -> None:
    told: list[str] = []
    killed = restarted = False

    def hear(progress: UploadProgress) -> None:
        nonlocal killed, restarted
        if not killed and progress.sent > 2 * PART:
            killed = True
            servers.seaweedfs.kill()
        if progress.waiting:
            told.append(progress.waiting)
            if not restarted:
                restarted = True
                servers.seaweedfs.start()

    try:
        found = client.upload(recording, on_progress=hear)
    finally:
        if killed and not restarted:
            servers.seaweedfs.start()
    assert told[0].startswith("no connection to 127.0.0.1:")
    assert arrived(bucket, found.key) == recording.read_bytes()


class Slow(io.BytesIO):
    """A stream with a pause after its first part."""

    def __init__(self, whole: bytes, seconds: float) -> None:
        super().__init__(whole)
        self.seconds = seconds

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == PART:
            time.sleep(self.seconds)
        return super().read(size)


class TestUrlsThatExpireSoon:
    """URLs are signed a hundred at a time: most are older than a second when their part's turn comes."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return settings.model_copy(update={"url_expires_seconds": 1})

    def test_parts_sent_later_have_urls_of_their_own(
        self, client: Client, service: Service, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signed: list[object] = []
        sign = service.uploads.sign

        def note(*given: Any) -> dict[int, str]:
            signed.append(given)
            return sign(*given)

        monkeypatch.setattr(service.uploads, "sign", note)
        whole = sound(2 * PART + 5)
        found = client.upload(Slow(whole, 2.5), name="talk.wav")
        assert arrived(bucket, found.key) == whole
        assert len(signed) > 1


@pytest.mark.parametrize("length", [1000, 2 * PART, 2 * PART + 5])
def test_a_stream_becomes_a_recording(client: Client, bucket: Bucket, length: int) -> None:
    whole = sound(length)
    found = client.upload(io.BytesIO(whole), {"language": "en"}, name="täl k.wav")
    assert (found.state, found.name, found.size) == ("queued", "täl k.wav", length)
    assert arrived(bucket, found.key) == whole


def test_a_server_whose_parts_answer_is_healthy(client: Client) -> None:
    assert client.health().ok
