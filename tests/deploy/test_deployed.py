"""The whole story, deployed: the template in an emulator of AWS, a real worker on real speech.

One stack for all of it. What the workers would take from others comes first, and what waits for the schedule
last; it is begun before everything else.
"""

import io
import json
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from ssl import create_default_context
from typing import Any

import httpx2
import pytest

from tests.deploy.ministack import PATIENCE_SECONDS, Stack, deploy, deployed, until, worker
from tests.media.make import JFK
from tests.tus import TusUpload, ask, create, created

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

MIB = 1024**2
IDLE_SECONDS = 20
WORDS = (
    "and so my fellow americans ask not what your country can do for you ask what you can do for your country"
)


@dataclass(frozen=True)
class User:
    """Somebody with an API key."""

    stack: Stack
    key: str
    owner: str
    api: httpx2.Client

    def begin(self, name: str = "talk.wav", **metadata: str | int) -> dict[str, Any]:
        """Begin an upload."""
        body = {"filename": name, "type": "audio/wav", "metadata": {"language": "en", **metadata}}
        answer = self.api.post("/s3/multipart", json=body)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def put(self, begun: dict[str, Any], number: int, part: bytes) -> str:
        """Send a part by a presigned URL, straight into the bucket; its ETag."""
        url = self.api.get(f"/s3/multipart/{begun['uploadId']}/{number}", params={"key": begun["key"]})
        put = httpx2.put(url.json()["url"], content=part, verify=self.context)
        assert put.status_code == 200, put.text
        return str(put.headers["etag"])

    @property
    def context(self) -> Any:
        """Trust in the emulator's certificate."""
        return create_default_context(cafile=str(self.stack.emulator.certificate))

    def read(self, id: str) -> dict[str, Any]:
        """A transcription."""
        return dict(self.api.get(f"/transcriptions/{id}").json())

    def comes_to(self, state: str, id: str) -> dict[str, Any]:
        """A transcription once it is in this state."""

        def there() -> dict[str, Any] | None:
            now = self.read(id)
            assert state == "failed" or now["state"] != "failed", now
            return now if now["state"] == state else None

        return until(there, f"{id} is {state}") or {}

    def words(self, id: str) -> str:
        """What was understood, by the presigned URL that the API redirects to."""
        answer = self.api.get(f"/transcriptions/{id}/transcript.txt", follow_redirects=True)
        assert answer.status_code == 200, answer.text
        return " ".join(re.sub(r"[^a-z ]", "", answer.text.replace("\n", " ").lower()).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with deployed(folder, Model="tiny.en", UploadIdleSeconds=IDLE_SECONDS) as stack:
        yield stack


@pytest.fixture(scope="module")
def user(stack: Stack) -> Iterator[User]:
    """Whom the stack's own output makes the first key for."""
    bin = Path(sys.executable).parent
    environment = stack.emulator.environment | {"PATH": f"{bin}:{stack.emulator.environment['PATH']}"}
    told = subprocess.run(
        ["sh", "-c", stack.outputs["MakeFirstKey"]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    owner = re.search(r"owner: ([a-z0-9-]+)", told.stderr)
    assert owner is not None
    assert "not_taken" not in told.stderr
    key = told.stdout.strip()
    context = create_default_context(cafile=str(stack.emulator.certificate))
    with httpx2.Client(
        base_url=stack.api, headers={"Authorization": f"Bearer {key}"}, verify=context, timeout=60
    ) as api:
        yield User(stack, key, owner[1], api)


@pytest.fixture(scope="module", autouse=True)
def left_idle(user: User) -> dict[str, Any]:
    """An upload that is begun before all else, and then forgotten."""
    begun = user.begin("forgotten.wav")
    user.put(begun, 1, JFK.read_bytes())
    return begun


@pytest.fixture(scope="module", autouse=True)
def left_idle_by_tus(user: User) -> list[TusUpload]:
    """The same by tus: one that was to be a recording, and one that was to be part of one."""
    body, length = JFK.read_bytes(), 20 * MIB
    return [
        created(user.api, ask(user.api, length, body)),
        created(user.api, ask(user.api, length, body, Upload_Concat="partial")),
    ]


@pytest.fixture(scope="module")
def at_work(stack: Stack, folder: Path) -> Iterator[None]:
    with worker(stack, folder):
        yield


def recording_of_two_parts() -> list[bytes]:
    """Nearly three minutes in which somebody speaks only at the end, which is in the second part."""
    with wave.open(str(JFK)) as sound:
        parameters, speech = sound.getparams(), sound.readframes(sound.getnframes())
    file = io.BytesIO()
    with wave.open(file, "wb") as long:
        long.setparams(parameters)
        long.writeframes(bytes(5 * MIB) + speech)
    body = file.getvalue()
    return [body[: 5 * MIB], body[5 * MIB :]]


def test_who_brings_no_key_is_refused_and_bucket_and_queue_answer(stack: Stack, user: User) -> None:
    nobody = httpx2.get(f"{stack.api}/transcriptions", verify=user.context)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "sign_in_required")
    ready = httpx2.get(f"{stack.api}/health/ready", verify=user.context, timeout=60)
    assert ready.json() == {"status": "ok", "bucket": "ok", "queue": "ok", "worker": None}
    assert user.api.get("/transcriptions").json()["transcriptions"] != []


def test_a_job_that_no_worker_can_claim_fails_and_can_be_retried(stack: Stack, user: User) -> None:
    begun = user.begin("poison.wav")
    etag = user.put(begun, 1, JFK.read_bytes())
    finished = user.api.post(
        f"/s3/multipart/{begun['uploadId']}/complete",
        params={"key": begun["key"]},
        json={"parts": [{"PartNumber": 1, "ETag": etag}]},
    )
    assert finished.status_code == 200, finished.text
    sqs, url = stack.emulator.client("sqs"), stack.outputs["JobQueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="nobody can read this")

    # Worker after worker that dies of it, each before it has claimed anything.
    def taken() -> bool:
        sqs.receive_message(QueueUrl=url, VisibilityTimeout=0, MaxNumberOfMessages=10)
        return bool(user.read(begun["id"])["state"] == "failed")

    until(taken, "the job is failed")
    assert user.read(begun["id"])["error"]["code"] == "never_started"
    until(lambda: stack.logged("unreadable_message"), "the other one is logged")
    dead = stack.resource("DeadJobsQueue")
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def left() -> list[str]:
        attributes = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=names)["Attributes"]
        return [attributes[name] for name in names]

    until(lambda: left() == ["0", "0"], "all dead letters are done with")
    assert user.api.post(f"/transcriptions/{begun['id']}/retry").json()["state"] == "queued"
    assert user.api.post(f"/transcriptions/{begun['id']}/cancel").json()["state"] == "canceled"


@pytest.mark.usefixtures("at_work")
def test_a_recording_completed_behind_the_apis_back_becomes_a_transcript(stack: Stack, user: User) -> None:
    begun = user.begin()
    etags = [user.put(begun, number, part) for number, part in enumerate(recording_of_two_parts(), 1)]
    s3 = stack.emulator.client("s3")
    uploads = s3.list_multipart_uploads(Bucket=stack.bucket, Prefix=begun["key"])["Uploads"]
    # As Uppy's `signRequest` has the browser do it: nobody tells the API, so only the event can.
    s3.complete_multipart_upload(
        Bucket=stack.bucket,
        Key=begun["key"],
        UploadId=uploads[0]["UploadId"],
        MultipartUpload={"Parts": [{"PartNumber": n, "ETag": etag} for n, etag in enumerate(etags, 1)]},
    )
    user.comes_to("completed", begun["id"])
    assert user.words(begun["id"]) == WORDS


@pytest.mark.usefixtures("at_work")
def test_a_form_becomes_a_transcript_without_another_call(user: User) -> None:
    asked = {"filename": "form.wav", "type": "audio/wav", "metadata[language]": "en"}
    form = user.api.get("/s3/params", params=asked).json()
    sent = httpx2.post(
        form["url"], data=form["fields"], files={"file": JFK.read_bytes()}, verify=user.context
    )
    assert sent.status_code == 201, sent.text
    id = form["fields"]["key"].split("/")[2]
    user.comes_to("completed", id)
    assert user.words(id) == WORDS


@pytest.mark.usefixtures("at_work")
def test_a_recording_sent_by_tus_becomes_a_transcript(stack: Stack, user: User) -> None:
    first, second = recording_of_two_parts()
    upload = create(user.api, len(first) + len(second))
    answer = upload.append(first + second, 4 * MIB)
    assert answer.headers["bucketscribe-transcription"] == upload.id
    # And one in partials, one of them shorter than a part may be.
    pieces = ((first + second)[:MIB], (first + second)[MIB:])
    partials = [create(user.api, len(piece), Upload_Concat="partial") for piece in pieces]
    for one, piece in zip(partials, pieces, strict=True):
        one.append(piece, 4 * MIB)
    together = created(
        user.api, ask(user.api, -1, Upload_Concat="final;" + " ".join(one.path for one in partials))
    )
    for id in (upload.id, together.id):
        user.comes_to("completed", id)
        assert user.words(id) == WORDS
    s3 = stack.emulator.client("s3")
    for one in (upload, *partials, together):
        left = s3.list_objects_v2(Bucket=stack.bucket, Prefix=f"tus/{user.owner}/{one.id}/")
        assert left["KeyCount"] == 0


@pytest.mark.usefixtures("at_work")
def test_an_object_in_the_drop_folder_becomes_a_transcript(stack: Stack, user: User) -> None:
    s3, key = stack.emulator.client("s3"), f"inbox/{user.owner}/Board meeting/1 & 2.wav"
    s3.put_object(Bucket=stack.bucket, Key=key, Body=JFK.read_bytes())

    def found() -> list[dict[str, Any]]:
        listed = user.api.get("/transcriptions").json()["transcriptions"]
        return [one for one in listed if one["name"] == "1 & 2.wav"]

    [taken] = until(found, "it is a transcription")
    user.comes_to("completed", taken["id"])
    assert user.words(taken["id"]) == WORDS
    assert len(found()) == 1


@pytest.mark.usefixtures("at_work")
def test_what_is_deleted_leaves_nothing_in_the_bucket(stack: Stack, user: User) -> None:
    s3, key = stack.emulator.client("s3"), f"inbox/{user.owner}/private.wav"
    s3.put_object(Bucket=stack.bucket, Key=key, Body=JFK.read_bytes())
    # Whether the request or the event is first: it is one transcription.
    made = user.api.post("/transcriptions", json={"key": key, "options": {}})
    assert made.status_code in (200, 201), made.text
    id = made.json()["id"]
    user.comes_to("completed", id)
    assert user.api.delete(f"/transcriptions/{id}").status_code == 202
    assert user.api.get(f"/transcriptions/{id}").status_code == 404

    def left() -> list[str]:
        listed = s3.list_objects_v2(Bucket=stack.bucket)["Contents"]
        return [one["Key"] for one in listed if id in one["Key"] or one["Key"] == key]

    # A worker's lease must be over, and an idle upload's time; then the next sweep removes the record.
    until(lambda: not left(), "nothing of it is left", 2 * PATIENCE_SECONDS)


def test_an_upload_left_idle_is_ended_by_the_schedule(
    stack: Stack, user: User, left_idle: dict[str, Any]
) -> None:
    user.comes_to("expired", left_idle["id"])
    s3 = stack.emulator.client("s3")
    uploads = s3.list_multipart_uploads(Bucket=stack.bucket, Prefix=left_idle["key"])
    assert uploads.get("Uploads", []) == []


def test_what_was_left_idle_by_tus_is_ended_by_the_schedule(
    stack: Stack, user: User, left_idle_by_tus: list[TusUpload]
) -> None:
    user.comes_to("expired", left_idle_by_tus[0].id)
    # Not by asking how far they are: that would keep them alive.
    s3 = stack.emulator.client("s3")

    def left() -> list[str]:
        listed = s3.list_objects_v2(Bucket=stack.bucket, Prefix=f"tus/{user.owner}/")
        return [one["Key"] for one in listed.get("Contents", [])]

    until(lambda: not left(), "nothing of them is left", 2 * PATIENCE_SECONDS)
    assert {upload.head().status_code for upload in left_idle_by_tus} <= {404, 410}


def test_no_function_was_refused_anything_its_role_allows(stack: Stack, user: User) -> None:
    assert not stack.logged("AccessDenied")
    assert not stack.logged('internal"')
    # It is the roles that allow it: what one of them is forbidden, its function cannot do.
    iam, role = stack.emulator.client("iam"), stack.resource("ApiRole")
    denied = {"Effect": "Deny", "Action": "sqs:GetQueueAttributes", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
    iam.put_role_policy(RoleName=role, PolicyName="forbidden", PolicyDocument=policy)
    assert user.api.get("/health/ready").json()["queue"] == "does not answer"
    iam.delete_role_policy(RoleName=role, PolicyName="forbidden")
    assert user.api.get("/health/ready").json()["queue"] == "ok"


def test_an_update_of_a_setting_reaches_the_api_and_the_bucket_outlives_the_stack(
    stack: Stack, user: User, folder: Path, left_idle: dict[str, Any]
) -> None:
    with pytest.raises(AssertionError, match="needs OidcIssuer and OidcAudience"):
        deploy(stack.emulator, folder / "build", ["Architecture=x86_64", "Auth=keys,oidc"])
    overrides = ["Architecture=x86_64", "MaxUploadBytes=1000", "KeepRecordingsDays=30"]
    updated = deploy(stack.emulator, folder / "build", overrides)
    assert updated.outputs == stack.outputs
    refused = user.api.post("/s3/multipart", json={"filename": "talk.wav", "metadata": {"size": 1001}})
    assert refused.status_code == 413, refused.text
    assert refused.json()["code"] == "too_large"
    assert user.api.get("/transcriptions").json()["transcriptions"] != []
    stack.emulator.sam("delete", "--stack-name", "bucketscribe", "--no-prompts", "--region", "us-east-1")
    s3 = stack.emulator.client("s3")
    listed = s3.list_objects_v2(Bucket=stack.bucket, Prefix=f"records/{user.owner}/")["Contents"]
    assert any(left_idle["id"] in record["Key"] for record in listed)
