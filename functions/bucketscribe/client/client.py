"""The client: everything a user of the API does, as methods that take and return plain values.

    from bucketscribe.client import Client

    with Client("http://127.0.0.1:8000") as client:
        transcription = client.upload("talk.mp4", {"language": "en"})
        client.wait(transcription.id)
        print(client.transcript(transcription.id, "txt").decode())

Every method fails with a `ClientError`, see `errors.py`. A client may be shared between threads.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self
from urllib.parse import quote, urljoin

from pydantic import ValidationError
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError

from .api import CONNECT_SECONDS, READ_SECONDS, Api, bad_answer, reason
from .backoff import PATIENT, QUICK, Backoff
from .errors import BucketRefused, ServerProblem, Unreachable
from .events import follow, path
from .model import Health, Page, Transcription
from .offline import Line
from .recording import File, Stream
from .resume import UploadStore
from .transfer import UploadProgress, is_passing, refusal
from .upload import Upload


class Client:
    """A Bucketscribe server.

    `api_key` says who asks; it and `headers` go to the API only, never to the bucket. `parallel` is how many
    parts may be sent at once, where that makes an upload faster. `quick` is how often a single call is tried,
    `patient` the same for the calls of an upload or a wait; these sit out a lost connection for up to
    `offline_seconds`, not counting the time the machine sleeps. `pace_seconds` is the pause between two looks
    where the server has no event stream.
    """

    def __init__(
        self,
        server: str,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        parallel: int = 16,
        quick: Backoff = QUICK,
        patient: Backoff = PATIENT,
        offline_seconds: float = 3600,
        pace_seconds: float = 1.0,
    ) -> None:
        if parallel < 1:
            raise ValueError("parallel must be at least 1")
        self._pool = PoolManager(maxsize=parallel + 1)
        self._api = Api(server, self._pool, headers or {}, api_key)
        self._parallel = parallel
        self._quick = quick
        self._patient = patient
        self._offline_seconds = offline_seconds
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
        source: str | os.PathLike[str] | BinaryIO,
        options: Mapping[str, Any] | None = None,
        on_progress: Callable[[UploadProgress], None] | None = None,
        *,
        name: str | None = None,
        resume: UploadStore | None = None,
    ) -> Transcription:
        """Send a recording into the bucket, and see it accepted.

        `source` is a file's path, or a stream of bytes, which needs a `name` and is held in memory a part for
        each that is on its way. With a store to `resume` from, a file's upload that was interrupted goes on
        where it was, and one that is interrupted is kept there; without one, an upload that does not succeed
        is aborted. `on_progress` is called in the caller's thread, while parts are sent ten times a second or
        more.
        """
        if isinstance(source, str | os.PathLike):
            recording: File | Stream = File(Path(source), name)
        elif name:
            recording = Stream(source, name)
        else:
            raise ValueError("a stream needs a name")
        upload = Upload(
            self._api,
            self._pool,
            recording,
            options or {},
            on_progress or (lambda _progress: None),
            resume,
            parallel=self._parallel,
            quick=self._quick,
            patient=self._patient,
            offline_seconds=self._offline_seconds,
        )
        return upload.run()

    def get(self, id: str) -> Transcription:
        """A transcription as it stands."""
        return self._api.document(Transcription, self._api.call("GET", path(id), backoff=self._quick))

    def list(self, state: str | None = None, cursor: str | None = None, limit: int | None = None) -> Page:
        """A page of transcriptions, newest first. It may be short: only no `cursor` means the end."""
        query = {"state": state, "cursor": cursor, "limit": limit}
        return self._api.document(
            Page, self._api.call("GET", "/transcriptions", query=query, backoff=self._quick)
        )

    def wait(
        self,
        id: str,
        on_change: Callable[[Transcription], None] | None = None,
        on_waiting: Callable[[str | None], None] | None = None,
    ) -> Transcription:
        """Wait until a transcription is completed, failed, canceled or expired; returns it then.

        `on_change` gets every version that is news, the final one included; `on_waiting` hears, in a few
        words, that there is no connection, and None when there is one again.
        """
        line = Line(self._offline_seconds, self._patient, on_waiting or (lambda _waiting: None))
        current: Transcription | None = None
        for current in follow(self._api, id, self._pace_seconds, self._patient, line):
            if on_change is not None:
                on_change(current)
        return current or self.get(id)

    def transcript(self, id: str, format: str = "txt") -> bytes:
        """The transcript as txt, srt, vtt, json, tsv or ass."""
        return self._result(f"{path(id)}/transcript.{quote(format, safe='')}", f"the {format} transcript")

    def peaks(self, id: str) -> bytes:
        """The recording's loudness over time, for drawing, as the API describes it."""
        return self._result(f"{path(id)}/peaks", "the peaks")

    def health(self) -> Health:
        """Whether the server can do its work. Raises ClientError only where it does not say so itself."""
        once = Backoff(tries=1, first=0, longest=0)
        try:
            return self._api.document(Health, self._api.call("GET", "/health/ready", backoff=once))
        except ServerProblem as problem:
            try:
                return Health.model_validate(problem.document)
            except ValidationError:
                raise problem from None

    def _result(self, path: str, what: str) -> bytes:
        """Something the API has, or, as a rule, sends on to the bucket for."""
        response = self._api.call("GET", path, backoff=self._quick, redirects=True)
        if response.status == 200:
            return response.data
        location = response.headers.get("Location")
        if location is None:
            raise bad_answer(response, f"status {response.status} without a Location")
        return self._download(urljoin(f"{self._api.server}/", location), what)

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

    def _download(self, url: str, what: str) -> bytes:
        """From the bucket, which must not see the API's headers."""
        pauses = self._quick.pauses()
        while True:
            error: BucketRefused | Unreachable
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
                if not is_passing(error):
                    raise error
            pause = next(pauses, None)
            if pause is None:
                raise error
            time.sleep(pause)
