"""The worker's loop with two jobs: the one that has the engine, and the one that is fetched meanwhile.

The engine is a stand-in that does what a test says and sees to it that nobody else uses it; the rest is real.
The worker runs in the main thread, where its signals go, and the test beside it.
"""

import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPException
from queue import SimpleQueue
from typing import Any

import pytest
from bucketscribe.queue import Job, Message, Queue
from bucketscribe.records import Progress, Record, State
from bucketscribe.service import Service
from bucketscribe.worker.engines.base import Heard, Report, Request, Samples
from bucketscribe.worker.main import Worker
from bucketscribe.worker.protection import Protection
from structlog.testing import capture_logs

from tests.conftest import LaterBucket
from tests.crash.world import RECORDING, StandInEngine
from tests.integration.conftest import Uploader
from tests.integration.test_story import free_port
from tests.servers import Servers

PATIENCE_SECONDS = 20.0
STOP = signal.SIGUSR1


def until(reached: Callable[[], object], what: str) -> None:
    """Wait for what another thread, or another process, does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"it never came to this: {what}"
        time.sleep(0.005)


class GatedEngine(StandInEngine):
    """Waits in each window until the test lets it go on; fails the test where two use it at once."""

    def __init__(self) -> None:
        self.used = threading.Lock()
        self.at: SimpleQueue[str] = SimpleQueue()
        """Which transcription's window it has begun; a run's thread is named by it."""
        self.open = threading.Event()
        """Set to let everybody pass."""
        self.quiet = threading.Event()
        """Set to report nothing."""
        self.served: list[str] = []
        self.wrongs: list[str] = []

    def linger(self) -> None:
        """What is done in a window, besides."""

    @contextmanager
    def alone(self) -> Iterator[None]:
        if not self.used.acquire(blocking=False):
            self.wrongs.append(f"{threading.current_thread().name} uses an engine that is in use")
        try:
            yield
        finally:
            if self.used.locked():
                self.used.release()

    def load(self, model: str) -> None:
        with self.alone():
            super().load(model)

    def language(self, audio: Samples, model: str) -> tuple[str, float]:
        with self.alone():
            return super().language(audio, model)

    def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
        with self.alone():
            name = threading.current_thread().name
            self.served.append(name)
            self.at.put(name)
            self.linger()
            report(0.5)
            while not self.open.wait(0.01):
                if not self.quiet.is_set():
                    report(0.5)
            return super().transcribe(audio, request, report)


class Rig:
    """A worker with that engine, recordings that wait for it, and a test beside it."""

    def __init__(self, service: Service, uploader: Uploader, **settings: Any) -> None:
        settings = {"heartbeat_seconds": 0.1, **settings}
        self.service = Service.of(service.settings.model_copy(update=settings), service.bucket, service.queue)
        self.uploader = uploader
        self.engine = GatedEngine()
        self.worker = Worker(self.service, self.engine)

    def send(self) -> str:
        return self.uploader.send(RECORDING).id

    def record(self, id: str) -> Record:
        return self.service.transcriptions.get("local", id).record

    def is_(self, id: str, state: State) -> bool:
        return self.record(id).state is state

    def expect(self, id: str, seconds: float) -> None:
        """Let the worker believe that runs of this size need the engine for so long."""
        self.worker._forecast.learn(self.record(id), seconds)

    def holds(self, id: str) -> bool:
        attempts = tuple(self.worker.attempts)
        return any(attempt.claim.record.id == id and attempt.over_since is None for attempt in attempts)

    def waits(self, id: str) -> bool:
        """Whether a run has been decoded, and waits for the engine."""
        attempts = tuple(self.worker.attempts)
        return any(
            attempt.claim.record.id == id and attempt.status.progress.stage == "waiting"
            for attempt in attempts
        )

    def two(self) -> tuple[str, str]:
        """The first has the engine, and the second is claimed and decoded. Within `working` only."""
        assert self.engine.at.get(timeout=PATIENCE_SECONDS) == self.first
        until(lambda: self.waits(self.second), "the second waits for the engine")
        assert not self.engine.open.is_set()
        return self.first, self.second

    def stop(self, unless: threading.Event | None = None) -> None:
        """What ECS does to a task whose machine is taken away."""
        main, before = threading.main_thread().ident, self.worker.stopping
        assert main is not None
        signal.pthread_kill(main, STOP)
        # Two signals of a kind that come at once are one.
        until(lambda: self.worker.stopping > before or (unless and unless.is_set()), "the signal arrives")

    def tell(self, id: str, seconds_left: float) -> None:
        """Let a run say that it will take so long."""
        self.engine.quiet.set()
        for attempt in tuple(self.worker.attempts):
            if attempt.claim.record.id == id:
                attempt.status.progress = Progress(stage="transcribing", percent=1, seconds_left=seconds_left)

    @contextmanager
    def pair(self) -> Iterator[None]:
        """Two recordings in the queue, of which short work is expected."""
        self.first, self.second = self.send(), self.send()
        self.expect(self.first, 1.0)
        yield

    def rounds(self, number: int) -> None:
        """Let the worker's loop go round so often."""
        for _ in range(number):
            before = self.worker.looked
            until(lambda: self.worker.looked > before, "the loop goes round")  # noqa: B023

    def working(self, script: Callable[[], None]) -> None:
        """Run the worker in this thread, and the script beside it; then stop the worker at once."""
        raised: list[BaseException] = []

        def play() -> None:
            try:
                script()
            except BaseException as error:  # noqa: BLE001 -- raised again below
                raised.append(error)
            while self.worker.stopping < 2 and not over.is_set():
                self.stop(unless=over)

        over = threading.Event()
        before = signal.signal(STOP, self.worker.stop)
        beside = threading.Thread(target=play)
        try:
            beside.start()
            self.worker.run()
        finally:
            over.set()
            beside.join()
            self.engine.open.set()
            signal.signal(STOP, before)
        if raised:
            raise raised[0]
        assert self.engine.wrongs == []


@pytest.fixture
def rig(service: Service, uploader: Uploader) -> Iterator[Rig]:
    rig = Rig(service, uploader)
    with rig.pair():
        yield rig


def test_the_next_recording_is_decoded_while_the_one_before_has_the_engine(rig: Rig) -> None:
    def script() -> None:
        first, second = rig.two()
        assert rig.is_(first, State.RUNNING)
        assert rig.is_(second, State.RUNNING)
        rig.engine.open.set()
        until(lambda: rig.is_(second, State.COMPLETED), "the second is done")
        assert rig.is_(first, State.COMPLETED)
        assert rig.engine.served == [first, second]

    rig.working(script)


def test_a_queue_of_short_recordings_goes_through_the_engine_one_at_a_time(
    service: Service, uploader: Uploader
) -> None:
    rig = Rig(service, uploader)
    ids = [rig.send() for _ in range(8)]
    rig.expect(ids[0], 1.0)

    class Lingering(GatedEngine):
        """Keeps every run in the engine until the next one is decoded, and waits for it."""

        def linger(self) -> None:
            last = len(self.served) == len(ids)
            until(lambda: last or any(rig.waits(id) for id in ids), "the next one is at the door")

    rig.worker.engine = rig.engine = Lingering()
    rig.engine.open.set()
    most: list[int] = []

    def script() -> None:
        def done() -> bool:
            most.append(len([a for a in tuple(rig.worker.attempts) if a.over_since is None]))
            return len(rig.engine.served) == len(ids)

        until(done, "all are transcribed")
        until(lambda: all(rig.is_(id, State.COMPLETED) for id in ids), "all are completed")

    with capture_logs() as lines:
        rig.working(script)
    assert sorted(rig.engine.served) == sorted(ids)
    assert max(most) <= 3
    ended = [line for line in lines if line["event"] == "run ended"]
    assert sorted(line["id"] for line in ended) == sorted(ids)
    assert all(0 < line["engine_seconds"] <= line["seconds"] for line in ended)
    assert all(line["real_time_factor"] > 0 and line["owner"] == "local" for line in ended)


def test_a_job_is_left_to_others_while_the_one_before_takes_long(rig: Rig) -> None:
    for _ in range(8):
        rig.expect(rig.first, 60.0)

    def script() -> None:
        assert rig.engine.at.get(timeout=PATIENCE_SECONDS) == rig.first
        rig.rounds(4)
        assert not rig.holds(rig.second)
        claim = rig.service.transcriptions.claim(Job("local", rig.second, 1), "an idle one")
        assert claim is not None

    rig.working(script)


def test_a_job_is_claimed_ahead_once_the_one_before_is_nearly_done(rig: Rig) -> None:
    for _ in range(8):
        rig.expect(rig.first, 60.0)

    def script() -> None:
        assert rig.engine.at.get(timeout=PATIENCE_SECONDS) == rig.first

        def claimed() -> bool:
            rig.tell(rig.first, 29)
            return rig.holds(rig.second)

        until(claimed, "the second is claimed")

    rig.working(script)


def test_without_any_run_before_nothing_is_claimed_ahead(service: Service, uploader: Uploader) -> None:
    rig = Rig(service, uploader)
    first, second = rig.send(), rig.send()

    def script() -> None:
        assert rig.engine.at.get(timeout=PATIENCE_SECONDS) == first
        rig.rounds(4)
        assert not rig.holds(second)
        rig.engine.open.set()
        until(lambda: rig.is_(second, State.COMPLETED), "it is done afterwards")

    rig.working(script)


def test_a_job_that_would_wait_for_too_long_after_all_is_given_back(rig: Rig) -> None:
    def script() -> None:
        first, second = rig.two()

        def given_back() -> bool:
            rig.tell(first, 1000)
            return not rig.holds(second)

        until(given_back, "the second is given back")
        record = rig.record(second)
        assert (record.state, record.attempts) == (State.QUEUED, 0)
        assert rig.service.queue.receive(5) is not None
        assert rig.is_(first, State.RUNNING)

    rig.working(script)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_canceled_job_leaves_the_other_alone(rig: Rig, which: str) -> None:
    def script() -> None:
        canceled, other = rig.two() if which == "first" else reversed(rig.two())
        rig.service.transcriptions.cancel("local", canceled)
        until(lambda: not rig.holds(canceled), "it is let go")
        rig.engine.open.set()
        until(lambda: rig.is_(other, State.COMPLETED), "the other is done")
        assert rig.is_(canceled, State.CANCELED)

    rig.working(script)


@pytest.mark.parametrize("which", ["first", "second"])
def test_a_job_whose_lease_is_lost_is_left_to_its_new_holder(rig: Rig, which: str) -> None:
    later = LaterBucket(rig.service.bucket.client, rig.service.bucket.name)
    later.later = timedelta(minutes=5)
    elsewhere = Service.of(rig.service.settings, later, rig.service.queue)

    def script() -> None:
        lost, other = rig.two() if which == "first" else reversed(rig.two())
        claim = elsewhere.transcriptions.claim(Job("local", lost, 1), "another")
        assert claim is not None
        until(lambda: not rig.holds(lost), "it is let go")
        rig.engine.open.set()
        until(lambda: rig.is_(other, State.COMPLETED), "the other is done")
        lease = rig.record(lost).lease
        assert lease is not None
        assert lease.token == claim.token

    rig.working(script)


def test_a_recording_that_cannot_be_decoded_fails_while_the_one_before_goes_on(
    service: Service, uploader: Uploader
) -> None:
    rig = Rig(service, uploader)
    first = rig.send()
    bad = uploader.send(RECORDING[:44] + b"").id
    rig.expect(first, 0.01)

    def script() -> None:
        assert rig.engine.at.get(timeout=PATIENCE_SECONDS) == first
        if rig.record(bad).state is not State.FAILED:
            until(lambda: rig.is_(bad, State.FAILED), "the second fails")
        assert rig.is_(first, State.RUNNING)
        rig.engine.open.set()
        until(lambda: rig.is_(first, State.COMPLETED), "the first is done")

    rig.working(script)


def test_told_to_stop_the_waiting_job_goes_back_at_once_and_the_window_is_saved(rig: Rig) -> None:
    def script() -> None:
        first, second = rig.two()
        rig.stop()
        until(lambda: rig.is_(second, State.QUEUED), "the second is given back")
        assert rig.is_(first, State.RUNNING)
        rig.engine.open.set()
        until(lambda: rig.is_(first, State.QUEUED), "the first is given back")

    begun = time.monotonic()
    rig.working(script)
    assert time.monotonic() - begun < rig.service.settings.stop_seconds
    for id in (rig.first, rig.second):
        record = rig.record(id)
        assert (record.state, record.attempts, record.lease) == (State.QUEUED, 0, None)
    assert rig.engine.served == [rig.first]
    results = [entry.key for entry in rig.service.bucket.listing("results/local/")]
    assert [key for key in results if "/windows/" in key] == [f"results/local/{rig.first}/1/windows/0.json"]


def test_told_twice_to_stop_both_jobs_go_back_at_once(rig: Rig) -> None:
    def script() -> None:
        rig.two()
        rig.stop()
        rig.stop()
        until(lambda: rig.is_(rig.first, State.QUEUED), "the first is given back")
        until(lambda: rig.is_(rig.second, State.QUEUED), "the second is given back")
        assert not rig.engine.open.is_set()

    rig.working(script)


def test_a_run_that_lost_an_attempt_is_worked_on_alone(rig: Rig) -> None:
    """What dies of it would take another run along; and while it waits, it cannot be what workers die of."""
    records = rig.service.records
    records.change("local", rig.second, lambda record, now: record.to(State.QUEUED, attempts=1))
    third = rig.send()

    def script() -> None:
        assert rig.engine.at.get(timeout=PATIENCE_SECONDS) == rig.first
        until(lambda: rig.waits(rig.second), "the second waits")
        lease = rig.record(rig.second).lease
        assert lease is not None
        assert lease.excused
        rig.engine.open.set()
        until(lambda: rig.is_(rig.first, State.COMPLETED), "the first is done")
        until(lambda: rig.is_(third, State.COMPLETED), "the third is done")

    class Watchful(GatedEngine):
        """Waits in the second's window for what must not happen: that the third is claimed."""

        leases: list[bool]

        def language(self, audio: Samples, model: str) -> tuple[str, float]:
            if threading.current_thread().name == rig.second:
                lease = rig.record(rig.second).lease
                self.leases = [lease is not None and lease.excused]
                rig.rounds(3)
                assert not rig.holds(third)
            return super().language(audio, model)

    watchful = rig.worker.engine = rig.engine = Watchful()
    rig.working(script)
    assert watchful.leases == [False]
    assert rig.is_(rig.second, State.COMPLETED)


def test_a_claim_ahead_costs_no_lease_where_the_queue_hangs(rig: Rig) -> None:
    class Hanging(Queue):
        """The real queue, but once it has given a message it does not answer any more."""

        given = 0

        def receive(self, wait_seconds: int) -> Message | None:
            self.given += 1
            if self.given > 1:
                hangs.set()
                done.wait(PATIENCE_SECONDS)
                return None
            return super().receive(wait_seconds)

    hangs, done = threading.Event(), threading.Event()
    queue = Hanging(rig.service.queue.client, rig.service.queue.url)
    rig.worker.service = Service.of(rig.service.settings, rig.service.bucket, queue)

    def script() -> None:
        assert hangs.wait(PATIENCE_SECONDS)
        before = rig.record(rig.first).version
        until(lambda: rig.record(rig.first).version > before + 2, "the lease is renewed all the same")
        done.set()

    rig.working(script)


# Without work


def test_a_worker_without_work_for_too_long_ends(service: Service, uploader: Uploader) -> None:
    rig = Rig(service, uploader, worker_idle_exit_seconds=1.5)
    waited: list[int] = []

    class Listening(Queue):
        """The real queue; what is asked of it is written down."""

        def receive(self, wait_seconds: int) -> Message | None:
            waited.append(wait_seconds)
            return super().receive(wait_seconds)

    queue = Listening(service.queue.client, service.queue.url)
    rig.worker.service = Service.of(rig.service.settings, service.bucket, queue)
    id = rig.send()
    rig.engine.open.set()
    begun = time.monotonic()
    with capture_logs() as lines:
        rig.worker.run()
    assert 1.5 <= time.monotonic() - begun < PATIENCE_SECONDS
    assert rig.is_(id, State.COMPLETED)
    assert max(waited) <= 1
    (why,) = [line for line in lines if line["event"] == "worker ends, as it had no work"]
    assert why["seconds"] == 1.5


class WishesStandIn(Protection):
    """Stands in for the protection of an ECS task: what is wished for, and what is held then."""

    def __init__(self) -> None:
        super().__init__()
        self.wishes: list[tuple[bool, int]] = []
        self.worker: Worker | None = None

    def want(self, wanted: bool) -> None:
        held = 0 if self.worker is None else len(self.worker.attempts)
        if not self.wishes or self.wishes[-1][0] is not wanted:
            self.wishes.append((wanted, held))


def test_the_task_is_protected_as_long_as_a_job_is_held(service: Service, uploader: Uploader) -> None:
    rig = Rig(service, uploader, worker_idle_exit_seconds=1)
    protection = WishesStandIn()
    rig.worker = protection.worker = Worker(rig.service, rig.engine, protection)
    ids = [rig.send() for _ in range(3)]
    rig.engine.open.set()
    rig.worker.run()
    assert all(rig.is_(id, State.COMPLETED) for id in ids)
    assert protection.wishes == [(True, 1), (False, 0)]


def test_a_real_worker_tells_its_health_and_ends_when_idle(servers: Servers, service: Service) -> None:
    port = free_port()
    environment = servers.environment | {
        "BUCKETSCRIBE_QUEUE_URL": service.queue.url,
        "BUCKETSCRIBE_MODEL": "tiny.en",
        "BUCKETSCRIBE_WORKER_PORT": str(port),
        "BUCKETSCRIBE_WORKER_IDLE_EXIT_SECONDS": "1",
    }
    command = [sys.executable, "-m", "bucketscribe.cli.main", "worker"]
    seen: dict[tuple[str, int], str] = {}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            for path in ("/", "/live"):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                        seen[path, answer.status] = json.load(answer)["status"]
                except urllib.error.HTTPError as error:
                    seen[path, error.code] = json.load(error)["status"]
                except (OSError, HTTPException, ValueError):
                    pass  # it is not there yet, or not any more
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "worker ends, as it had no work" in said
    assert seen["/", 503] in ("loading", "stopping")
    assert seen["/", 200] == "idle"
    assert set(seen) == {("/", 200), ("/", 503), ("/live", 200)}
