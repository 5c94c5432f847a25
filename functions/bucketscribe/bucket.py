"""The S3 calls we make, with the differences between servers smoothed out.

A missing key is None, a lost race is `Conflict`; whatever else goes wrong stays botocore's exception, and
whoever must decide on it does. Ages are told in the bucket's time: every answer carries its `at`, the
server's `Date` (whole seconds). Sources: the S3 API reference, "Conditional writes" and
"Uploading and copying objects using multipart upload".
"""

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from .capacity import says_full
from .presign import encode
from .s3 import S3, Answer, Bytes
from .settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

WRITING = frozenset({"PutObject", "CopyObject", "UploadPart", "UploadPartCopy"})
"""Operations that need room for bytes."""

REMEMBERED_SECONDS = 5.0
"""So long nobody tries again whether there is room: a server in trouble has enough to do."""

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"

StorageError = (ClientError, BotoCoreError)
"""What a call may raise when the server refuses it or does not answer."""


class Conflict(Exception):
    """A conditional write found something else than it expected, or nothing."""


class PartsRefused(Exception):
    """The server does not complete an upload of these parts."""


class UploadGone(Exception):
    """The multipart upload is unknown to the server: completed, aborted or lost."""


@dataclass(frozen=True, slots=True)
class Document:
    """A small object, whole. `at` is the bucket's time when it answered."""

    body: bytes
    etag: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Written:
    """A write that succeeded: the new ETag, and the bucket's time."""

    etag: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Found:
    """What a look at an object tells without reading it: its size in bytes, its ETag, its LastModified."""

    size: int
    etag: str
    modified: datetime
    content_type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Listed:
    """One line of a listing."""

    key: str
    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True, slots=True)
class Part:
    """A finished part of a multipart upload; `size` in bytes."""

    number: int
    etag: str
    size: int
    modified: datetime


def error_code(error: Exception) -> tuple[int, str]:
    """HTTP status and S3 error code of a botocore error; (0, "") where no answer came."""
    response: dict[str, Any] = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status, str(response.get("Error", {}).get("Code", ""))


class Bucket:
    """One bucket on one S3 server."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self.client = client
        self.name = name
        # What is asked for with every upload goes this way; the SDK's client is for the rest.
        self._s3 = S3(client, name)
        # When it was last tried whether there is room, by our own clock, and what came of it.
        self._fullness = (-math.inf, False)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The bucket the settings name; no request is made."""
        config = Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.path_style else "virtual"},
            retries={"mode": "standard", "total_max_attempts": 3},
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=64,
            # Newer checksums are neither needed nor understood everywhere.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        client = boto3.client(
            "s3", endpoint_url=settings.s3_endpoint, region_name=settings.region, config=config
        )
        return cls(client, settings.bucket)

    def time_of(self, answer: Answer) -> datetime:
        """The bucket's time of an answer, UTC, whole seconds."""
        return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)

    # Small documents

    def get(self, key: str) -> Document | None:
        """The object, or None."""
        try:
            answer = self._s3.ask("GetObject", "GET", key)
        except ClientError as error:
            if error_code(error)[0] == 404:
                return None
            raise
        return Document(answer.body, answer.headers["etag"], self.time_of(answer))

    def create(self, key: str, body: bytes, content_type: str = "application/json") -> Written:
        """Write a new object. Raises Conflict if the key is taken."""
        return self._put(key, body, content_type, {"if-none-match": "*"})

    def replace(self, key: str, body: bytes, etag: str, content_type: str = "application/json") -> Written:
        """Write over the object that has this ETag. Raises Conflict otherwise."""
        return self._put(key, body, content_type, {"if-match": etag})

    def put(self, key: str, body: bytes, content_type: str = "application/json") -> Written:
        """Write an object whatever was there."""
        return self._put(key, body, content_type, {})

    def _put(self, key: str, body: bytes, content_type: str, condition: dict[str, str]) -> Written:
        headers = {"content-type": content_type, **condition}
        try:
            answer = self._s3.ask("PutObject", "PUT", key, headers=headers, body=body)
        except ClientError as error:
            status, code = error_code(error)
            # S3 says the one left out of a request that another for the same key was in the way of: nobody
            # knows what stands there then, so it is an answer that did not come.
            if condition and status in (404, 409, 412) and code != "ConditionalRequestConflict":
                raise Conflict(key) from error
            raise
        return Written(answer.headers["etag"], self.time_of(answer))

    # Objects of any size

    def find(self, key: str) -> Found | None:
        """Look whether the object is there."""
        try:
            answer = self._s3.ask("HeadObject", "HEAD", key)
        except ClientError as error:
            if error_code(error)[0] == 404:
                return None
            raise
        return self._found(int(answer.headers["content-length"]), answer)

    def _found(self, size: int, answer: Answer) -> Found:
        headers = answer.headers
        modified = parsedate_to_datetime(headers["last-modified"]).astimezone(UTC)
        content_type = headers.get("content-type", "")
        return Found(size, headers["etag"], modified, content_type, self.time_of(answer))

    def open(self, key: str, length: int) -> tuple[Found, bytes] | None:
        """What `find` tells, and the object's first bytes, up to `length`, of the same version."""
        try:
            answer = self._s3.ask("GetObject", "GET", key, headers={"range": f"bytes=0-{length - 1}"})
        except ClientError as error:
            match error_code(error)[0]:
                case 404:
                    return None
                case 416:
                    # There is no first byte.
                    found = self.find(key)
                    return None if found is None else (found, b"")
            raise
        # A server may give the whole of a short object instead of its beginning.
        size = int(answer.headers.get("content-range", f"/{len(answer.body)}").rpartition("/")[2])
        return self._found(size, answer), answer.body[:length]

    def read(self, key: str, start: int, end: int, etag: str) -> bytes:
        """The bytes [start, end) of exactly this version.

        Raises Conflict if the object has another ETag, KeyError if it is gone.
        """
        headers = {"range": f"bytes={start}-{end - 1}", "if-match": etag}
        try:
            return self._s3.ask("GetObject", "GET", key, headers=headers).body
        except ClientError as error:
            match error_code(error):
                case (404, _):
                    raise KeyError(key) from error
                case (409 | 412, _):
                    # SeaweedFS answers a failed If-Match on a missing key so, too.
                    if self.find(key) is None:
                        raise KeyError(key) from error
                    raise Conflict(key) from error
            raise

    def listing(self, prefix: str, after: str = "", at_most: int | None = None) -> Iterator[Listed]:
        """Keys under a prefix, in order, those greater than `after`; `at_most` so many are asked for."""
        left = at_most
        request: dict[str, Any] = {"Bucket": self.name, "Prefix": prefix}
        if after:
            request["StartAfter"] = after
        while left is None or left > 0:
            if left is not None:
                request["MaxKeys"] = min(left, 1000)
            page = self.client.list_objects_v2(**request)
            contents = page.get("Contents", [])
            for entry in contents:
                yield Listed(entry["Key"], entry["Size"], entry["ETag"], entry["LastModified"])
            if not page.get("IsTruncated"):
                return
            if left is not None:
                left -= len(contents)
            request["ContinuationToken"] = page["NextContinuationToken"]

    def copy(self, source: str, etag: str, key: str, content_type: str) -> None:
        """Have the server copy the version of an object that has this ETag; nothing of its metadata.

        Raises Conflict if it has another one, KeyError if it is gone.
        """
        # Its tags would need a permission more.
        directives = {"x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE"}
        headers = {"content-type": content_type, **directives, **self._copied(source, etag)}
        with self._source(source, etag):
            self._s3.ask("CopyObject", "PUT", key, headers=headers)

    def copy_part(
        self, source: str, etag: str, start: int, end: int, key: str, upload_id: str, number: int
    ) -> str:
        """Have the server copy the bytes [start, end) of a version into a part; return the part's ETag.

        Raises Conflict if the source has another ETag, KeyError if it is gone, and UploadGone.
        """
        headers = {"x-amz-copy-source-range": f"bytes={start}-{end - 1}", **self._copied(source, etag)}
        query = f"partNumber={number}&uploadId={encode(upload_id)}"
        with self._source(source, etag):
            answer = self._s3.ask("UploadPartCopy", "PUT", key, query=query, headers=headers)
        return answer.xml().findtext("{*}ETag", "")

    @contextmanager
    def _source(self, key: str, etag: str) -> Iterator[None]:
        """What a copy's source can be wrong about."""
        try:
            yield
        except ClientError as error:
            match error_code(error):
                case (404, "NoSuchUpload"):
                    raise UploadGone(key) from error
                case (404, _):
                    raise KeyError(key) from error
                case (412, _):
                    raise Conflict(key) from error
                case (400 | 416, _):
                    # LocalStack looks at the range before the condition: another version may be shorter.
                    found = self.find(key)
                    if found is None:
                        raise KeyError(key) from error
                    if found.etag != etag:
                        raise Conflict(key) from error
            raise

    def _copied(self, source: str, etag: str) -> dict[str, str]:
        place = encode(f"/{self.name}/{source}", safe="/")
        return {"x-amz-copy-source": place, "x-amz-copy-source-if-match": etag}

    def is_full(self, error: Exception) -> bool:
        """Whether a request failed as the server takes no more bytes. Where it does not say, it is tried."""
        status, code = error_code(error)
        if says_full(status, code, str(error)):
            return True
        if status != 500 or getattr(error, "operation_name", "") not in WRITING:
            return False
        tried, full = self._fullness
        if time.monotonic() - tried > REMEMBERED_SECONDS:
            full = self._takes_no_byte()
            self._fullness = (time.monotonic(), full)
        return full

    def _takes_no_byte(self) -> bool:
        """Whether the server takes empty objects only, as SeaweedFS without room does: they are but names.

        Each request once: whoever asks has failed several times.
        """
        key = f"probe/{os.urandom(8).hex()}/room"
        try:
            self._s3.ask("PutObject", "PUT", key, attempts=1)
        except StorageError:
            return False
        try:
            self._s3.ask("PutObject", "PUT", key, body=b"1", attempts=1)
        except StorageError as again:
            return error_code(again)[0] == 500
        finally:
            with suppress(*StorageError):
                self._s3.ask("DeleteObject", "DELETE", key, attempts=1)
        return False

    def now(self) -> datetime:
        """The bucket's time."""
        return self.time_of(self._s3.ask("HeadBucket", "HEAD", None))

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        self._s3.ask("DeleteObject", "DELETE", key)

    def delete_version(self, key: str, etag: str, modified: datetime) -> bool:
        """Remove an object if it is still the one with this ETag and LastModified; say whether it was.

        Of what takes its place between the look and the removal, S3 and SeaweedFS are told the ETag. A server
        that knows no conditional deletes removes it: MinIO passes over the condition, LocalStack says so.
        """
        found = self.find(key)
        if found is None or found.etag != etag or found.modified != modified:
            return False
        return self.delete_if(key, etag)

    def delete_if(self, key: str, etag: str) -> bool:
        """Remove an object that has this ETag; say whether it had. As above, not every server looks."""
        try:
            self._s3.ask("DeleteObject", "DELETE", key, headers={"if-match": etag})
        except ClientError as error:
            match error_code(error)[0]:
                case 404 | 409 | 412:
                    return False
                case 501:
                    self.delete(key)
                case _:
                    raise
        return True

    def delete_all(self, prefix: str) -> int:
        """Remove every object under a prefix (which must end in "/"); say how many were found."""
        if not prefix.endswith("/"):
            raise ValueError(f"a prefix to empty must end in a slash: {prefix!r}")
        keys = [entry.key for entry in self.listing(prefix)]
        self.delete_keys(keys)
        return len(keys)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Remove these objects; those that are not there are fine."""
        for start in range(0, len(keys), 1000):
            batch = keys[start : start + 1000]
            response = self.client.delete_objects(
                Bucket=self.name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
            )
            for failed in response.get("Errors", []):
                self.delete(failed["Key"])

    # Multipart uploads

    def begin_upload(self, key: str, content_type: str) -> tuple[str, datetime]:
        """Create a multipart upload; return S3's id and the bucket's time."""
        headers = {"content-type": content_type}
        answer = self._s3.ask("CreateMultipartUpload", "POST", key, query="uploads", headers=headers)
        upload_id = answer.xml().findtext("{*}UploadId", "")
        if answer.attempts > 1:
            # An answer may have been lost: then S3 holds another upload, which nobody knows. One that S3
            # begins later yet is empty, and ended by the bucket's own rule.
            self.abort_uploads(key, keep=upload_id)
        return upload_id, self.time_of(answer)

    def put_part(self, key: str, upload_id: str, number: int, body: Bytes) -> str:
        """Send a part, over whatever stands there by that number; return its ETag. Raises UploadGone."""
        query = f"partNumber={number}&uploadId={encode(upload_id)}"
        try:
            return self._s3.ask("UploadPart", "PUT", key, query=query, body=body).headers["etag"]
        except ClientError as error:
            if error_code(error) == (404, "NoSuchUpload"):
                raise UploadGone(upload_id) from error
            raise

    def list_parts(self, key: str, upload_id: str) -> tuple[list[Part], datetime] | None:
        """Finished parts in order of number, and the bucket's time; None if the upload is unknown.

        A part that was uploaded twice is listed once, the newest; where a server lists both with the same
        second, both stay, as nothing tells which one is newer.
        """
        newest: dict[int, dict[str, Part]] = {}
        marker, upload = "", f"uploadId={encode(upload_id)}"
        while True:
            try:
                answer = self._s3.ask("ListParts", "GET", key, query=f"{marker}{upload}")
            except ClientError as error:
                if error_code(error)[0] == 404:
                    return None
                raise
            page = answer.xml()
            for part in map(_part, page.iterfind("{*}Part")):
                rivals = newest.setdefault(part.number, {})
                latest = max((rival.modified for rival in rivals.values()), default=part.modified)
                if part.modified > latest:
                    rivals.clear()
                if part.modified >= latest:
                    rivals[part.etag] = part
            if page.findtext("{*}IsTruncated") != "true":
                break
            marker = f"part-number-marker={page.findtext('{*}NextPartNumberMarker')}&"
        parts = [part for number in sorted(newest) for part in newest[number].values()]
        return parts, self.time_of(answer)

    def complete_upload(self, key: str, upload_id: str, parts: Iterable[tuple[int, str]]) -> None:
        """Make the object of its parts (number, ETag).

        Never conditional: a 412 could not be told from our own success. Raises PartsRefused or UploadGone.
        """
        listed = "".join(
            f"<Part><ETag>{escape(etag)}</ETag><PartNumber>{number}</PartNumber></Part>"
            for number, etag in parts
        )
        if not listed:
            raise PartsRefused("no parts")
        document = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{listed}</CompleteMultipartUpload>'
        query = f"uploadId={encode(upload_id)}"
        headers = {"content-type": "application/xml"}
        try:
            self._s3.ask(
                "CompleteMultipartUpload", "POST", key, query=query, headers=headers, body=document.encode()
            )
        except ClientError as error:
            match error_code(error):
                case (404, _) | (_, "NoSuchUpload"):
                    raise UploadGone(upload_id) from error
                case (_, "InvalidPart" | "InvalidPartOrder" | "EntityTooSmall" | "MalformedXML" as code):
                    raise PartsRefused(code) from error
            raise

    def abort_uploads(self, key: str, upload_id: str | None = None, *, keep: str | None = None) -> None:
        """Abort this upload and whatever else a listing shows under exactly this key, but for `keep`.

        A create whose answer was lost and which was repeated leaves an upload that nobody knows.
        """
        ids = {upload_id} if upload_id else set()
        request: dict[str, Any] = {"Bucket": self.name, "Prefix": key}
        while True:
            # No MaxUploads: SeaweedFS skips uploads when such a listing goes on.
            page = self.client.list_multipart_uploads(**request)
            ids |= {entry["UploadId"] for entry in page.get("Uploads", []) if entry["Key"] == key}
            if not page.get("IsTruncated"):
                break
            request |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        for known in ids - {keep}:
            self.abort_upload(key, known)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Abort this upload; one that has ended is fine."""
        with suppress(self.client.exceptions.NoSuchUpload):
            self.client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload_id)


def _part(listed: Element) -> Part:
    """A part as it is listed: number, time, ETag, size."""
    told = {entry.tag.rpartition("}")[2]: entry.text or "" for entry in listed}
    modified = datetime.fromisoformat(told["LastModified"])
    return Part(int(told["PartNumber"]), told["ETag"], int(told["Size"]), modified)
