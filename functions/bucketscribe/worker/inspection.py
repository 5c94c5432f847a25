"""What a worker needs, looked at before its first job: `bucketscribe doctor --worker`.

Everything is looked at where the worker itself would: with its settings, its packages, its folders. Nothing
is fetched; of the hub and the bucket it is only asked whether they would give what is not here. Network looks
run beside the rest and have short limits, so that it takes seconds without a network, too; what takes
longest is the import of torch.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from ..bucket import Bucket, StorageError, error_code
from ..probe import Finding, Verdict, found, probe_queue
from ..queue import Queue
from ..settings import Settings
from .device import gb, look_at_device
from .engines.base import ModelUnavailable
from .model_store import Kept, ModelStore

HOURS = 10
SPEAKERS_BYTES = HOURS * 3600 * 16_000 * 4
"""A recording of so many hours on disk, as speakers are told apart in it."""


def inspect(settings: Settings, with_bucket: bool = True) -> Iterator[tuple[str, Finding]]:
    """Each finding with the part it belongs to, as it is made."""
    with ThreadPoolExecutor() as threads:
        kept = None
        if settings.models_url is not None:
            kept = threads.submit(ModelStore(settings, settings.models_url).files)
        stores = threads.submit(lambda: list(_stores(settings))) if with_bucket else None
        engine = _engine(settings)
        yield "worker", engine
        if engine.grave:
            yield "worker", Finding("device", Verdict.UNKNOWN, "not tried without an engine")
        else:
            for finding in look_at_device(settings):
                yield "worker", finding
        for finding in _places(settings):
            yield "worker", finding
        if kept is not None:
            yield "models", _store(settings, kept)
        if not engine.grave:
            # Only now: it needs the engine's packages.
            from .model_inspection import ModelLooks

            for finding in ModelLooks(settings, threads, _names(kept)).findings():
                yield "models", finding
        if stores is None:
            yield "bucket", Finding("bucket and queue", Verdict.UNKNOWN, "not known here", needed=False)
        else:
            for finding in stores.result():
                yield "bucket", finding


def _engine(settings: Settings) -> Finding:
    name = settings.engine
    extra, module = ("whisperx", "whisperx") if name == "whisperx" else ("worker", "faster_whisper")
    if find_spec(module) is None:
        return Finding(
            "engine", Verdict.MISSING, f"{name} is not installed", f"install bucketscribe[{extra}]"
        )
    try:
        import_module(f".engines.{module}", __package__)
    except Exception as error:  # noqa: BLE001 -- whatever a package does as it is imported
        return Finding(
            "engine",
            Verdict.MISSING,
            f"{name} is installed and cannot be imported: {type(error).__name__}: {error}",
            f"install bucketscribe[{extra}] anew, from the lock file",
        )
    return Finding("engine", Verdict.OK, f"{name} {metadata.version(name)}")


# Folders


def _places(settings: Settings) -> Iterator[Finding]:
    folder = settings.models_folder
    yield found(
        "models folder",
        _writable(folder),
        _room(folder),
        otherwise="models can be used and none can be added: make it writable for this user, or set "
        "BUCKETSCRIBE_MODELS_DIR",
        needed=settings.models_url is not None,
    )
    temporary = Path(tempfile.gettempdir())
    yield found(
        "temporary folder",
        _writable(temporary),
        _room(temporary),
        otherwise="set TMPDIR to a folder this user may write",
    )
    if settings.engine == "whisperx":
        home = Path(os.environ.get("TORCH_HOME") or Path("~/.cache/torch").expanduser())
        yield found(
            "torch's folder",
            _writable(home),
            _room(home),
            otherwise="WhisperX cannot start: set TORCH_HOME to a folder this user may write",
        )
        with suppress(OSError):
            free = shutil.disk_usage(temporary).free
            yield found(
                "disk for speakers",
                free >= SPEAKERS_BYTES,
                f"{gb(free)} free, {gb(SPEAKERS_BYTES)} are needed for {HOURS} hours",
                otherwise="speakers of long recordings are not told apart, the transcript says so "
                "[diarization_failed]: set TMPDIR to a larger disk",
                needed=False,
            )


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _room(folder: Path) -> str:
    try:
        return f"{folder}, {gb(shutil.disk_usage(folder).free)} free"
    except OSError as error:
        return f"{folder}: {error.strerror}"


# Bucket and queue


def _names(kept: Future[list[Kept]] | None) -> frozenset[str]:
    if kept is None:
        return frozenset()
    try:
        return frozenset(file.name for file in kept.result())
    except ModelUnavailable:
        return frozenset()


def _store(settings: Settings, kept: Future[list[Kept]]) -> Finding:
    try:
        files = kept.result()
    except ModelUnavailable as error:
        return Finding("bucket of models", Verdict.MISSING, str(error), "the worker does not start")
    size = sum(file.size for file in files)
    return Finding("bucket of models", Verdict.OK, f"{settings.models_url}, {len(files)} files, {gb(size)}")


def _stores(settings: Settings) -> Iterator[Finding]:
    try:
        Bucket.connect(settings).now()
    except StorageError as error:
        said = error_code(error)[1] or " ".join(str(error).split())[:200]
        means = "see BUCKETSCRIBE_S3_ENDPOINT, BUCKETSCRIBE_BUCKET and the AWS credentials"
        yield Finding("bucket", Verdict.MISSING, said, means)
    else:
        means = "`bucketscribe doctor` without --worker tries what it can do"
        yield Finding("bucket", Verdict.OK, f"{settings.bucket} answers", means)
    if settings.queue_url is None:
        yield Finding("queue", Verdict.UNKNOWN, "BUCKETSCRIBE_QUEUE_URL is not set", needed=False)
    else:
        yield from (finding for finding in probe_queue(Queue.connect(settings)) if finding.name == "queue")
