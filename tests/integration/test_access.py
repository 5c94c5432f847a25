"""Who may do what: each operation of the OpenAPI document, with every kind of credentials.

Made from the document, so that a new route is in it at once: one whose parameters nothing here has a value
for fails. Each operation is seen to succeed for its owner, or what follows would prove nothing.
"""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest
from bucketscribe import metrics
from bucketscribe.api import openai
from bucketscribe.api.app import create_app
from bucketscribe.auth import Principal, Scope, SignIn, owner_slug
from bucketscribe.intake import Begun
from bucketscribe.keys import Keys, digest_of
from bucketscribe.queue import Job, Queue
from bucketscribe.records import Part, State, new_id
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.tokens import TokenKind, issue
from bucketscribe.transcript import Transcript, render
from bucketscribe.transcriptions import Facts
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.integration.conftest import calling
from tests.integration.test_uploading import SPEECH, refused
from tests.servers import Servers

ANN = owner_slug("keys", "Ann")
BOB = owner_slug("keys", "Bob")
BASE = Settings(secret="a secret for tests only", auth=("keys",), host="127.0.0.1")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Operation:
    """One operation of the document, and what it needs."""

    method: str
    path: str
    described: dict[str, Any]
    schemas: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def by_token(self) -> bool:
        """Whether a token in the path says who asks."""
        return self.path.startswith("/u/{token}/")

    @property
    def public(self) -> bool:
        return not self.described["security"] and not self.by_token

    @property
    def scopes(self) -> list[Scope]:
        if self.by_token:
            return [Scope.UPLOAD]
        return [Scope(scope) for way in self.described["security"] for scope in way.get("bearer", ())]

    @property
    def required(self) -> list[dict[str, Any]]:
        return [each for each in self.described.get("parameters", []) if each.get("required")]

    @property
    def body(self) -> str | None:
        """The name of the body's schema; or its media type, if it is not JSON."""
        if "requestBody" not in self.described:
            return None
        content = self.described["requestBody"]["content"]
        if "application/json" not in content:
            return str(next(iter(content)))
        schema = content["application/json"]["schema"]
        # Of several that it may be, the first.
        return str(schema.get("oneOf", [schema])[0]["$ref"]).rpartition("/")[2]


def operations() -> list[Operation]:
    service = cast("Service", SimpleNamespace(settings=BASE, bucket=None))
    document = create_app(service).openapi()
    return [
        Operation(method, path, described, document["components"]["schemas"])
        for path, methods in document["paths"].items()
        for method, described in methods.items()
    ]


OPERATIONS = operations()
GUARDED = [operation for operation in OPERATIONS if not operation.public and not operation.by_token]
BY_TOKEN = [operation for operation in OPERATIONS if operation.by_token]
each = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
each_guarded = pytest.mark.parametrize("operation", GUARDED, ids=str)
each_with_scope = pytest.mark.parametrize("operation", [one for one in GUARDED if one.scopes], ids=str)
each_by_token = pytest.mark.parametrize("operation", BY_TOKEN, ids=str)

TRANSCRIPT = render(
    Transcript(
        id="",
        text="",
        language="en",
        language_probability=1,
        duration=11,
        segments=(),
        engine="faster-whisper",
        model="base",
    ),
    "json",
)

STATES: dict[str, State] = {
    "POST /transcriptions/{id}/cancel": State.QUEUED,
    "POST /transcriptions/{id}/retry": State.CANCELED,
}
"""What a transcription must be for the operation to succeed; completed, if nothing else is said."""


@dataclass
class World:
    """A service that asks for keys, and what Ann has there."""

    service: Service
    api: TestClient
    keys: Keys

    def key(self, owner: str, *scopes: Scope, lasts: timedelta | None = None) -> str:
        expires = None if lasts is None else self.service.bucket.now() + lasts
        return self.keys.new("a test's", owner, scopes or tuple(Scope), expires)

    def upload(self, owner: str = ANN) -> Begun:
        return self.service.intake.begin(owner, "talk.wav", "audio/wav", {})

    def part(self, begun: Begun) -> Part:
        """Send the recording as the first part."""
        url = self.service.uploads.sign(_owner(begun.key), begun.key, begun.upload_id, [1])[1]
        return Part(number=1, etag=httpx2.put(url, content=SPEECH).headers["etag"])

    def transcription(self, state: State, owner: str = ANN) -> str:
        """One in this state: its id."""
        begun = self.upload(owner)
        if state is State.UPLOADING:
            return begun.id
        self.service.uploads.complete(owner, begun.key, begun.upload_id, [self.part(begun)])
        if state is State.CANCELED:
            self.service.transcriptions.cancel(owner, begun.id)
        if state is State.COMPLETED:
            claim = self.service.transcriptions.claim(Job(owner, begun.id, 1), "a test")
            assert claim is not None
            for name, body in (("transcript.json", TRANSCRIPT), ("peaks.json", b"{}")):
                self.service.bucket.put(f"{claim.record.results_prefix}{name}", body)
            self.service.transcriptions.complete(claim, Facts("en", 11.0, {}, ()))
        return begun.id

    def token(self, **changes: Any) -> str:
        """An upload token of Ann's; with changes, one that she was never given."""
        kind = changes.pop("kind", TokenKind.UPLOAD)
        key = changes.pop("key", None) or self.key(ANN)
        ends = int(time.time()) + 60
        ann = Principal(ANN, frozenset({Scope.UPLOAD}), SignIn.KEYS, digest_of(key), ends)
        return issue(self.service.settings.sealing_secret, kind, replace(ann, **changes))

    def values(self, operation: Operation) -> dict[str, Any]:
        """What Ann would send, fresh: a value for each required parameter, and the `body`'s fields."""
        begun = self.upload()
        known = {
            "upload_id": begun.upload_id,
            "key": begun.key,
            "part_number": 1,
            "partNumbers": "1-2",
            "filename": "talk.wav",
            "format": "json",
            "wait": 0,
            "Tus-Resumable": "1.0.0",
            "Upload-Metadata": "filename dGFsay53YXY=",
            "Upload-Length": len(SPEECH),
            "Upload-Offset": 0,
            "X-HTTP-Method-Override": "PATCH",
        }
        wanted = {each["name"] for each in operation.described.get("parameters", [])}
        if "id" in wanted and "Tus-Resumable" in wanted:
            known["id"] = self.service.tus.create(ANN, len(SPEECH), "filename dGFsay53YXY=").id
        elif "id" in wanted:
            known["id"] = self.transcription(STATES.get(str(operation), State.COMPLETED))
        if "token" in wanted:
            known["token"] = self.token()
        missing = [each["name"] for each in operation.required if each["name"] not in known]
        assert not missing, f"{operation}: say in {__name__} what {missing} may be"
        values = {name: known[name] for name in wanted if name in known}
        match operation.body:
            case None:
                pass
            case "BeginRequest":
                values["body"] = {"filename": "talk.wav"}
            case "CompleteRequest":
                part = self.part(begun)
                values["body"] = {"parts": [{"PartNumber": 1, "ETag": part.etag}]}
            case "TakeRequest":
                key = f"inbox/{ANN}/{uuid.uuid4()}/talk.wav"
                self.service.bucket.put(key, SPEECH, "audio/wav")
                values["body"] = {"key": key}
            case "RenameRequest":
                values["body"] = {"name": "Another name"}
            case "TicketRequest":
                values["body"] = {"task_id": self.transcription(State.COMPLETED)}
            case "application/offset+octet-stream" as type:
                values |= {"content": SPEECH, "Content-Type": type}
            case "multipart/form-data":
                values["files"] = {"file": ("talk.wav", SPEECH)}
                if operation.path.startswith(openai.PREFIX):
                    # Which is begun at once; there is no worker to wait for.
                    values["fields"] = {"stream": "true", "model": "base"}
            case "application/x-www-form-urlencoded":
                values["fields"] = {"url": "https://example.com/talk.wav"}
            case other:
                pytest.fail(f"{operation}: say in {__name__} what {other} may be")
        return values

    def send(
        self, operation: Operation, values: dict[str, Any], *keys: str, **headers: str
    ) -> httpx2.Response:
        """Ask, with an API key for each of `keys`."""
        path, query = operation.path, {}
        in_headers = {
            each["name"] for each in operation.described.get("parameters", []) if each["in"] == "header"
        }
        for name, value in values.items():
            if f"{{{name}}}" in path:
                path = path.replace(f"{{{name}}}", str(value))
            elif name in {*in_headers, "Content-Type"}:
                headers[name] = str(value)
            elif name not in ("body", "files", "fields", "content"):
                query[name] = value
        sent = [(b"Authorization", f"Bearer {key}".encode()) for key in keys]
        sent += [(name.encode(), value.encode()) for name, value in headers.items()]
        return self.api.request(
            operation.method,
            path,
            params=query,
            json=values.get("body"),
            content=values.get("content"),
            files=values.get("files"),
            data=values.get("fields"),
            headers=httpx2.Headers(sent),
        )


def _owner(key: str) -> str:
    return key.split("/")[1]


@pytest.fixture(scope="module")
def world(servers: Servers) -> Iterator[World]:
    """In a bucket and a queue of its own, which no other test empties."""
    queue = Queue.connect(servers.settings).client.create_queue(QueueName=f"jobs-{uuid.uuid4()}")["QueueUrl"]
    settings = servers.settings.model_copy(
        update={"bucket": "access", "queue_url": queue, "auth": ("keys",), "max_requests_per_second": 10_000}
    )
    bucket = LaterBucket.connect(settings)
    bucket.client.create_bucket(Bucket="access")
    service = Service.of(settings, bucket, Queue.connect(settings))
    with pytest.MonkeyPatch.context() as patch, calling(service) as api:
        # Of a process that collects nothing there is nothing to be read.
        patch.setattr(metrics, "_backend", None)
        metrics.configure()
        patch.setattr(openai, "STREAM_SECONDS", 0.0)
        yield World(service, api, Keys(bucket))


@pytest.fixture(scope="module")
def anns(world: World) -> dict[str, dict[str, Any]]:
    """What of Ann's each operation would be about: made once, as nothing of it may change."""
    return {str(operation): world.values(operation) for operation in OPERATIONS}


def held(world: World, owner: str) -> set[tuple[str, str]]:
    """All that an owner has in the bucket: objects with their ETags, and uploads in progress."""
    client, name = world.service.bucket.client, world.service.bucket.name
    uploads = client.list_multipart_uploads(Bucket=name).get("Uploads", [])
    kept = [(entry.key, entry.etag) for entry in world.service.bucket.listing("")]
    kept += [(upload["Key"], upload["UploadId"]) for upload in uploads]
    return {(key, version) for key, version in kept if f"/{owner}/" in key}


# Its owner


@each
def test_its_owner_may_with_the_scope_it_names_and_no_other(operation: Operation, world: World) -> None:
    values = world.values(operation)
    keys = [world.key(ANN, *(operation.scopes or [Scope.READ]))] if operation in GUARDED else []
    answer = world.send(operation, values, *keys)
    assert 200 <= answer.status_code < 400, answer.text
    assert str(answer.status_code) in operation.described["responses"]


def test_every_operation_says_who_may_call_it() -> None:
    assert all("security" in operation.described for operation in OPERATIONS)
    assert [str(operation) for operation in OPERATIONS if operation.public] == [
        "GET /session",
        "DELETE /session",
        "GET /options",
        "GET /health/live",
        "GET /health",
        "GET /health/ready",
        "OPTIONS /uploads/files/",
        "OPTIONS /uploads/files/{id}",
    ]


# Nobody else


STRANGERS = {
    "nothing": (None, "sign_in_required"),
    "an unknown key": ("bks_" + "0" * 40, "bad_credentials"),
    "half a key": ("bks_0123", "bad_credentials"),
    "a key in capitals": ("bks_" + "A" * 40, "bad_credentials"),
    "no ASCII": ("bks_\u00fc", "bad_credentials"),
    "a word": ("please", "bad_credentials"),
    "a token of nobody's": ("eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.", "bad_credentials"),
    "all that a header holds": ("x" * 60_000, "bad_credentials"),
}


@each_guarded
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_stranger_may_not(
    operation: Operation, stranger: str, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    credentials, code = STRANGERS[stranger]
    before = held(world, ANN)
    answer = world.send(operation, anns[str(operation)], *([credentials] if credentials else []))
    refused(answer, 401, code)
    assert held(world, ANN) == before
    assert answer.headers["www-authenticate"] == 'Bearer realm="bucketscribe"'


@each_guarded
def test_with_a_key_that_has_ended_nobody_may(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    before = held(world, ANN)
    expired, revoked = world.key(ANN, lasts=-HOUR), world.key(ANN)
    world.keys.revoke(digest_of(revoked) or "")
    for key, code in ((expired, "credentials_expired"), (revoked, "bad_credentials")):
        for _ in range(2):
            answer = world.send(operation, anns[str(operation)], key)
            refused(answer, 401, code)
            assert "www-authenticate" in answer.headers
    assert held(world, ANN) == before


@each_with_scope
def test_with_another_scope_its_owner_may_not(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    before = held(world, ANN)
    others = [scope for scope in Scope if scope not in operation.scopes]
    for scopes in (*([scope] for scope in others), others):
        problem = refused(
            world.send(operation, anns[str(operation)], world.key(ANN, *scopes)), 403, "scope_missing"
        )
        assert operation.method == "head" or problem["scope"] == operation.scopes[0]
    assert held(world, ANN) == before


@each_guarded
def test_two_authorization_headers_are_one_too_many(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    answer = world.send(operation, anns[str(operation)], world.key(ANN), world.key(BOB))
    refused(answer, 401, "bad_credentials")


@each_by_token
def test_with_a_token_that_is_not_an_upload_s_nobody_may(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    before = held(world, ANN)
    key = world.key(ANN)
    good = world.token(key=key)
    revoked, without_scope = world.key(ANN), world.key(ANN, Scope.READ, Scope.WRITE, Scope.ADMIN)
    of_revoked = world.token(key=revoked)
    world.keys.revoke(digest_of(revoked) or "")
    tokens = {
        "x": "bad_credentials",
        "%00": "bad_credentials",
        "%ff": "bad_credentials",
        "%E2%82%AC": "bad_credentials",
        "x" * 20_000: "bad_credentials",
        key: "bad_credentials",
        good[:-1]: "bad_credentials",
        ("B" if good[0] == "A" else "A") + good[1:]: "bad_credentials",
        world.token(kind=TokenKind.SESSION): "bad_credentials",
        world.token(by=SignIn.OPEN): "bad_credentials",
        world.token(by=SignIn.OIDC): "bad_credentials",
        of_revoked: "bad_credentials",
        world.token(expires=int(time.time())): "credentials_expired",
    }
    for token, code in tokens.items():
        answer = world.send(operation, anns[str(operation)] | {"token": token})
        refused(answer, 401, code)
        assert "www-authenticate" in answer.headers
    for token in (world.token(scopes=frozenset(Scope) - {Scope.UPLOAD}), world.token(key=without_scope)):
        refused(world.send(operation, anns[str(operation)] | {"token": token}), 403, "scope_missing")
    # A key beside a bad token changes nothing: the path decides.
    refused(world.send(operation, anns[str(operation)] | {"token": "x"}, key), 401, "bad_credentials")
    assert held(world, ANN) == before


@pytest.mark.parametrize("operation", GUARDED, ids=str)
def test_an_upload_token_opens_nothing_but_its_own_path(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    values = anns[str(operation)]
    token = world.token()
    refused(world.send(operation, values, token), 401, "bad_credentials")
    refused(world.send(operation, values, Cookie=f"__Host-bucketscribe={token}"), 401, "bad_credentials")
    if not operation.path.startswith("/s3/"):
        elsewhere = replace(operation, path=f"/u/{token}{operation.path}")
        refused(world.send(elsewhere, values), 404, "no_such_route")


# Another owner


def without(values: dict[str, Any], answer: httpx2.Response) -> tuple[int, str, str]:
    """An answer, apart from what it repeats of what was asked for."""
    text = answer.text
    for value in values.values():
        if isinstance(value, str):
            text = text.replace(value, "…")
    return answer.status_code, str(answer.headers.get("location")), text


@each
def test_what_is_another_s_is_answered_like_what_does_not_exist(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    before = held(world, ANN)
    bob = [] if operation.public or operation.by_token else [world.key(BOB)]
    bobs = {"token": world.token(owner=BOB, key=world.key(BOB))} if operation.by_token else {}
    theirs = anns[str(operation)] | bobs
    named = theirs.keys() & {"id", "key"}
    answers = [without(theirs, world.send(operation, theirs, *bob))]
    if named:
        fake = theirs | {"id": new_id()} if "id" in named else theirs
        if "key" in named:
            fake = fake | {"key": f"uploads/{ANN}/{new_id()}/talk.wav"}
        fake = {name: fake[name] for name in theirs}
        answers.append(without(fake, world.send(operation, fake, *bob)))
        assert answers[0] == answers[1]
        assert operation.public or answers[0][0] in (403, 404)
    else:
        # Nothing of hers is named: what is told must not name it either.
        assert ANN not in answers[0][2]
    assert held(world, ANN) == before


@pytest.mark.parametrize("operation", [each for each in OPERATIONS if "{upload_id}" in each.path], ids=str)
def test_an_upload_id_opens_no_key_but_its_own(
    operation: Operation, world: World, anns: dict[str, dict[str, Any]]
) -> None:
    before = held(world, ANN)
    bob = [] if operation.by_token else [world.key(BOB)]
    bobs = {"token": world.token(owner=BOB, key=world.key(BOB))} if operation.by_token else {}
    mine = world.upload(BOB)
    unknown = f"uploads/{BOB}/{new_id()}/talk.wav"
    answers = [
        refused(
            world.send(operation, anns[str(operation)] | bobs | {"key": key}, *bob), 404, "no_such_upload"
        )
        for key in (mine.key, unknown)
    ]
    assert answers[0] == answers[1]
    assert held(world, ANN) == before


def test_a_list_shows_nothing_of_another_s(world: World, anns: dict[str, dict[str, Any]]) -> None:
    bob = world.transcription(State.UPLOADING, owner_bob := owner_slug("keys", f"Bob {new_id()}"))
    headers = {"Authorization": f"Bearer {world.key(owner_bob)}"}
    everything = world.api.get("/transcriptions", headers=headers).json()
    assert [shown["id"] for shown in everything["transcriptions"]] == [bob]
    # Not even with a cursor that points into another's list.
    hers = world.api.get(
        "/transcriptions?limit=1", headers={"Authorization": f"Bearer {world.key(ANN)}"}
    ).json()
    page = world.api.get("/transcriptions", params={"cursor": hers["cursor"]}, headers=headers).json()
    assert all(shown["id"] == bob for shown in page["transcriptions"])
