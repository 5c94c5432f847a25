"""What is online: a URL becomes a transcription, whose recording a worker fetches before all else.

- *request*: job marker → record, queued, with the URL and no recording → message. Died before the record:
  the sweep writes it as expired, so that a request that wakes late finds it taken and answers 503. Died
  before the message: the sweep sends it.
- *fetch*, under the run's lease: a key of this lease's own, unless it is the first → the first bytes are
  judged → CreateMultipartUpload → parts, as they come → CompleteMultipartUpload → the object is judged → the
  record names its ETag. Died anywhere: the next worker clears that key and begins anew, at another. So a
  worker that wakes late, without its lease, writes where nobody reads.

What failed or was canceled without a recording leaves nothing: whoever ends it clears its key, and where a
worker may still write there, the sweep does so once more.
"""

from collections.abc import Callable
from contextlib import closing, suppress
from urllib.parse import unquote, urlsplit

import structlog

from . import media
from .bucket import Bucket, Conflict, StorageError, UploadGone
from .errors import Problem
from .fetch import BegunAnew, Download, Source
from .limits import Limits
from .markers import Kind
from .options import Asked
from .part_writer import PartWriter, TooMuch
from .parts import default_part_size
from .public_addresses import Hosts, InvalidUrl, PublicWeb, web_address
from .records import Record, State, Stored, Webhook, new_id
from .settings import Settings
from .transcriptions import Claim, LeaseLost
from .uploads import Uploads

log = structlog.get_logger()


class Online:
    """Recordings that are fetched for those who name a URL."""

    def __init__(self, settings: Settings, bucket: Bucket, uploads: Uploads, limits: Limits) -> None:
        self.settings = settings
        self.bucket = bucket
        self.uploads = uploads
        self.records = uploads.records
        self.markers = uploads.markers
        self.transcriptions = uploads.transcriptions
        self.limits = limits
        self._hosts = Hosts(settings.url_hosts)

    def request(
        self, owner: str, url: str, asked: Asked, name: str | None = None, ignored: tuple[str, ...] = ()
    ) -> Stored:
        """A transcription of what is at a URL, queued. Nothing is asked of its host yet.

        `ignored` are the names of what was asked for and has no effect. Raises Problem `invalid_option`,
        `too_many_uploads`, `daily_limit_reached`, `begin_lost`.
        """
        url = self._checked(url)
        id, called = new_id(), name or name_in(url)
        key = f"uploads/{owner}/{id}/{media.object_name(called)}"
        counted = self.limits.admit(owner, id, None)
        try:
            now = self.markers.put(Kind.JOBS, owner, id, 1, key=key)
        except StorageError:
            self.limits.take_back(counted)
            raise
        record = Record(
            id=id,
            owner=owner,
            state=State.QUEUED,
            created=now,
            updated=now,
            key=key,
            name=called,
            content_type=_content_type(called, ""),
            url=url,
            options=asked.options,
            webhook=Webhook.of(asked),
            metadata=asked.kept,
            ignored=ignored,
        )
        self.markers.owe(record)
        try:
            stored = self.records.create(record)
        except Conflict:
            raise Problem(
                "begin_lost", "It took so long to begin that it was given up. Ask once more."
            ) from None
        self.transcriptions.send(record)
        return stored

    def _checked(self, url: str) -> str:
        try:
            address = web_address(url)
        except InvalidUrl as error:
            raise Problem("invalid_option", f"url: {error}.", {"option": "url"}) from None
        if not self._hosts.has_name(address.host):
            raise Problem(
                "invalid_option",
                f"url: {address.host} is none of the hosts that recordings are fetched from here; "
                "upload the recording instead.",
                {"option": "url"},
            )
        return address.url

    def fetch(self, claim: Claim, report: Callable[[float], None], wait: Callable[[float], object]) -> Claim:
        """Fetch a claimed run's recording into the bucket and have it accepted; the claim as it is then.

        `report` is told the share that is there, and may raise to stop; `wait` pauses so many seconds or
        fewer. Raises FetchFailed, FetchRefused, Problem `unsupported_media`, `too_large` or `busy`,
        LeaseLost, UploadGone, and botocore's errors.
        """
        if claim.record.quiet_after is not None or claim.record.run > 1:
            claim = self._moved(claim)
        record = claim.record
        download = Download(
            PublicWeb(self.settings.private_hosts),
            self._hosts,
            record.url or "",
            check=lambda: report(download.share),
            wait=wait,
        )
        with closing(download):
            while True:
                with suppress(BegunAnew):
                    source = self._store(record, download)
                    break
        try:
            return self._accept(claim, source)
        except (Problem, LeaseLost):
            # Nobody else writes to this key, or reads what we have not said is there.
            self.bucket.delete(record.key)
            raise

    def _moved(self, claim: Claim) -> Claim:
        """The claim with a key that nobody else knows, for a run that others may have fetched before us.

        One that died has left something at the key before; one that only sleeps will write there when it
        wakes, and must not spoil what we fetch. Nor must a cancel that still clears up after the run before.
        """
        record = claim.record
        self.bucket.abort_uploads(record.key)
        self.bucket.delete(record.key)
        name = media.object_name(f"{claim.token}-{record.name}")
        return self.transcriptions.fetch_to(claim, f"uploads/{record.owner}/{record.id}/{name}")

    def _accept(self, claim: Claim, source: Source) -> Claim:
        """Judge what stands in the bucket, and say in the record what it is."""
        record = claim.record
        opened = self.bucket.open(record.key, media.HEAD_BYTES)
        if opened is None:
            raise UploadGone(record.key)
        found, head = opened
        self.uploads.judge(found.size, head)
        called = record.name
        if called == name_in(record.url or ""):
            # It is not its owner who calls it so: it may have no characters that do harm where it is shown.
            told = called if source.name is None else media.object_name(source.name)
            called = _with_extension(told, source.content_type)
        content_type = _type_of(record, source)
        return self.transcriptions.accept(
            claim, etag=found.etag, size=found.size, name=called, content_type=content_type
        )

    def _store(self, record: Record, download: Download) -> Source:
        """Put what is downloaded into the bucket; what stands there afterwards is whole. Raises BegunAnew."""
        source, most = download.source(), self.settings.max_upload_bytes
        if source.size is not None:
            media.check_size(source.size, most)
        head = b""
        while len(head) < media.HEAD_BYTES and (block := download.read()):
            head += block
        # Before anything of it is in the bucket, and before the rest is asked for.
        media.check_content(head[: media.HEAD_BYTES])
        upload_id, _ = self.bucket.begin_upload(record.key, _type_of(record, source))
        part_bytes = default_part_size(most)
        writer = PartWriter(self.bucket, record.key, upload_id, part_bytes=part_bytes, most=most)
        try:
            writer.bwrite(head)
            while block := download.read():
                writer.bwrite(block)
            parts = [(part.number, part.etag) for part in writer.end()]
            self.bucket.complete_upload(record.key, upload_id, parts)
        except BaseException as error:
            writer.cancel()
            self.bucket.abort_upload(record.key, upload_id)
            if isinstance(error, TooMuch):
                raise media.too_large(writer.size + len(block), most) from None
            raise
        return source


def name_in(url: str) -> str:
    """What a recording is called that is at a URL, by the URL alone."""
    segment = urlsplit(url).path.rpartition("/")[2]
    return media.object_name(unquote(segment, errors="replace").strip() or "recording")


def _content_type(name: str, told: str) -> str:
    """The content type as it was told, where that is one of a recording; else by the name."""
    with suppress(Problem):
        return media.check_declared("", told)
    with suppress(Problem):
        return media.check_declared(name, None)
    return "application/octet-stream"


def _type_of(record: Record, source: Source) -> str:
    # Whatever its owner calls it has nothing to do with it.
    return _content_type(source.name or name_in(record.url or ""), source.content_type)


def _with_extension(name: str, content_type: str) -> str:
    extension = media.extension_of(content_type)
    if extension is None or media.without_extension(name) != name:
        return name
    return f"{name}.{extension}"
