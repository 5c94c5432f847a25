"""OpenAI's own Python client against the API: every format, every refusal, and what takes too long."""

import asyncio
import re
import threading
import uuid
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from botocore.exceptions import EndpointConnectionError
from bucketscribe import authentication
from bucketscribe.api import openai as routes
from bucketscribe.api.app import create_app
from bucketscribe.auth import Scope, owner_slug
from bucketscribe.keys import Keys, digest_of
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Failure, Record, State
from bucketscribe.service import Service
from bucketscribe.transcript import FORMATS
from bucketscribe.transcriptions import Facts
from fastapi import FastAPI
from openai import AsyncOpenAI, OpenAI
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
    TranslationVerbose,
)

from tests.conftest import LaterBucket
from tests.integration import test_ahead
from tests.integration.test_ahead import until
from tests.integration.test_sign_in import Clock, listening
from tests.integration.test_uploading import SPEECH, leftovers
from tests.integration.test_working import worker_process
from tests.media.make import JFK
from tests.servers import Servers
from tests.sizes import LARGE_BYTES

ANN = owner_slug("keys", "Ann")
BOB = owner_slug("keys", "Bob")
SAID = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "openai.md"


@dataclass
class World:
    """A service that asks for keys, on a real server."""

    service: Service
    app: FastAPI
    url: str
    key: str

    def client(self, key: str | None = None, *, retries: int = 2, timeout: float = 30) -> OpenAI:
        return OpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=retries, timeout=timeout
        )

    def post(self, *parts: tuple[str, Any]) -> httpx2.Response:
        """A form with its parts in this order."""
        head = {"Authorization": f"Bearer {self.key}"}
        return httpx2.post(f"{self.url}/v1/audio/transcriptions", files=[*parts], headers=head, timeout=30)

    def records(self) -> list[Record]:
        return self.service.transcriptions.page(ANN, None, None, 100)[0]

    def queued(self) -> Record:
        """The one that is queued, once there is one."""
        found: list[Record] = []

        def look() -> bool:
            found[:] = [record for record in self.records() if record.state is State.QUEUED]
            return bool(found)

        until(look, "a queued transcription")
        assert len(found) == 1
        return found[0]


def words(text: str) -> str:
    return re.sub("[^a-z ]", "", text.strip().lower())


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    """In a bucket and a queue of its own, which no other test empties."""
    url = Queue.connect(servers.settings).client.create_queue(QueueName=f"jobs-{uuid.uuid4()}")["QueueUrl"]
    settings = servers.settings.model_copy(
        update={"bucket": "openai", "queue_url": url, "auth": ("keys",), "model": "tiny.en"}
    )
    bucket = LaterBucket.connect(settings)
    bucket.client.create_bucket(Bucket="openai")
    service = Service.of(settings, bucket, Queue.connect(settings))
    app = create_app(service)
    key = Keys(bucket).new("a test's", ANN, (Scope.UPLOAD, Scope.READ), None)
    with listening(app) as port:
        yield World(service, app, f"http://127.0.0.1:{port}", key)


@pytest.fixture(autouse=True)
def nothing_left(world: World) -> Iterator[None]:
    """No test's transcriptions are there for the next."""
    yield
    for record in world.records():
        world.service.transcriptions.delete(ANN, record.id)


@contextmanager
def asking(world: World, key: str | None = None, **fields: Any) -> Iterator[Future[Any]]:
    """A request that waits for its transcript, in a thread."""
    client = world.client(key, retries=1)
    with ThreadPoolExecutor(1) as thread, client:
        create: Any = client.audio.transcriptions.create
        yield thread.submit(create, **{"model": "whisper-1", "file": JFK} | fields)


def fail(world: World, code: str) -> Record:
    """Be the worker on whose hands the queued one fails."""
    record = world.queued()
    claim = world.service.transcriptions.claim(Job(ANN, record.id, 1), "a test")
    assert claim is not None
    world.service.transcriptions.fail(claim, Failure(code=code, message="It went wrong."))
    return record


# Every format


def documented(url: str, key: str) -> list[str]:
    """What the example of the documentation prints."""
    example = re.search(r"<!-- run by [^\n]+\n```python\n(.+?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert example is not None
    printed: list[str] = []
    code = example[1].replace("http://127.0.0.1:8000", url).replace("any-word", key)
    exec(code.replace("tests/media/jfk.wav", str(JFK)), {"print": printed.append})
    return printed


@contextmanager
def hearing_the_same(world: World, first: Record) -> Iterator[None]:
    """Be the worker of what is asked for meanwhile: it hears what a real one heard of the first."""
    service, ended = world.service, threading.Event()
    files = {
        format: service.bucket.get(f"{first.transcript_prefix}transcript.{format}") for format in FORMATS
    }

    def work() -> None:
        while not ended.wait(0.05):
            for record in service.transcriptions.page(BOB, None, None, 100)[0]:
                claim = service.transcriptions.claim(Job(BOB, record.id, 1), "a test")
                if claim is None:
                    continue
                for format, file in files.items():
                    assert file is not None
                    service.bucket.put(f"{record.transcript_prefix}transcript.{format}", file.body)
                service.transcriptions.complete(claim, Facts("en", 11.0, {}, ()))

    with ThreadPoolExecutor(1) as thread:
        working = thread.submit(work)
        try:
            yield
        finally:
            ended.set()
            working.result()


@pytest.fixture(scope="module")
def heard(world: World, servers: Servers) -> dict[str, Any]:
    """What the asynchronous client is answered, by what it asked for: from real work, and from its files."""

    key = Keys(world.service.bucket).new("a test's", BOB, (Scope.UPLOAD, Scope.READ), None)

    async def together(asked: dict[str, Awaitable[Any]]) -> dict[str, Any]:
        return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    async def worked_for() -> dict[str, Any]:
        async with AsyncOpenAI(base_url=f"{world.url}/v1", api_key=key) as client:
            return await together(
                {
                    "documented": asyncio.to_thread(documented, world.url, key),
                    "translation": client.audio.translations.create(
                        model="base", file=JFK, response_format="verbose_json"
                    ),
                }
            )

    async def told() -> dict[str, Any]:
        async with AsyncOpenAI(base_url=f"{world.url}/v1", api_key=key) as client:
            raw, plain = client.audio.transcriptions.with_raw_response, client.audio.transcriptions

            async def streamed() -> list[Any]:
                stream = await plain.create(model="gpt-4o-transcribe", file=JFK, stream=True)
                return [event async for event in stream]

            return await together(
                {
                    "json": raw.create(model="whisper-1", file=JFK, prompt="Kennedy", temperature=0.5),
                    "text": raw.create(model="whisper-1", file=JFK, response_format="text"),
                    "srt": raw.create(model="tiny.en", file=JFK, response_format="srt", language="en"),
                    "vtt": raw.create(model="whisper-1", file=JFK, response_format="vtt"),
                    "verbose_json": plain.create(
                        model="whisper-1",
                        file=JFK,
                        response_format="verbose_json",
                        timestamp_granularities=["segment", "word"],
                    ),
                    "stream": streamed(),
                }
            )

    servers.environment["BUCKETSCRIBE_BUCKET"], before = "openai", servers.environment["BUCKETSCRIBE_BUCKET"]
    try:
        with worker_process(servers, world.service):
            found = asyncio.run(worked_for())
    finally:
        servers.environment["BUCKETSCRIBE_BUCKET"] = before
    records = world.service.transcriptions.page(BOB, None, None, 100)[0]
    (first,) = [record for record in records if record.options.task == "transcribe"]
    with hearing_the_same(world, first):
        return found | asyncio.run(told())


def test_json_is_the_text_and_names_the_transcription(heard: dict[str, Any], world: World) -> None:
    answer = heard["json"].parse()
    assert isinstance(answer, Transcription)
    assert words(answer.text) == SAID
    assert answer.usage is not None
    assert (answer.usage.type, answer.usage.seconds) == ("duration", 11.0)  # type: ignore[union-attr]
    record = world.service.transcriptions.get(BOB, heard["json"].headers["bucketscribe-transcription"]).record
    assert (record.options.initial_prompt, record.options.task) == ("Kennedy", "transcribe")
    assert record.ignored == ("temperature",)


def test_the_documented_lines_print_the_text(heard: dict[str, Any]) -> None:
    assert [words(text) for text in heard["documented"]] == [SAID]


def test_text_is_the_text_alone(heard: dict[str, Any]) -> None:
    assert heard["text"].headers["content-type"] == "text/plain; charset=utf-8"
    assert words(heard["text"].parse()) == SAID
    assert heard["text"].parse().endswith("\n")


def test_captions_are_those_one_can_download(heard: dict[str, Any], world: World) -> None:
    for format, type in (("srt", "application/x-subrip"), ("vtt", "text/vtt; charset=utf-8")):
        assert heard[format].headers["content-type"] == type
        id = heard[format].headers["bucketscribe-transcription"]
        prefix = world.service.transcriptions.get(BOB, id).record.transcript_prefix
        kept = world.service.bucket.get(f"{prefix}transcript.{format}")
        assert kept is not None
        assert heard[format].parse() == kept.body.decode()
        assert "00:00:0" in heard[format].parse()


def test_verbose_json_has_segments_and_words_with_their_times(heard: dict[str, Any]) -> None:
    answer = heard["verbose_json"]
    assert isinstance(answer, TranscriptionVerbose)
    assert (answer.language, answer.duration) == ("english", 11.0)
    assert words(answer.text) == SAID
    assert answer.segments is not None
    assert answer.words is not None
    assert [segment.id for segment in answer.segments] == list(range(len(answer.segments)))
    assert " ".join(segment.text for segment in answer.segments) == answer.text
    assert " ".join(word.word for word in answer.words) == answer.text
    times = [time for word in answer.words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= 11.0


def test_a_stream_is_the_text_in_pieces_and_then_the_whole(heard: dict[str, Any]) -> None:
    *pieces, done = heard["stream"]
    assert len(pieces) > 1
    assert all(isinstance(piece, TranscriptionTextDeltaEvent) for piece in pieces)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert "".join(piece.delta for piece in pieces) == done.text
    assert words(done.text) == SAID


def test_a_translation_is_told_as_one(heard: dict[str, Any]) -> None:
    answer = heard["translation"]
    assert isinstance(answer, TranslationVerbose)
    assert answer.language == "english"
    assert "country" in answer.text


# Refusals


def test_a_model_that_is_not_here_is_refused_with_those_that_are(world: World) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        world.client().audio.transcriptions.create(model="large-v3", file=JFK)
    error = refused.value
    assert (error.status_code, error.code, error.param) == (422, "invalid_option", "model")
    assert "base, tiny.en" in error.message
    assert error.type == "invalid_request_error"
    assert world.records() == []


@pytest.mark.parametrize("name", ["notes.txt", "notes.mp3"])
def test_what_is_no_recording_is_refused_in_words(world: World, name: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        world.client().audio.transcriptions.create(
            model="whisper-1", file=(name, b"no recording at all " * 50)
        )
    assert (refused.value.status_code, refused.value.code) == (415, "unsupported_media")
    assert "audio" in refused.value.message
    assert all(leftovers(world.service.bucket, record.id) == [] for record in world.records())


def test_who_is_not_known_is_told_so(world: World) -> None:
    with pytest.raises(openai.AuthenticationError, match="These credentials are not known here"):
        world.client("bks_" + "0" * 40).audio.transcriptions.create(model="whisper-1", file=JFK)


def test_who_may_send_and_not_read_is_refused_before_anything_is_sent(world: World) -> None:
    key = Keys(world.service.bucket).new("a test's", ANN, (Scope.UPLOAD,), None)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        world.client(key).audio.transcriptions.create(model="whisper-1", file=JFK)
    assert refused.value.code == "scope_missing"
    assert world.records() == []


def test_fields_after_the_file_count_as_much(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "WAIT_SECONDS", 0.0)
    late = [("language", (None, "de")), ("temperature", (None, "1"))]
    assert world.post(("file", ("jfk.wav", SPEECH)), *late).json()["code"] == "takes_longer"
    record = world.queued()
    assert (record.options.language, record.ignored) == ("de", ("temperature",))


def test_a_field_after_the_file_that_is_wrong_leaves_nothing(world: World) -> None:
    refused = world.post(("file", ("jfk.wav", SPEECH)), ("response_format", (None, "docx")))
    assert (refused.status_code, refused.json()["error"]["param"]) == (422, "response_format")
    (record,) = world.records()
    assert record.state is State.CANCELED
    assert leftovers(world.service.bucket, record.id) == []


# What takes long


def test_what_takes_too_long_goes_on_and_is_not_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "WAIT_SECONDS", 0.1)
    with pytest.raises(openai.InternalServerError) as told:
        world.client().audio.transcriptions.create(model="whisper-1", file=JFK)
    record = world.queued()
    assert world.records() == [record]
    assert (told.value.status_code, told.value.code) == (504, "takes_longer")
    assert told.value.body["id"] == record.id  # type: ignore[index]
    assert f"/transcriptions/{record.id}/transcript.json" in told.value.message
    assert told.value.response.headers["bucketscribe-transcription"] == record.id


def test_behind_a_gateway_the_whole_request_is_answered_in_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world.app.state.streams, "held", True)
    monkeypatch.setattr(routes, "HELD_SECONDS", 0.1)
    # A stream that nobody sees before it ends is waited for like any answer.
    with pytest.raises(openai.InternalServerError) as told:
        world.client().audio.transcriptions.create(model="whisper-1", file=JFK, stream=True)
    assert told.value.code == "takes_longer"


@pytest.mark.parametrize(
    ("code", "status", "told_as"),
    [
        ("no_audio", 422, "not_transcribable"),
        ("undecodable", 422, "not_transcribable"),
        ("engine_failed", 500, "transcription_failed"),
        ("attempts_exhausted", 500, "transcription_failed"),
    ],
)
def test_a_failure_is_told_by_its_code_and_not_repeated(
    world: World, code: str, status: int, told_as: str
) -> None:
    with asking(world) as answer:
        record = fail(world, code)
        error = answer.exception(20)
    assert isinstance(error, openai.APIStatusError)
    assert (error.status_code, error.code) == (status, code)
    assert error.response.json()["code"] == told_as
    assert error.message.startswith(f"Error code: {status} - It went wrong.")
    assert [each.id for each in world.records()] == [record.id]


def test_what_another_upload_may_mend_is_sent_again(world: World) -> None:
    with asking(world) as answer:
        first = fail(world, "recording_lost")
        second = fail(world, "engine_failed")
        assert isinstance(answer.exception(20), openai.InternalServerError)
    assert [each.id for each in world.records()] == [second.id, first.id]


@pytest.mark.parametrize("stop", ["cancel", "delete"])
def test_what_is_stopped_meanwhile_is_a_conflict_and_not_repeated(world: World, stop: str) -> None:
    with asking(world) as answer:
        record = world.queued()
        getattr(world.service.transcriptions, stop)(ANN, record.id)
        error = answer.exception(20)
    assert isinstance(error, openai.ConflictError)
    assert (error.code, error.body["id"]) == ("not_ready", record.id)  # type: ignore[index]
    assert len(world.records()) == (stop == "cancel")


def test_a_stream_that_comes_to_nothing_ends_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "KEEP_ALIVE_SECONDS", 0.0)
    with world.client() as client:
        stream = client.audio.transcriptions.create(model="whisper-1", file=JFK, stream=True)
        fail(world, "no_audio")
        with pytest.raises(openai.APIError, match="It went wrong") as told:
            list(stream)
    assert told.value.code == "no_audio"


def test_a_transcript_that_the_bucket_does_not_give_is_not_asked_for_by_another_upload(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: Any) -> bytes:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    with asking(world) as answer:
        record = world.queued()
        monkeypatch.setattr(routes, "transcript_file", silent)
        claim = world.service.transcriptions.claim(Job(ANN, record.id, 1), "a test")
        assert claim is not None
        world.service.transcriptions.complete(claim, Facts("en", 11.0, {}, ()))
        error = answer.exception(20)
    assert isinstance(error, openai.InternalServerError)
    assert (error.code, error.body["id"]) == ("storage_unavailable", record.id)  # type: ignore[index]
    assert len(world.records()) == 1


def test_a_model_for_english_only_translates_nothing(world: World) -> None:
    with pytest.raises(openai.UnprocessableEntityError, match=r"tiny\.en knows English only") as refused:
        world.client().audio.translations.create(model="whisper-1", file=JFK)
    assert refused.value.param == "model"
    assert world.records() == []


def test_who_goes_away_is_not_waited_for_and_the_transcription_goes_on(world: World) -> None:
    with world.client(retries=0, timeout=1.0) as client, pytest.raises(openai.APITimeoutError):
        client.audio.transcriptions.create(model="whisper-1", file=JFK)
    until(lambda: not world.app.state.streams._open, "nobody looks any more")
    assert world.queued().options.task == "transcribe"


def test_a_key_that_is_revoked_meanwhile_waits_no_longer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(world.service.bucket)
    key = keys.new("a test's", ANN, (Scope.UPLOAD, Scope.READ), None)
    with asking(world, key=key) as answer:
        record = world.queued()
        keys.revoke(digest_of(key) or "")
        monkeypatch.setattr(authentication, "time", clock := Clock())
        clock.later = 61
        error = answer.exception(20)
    assert isinstance(error, openai.AuthenticationError)
    assert error.response.headers["bucketscribe-transcription"] == record.id


@pytest.mark.long
def test_a_gibibyte_goes_through_the_client(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_ahead, "PATIENCE_SECONDS", 120)
    large = tmp_path / "large.wav"
    large.write_bytes(SPEECH)
    with large.open("r+b") as file:
        file.truncate(LARGE_BYTES)
    with asking(world, file=large) as answer:
        record = world.queued()
        assert record.size == LARGE_BYTES
        world.service.transcriptions.cancel(ANN, record.id)
        error = answer.exception(20)
    assert isinstance(error, openai.ConflictError)
    assert error.body["state"] == "canceled"  # type: ignore[index]
