"""The client: everything a user of the API does, as methods that take and return plain values.

    from bucketscribe.client import Client

    with Client("http://127.0.0.1:8000") as client:
        transcription = client.upload("talk.mp4", {"language": "en"})
        client.wait(transcription.id)
        print(client.transcript(transcription.id, "txt").decode())

Every method fails with a `ClientError`, see `errors.py`. A client may be shared between threads.
"""

import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urljoin

from pydantic import BaseModel
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from .api import CONNECT_SECONDS, READ_SECONDS, Api, bad_answer, reason
from .backoff import PATIENT, QUICK, Backoff
from .errors import BucketRefused, ClientError, Unreachable, UploadFailed
from .events import follow, path
from .model import Page, Transcription
from .transfer import Transfer, UploadProgress, part_bytes, refusal


class _Begun(BaseModel):
    id: str
    key: str
    uploadId: str  # noqa: N815 -- the wire's name
    partSize: int  # noqa: N815 -- the wire's name

    @property
    def path(self) -> str:
        return f"/s3/multipart/{quote(self.uploadId, safe='')}"


class _Signed(BaseModel):
    presignedUrls: dict[int, str]  # noqa: N815 -- the wire's name


class Client:
    """A Bucketscribe server.

    `headers` go to the API only, never to the bucket. `parallel` is how many parts are sent at once. `quick`
    is how often a single call is tried, `patient` the same for the calls of an upload or a wait.
    `pace_seconds` is the pause between two looks where the server has no event stream.
    """

    def __init__(
        self,
        server: str,
        *,
        headers: Mapping[str, str] | None = None,
        parallel: int = 4,
        quick: Backoff = QUICK,
        patient: Backoff = PATIENT,
        pace_seconds: float = 1.0,
    ) -> None:
        if parallel < 1:
            raise ValueError("parallel must be at least 1")
        self._pool = PoolManager(maxsize=parallel + 1)
        self._api = Api(server, self._pool, headers or {})
        self._parallel = parallel
        self._quick = quick
        self._patient = patient
        self._pace_seconds = pace_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._pool.clear()

    def upload(
        self,
        path: str | os.PathLike[str],
        options: Mapping[str, Any] | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        *,
        keep: bool = False,
    ) -> Transcription:
        """Send a recording into the bucket, and see it accepted.

        An upload that fails, or is interrupted, is aborted unless it is to `keep` its parts, until the server
        ends it for being idle. `on_progress` is called ten times a second or more, in the caller's thread.
        """
        file = Path(path)
        facts = _facts(file)
        begun = self._begin(file, facts.st_size, options or {})
        accepted = False
        try:
            self._send(begun, file, facts, on_progress)
            accepted = True
        finally:
            if not (accepted or keep):
                self._abort(begun)
        return self.get(begun.id)

    def get(self, id: str) -> Transcription:
        """A transcription as it stands."""
        return self._api.document(Transcription, self._api.call("GET", path(id), backoff=self._quick))

    def list(self, state: str | None = None, cursor: str | None = None, limit: int | None = None) -> Page:
        """A page of transcriptions, newest first. It may be short: only no `cursor` means the end."""
        query = {"state": state, "cursor": cursor, "limit": limit}
        return self._api.document(
            Page, self._api.call("GET", "/transcriptions", query=query, backoff=self._quick)
        )

    def wait(self, id: str, on_change: Callable[[Transcription], None] | None = None) -> Transcription:
        """Wait until a transcription is completed, failed, canceled or expired; returns it then.

        `on_change` gets every version that is news, the final one included.
        """
        current: Transcription | None = None
        for current in follow(self._api, id, self._pace_seconds, self._patient):
            if on_change is not None:
                on_change(current)
        return current or self.get(id)

    def transcript(self, id: str, format: str = "txt") -> bytes:
        """The transcript as txt, srt, vtt, json, tsv or ass."""
        response = self._api.call(
            "GET", f"{path(id)}/transcript.{quote(format, safe='')}", backoff=self._quick
        )
        if response.status == 200:
            return response.data
        location = response.headers.get("Location")
        if location is None:
            raise bad_answer(response, f"status {response.status} without a Location")
        return self._download(urljoin(f"{self._api.server}/", location), f"the {format} transcript")

    def cancel(self, id: str) -> Transcription:
        """Stop a transcription, or its upload."""
        return self._api.document(
            Transcription, self._api.call("POST", f"{path(id)}/cancel", backoff=self._quick)
        )

    def retry(self, id: str) -> Transcription:
        """Begin a new run of one that failed or was canceled."""
        return self._api.document(
            Transcription, self._api.call("POST", f"{path(id)}/retry", backoff=self._quick)
        )

    def delete(self, id: str) -> None:
        """Delete recording, transcript and all. It is gone for you at once, from the bucket soon after."""
        self._api.call("DELETE", path(id), backoff=self._quick)

    def _begin(self, file: Path, size: int, options: Mapping[str, Any]) -> _Begun:
        given = {name: value for name, value in options.items() if value is not None}
        body = {
            # A name that is no text on this machine is made one, as JSON holds nothing else.
            "filename": os.fsencode(file.name).decode(errors="replace"),
            # The server tells types by extension, the same way for every client's machine.
            "type": "application/octet-stream",
            "metadata": {**given, "size": size, "partSize": part_bytes(size)},
        }
        response = self._api.call("POST", "/s3/multipart", body=body, backoff=self._quick)
        return self._api.document(_Begun, response)

    def _send(
        self,
        begun: _Begun,
        file: Path,
        facts: os.stat_result,
        on_progress: Callable[[UploadProgress], None] | None,
    ) -> None:
        """Send and complete."""

        def sign(first: int, last: int) -> Mapping[int, str]:
            return self._sign(begun, first, last)

        transfer = Transfer(
            self._pool, file, facts.st_size, begun.partSize, sign, self._parallel, self._patient
        )
        try:
            etags = transfer.run(on_progress)
        except BucketRefused as refused:
            if refused.reason == "NoSuchUpload":
                # The API knows why: expired, canceled by someone, or finished.
                self._list_parts(begun)
            raise
        now = _facts(file)
        if (now.st_size, now.st_mtime_ns) != (facts.st_size, facts.st_mtime_ns):
            raise UploadFailed("file_changed", f"{file} was changed while it was sent.")
        self._complete(begun, etags)

    def _sign(self, begun: _Begun, first: int, last: int) -> Mapping[int, str]:
        query = {"key": begun.key, "partNumbers": f"{first}-{last}"}
        response = self._api.call("GET", f"{begun.path}/batch", query=query, backoff=self._patient)
        urls = self._api.document(_Signed, response).presignedUrls
        if any(number not in urls for number in range(first, last + 1)):
            raise bad_answer(response, "a part's URL is missing")
        return urls

    def _complete(self, begun: _Begun, etags: Mapping[int, str]) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags.items()]
        # Completing twice gives the same answer twice.
        self._api.call(
            "POST",
            f"{begun.path}/complete",
            query={"key": begun.key},
            body={"parts": parts},
            backoff=self._patient,
            repeatable=True,
        )

    def _abort(self, begun: _Begun) -> None:
        with suppress(ClientError):
            self._api.call("DELETE", begun.path, query={"key": begun.key}, backoff=self._quick)

    def _list_parts(self, begun: _Begun) -> None:
        self._api.call("GET", begun.path, query={"key": begun.key}, backoff=self._quick)

    def _download(self, url: str, what: str) -> bytes:
        """From the bucket, which must not see the API's headers."""
        pauses = self._quick.pauses()
        while True:
            error: ClientError
            try:
                response = self._pool.request(
                    "GET",
                    url,
                    retries=False,
                    redirect=False,
                    timeout=Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
                )
            except HTTPError as lost:
                error = Unreachable("The bucket", reason(lost))
            else:
                if response.status == 200:
                    return response.data
                error = refusal(response, what)
                if response.status < 500:
                    raise error
            pause = next(pauses, None)
            if pause is None:
                raise error
            time.sleep(pause)


def _facts(file: Path) -> os.stat_result:
    try:
        facts = file.stat()
    except OSError as error:
        raise UploadFailed("file_unreadable", f"{file}: {error.strerror}.") from error
    if not stat.S_ISREG(facts.st_mode):
        raise UploadFailed("not_a_file", f"{file} is not a regular file.")
    if facts.st_size == 0:
        raise UploadFailed("empty_file", f"{file} is empty.")
    return facts
