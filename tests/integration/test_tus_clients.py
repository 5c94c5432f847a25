"""tuspy and curl as their makers publish them, the examples of docs/tus.md included."""

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from bucketscribe.client import Client
from bucketscribe.client.model import Transcription
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader.uploader import Uploader

from tests.browser.line import Line, drawn
from tests.integration.test_up import BUCKET, Up, free_port, wait_until
from tests.media.make import JFK
from tests.media.odd import silent_recording, with_unknown_chunk
from tests.sizes import LARGE_BYTES

ROOT = Path(__file__).parents[2]
MIB = 1024**2
CHUNK = 4 * MIB


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with Up(tmp_path_factory.mktemp("up") / "data", free_port(), model="tiny.en") as up:
        yield up.ready()


@pytest.fixture(scope="module")
def client(up: Up) -> Iterator[Client]:
    with Client(up.url) as client:
        yield client


@pytest.fixture
def line(up: Up) -> Iterator[Line]:
    """A line to the API, as fast as it goes."""
    with drawn(lambda: int(up.url.rpartition(":")[2])) as line:
        yield line


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WAV of two parts and some, with its speech at the very end."""
    file = tmp_path_factory.mktemp("talk") / "talk.wav"
    file.write_bytes(with_unknown_chunk(JFK.read_bytes(), os.urandom(11 * MIB)))
    return file


def example(language: str, number: int = 0) -> str:
    """A block of docs/tus.md that is marked to be run here."""
    marked = f"<!-- run by tests/integration/test_tus_clients.py -->\n```{language}\n"
    return (ROOT / "docs" / "tus.md").read_text().split(marked)[1 + number].split("```")[0]


def uploader_of(server: str, file: Path, **options: Any) -> Uploader:
    metadata = {"filename": file.name, "language": "en"}
    return TusClient(f"{server}/uploads/files/").uploader(str(file), metadata=metadata, **options)


def transcription_of(uploader: Uploader, client: Client) -> Transcription:
    """What has become of an upload, by the header that its last answer had."""
    assert uploader.request is not None
    return client.get(uploader.request.response_headers["bucketscribe-transcription"])


def same(up: Up, transcription: Transcription, file: Path) -> bool:
    """Whether the bucket holds exactly the file."""
    assert transcription.key is not None
    arrived = hashlib.sha256()
    for piece in up.s3().get_object(Bucket=BUCKET, Key=transcription.key)["Body"].iter_chunks(MIB):
        arrived.update(piece)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest() == arrived.digest()


def test_the_example_with_curl_runs_as_it_stands(up: Up) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", example("bash")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "API": up.url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WEBVTT" in done.stdout
    assert "what you can do for your country" in done.stdout


def test_the_example_with_tuspy_runs_as_it_stands(up: Up, client: Client, tmp_path: Path) -> None:
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    code = example("python").replace("http://127.0.0.1:8000", up.url)
    ids = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        ids.append(done.stdout.strip())
    first, second = ids
    assert first != second
    for id in ids:
        assert client.wait(id).state == "completed"
        assert "country" in client.transcript(id).decode()


def test_a_name_in_any_script_is_kept(up: Up, client: Client, tmp_path: Path) -> None:
    named = tmp_path / "Grüße, 世界.wav"
    named.symlink_to(JFK)
    uploader = uploader_of(up.url, named)
    uploader.upload()
    transcription = transcription_of(uploader, client)
    assert (transcription.name, transcription.options["language"]) == (named.name, "en")
    assert uploader.url == f"{up.url}/uploads/files/{transcription.id}"


def test_tuspy_s_asynchronous_uploader_is_served_as_well(up: Up, client: Client, talk: Path) -> None:
    tus = TusClient(f"{up.url}/uploads/files/")
    uploader = tus.async_uploader(str(talk), metadata={"filename": "talk.wav"}, chunk_size=CHUNK)
    asyncio.run(uploader.upload())
    assert uploader.request is not None
    id = uploader.request.response_headers["bucketscribe-transcription"]
    assert same(up, client.get(id), talk)


@pytest.mark.parametrize("checked", [False, True], ids=["", "checksums"])
def test_after_an_interruption_tuspy_goes_on_where_the_bucket_is(
    up: Up, client: Client, line: Line, talk: Path, tmp_path: Path, checked: bool
) -> None:
    storage = FileStorage(str(tmp_path / "uploads.json"))  # type: ignore[no-untyped-call]
    options = {
        "store_url": True,
        "url_storage": storage,
        "upload_checksum": checked,
        "chunk_size": CHUNK,
    }
    first = uploader_of(line.url, talk, **options)
    first.upload(stop_at=CHUNK)
    # The second chunk is cut in its middle.
    line.bytes_per_second = 4 * MIB
    begun = len(line.requests)

    def half_way() -> bool:
        return any(seen.sent > CHUNK // 2 for seen in line.requests[begun:])

    with ThreadPoolExecutor() as threads:
        failing = threads.submit(first.upload)
        wait_until("half of a chunk is on its way", half_way, 20)
        line.cut()
        with pytest.raises(TusUploadFailed):
            failing.result()
    line.bytes_per_second = None

    second = uploader_of(line.url, talk, **options)
    assert second.url == first.url
    if not checked:
        wait_until("what had come is kept", lambda: CHUNK < second.get_offset() < 2 * CHUNK, 20)
    second.retries, second.retry_delay = 10, 1
    second.upload()
    # What has a checksum counts as a whole or not at all.
    again = [seen for seen in line.requests[begun:] if seen.method == "PATCH" and seen.status == 204]
    assert (sum(seen.size for seen in again) == talk.stat().st_size - CHUNK) == checked
    assert same(up, transcription_of(second, client), talk)


@pytest.mark.long
def test_an_api_that_is_killed_costs_tuspy_nothing_but_time(
    up: Up, client: Client, line: Line, talk: Path
) -> None:
    uploader = uploader_of(line.url, talk, chunk_size=CHUNK, retries=30, retry_delay=1)
    line.bytes_per_second = 4 * MIB
    with ThreadPoolExecutor() as threads:
        sending = threads.submit(uploader.upload)
        wait_until(
            "the second chunk is on its way", lambda: sum(seen.sent for seen in line.requests) > CHUNK, 20
        )
        up.kill("api")
        line.bytes_per_second = None
        sending.result()
    assert same(up, transcription_of(uploader, client), talk)


@pytest.mark.long
def test_a_gibibyte_arrives_as_it_was(up: Up, client: Client, tmp_path: Path) -> None:
    long = silent_recording(tmp_path / "long.wav", LARGE_BYTES)
    uploader = uploader_of(up.url, long, chunk_size=50 * MIB, upload_checksum=True)
    uploader.upload()
    transcription = transcription_of(uploader, client)
    client.cancel(transcription.id)
    assert transcription.size == LARGE_BYTES
    assert same(up, transcription, long)
    client.delete(transcription.id)
