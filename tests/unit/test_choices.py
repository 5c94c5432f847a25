"""What a client may know before it begins: the limits and choices that the server will hold it to."""

from bucketscribe.api.app import create_app
from bucketscribe.media import EXTENSIONS, check_declared
from bucketscribe.options import LANGUAGES, read_metadata
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from fastapi.testclient import TestClient

SETTINGS = Settings(
    secret="a secret for tests only",
    s3_endpoint="http://127.0.0.1:1",
    queue_url="http://127.0.0.1:1/q",
    auth=("keys",),
    max_upload_bytes=10_000_000,
    upload_idle_seconds=90,
    model="tiny.en",
)


def test_anybody_is_told_what_an_upload_may_be_and_what_may_be_asked_for() -> None:
    told = TestClient(create_app(Service.connect(SETTINGS))).get("/options")
    assert told.status_code == 200
    assert told.json() == {
        "maxUploadBytes": 10_000_000,
        "uploadIdleSeconds": 90,
        "extensions": list(EXTENSIONS),
        "languages": list(LANGUAGES),
        "models": ["base", "tiny.en"],
        "defaultModel": "tiny.en",
    }


def test_all_that_is_offered_is_taken() -> None:
    told = TestClient(create_app(Service.connect(SETTINGS))).get("/options").json()
    for extension in told["extensions"]:
        check_declared(f"talk.{extension}", "")
    for name in ("language", "model"):
        for value in told[f"{name}s"]:
            asked = read_metadata({name: value}, SETTINGS).options
            assert getattr(asked, name) == value
