"""A plain tus client: each method is one request of the protocol, and nothing is repeated by itself.

Source: the tus resumable upload protocol, 1.0.0, https://tus.io/protocols/resumable-upload
"""

import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import new as hashing

import httpx2

from tests.media.make import JFK

ENDPOINT = "/uploads/files/"
VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = "application/offset+octet-stream"
MIB = 1024**2
PATIENCE_SECONDS = 40.0

SPEECH = JFK.read_bytes()

Body = bytes | Iterable[bytes]


def recording(size: int, seed: int = 0) -> bytes:
    """A recording, and behind it bytes of which no two pieces are alike; as many as asked for."""
    return (SPEECH + random.Random(seed).randbytes(max(0, size - len(SPEECH))))[:size]


def metadata(**values: str) -> str:
    """`Upload-Metadata`: names and values in base64."""
    return ",".join(f"{name} {b64encode(value.encode()).decode()}" for name, value in values.items())


def checksum(body: bytes, algorithm: str = "sha1") -> dict[str, str]:
    """`Upload-Checksum` of a body."""
    return {"Upload-Checksum": f"{algorithm} {b64encode(hashing(algorithm, body).digest()).decode()}"}


@dataclass(frozen=True, slots=True)
class TusUpload:
    """An upload, known by its address."""

    api: httpx2.Client
    path: str

    @property
    def id(self) -> str:
        """The bare id."""
        return self.path.rpartition("/")[2]

    def head(self) -> httpx2.Response:
        """Ask how far it is."""
        return self.api.head(self.path, headers=VERSION)

    def offset(self) -> int:
        """How far it is, of one that stands."""
        answer = self.head()
        assert answer.status_code == 200, (answer.status_code, answer.headers)
        return int(answer.headers["upload-offset"])

    def patch(self, offset: int, body: Body = b"", **headers: str | None) -> httpx2.Response:
        """Append. Headers are named with underscores; one that is None is left out."""
        told: dict[str, str | None] = {
            **VERSION,
            "Content-Type": BYTES,
            "Upload-Offset": str(offset),
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        sent = {name: value for name, value in told.items() if value is not None}
        return self.api.patch(self.path, content=body, headers=sent)

    def append(self, body: bytes, chunk: int | None = None, **headers: str | None) -> httpx2.Response:
        """Send all that is left of a body, in chunks of so many bytes; the last answer."""
        offset = self.offset()
        while True:
            piece = body[offset : offset + chunk] if chunk else body[offset:]
            answer = self.patch(offset, piece, **headers)
            assert answer.status_code == 204, answer.text
            assert int(answer.headers["upload-offset"]) == offset + len(piece)
            offset += len(piece)
            if offset >= len(body):
                return answer

    def delete(self) -> httpx2.Response:
        """Give it up."""
        return self.api.delete(self.path, headers=VERSION)


def ask(
    api: httpx2.Client, length: int | None, body: Body | None = None, /, **headers: str | None
) -> httpx2.Response:
    """POST: a length of None leaves it open, -1 leaves both headers out."""
    sizes: dict[str, str | None] = {} if length == -1 else {"Upload-Length": str(length)}
    told: dict[str, str | None] = {
        **VERSION,
        "Upload-Metadata": metadata(filename="talk.wav", filetype="audio/wav"),
        **({"Upload-Defer-Length": "1"} if length is None else sizes),
        **({} if body is None else {"Content-Type": BYTES}),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    sent = {name: value for name, value in told.items() if value is not None}
    return api.post(ENDPOINT, content=body, headers=sent)


def create(api: httpx2.Client, length: int | None, /, **headers: str | None) -> TusUpload:
    """An upload that was begun."""
    return created(api, ask(api, length, **headers))


def created(api: httpx2.Client, answer: httpx2.Response) -> TusUpload:
    """The upload that an answer tells of."""
    assert answer.status_code == 201, answer.text
    return TusUpload(api, answer.headers["location"])


def in_time(attempt: Callable[[], httpx2.Response], seconds: float = PATIENCE_SECONDS) -> httpx2.Response:
    """The first answer that is not 423, repeated as the protocol's clients do."""
    deadline = time.monotonic() + seconds
    while (answer := attempt()).status_code == 423:
        assert time.monotonic() < deadline, f"still locked after {seconds} s"
        time.sleep(0.1)
    return answer
