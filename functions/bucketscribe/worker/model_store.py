"""Models from a bucket: what a worker's models folder lacks is copied there before the worker starts.

    BUCKETSCRIBE_MODELS_URL=s3://bucket/prefix      with what lies in a models folder below the prefix

A file is copied if it is not there or has another size; so a model that was changed needs another name. Each
is written beside its place and renamed, and the one that says a model is whole comes last, so that a worker
that dies leaves no half model, and two may do it at once in the same folder. The bucket is reached as the
recordings' bucket is: same endpoint, same credentials. Raises `ModelUnavailable`.
"""

import os
import shutil
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import structlog
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig

from ..bucket import Bucket, StorageError, error_code
from ..settings import Settings
from .engines.base import ModelUnavailable
from .model_folder import last
from .whole_file import whole_file

log = structlog.get_logger()

FILES_AT_ONCE = 4
PARTS_AT_ONCE = 4
TOLD_SECONDS = 10.0
"""How often the log hears of a file that takes long."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of the bucket: its name within the models folder, its key and its size in bytes."""

    name: str
    key: str
    size: int


class ModelStore:
    """The models below a prefix of a bucket."""

    def __init__(self, settings: Settings, url: str) -> None:
        self.url = url
        name, _, prefix = url.removeprefix("s3://").partition("/")
        self._bucket = Bucket.connect(settings.model_copy(update={"bucket": name}))
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def files(self) -> list[Kept]:
        """All of them. Raises `ModelUnavailable` where there are none, or the bucket does not say."""
        try:
            kept = list(self._listed())
        except StorageError as error:
            raise ModelUnavailable(self._refused(error)) from error
        if not kept:
            raise ModelUnavailable(
                f"There is nothing at {self.url}: fill it, or unset BUCKETSCRIBE_MODELS_URL."
            )
        return kept

    def _listed(self) -> Iterator[Kept]:
        for entry in self._bucket.listing(self._prefix):
            name = entry.key.removeprefix(self._prefix)
            if name.endswith("/"):
                continue  # what consoles make for a folder
            if any(not part or part.startswith(".") for part in name.split("/")) or "\0" in name:
                log.warning("no name for a model's file", code="bad_model_key", key=entry.key)
                continue
            yield Kept(name, entry.key, entry.size)

    def copy(self, kept: Kept, folder: Path, progress: "Progress") -> None:
        """Bring one file. Raises `ModelUnavailable`."""
        begun = time.monotonic()
        try:
            with whole_file(folder / kept.name) as file:
                self._bucket.client.download_fileobj(
                    self._bucket.name,
                    kept.key,
                    file,
                    Callback=progress.add,
                    Config=TransferConfig(max_concurrency=PARTS_AT_ONCE),
                )
                if file.seek(0, os.SEEK_END) != kept.size:  # parts come in any order
                    raise ModelUnavailable(
                        f"{self.url} was changed while it was read: start the worker again."
                    )
        except (*StorageError, Boto3Error) as error:
            raise ModelUnavailable(self._refused(error)) from error
        except OSError as error:
            raise ModelUnavailable(f"{kept.name} cannot be written into {folder}: {error}.") from error
        log.info(
            "model file fetched",
            file=kept.name,
            bytes=kept.size,
            seconds=round(time.monotonic() - begun, 1),
        )

    def _refused(self, error: Exception) -> str:
        said = error_code(error)[1] or " ".join(str(error).split())
        return (
            f"Models cannot be fetched from {self.url}: {said}. Check BUCKETSCRIBE_MODELS_URL, and that the "
            "worker may list and read there (s3:ListBucket, s3:GetObject)."
        )


class Progress:
    """Bytes that came, told in the log now and then; added to by many threads."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._told = time.monotonic()
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """So many bytes more."""
        with self._lock:
            self._done += size
            if time.monotonic() - self._told < TOLD_SECONDS:
                return
            self._told = time.monotonic()
            log.info("fetching models", bytes=self._done, of=self._total)


def missing(kept: Iterable[Kept], folder: Path) -> list[Kept]:
    """Those that are not in the folder, or have another size there."""

    def is_there(file: Kept) -> bool:
        path = folder / file.name
        return path.is_file() and path.stat().st_size == file.size

    return [file for file in kept if not is_there(file)]


def fetch(settings: Settings) -> None:
    """Copy what is missing from `settings.models_url` into the models folder; nothing where none is set."""
    if settings.models_url is None:
        return
    store, folder = ModelStore(settings, settings.models_url), settings.models_folder
    wanted = sorted(missing(store.files(), folder), key=lambda file: last(file.name))
    if not wanted:
        log.info("models are there", folder=str(folder))
        return
    total = sum(file.size for file in wanted)
    _check_room(folder, total)
    log.info("fetching models", url=store.url, files=len(wanted), of=total)
    progress = Progress(total)
    for _, group in groupby(wanted, key=lambda file: last(file.name)):
        threads = ThreadPoolExecutor(FILES_AT_ONCE)
        try:
            for done in [threads.submit(store.copy, file, folder, progress) for file in group]:
                done.result()
        finally:
            threads.shutdown(cancel_futures=True)


def _check_room(folder: Path, size: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ModelUnavailable(f"The models folder {folder} cannot be used: {error}.") from error
    if free < size:
        raise ModelUnavailable(
            f"The models need {size / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free in {folder}: give "
            "it a larger disk, or set BUCKETSCRIBE_MODELS_DIR."
        )
