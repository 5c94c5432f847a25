"""The data folder: who holds it, and what is kept in it from one start to the next.

    lock               held (flock) by the supervisor and, through an inherited descriptor, by every tether:
                       free only when the last child has gone. Its text is the supervisor's process id
    credentials.json   S3 keys, the sealing secret and the webhooks', made once (mode 0600)
    s3.json            the same S3 keys in the form SeaweedFS reads
    ports.json         the ports of last time
    seaweedfs/         SeaweedFS's data
    seaweedfs.log      everything SeaweedFS said

All failures are `CannotStart`.
"""

import base64
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from .checks import CannotStart

LOCK_PATIENCE_SECONDS = 12.0
"""How long the children of a supervisor that was killed may take to go: their longest grace, and some."""

CREDENTIALS = "credentials.json"
PORTS = "ports.json"


def _new_webhook_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


@dataclass(frozen=True, slots=True)
class Credentials:
    """Random, and the same for as long as the data folder lives."""

    access_key: str
    secret_key: str
    secret: str
    webhook_secret: str = field(default_factory=_new_webhook_secret)

    @classmethod
    def new(cls) -> Self:
        """Fresh ones."""
        return cls(secrets.token_hex(10).upper(), secrets.token_urlsafe(30), secrets.token_urlsafe(32))

    @classmethod
    def kept_in(cls, folder: Path) -> Self:
        """Those of a data folder. Raises OSError, or ValueError or TypeError for what we did not write."""
        return cls(**json.loads((folder / CREDENTIALS).read_text()))


@dataclass(frozen=True, slots=True)
class Home:
    """A data folder that is ours until we end."""

    path: Path
    lock: int

    @property
    def seaweedfs(self) -> Path:
        """Folder of SeaweedFS's data."""
        return self.path / "seaweedfs"

    @property
    def seaweedfs_log(self) -> Path:
        """File of what SeaweedFS says."""
        return self.path / "seaweedfs.log"

    @property
    def s3_config(self) -> Path:
        """File SeaweedFS reads its keys from."""
        return self.path / "s3.json"

    def credentials(self) -> Credentials:
        """The keys of this folder, made if there are none."""
        file = self.path / CREDENTIALS
        if not file.exists():
            _write_private(file, asdict(Credentials.new()))
        try:
            with _usable(file):
                kept = json.loads(file.read_text())
                credentials = Credentials(**kept)
        except (ValueError, TypeError) as error:
            raise CannotStart(
                f"{file} is not what we wrote ({error}). Put it right, or delete it to have new keys made."
            ) from error
        if asdict(credentials) != kept:
            # A folder of an earlier version has none for webhooks.
            _write_private(file, asdict(credentials))
        identity = {
            "name": "bucketscribe",
            "credentials": [{"accessKey": credentials.access_key, "secretKey": credentials.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        _write_private(self.s3_config, {"identities": [identity]})
        return credentials

    def remember_ports(self, ports: Mapping[str, int]) -> None:
        """Keep the ports for next time."""
        _write_private(self.path / PORTS, ports)


def remembered_ports(folder: Path) -> dict[str, int]:
    """The ports of a data folder's last time; none if that cannot be told."""
    with suppress(OSError, ValueError, AttributeError):
        ports = json.loads((folder / PORTS).read_text())
        return {name: port for name, port in ports.items() if isinstance(port, int) and 0 < port < 65536}
    return {}


@contextmanager
def claim(data_dir: Path) -> Iterator[Home]:
    """Hold the data folder, made if missing. Waits for the children of a supervisor that was killed."""
    path = data_dir.absolute()
    with _usable(path):
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (path / "seaweedfs").mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(lock, path)
        yield Home(path, lock)
    finally:
        os.close(lock)


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotStart(
            f"{error.filename or path}: {error.strerror}. Make it usable, or set BUCKETSCRIBE_DATA_DIR to "
            "another folder."
        ) from error


def _take(lock: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(lock)
            if holder is not None or time.monotonic() > deadline:
                who = f"process {holder}" if holder is not None else "what an earlier one left running"
                raise CannotStart(
                    f"The data in {path} is in use by another `bucketscribe up` ({who}). Stop that one "
                    "first, or set BUCKETSCRIBE_DATA_DIR (and BUCKETSCRIBE_PORT) to others."
                ) from None
            time.sleep(0.1)  # flock that waits cannot be given a time limit
        else:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
            return


def _holder(lock: int) -> int | None:
    """The process id in the lock file, if there is such a process."""
    try:
        holder = int(os.pread(lock, 32, 0))
        os.kill(holder, 0)
    except (ValueError, ProcessLookupError):
        return None
    except PermissionError:
        pass
    return holder


def _write_private(file: Path, content: object) -> None:
    """Replace a file as a whole, readable by its owner only."""
    draft = file.with_suffix(".new")
    with _usable(draft):
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.flush()
            os.fsync(descriptor)
        draft.replace(file)
