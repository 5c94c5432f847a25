"""The API in front of the real servers, and a client's way through an upload."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from bucketscribe.api.app import create_app
from bucketscribe.service import Service
from fastapi.testclient import TestClient

MIB = 1024**2
HERE = "http://127.0.0.1:8000"
"""In open mode nobody is answered who asks for another name."""


@dataclass
class Upload:
    """One multipart upload, as a client that knows only the wire sees it."""

    api: TestClient
    begun: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.begun["id"])

    @property
    def key(self) -> str:
        return str(self.begun["key"])

    @property
    def path(self) -> str:
        return f"/s3/multipart/{self.begun['uploadId']}"

    def url(self, number: int) -> str:
        answer = self.api.get(f"{self.path}/{number}", params={"key": self.key})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["url"])

    def put(self, number: int, body: bytes) -> dict[str, Any]:
        """PUT a part; return it as complete wants it."""
        answer = httpx2.put(self.url(number), content=body)
        assert answer.status_code == 200, answer.text
        return {"PartNumber": number, "ETag": answer.headers["etag"]}

    def parts(self) -> httpx2.Response:
        return self.api.get(self.path, params={"key": self.key})

    def complete(self, parts: list[dict[str, Any]]) -> httpx2.Response:
        return self.api.post(f"{self.path}/complete", params={"key": self.key}, json={"parts": parts})

    def abort(self) -> httpx2.Response:
        return self.api.delete(self.path, params={"key": self.key})

    def state(self) -> str:
        return str(self.api.get(f"/transcriptions/{self.id}").json()["state"])


class Uploader:
    """Begins uploads and sends whole files."""

    def __init__(self, api: TestClient) -> None:
        self.api = api

    def begin(self, filename: str = "talk.wav", type: str = "audio/wav", **metadata: Any) -> Upload:
        body = {"filename": filename, "type": type, "metadata": metadata}
        answer = self.api.post("/s3/multipart", json=body)
        assert answer.status_code == 200, answer.text
        return Upload(self.api, answer.json())

    def send(
        self, body: bytes, filename: str = "talk.wav", type: str = "audio/wav", **metadata: Any
    ) -> Upload:
        """A whole upload in one part, completed; the answer is not looked at."""
        upload = self.begin(filename, type, **metadata)
        upload.complete([upload.put(1, body)])
        return upload


def calling(service: Service) -> TestClient:
    """A client of the API on a service; what goes wrong there is told as users are told it."""
    return TestClient(create_app(service), HERE, raise_server_exceptions=False, follow_redirects=False)


@pytest.fixture
def api(service: Service) -> Iterator[TestClient]:
    with calling(service) as client:
        yield client


@pytest.fixture
def uploader(api: TestClient) -> Uploader:
    return Uploader(api)


@pytest.fixture
def wire(service: Service) -> Iterator[httpx2.Client]:
    """The API on a real server, for what a call within the process would not show."""
    # Not above: that module takes from this one.
    from tests.integration.test_tus_protocol import serving

    with serving(service) as client:
        yield client
