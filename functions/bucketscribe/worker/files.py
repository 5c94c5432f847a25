"""A run's recording and files in the bucket.

Every file of a run is created once (`If-None-Match: *`), and what stands there is taken as it is. Raises what
`endings` has for a recording that is changed, gone or denied (`RunFailed`), for a file that another version
of us has written (`PlanDiffers`), and for one that vanished (`FilesGone`); else botocore's errors.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError
from pydantic import BaseModel, ValidationError

from ..bucket import Bucket, Conflict, error_code
from ..records import Record
from .decode import Decoder
from .endings import FilesGone, PlanDiffers, failed
from .recording import RecordingFile


class Files:
    """Those of one run."""

    def __init__(self, bucket: Bucket, record: Record) -> None:
        self._bucket = bucket
        self._record = record

    @contextmanager
    def recording(self) -> Iterator[Decoder]:
        """The recording, opened to be decoded once."""
        key, etag, size = self._record.key, self._record.etag or "", self._record.size or 0

        def fetch(start: int, end: int) -> bytes:
            try:
                return self._bucket.read(key, start, end, etag)
            except Conflict:
                raise failed("recording_changed", "decoding") from None
            except KeyError:
                raise failed("recording_lost", "decoding") from None
            except ClientError as error:
                if error_code(error)[0] in (401, 403):
                    raise failed("recording_unreadable", "decoding") from error
                raise

        with RecordingFile(fetch, size) as file, Decoder(file) as decoder:
            yield decoder

    def names(self, folder: str) -> set[str]:
        """The files that stand in a folder of the run's, each with the folder before it."""
        prefix = self._record.results_prefix
        return {entry.key.removeprefix(prefix) for entry in self._bucket.listing(prefix + folder)}

    def find[M: BaseModel](self, name: str, model: type[M]) -> M | None:
        """A file, if it stands."""
        document = self._bucket.get(self._record.results_prefix + name)
        if document is None:
            return None
        try:
            return model.model_validate_json(document.body)
        except ValidationError:
            raise PlanDiffers from None

    def read[M: BaseModel](self, name: str, model: type[M]) -> M:
        """A file that must stand."""
        found = self.find(name, model)
        if found is None:
            raise FilesGone(name)
        return found

    def create(self, name: str, body: bytes, content_type: str = "application/json") -> bool:
        """Create a file; False if it stands already, which is as good."""
        try:
            self._bucket.create(self._record.results_prefix + name, body, content_type)
        except Conflict:
            return False
        return True
