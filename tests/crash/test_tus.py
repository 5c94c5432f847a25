"""tus, with a real API that is killed in the middle of everything; the client asks how far it is, and goes
on.

What must be so: an offset once told never goes back, the object is byte for byte what was sent, and there is
exactly one transcription of it, with nothing left over. A dead API's lock is over when its lease is; so that
nobody waits for that here, the next one is told a later time by the proxy.
"""

import os
import random
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Container, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing.process import BaseProcess

import httpx2
import pytest
import uvicorn
from bucketscribe import concatenation, part_writer
from bucketscribe.api.app import create_app
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.up import processes

from tests.crash.proxy import FORK, Moment, Proxy, Trap, changes
from tests.crash.test_processes import environment
from tests.crash.world import Case, World
from tests.servers import Server, Servers
from tests.tus import MIB, TusUpload, ask, checksum, create, created, in_time, recording

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

SEED = int(os.environ.get("BUCKETSCRIBE_TEST_SEED", "20261121"))
ROUNDS = int(os.environ.get("BUCKETSCRIBE_TEST_KILLS", "200")) // 4
LEASE = timedelta(seconds=15)
BLOCK = 64 * 1024

WHOLE = recording(11 * MIB + 12_345)
FIRST, SECOND = 3 * MIB, 9 * MIB
"""Short of a part; and one part and more, so that there is an old tail and a new one."""


class Forked:
    """The API in a fork of this process, where a new one for every kill would take too long to start."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.process: BaseProcess | None = None

    def start(self) -> None:
        """Serve; a connection is taken as soon as there is a port."""
        listener = socket.create_server((self._settings.host, self._settings.port))
        self.process = FORK.Process(target=_serve, args=(self._settings, listener))
        self.process.start()
        listener.close()

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.join()


def _serve(settings: Settings, listener: socket.socket) -> None:
    # Threads are not forked, and these would wait for those that a sweep has started in the parent.
    for module in (part_writer, concatenation):
        vars(module)["_threads"] = ThreadPoolExecutor(4)
    app = create_app(Service.connect(settings))
    uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="critical")).run([listener])


class Lives:
    """One API after the other, each killed, on the same port and behind the same proxy."""

    def __init__(self, server: Server | Forked, proxy: Proxy, port: int) -> None:
        self._server = server
        self._proxy = proxy
        self._later = timedelta()
        self._url = f"http://127.0.0.1:{port}"
        self.doomed: threading.Timer | None = None
        self.begin()

    def begin(self) -> None:
        self._server.start()
        self.api = httpx2.Client(base_url=self._url, timeout=60)

    def trap(self, step: int, moment: Moment, among: str) -> None:
        self._proxy.set(Trap(step, moment, self._process.pid, among))

    @property
    def _process(self) -> subprocess.Popen[bytes] | BaseProcess:
        assert self._server.process is not None
        return self._server.process

    def killer(self) -> Callable[[], None]:
        """What kills this one, and none that comes after it, from any thread."""
        return self._process.kill

    def next(self, later: timedelta = LEASE) -> None:
        """The next one, by default when the locks of this one are over."""
        self.end()
        self._later += later
        self._proxy.put_forward(self._later)
        self.begin()

    def end(self) -> None:
        self.api.close()
        self._server.kill()
        if self.doomed is not None:
            # No thread may run when the next one is forked.
            self.doomed.cancel()
            self.doomed.join()


@contextmanager
def living(world: World, make: Callable[[Settings], Server | Forked]) -> Iterator[Lives]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = make(world.proxy.before(world.settings).model_copy(update={"port": port}))
    lives = Lives(server, world.proxy, port)
    try:
        yield lives
    finally:
        lives.end()
        world.proxy.set(None)
        world.proxy.put_forward(timedelta())


@pytest.fixture
def lives(world: World) -> Iterator[Lives]:
    with living(world, Forked) as lives:
        yield lives


@dataclass(frozen=True, slots=True)
class Phase:
    """A PATCH of WHOLE that is killed: where it begins and ends, and whether it has a checksum."""

    start: int
    end: int
    summed: bool = False

    def prepare(self, api: httpx2.Client) -> TusUpload:
        upload = create(api, len(WHOLE))
        if self.start:
            upload.append(WHOLE[: self.start])
        return upload

    def act(self, upload: TusUpload) -> httpx2.Response:
        body = WHOLE[self.start : self.end]
        return upload.patch(self.start, body, **(checksum(body) if self.summed else {}))

    @property
    def allowed(self) -> Container[int]:
        """Where an upload may stand when this PATCH has died."""
        return (self.start, self.end) if self.summed else range(self.start, self.end + 1)


MIDDLE = Phase(FIRST, SECOND)
SUMMED = Phase(FIRST, SECOND, summed=True)
LAST = Phase(SECOND, len(WHOLE))

CHANGES = r"^(PUT|POST|DELETE) "
PART = r"PUT .*partNumber="
TAIL = r"PUT /[^?]*/tail-"
OLD_TAIL = r"DELETE /[^?]*/tail-"
COMPLETE = r"POST .*uploadId="
RECORD = r"PUT /[^?]*/records/"

NAMED = {
    "before a part": (MIDDLE, PART, Moment.BEFORE),
    "after the part": (MIDDLE, PART, Moment.AFTER),
    "before the tail": (MIDDLE, TAIL, Moment.BEFORE),
    "after the tail, before the old one is removed": (MIDDLE, TAIL, Moment.AFTER),
    "after the old tail is removed": (MIDDLE, OLD_TAIL, Moment.AFTER),
    "before CompleteMultipartUpload": (LAST, COMPLETE, Moment.BEFORE),
    "after CompleteMultipartUpload": (LAST, COMPLETE, Moment.AFTER),
    "before the record is written": (LAST, RECORD, Moment.BEFORE),
    "after the record is written": (LAST, RECORD, Moment.AFTER),
}


def test_a_client_goes_on_wherever_the_api_was_killed(world: World, lives: Lives) -> None:
    wrongs: list[str] = []
    uploads = []
    for name, (phase, request, moment) in NAMED.items():
        upload = phase.prepare(lives.api)
        lives.trap(0, moment, request)
        with suppress(httpx2.TransportError):
            phase.act(upload)
        assert world.proxy.seen().sprung, f"there is no such moment any more: {name}"
        lives.next()
        wrongs += [f"{name}: {wrong}" for wrong in resumed(world, lives, upload, phase.allowed)]
        uploads.append(upload)
    wrongs += ended(world, uploads)
    assert not wrongs, "\n" + "\n".join(wrongs)


@pytest.mark.long
def test_a_client_waits_some_seconds_for_the_lock_of_an_api_that_was_killed(
    world: World, servers: Servers
) -> None:
    """Here by `bucketscribe api` as anybody starts it, and by nobody's clock but the bucket's."""

    def make(settings: Settings) -> Server:
        return Server(processes.api(settings, environment(servers, settings)))

    with living(world, make) as lives:
        upload = MIDDLE.prepare(lives.api)
        lives.trap(0, Moment.AFTER, PART)
        with suppress(httpx2.TransportError):
            MIDDLE.act(upload)
        lives.next(later=timedelta())
        begun = time.monotonic()
        wrongs = resumed(world, lives, upload, MIDDLE.allowed)
        assert time.monotonic() - begun < LEASE.total_seconds() + 2
        assert wrongs + ended(world, [upload]) == []


def resumed(
    world: World, lives: Lives, upload: TusUpload, allowed: Container[int], body: bytes = WHOLE
) -> list[str]:
    """What is wrong with an upload with whose client came back and sent the rest."""
    upload = TusUpload(lives.api, upload.path)
    offset = upload.offset()
    if offset not in allowed:
        return [f"it went on at {offset} of {len(body)}"]
    # In other pieces than before.
    for until in (offset + (len(body) - offset) // 3, len(body)):
        if offset < len(body):
            answer = in_time(partial(upload.patch, offset, body[offset:until]))
            if (answer.status_code, answer.headers.get("upload-offset")) != (204, str(until)):
                return [f"its client was told {answer.status_code} {answer.text}"]
            offset = until
    after = upload.head()
    if (after.headers.get("upload-offset"), after.headers.get("bucketscribe-transcription")) != (
        str(len(body)),
        upload.id,
    ):
        return [f"in the end it says {after.headers}"]
    stored = world.read(Case("local", upload.id))
    if stored is None or (stored.record.state, stored.record.run) != (State.QUEUED, 1):
        return [f"its record says {stored}"]
    case = Case("local", upload.id, stored.record.key)
    return [] if held(world, case.key) == body else ["the object has other bytes than were sent"]


def held(world: World, key: str) -> bytes:
    """The bytes of an object."""
    return bytes(world.bucket.client.get_object(Bucket=world.bucket.name, Key=key)["Body"].read())


def ended(world: World, uploads: list[TusUpload]) -> list[str]:
    """What is wrong when a worker and the sweeps have done the rest."""
    wrongs = counted(world, uploads)
    world.settle()
    for upload in uploads:
        wrongs += world.wrongs(Case("local", upload.id), frozenset({State.COMPLETED}), run=1)
    return wrongs + left_over(world)


def canceled(world: World, uploads: list[TusUpload]) -> list[str]:
    """The same where no worker is waited for."""
    wrongs = counted(world, uploads)
    for upload in uploads:
        world.service.transcriptions.cancel("local", upload.id)
    world.settle()
    return wrongs + left_over(world)


def counted(world: World, uploads: list[TusUpload]) -> list[str]:
    ids = {key[-41:-5] for key in world.service.records.listing("local")}
    expected = {upload.id for upload in uploads}
    return [] if ids == expected else [f"{len(ids)} transcriptions of {len(expected)} uploads"]


def left_over(world: World) -> list[str]:
    """What there is of uploads when all of them have ended."""
    keys = [entry.key for prefix in ("tus/", "open/") for entry in world.bucket.listing(prefix)]
    uploads = world.bucket.client.list_multipart_uploads(Bucket=world.bucket.name).get("Uploads", [])
    keys += [f"an upload of {upload['Key']}" for upload in uploads]
    return [f"left over: {key}" for key in keys]


# All of it


def changed(world: World) -> list[str]:
    """The requests since a trap was set that changed something. Others come in no fixed number or order."""
    return [request for request in world.proxy.seen().requests if changes(request)]


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "phase", [MIDDLE, SUMMED, LAST], ids=["in the middle", "with a checksum", "at the end"]
)
def test_a_client_goes_on_after_a_kill_at_every_request(world: World, lives: Lives, phase: Phase) -> None:
    upload = phase.prepare(lives.api)
    world.proxy.set(None)
    assert phase.act(upload).status_code == 204
    steps = len(changed(world))
    uploads, wrongs = [upload], resumed(world, lives, upload, phase.allowed)
    for step, moment in [(0, Moment.BEFORE), *((step, Moment.AFTER) for step in range(steps))]:
        upload = phase.prepare(lives.api)
        lives.trap(step, moment, CHANGES)
        with suppress(httpx2.TransportError):
            phase.act(upload)
        assert world.proxy.seen().sprung, f"there is no step {step} any more: {changed(world)}"
        where = f"killed {moment} {changed(world)[step]}"
        lives.next()
        wrongs += [f"{where}: {wrong}" for wrong in resumed(world, lives, upload, phase.allowed)]
        uploads.append(upload)
    wrongs += canceled(world, uploads)
    assert not wrongs, "\n" + "\n".join(wrongs)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_client_goes_on_after_a_kill_at_any_byte(world: World, lives: Lives) -> None:
    dice, broken = random.Random(SEED), 0
    wrongs: list[str] = []
    uploads = []
    for number in range(ROUNDS):
        body = recording(dice.randrange(6 * MIB, 12 * MIB), seed=number)
        upload, told = create(lives.api, len(body)), 0
        for _ in range(dice.randrange(3)):
            piece = dice.randrange(1, (len(body) - told) // 2)
            assert upload.patch(told, body[told : told + piece]).status_code == 204
            told += piece
        # Beyond the last byte is the time in which it is completed.
        deadly = dice.randrange(told, len(body) + len(body) // 4)
        try:
            upload.patch(told, killing(lives, body[told:], deadly - told))
        except httpx2.TransportError:
            broken += 1
        lives.next()
        found = resumed(world, lives, upload, range(told, len(body) + 1), body)
        wrongs += [f"round {number}, {told} told, killed at {deadly}: {wrong}" for wrong in found]
        uploads.append(upload)
    wrongs += canceled(world, uploads)
    assert not wrongs, f"seed {SEED}:\n" + "\n".join(wrongs)
    assert broken > ROUNDS // 2


def killing(lives: Lives, body: bytes, deadly: int) -> Iterator[bytes]:
    """A body that kills the API when so many bytes of it are on their way; behind its end, a moment later."""
    kill = lives.killer()
    for start in range(0, len(body), BLOCK):
        if start + BLOCK > deadly:
            yield body[start:deadly]
            kill()
            return
        yield body[start : start + BLOCK]
    # A completion takes some tens of milliseconds.
    lives.doomed = threading.Timer((deadly - len(body)) / len(body), kill)
    lives.doomed.start()


# Nobody comes back


@dataclass(frozen=True, slots=True)
class Deed:
    """A request that is killed, and how an upload may have ended when the sweeps have done the rest."""

    prepare: Callable[[httpx2.Client], list[TusUpload]]
    act: Callable[[httpx2.Client, list[TusUpload]], httpx2.Response]
    ends: frozenset[State]


def nothing(api: httpx2.Client) -> list[TusUpload]:
    return []


def nearly_all(api: httpx2.Client) -> list[TusUpload]:
    return [LAST.prepare(api)]


def partials(api: httpx2.Client) -> list[TusUpload]:
    pieces = (WHOLE[:SECOND], WHOLE[SECOND:])
    return [created(api, ask(api, len(piece), piece, Upload_Concat="partial")) for piece in pieces]


def put_together(api: httpx2.Client, uploads: list[TusUpload]) -> httpx2.Response:
    return ask(api, -1, Upload_Concat="final;" + " ".join(upload.path for upload in uploads))


DEEDS = {
    "begin with bytes": Deed(
        nothing, lambda api, _: ask(api, len(WHOLE), WHOLE[:SECOND]), frozenset({State.EXPIRED})
    ),
    "begin a partial with bytes": Deed(
        nothing, lambda api, _: ask(api, SECOND, WHOLE[:SECOND], Upload_Concat="partial"), frozenset()
    ),
    "send the last bytes": Deed(
        nearly_all,
        lambda _, uploads: LAST.act(uploads[0]),
        frozenset({State.COMPLETED, State.EXPIRED}),
    ),
    "give up": Deed(
        nearly_all, lambda _, uploads: uploads[0].delete(), frozenset({State.CANCELED, State.EXPIRED})
    ),
    "put together": Deed(partials, put_together, frozenset({State.COMPLETED, State.EXPIRED})),
}


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", DEEDS)
def test_what_was_killed_and_nobody_goes_on_with_leaves_nothing(
    world: World, lives: Lives, name: str
) -> None:
    deed = DEEDS[name]
    uploads = deed.prepare(lives.api)
    world.proxy.set(None)
    assert deed.act(lives.api, uploads).is_success
    steps = len(changed(world))
    wrongs = [f"unharmed: {wrong}" for wrong in swept(world, deed)]
    for step in range(steps):
        uploads = deed.prepare(lives.api)
        lives.trap(step, Moment.AFTER, CHANGES)
        with suppress(httpx2.TransportError):
            deed.act(lives.api, uploads)
        assert world.proxy.seen().sprung, f"there is no step {step} any more: {changed(world)}"
        where = f"killed after {changed(world)[step]}"
        wrongs += [f"{where}: {wrong}" for wrong in swept(world, deed)]
        lives.next()
    assert not wrongs, "\n" + "\n".join(wrongs)


def swept(world: World, deed: Deed) -> list[str]:
    """What is wrong when time has gone by; then the bucket is emptied."""
    with world.later(timedelta(minutes=10)):
        world.settle()
    wrongs = []
    for key in world.service.records.listing("local"):
        stored = world.service.records.read_key(key)
        assert stored is not None
        record = stored.record
        if record.state not in deed.ends:
            wrongs.append(f"it ended {record.state}")
        if record.state is State.COMPLETED and held(world, record.key) != WHOLE:
            wrongs.append("the object has other bytes than were sent")
    wrongs += left_over(world)
    world.bucket.delete_keys([entry.key for entry in world.bucket.listing("")])
    return wrongs


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_is_put_together_again_after_a_kill_is_one_recording(world: World, lives: Lives) -> None:
    uploads = partials(lives.api)
    world.proxy.set(None)
    finals = [created(lives.api, put_together(lives.api, uploads))]
    wrongs: list[str] = []
    for step in range(len(changed(world))):
        uploads = partials(lives.api)
        lives.trap(step, Moment.AFTER, CHANGES)
        with suppress(httpx2.TransportError):
            put_together(lives.api, uploads)
        assert world.proxy.seen().sprung, f"there is no step {step} any more: {changed(world)}"
        where = f"killed after {changed(world)[step]}"
        lives.next()
        final = created(lives.api, put_together(lives.api, uploads))
        wrongs += [f"{where}: {wrong}" for wrong in resumed(world, lives, final, (len(WHOLE),))]
        finals.append(final)
    wrongs += canceled(world, finals)
    assert not wrongs, "\n" + "\n".join(wrongs)
