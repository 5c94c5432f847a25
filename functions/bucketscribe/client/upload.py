"""One upload from its beginning, or from where it stopped, to its acceptance.

begin → save → parts → complete → forget. What can come in between:

- The process dies, or fails: the next one finds the upload saved, asks the bucket what it holds, and sends
  the rest.
- The answer to complete is lost, and with it the process: the next one finds that the upload is no more, asks
  for the transcription, and finds that it was accepted.
- The upload has ended, for being idle or by a cancel: a file's is begun anew, once.
- Another process sends the same upload: parts are sent twice, and both complete it, which is one completion.
- The server refuses an upload found saved, for good: it is begun anew, which is saved in the other's place.
- What is in the bucket is not what was listed: the bucket is asked again, and the difference sent.
"""

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, RootModel
from urllib3 import PoolManager

from .api import Api
from .backoff import Backoff
from .climb import Climb
from .errors import BucketRefused, ClientError, ServerProblem, UploadFailed
from .events import path
from .model import Transcription
from .offline import Line
from .recording import File, Stream
from .resume import Begun, UploadStore, key_of
from .transfer import Held, Transfer, UploadProgress

ROUNDS = 3
"""How often the bucket's list may differ from ours."""

ABORT_SECONDS = 3
"""Who gives up, perhaps for want of a connection, waits for none: the server ends idle uploads itself."""

ACCEPTED = frozenset({"completing", "queued", "running", "completed", "failed"})
ENDED = frozenset({"no_such_upload", "upload_expired"})
PASSING = frozenset({401, 408, 429})
"""Statuses of refusals that need not be for good."""

REFUSED = frozenset({"unsupported_media", "too_large", "invalid_part"})


class _Signed(BaseModel):
    presignedUrls: dict[int, str]  # noqa: N815 -- the wire's name


class _ListedPart(BaseModel):
    PartNumber: int
    Size: int
    ETag: str


_Listed = RootModel[list[_ListedPart]]


class _Ended(Exception):
    """The upload is no more, and came to nothing. `why` is what its caller may be told."""

    def __init__(self, why: ClientError) -> None:
        super().__init__(str(why))
        self.why = why


class Upload:
    """One recording's upload. Used once."""

    def __init__(
        self,
        api: Api,
        pool: PoolManager,
        recording: File | Stream,
        options: Mapping[str, Any],
        on_progress: Callable[[UploadProgress], None],
        store: UploadStore | None,
        *,
        parallel: int,
        quick: Backoff,
        patient: Backoff,
        offline_seconds: float,
    ) -> None:
        self._api = api
        self._pool = pool
        self._recording = recording
        self._options = {name: value for name, value in options.items() if value is not None}
        self._on_progress = on_progress
        self._store: UploadStore | None = None
        self._saved_as = ""
        if store is not None and isinstance(recording, File):
            self._store = store
            self._saved_as = key_of(api.server, api.asker, recording, self._options)
        self._kept_seconds: float | None = None
        self._known = False
        self._climb = Climb(parallel)
        self._quick = quick
        self._patient = patient
        self._offline_seconds = offline_seconds
        self._line = Line(offline_seconds, patient, self._tell, known=api.server)
        self._told = UploadProgress(0, recording.size)

    def run(self) -> Transcription:
        """Send it. Raises ClientError."""
        begun = self._find()
        try:
            if begun is not None:
                return self._go_on(begun, resumed=True)
            return self._go_on(self._begin(), resumed=False)
        except _Ended as ended:
            if isinstance(self._recording, Stream):
                raise ended.why from None
        self._told = UploadProgress(0, self._recording.size)
        self._tell("the upload had ended; it begins anew")
        try:
            return self._go_on(self._begin(), resumed=False)
        except _Ended as ended:
            raise ended.why from None

    def _go_on(self, begun: Begun, *, resumed: bool) -> Transcription:
        """Take an upload to its end. If it does not succeed it is kept in the store, or else aborted."""
        try:
            try:
                self._send(begun, resumed=resumed)
            except (BucketRefused, ServerProblem) as error:
                if not _is_end(error):
                    raise
                found = self._standing(begun)
                if found is None or found.state not in ACCEPTED:
                    why = self._explained(begun, error)
                    # Somebody has canceled what we are sending: they do not want it sent again.
                    canceled = found is not None and found.state == "canceled" and self._known
                    raise (why if canceled else _Ended(why)) from None
        except BaseException as error:
            if self._kept_seconds is None or _is_final(error):
                self._forget(begun)
                self._abort(begun)
            raise
        accepted = self._get(begun.id)
        self._forget(begun)
        return accepted

    def _send(self, begun: Begun, *, resumed: bool) -> None:
        """Send what the bucket does not hold, and complete."""
        over = threading.Event()
        threading.Thread(target=self._keep_alive, args=(begun, over), daemon=True).start()
        try:
            held = self._first_held(begun) if resumed else {}
            self._known = True
            for left in reversed(range(ROUNDS)):
                etags = self._transfer(begun, held)
                self._recording.check()
                try:
                    self._complete(begun, etags)
                    return
                except ServerProblem as problem:
                    if problem.code != "invalid_part" or not left or isinstance(self._recording, Stream):
                        raise
                held = self._held(begun, self._patient, self._line)
        finally:
            over.set()

    def _first_held(self, begun: Begun) -> dict[int, Held]:
        """What the bucket holds of an upload found saved. Whoever is not there now is not waited for."""
        try:
            return self._held(begun, self._quick)
        except ServerProblem as problem:
            # What is no problem document is a proxy's, which may have its reasons for today only.
            lasting = problem.document and 400 <= problem.status < 500 and problem.status not in PASSING
            if problem.code in ENDED | REFUSED or not lasting:
                raise
            raise _Ended(problem) from None

    def _transfer(self, begun: Begun, held: Mapping[int, Held]) -> dict[int, str]:
        def sign(first: int, last: int, line: Line) -> Mapping[int, str]:
            response = self._api.call(
                "GET",
                f"{_path(begun)}/batch",
                query={"key": begun.key, "partNumbers": f"{first}-{last}"},
                backoff=self._patient,
                line=line,
            )
            return self._api.document(_Signed, response).presignedUrls

        self._climb = Climb(self._climb.ceiling, self._climb.limit)
        transfer = Transfer(
            self._pool,
            self._recording,
            begun.partSize,
            held,
            begun.sent,
            sign,
            self._climb,
            self._patient,
            Line(self._offline_seconds, self._patient, known=self._api.server),
        )

        def hear(progress: UploadProgress) -> None:
            sent = transfer.sent.copy()  # the threads go on
            if sent != begun.sent:
                begun.sent = sent
                self._save(begun)
            self._tell_progress(progress)

        return transfer.run(hear)

    def _keep_alive(self, begun: Begun, over: threading.Event) -> None:
        """On a slow line no part may be finished in time: asking for the list counts as a sign of life."""
        while not over.wait(max(1, begun.expires / 4)):
            with suppress(ClientError):
                self._held(begun, self._quick)

    # The store

    def _find(self) -> Begun | None:
        begun = None if self._store is None else self._store.find(self._saved_as)
        self._kept_seconds = None if begun is None else begun.expires
        return begun

    def _save(self, begun: Begun) -> bool:
        return self._store is not None and self._store.save(self._saved_as, begun)

    def _forget(self, begun: Begun) -> None:
        if self._store is not None:
            self._store.remove(self._saved_as, begun)

    # What the caller hears

    def _tell_progress(self, progress: UploadProgress) -> None:
        self._told = replace(progress, kept_seconds=self._kept_seconds)
        self._on_progress(self._told)

    def _tell(self, waiting: str | None) -> None:
        self._tell_progress(replace(self._told, waiting=waiting))

    # The wire

    def _begin(self) -> Begun:
        size = {} if self._recording.size is None else {"size": self._recording.size}
        body = {
            "filename": self._recording.name,
            # The server tells types by extension, the same way for every client's machine.
            "type": "application/octet-stream",
            "metadata": {**self._options, **size, "partSize": self._recording.part_bytes},
        }
        response = self._api.call("POST", "/s3/multipart", body=body, backoff=self._quick)
        begun = self._api.document(Begun, response)
        self._kept_seconds = begun.expires if self._save(begun) else None
        return begun

    def _held(self, begun: Begun, backoff: Backoff, line: Line | None = None) -> dict[int, Held]:
        response = self._api.call("GET", _path(begun), query={"key": begun.key}, backoff=backoff, line=line)
        listed = self._api.document(_Listed, response).root
        return {part.PartNumber: Held(part.Size, part.ETag) for part in listed}

    def _complete(self, begun: Begun, etags: Mapping[int, str]) -> None:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in etags.items()]
        # Its answer is repeated however often it is called.
        self._api.call(
            "POST",
            f"{_path(begun)}/complete",
            query={"key": begun.key},
            body={"parts": parts},
            backoff=self._patient,
            repeatable=True,
            line=self._line,
        )

    def _abort(self, begun: Begun) -> None:
        with suppress(ClientError):
            self._api.call("DELETE", _path(begun), query={"key": begun.key}, seconds=ABORT_SECONDS)

    def _get(self, id: str) -> Transcription:
        response = self._api.call("GET", path(id), backoff=self._patient, line=self._line)
        return self._api.document(Transcription, response)

    def _standing(self, begun: Begun) -> Transcription | None:
        """The transcription, if there is one."""
        try:
            return self._get(begun.id)
        except ServerProblem as problem:
            if problem.code != "no_such_transcription":
                raise
            return None

    def _explained(self, begun: Begun, error: ClientError) -> ClientError:
        """Why an upload has ended: the API knows more than the bucket."""
        if isinstance(error, BucketRefused):
            try:
                self._held(begun, self._quick)
            except ServerProblem as problem:
                return problem
        return error


def _path(begun: Begun) -> str:
    return f"/s3/multipart/{quote(begun.uploadId, safe='')}"


def _is_end(error: BucketRefused | ServerProblem) -> bool:
    """Whether it says that the upload is no more."""
    if isinstance(error, BucketRefused):
        return error.reason == "NoSuchUpload"
    return error.code in ENDED


def _is_final(error: BaseException) -> bool:
    """Whether nothing of the upload is of any more use."""
    if isinstance(error, ServerProblem):
        return error.code in ENDED | REFUSED
    return isinstance(error, UploadFailed)
