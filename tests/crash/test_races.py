"""Races, replayed one request at a time: one side is held just before a request, the other runs, and the
held one goes on.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pytest
from bucketscribe.api.app import create_app
from bucketscribe.bucket import Part as HeldPart
from bucketscribe.errors import Problem
from bucketscribe.markers import Kind, marker_key
from bucketscribe.queue import Queue, body_of
from bucketscribe.records import Failure, NoRecord, Part, Progress, State, record_key
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from bucketscribe.transcript import Word
from bucketscribe.transcriptions import Facts, LeaseLost
from bucketscribe.worker.engines.base import EngineFailed, Heard, Passage, Report, Request, Samples
from bucketscribe.worker.main import Worker
from bucketscribe.worker.run import Run
from bucketscribe.worker.status import Status
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.crash.world import RECORDING, TEXT, Case, StandInEngine, World, complete, drain, work

WAIT_SECONDS = 30.0
IDLE = timedelta(minutes=20)
COMPLETED = frozenset({State.COMPLETED})
EXPIRED = frozenset({State.EXPIRED})
FAILED = frozenset({State.FAILED})
CANCELED = frozenset({State.CANCELED})
GONE = frozenset({None})


def another(world: World) -> Service:
    """Another process, as far as the servers can tell: connections of its own."""
    bucket = LaterBucket.connect(world.settings)
    bucket.later = world.bucket.later
    return Service.of(world.settings, bucket, Queue.connect(world.settings))


class Held[T]:
    """A process that is held just before the first S3 request of this kind for a key like this."""

    def __init__(self, world: World, act: Callable[[Service], T], request: str, key: str) -> None:
        self._world = world
        self._key = key
        self._reached, self._released = threading.Event(), threading.Event()
        service = another(world)
        assert isinstance(service.bucket, LaterBucket)
        self._bucket = service.bucket
        self._bucket.client.meta.events.register(f"before-send.s3.{request}", self._hold)
        self._threads = ThreadPoolExecutor(1)
        self._future = self._threads.submit(act, service)
        self._future.add_done_callback(lambda _: self._reached.set())
        assert self._reached.wait(WAIT_SECONDS)
        assert not self._future.done(), f"it never came to {request} of {key}: {self._future}"

    def _hold(self, request: Any, **event: Any) -> None:
        if self._key in unquote(request.url) and not self._reached.is_set():
            self._reached.set()
            assert self._released.wait(WAIT_SECONDS)

    def go_on(self) -> T:
        """Let it go on to its end; what it returns or raises."""
        self._bucket.later = self._world.bucket.later
        self._released.set()
        self._threads.shutdown()
        return self._future.result()


def sweep(service: Service) -> int:
    return Sweep(service).run()


def refused(act: Callable[[], object], *codes: str) -> None:
    with pytest.raises(Problem) as raised:
        act()
    assert raised.value.code in codes


def ends(world: World, case: Case, states: frozenset[State | None], run: int | None = None) -> None:
    """See what sweeps and a worker make of it, and that it is all right."""
    world.settle()
    assert world.wrongs(case, states, run) == []


def job_markers(world: World, case: Case) -> list[str]:
    return [key for key in world.keys(case) if key.startswith("open/jobs/")]


# Sweep against complete


def test_a_sweep_does_not_expire_what_was_completed_under_its_eyes(world: World) -> None:
    case = world.uploading()
    with world.later(IDLE):
        held = Held(world, sweep, "PutObject", "/records/")
    complete(world.service, case)
    held.go_on()
    assert world.state(case) is State.QUEUED
    ends(world, case, COMPLETED, run=1)


@pytest.mark.parametrize("request_", ["AbortMultipartUpload", "DeleteObject"])
def test_a_complete_finds_the_upload_expired_in_the_middle_of_a_sweep(world: World, request_: str) -> None:
    case = world.uploading()
    with world.later(IDLE):
        held = Held(world, sweep, request_, case.id)
        refused(lambda: complete(world.service, case), "upload_expired")
        held.go_on()
    ends(world, case, EXPIRED)


def test_a_complete_that_wakes_after_the_upload_expired_is_told_so(world: World) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case), "PutObject", "/records/")
    with world.later(IDLE):
        sweep(world.service)
        refused(held.go_on, "upload_expired")
    ends(world, case, EXPIRED)


def sweep_with_a_smaller_limit(service: Service) -> int:
    settings = service.settings.model_copy(update={"max_upload_bytes": len(RECORDING) - 1})
    return sweep(Service.of(settings, service.bucket, service.queue))


def test_a_sweep_does_not_refuse_what_was_completed_under_its_eyes(world: World) -> None:
    case = world.uploading()
    with world.later(IDLE / 4):
        held = Held(world, sweep_with_a_smaller_limit, "PutObject", "/records/")
    complete(world.service, case)
    held.go_on()
    assert world.state(case) is State.QUEUED
    ends(world, case, COMPLETED, run=1)


def test_a_complete_that_wakes_after_the_upload_was_refused_is_told_why(world: World) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case), "PutObject", "/records/")
    with world.later(IDLE / 4):
        sweep_with_a_smaller_limit(world.service)
        refused(held.go_on, "too_large")
    ends(world, case, FAILED)


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        ("CompleteMultipartUpload", "/uploads/"),
        ("GetObject", "/uploads/"),
        ("PutObject", "/open/jobs/"),
        ("DeleteObject", "/open/uploads/"),
    ],
)
def test_a_complete_and_a_sweep_that_finishes_it_make_one_job(world: World, request_: str, key: str) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case), request_, key)
    with world.later(IDLE):
        sweep(world.service)
    held.go_on()
    assert world.state(case) is State.QUEUED
    assert job_markers(world, case) == [marker_key(Kind.JOBS, case.owner, case.id, 1)]
    assert world.service.queue.count() == 1
    ends(world, case, COMPLETED, run=1)


def test_a_complete_that_wakes_after_the_transcript_is_there_leaves_no_job(world: World) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case), "PutObject", "/open/jobs/")
    complete(world.service, case)
    drain(world.service)
    held.go_on()
    assert world.state(case) is State.COMPLETED
    ends(world, case, COMPLETED, run=1)


def test_eight_completes_at_once_make_one_job(world: World) -> None:
    case = world.uploading(RECORDING + bytes(5 * 1024**2))
    world.put_part(case, bytes(1024))
    services = [another(world) for _ in range(8)]
    start = threading.Barrier(len(services))

    def complete_together(service: Service) -> str:
        start.wait()
        return service.uploads.complete(case.owner, case.key, case.upload_id, case.parts).id

    with ThreadPoolExecutor(len(services)) as threads:
        assert set(threads.map(complete_together, services)) == {case.id}
    assert world.state(case) is State.QUEUED
    assert world.service.queue.count() == 1
    assert len(job_markers(world, case)) == 1
    ends(world, case, COMPLETED, run=1)


class EmptiedBucket(LaterBucket):
    """A bucket whose server, completing an upload for `rival`, lists none of its parts any more."""

    rival: Callable[[], object]

    def list_parts(self, key: str, upload_id: str) -> tuple[list[HeldPart], datetime]:
        self.rival()
        return [], self.now()


def test_a_complete_that_sees_no_parts_as_another_is_under_way_gets_the_same_answer(world: World) -> None:
    case = world.uploading()
    bucket = EmptiedBucket.connect(world.settings)
    bucket.rival = lambda: complete(world.service, case)
    service = Service.of(world.settings, bucket, Queue.connect(world.settings))
    assert service.uploads.complete(case.owner, case.key, case.upload_id, case.parts).id == case.id
    assert world.state(case) is State.QUEUED
    ends(world, case, COMPLETED, run=1)


def test_parts_that_are_not_there_are_refused_as_long_as_nobody_completes(world: World) -> None:
    case = world.uploading()
    bucket = EmptiedBucket.connect(world.settings)
    bucket.rival = lambda: None
    service = Service.of(world.settings, bucket, Queue.connect(world.settings))
    refused(
        lambda: service.uploads.complete(case.owner, case.key, case.upload_id, case.parts), "invalid_part"
    )
    assert world.state(case) is State.UPLOADING


# A late begin


@pytest.mark.parametrize(
    ("request_", "key"), [("CreateMultipartUpload", "/uploads/"), ("PutObject", "/records/")]
)
def test_a_begin_that_wakes_after_the_sweep_ended_it_leaves_nothing(
    world: World, request_: str, key: str
) -> None:
    case = world.case()
    held = Held(world, lambda service: service.intake.begin(case.owner, "a.wav", None, {}), request_, key)
    with world.later(IDLE):
        sweep(world.service)
    refused(held.go_on, "begin_lost")
    ends(world, case, EXPIRED)


def test_a_form_that_is_handed_out_after_the_sweep_ended_it_is_not(world: World) -> None:
    case = world.case()
    held = Held(
        world,
        lambda service: service.intake.begin_form(case.owner, "a.wav", None, {}),
        "PutObject",
        "/records/",
    )
    with world.later(IDLE):
        sweep(world.service)
    refused(held.go_on, "begin_lost")
    ends(world, case, EXPIRED)


def test_a_begin_and_a_sweep_that_both_write_the_record_agree(world: World) -> None:
    case = world.case()
    begin = Held(
        world, lambda service: service.intake.begin(case.owner, "a.wav", None, {}), "PutObject", "/records/"
    )
    with world.later(IDLE):
        look = Held(world, sweep, "PutObject", "/records/")
    begun = begin.go_on()
    look.go_on()
    case.id = begun.id
    assert world.state(case) is State.UPLOADING
    assert world.pending(case) == [begun.key]
    ends(world, case, EXPIRED)


# Workers


def test_of_two_claims_of_one_job_one_wins(world: World) -> None:
    case = world.queued()
    held = Held(
        world, lambda service: service.transcriptions.claim(case.job, "slow"), "PutObject", "/records/"
    )
    case.claim = world.service.transcriptions.claim(case.job, "fast")
    assert held.go_on() is None
    work(world.service, case.held)
    ends(world, case, COMPLETED, run=1)


def test_of_eight_claims_at_once_one_wins(world: World) -> None:
    case = world.queued()
    services = [another(world) for _ in range(8)]
    with ThreadPoolExecutor(len(services)) as threads:
        claims = list(threads.map(lambda service: service.transcriptions.claim(case.job, "one"), services))
    assert sum(claim is not None for claim in claims) == 1


def test_a_worker_whose_lease_was_taken_can_change_nothing(world: World) -> None:
    case = world.running()
    stale, transcriptions = case.held, world.service.transcriptions
    with world.later(IDLE):
        fresh = transcriptions.claim(case.job, "another worker")
        assert fresh is not None
        before = world.read(case)
        failure = Failure(code="undecodable", message="It cannot be decoded.")
        acts: list[Callable[[], object]] = [
            lambda: transcriptions.renew(stale, Progress(stage="transcribing", percent=50)),
            lambda: transcriptions.release(stale),
            lambda: transcriptions.restart(stale),
            lambda: transcriptions.fail(stale, failure),
            lambda: transcriptions.complete(stale, Facts(None, 0, {}, ())),
        ]
        for act in acts:
            with pytest.raises(LeaseLost):
                act()
        after = world.read(case)
        assert before is not None
        assert after is not None
        assert (after.record, after.etag) == (before.record, before.etag)
        assert len(job_markers(world, case)) == 1
        work(world.service, fresh)
    ends(world, case, COMPLETED, run=1)


@pytest.mark.parametrize(
    "file", ["peaks.json", "plan.json", "windows/0.json", "transcript.json", "transcript.srt"]
)
def test_a_worker_that_wakes_late_does_not_spoil_what_another_finished(world: World, file: str) -> None:
    class OtherWords(StandInEngine):
        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            word = Word(start=0, end=0.25, word=" Something.", probability=1)
            return Heard((Passage(0, 0.25, (word,)),), ((0, 0.25),))

    case = world.running()
    stale = case.held

    def transcribe(service: Service) -> None:
        Run(world.settings, service.bucket, OtherWords(), stale.record, Status()).finish()

    held = Held(world, transcribe, "PutObject", f"/{file}")
    with world.later(IDLE):
        drain(world.service)
    finished = {entry.key: entry.etag for entry in world.bucket.listing(f"results/{case.owner}/{case.id}/")}
    held.go_on()
    assert finished == {
        entry.key: entry.etag for entry in world.bucket.listing(f"results/{case.owner}/{case.id}/")
    }
    ends(world, case, COMPLETED, run=1)


def test_a_worker_whose_engine_hangs_ends_and_leaves_its_run_to_another(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(StandInEngine):
        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            raise AssertionError(threading.Event().wait())

    case = world.queued()
    monkeypatch.setattr("bucketscribe.worker.attempt.HUNG_SECONDS", 0.5)
    child = world.start(lambda service: Worker(service, Hanging()).run())
    child.go()
    assert child.end() is None
    assert world.state(case) is State.RUNNING
    ends(world, case, COMPLETED, run=1)


def test_a_worker_whose_device_is_lost_ends_and_fails_no_job(world: World) -> None:
    class Lost(StandInEngine):
        """As after an illegal memory access on a GPU: nothing works any more."""

        lost = False

        def works(self) -> bool:
            return not self.lost

        def transcribe(self, audio: Samples, request: Request, report: Report) -> Heard:
            self.lost = True
            raise EngineFailed("RuntimeError: CUDA error: an illegal memory access was encountered")

    cases = [world.queued(), world.queued()]
    child = world.start(lambda service: Worker(service, Lost()).run())
    child.go()
    assert child.end() is None
    assert {world.state(case) for case in cases} <= {State.QUEUED, State.RUNNING}
    for case in cases:
        ends(world, case, COMPLETED, run=1)


def test_a_worker_that_works_on_after_a_delete_leaves_nothing(world: World) -> None:
    case = world.running()
    held = Held(world, lambda service: work(service, case.held), "PutObject", "/transcript.srt")
    world.service.transcriptions.delete(case.owner, case.id)
    with pytest.raises(LeaseLost):
        held.go_on()
    assert any(key.startswith("results/") for key in world.keys(case))
    ends(world, case, GONE)


def test_a_claim_of_what_was_canceled_in_between_is_none(world: World) -> None:
    case = world.queued()
    held = Held(
        world, lambda service: service.transcriptions.claim(case.job, "slow"), "PutObject", "/records/"
    )
    world.service.transcriptions.cancel(case.owner, case.id)
    assert held.go_on() is None
    ends(world, case, CANCELED)


def bury(service: Service, case: Case) -> None:
    service.dead_letters.bury(body_of(case.job))


def test_a_claim_in_the_middle_of_a_burial_wins(world: World) -> None:
    case = world.queued()
    held = Held(world, lambda service: bury(service, case), "PutObject", "/records/")
    claim = world.service.transcriptions.claim(case.job, "a worker")
    held.go_on()
    assert claim is not None
    assert world.state(case) is State.RUNNING
    work(world.service, claim)
    ends(world, case, COMPLETED, run=1)


def test_a_burial_in_the_middle_of_a_claim_wins(world: World) -> None:
    case = world.queued()
    held = Held(
        world, lambda service: service.transcriptions.claim(case.job, "a worker"), "PutObject", "/records/"
    )
    bury(world.service, case)
    assert held.go_on() is None
    assert job_markers(world, case) == []
    ends(world, case, FAILED, run=1)


def test_a_burial_that_wakes_late_does_not_take_the_marker_of_a_retry(world: World) -> None:
    case = world.queued()
    held = Held(world, lambda service: bury(service, case), "DeleteObject", case.id)
    world.service.transcriptions.retry(case.owner, case.id)
    held.go_on()
    assert job_markers(world, case) == [f"open/jobs/{case.owner}/{case.id}.2"]
    ends(world, case, COMPLETED, run=2)


# Delete and cancel against complete

STAGES = [
    ("PutObject", "/records/"),
    ("CompleteMultipartUpload", "/uploads/"),
    ("GetObject", "/uploads/"),
    ("PutObject", "/open/jobs/"),
    ("DeleteObject", "/open/uploads/"),
]


@pytest.mark.parametrize(("request_", "key"), STAGES)
def test_a_delete_in_the_middle_of_a_complete_leaves_nothing(world: World, request_: str, key: str) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case), request_, key)
    world.service.transcriptions.delete(case.owner, case.id)
    try:
        held.go_on()
    except NoRecord:
        pass  # its caller is told 404
    except Problem as problem:
        if problem.code != "no_such_upload":
            raise
    ends(world, case, GONE)


@pytest.mark.parametrize(("request_", "key"), STAGES[:-1])
def test_a_cancel_in_the_middle_of_a_complete_leaves_no_recording(
    world: World, request_: str, key: str
) -> None:
    case = world.uploading()
    held = Held(world, lambda service: complete(service, case).state, request_, key)
    world.service.transcriptions.cancel(case.owner, case.id)
    try:
        assert held.go_on() is State.COMPLETING  # it has seen no more than that the object is gone again
    except Problem as problem:
        if problem.code != "no_such_upload":
            raise
    ends(world, case, CANCELED)


def test_a_completion_that_s3_carries_out_after_a_cancel_leaves_no_recording(world: World) -> None:
    case = world.completing()
    world.service.transcriptions.cancel(case.owner, case.id)
    world.bucket.put(case.key, RECORDING)
    ends(world, case, CANCELED)


# Forms


def test_a_form_used_again_after_its_recording_was_accepted_fails_the_run(world: World) -> None:
    case = world.form(RECORDING)
    world.service.uploads.finish(case.owner, case.id)
    world.bucket.put(case.key, RECORDING + bytes(100))
    with TestClient(create_app(world.service), "http://127.0.0.1:8000", follow_redirects=False) as api:
        answer = api.get(f"/transcriptions/{case.id}/media")
        assert (answer.status_code, answer.json()["code"]) == (409, "recording_changed")
    drain(world.service)
    stored = world.read(case)
    assert stored is not None
    assert stored.record.error is not None
    assert (stored.record.state, stored.record.error.code) == (State.FAILED, "recording_changed")
    refused(lambda: world.service.transcriptions.retry(case.owner, case.id), "recording_changed")


@pytest.mark.parametrize(
    ("second", "state"), [(RECORDING + bytes(100), State.COMPLETED), (TEXT, State.FAILED)]
)
def test_a_form_used_again_while_it_is_judged_is_judged_anew(
    world: World, second: bytes, state: State
) -> None:
    case = world.form(RECORDING)
    held = Held(world, lambda service: service.uploads.finish(case.owner, case.id), "GetObject", "/uploads/")
    world.bucket.put(case.key, second)
    held.go_on()
    ends(world, case, frozenset({state}))


# Sweeps


def sweep_twice_at_once(world: World) -> None:
    services = [another(world), another(world)]
    start = threading.Barrier(len(services))

    def sweep_together(service: Service) -> None:
        start.wait()
        sweep(service)

    with ThreadPoolExecutor(len(services)) as threads:
        list(threads.map(sweep_together, services))


def test_two_sweeps_at_once_do_everything_once(world: World) -> None:
    idle, lost, dead = world.uploading(), world.running(), world.completed()
    world.service.markers.put(Kind.PURGE, dead.owner, dead.id)
    with world.later(IDLE):
        sweep_twice_at_once(world)
        assert [world.state(case) for case in (idle, lost)] == [State.EXPIRED, State.QUEUED]
        assert world.state(dead) in (State.DELETED, None)
    world.settle()
    assert world.wrongs(idle, EXPIRED) == []
    assert world.wrongs(dead, GONE) == []
    assert world.wrongs(lost, COMPLETED, run=1) == []


def test_two_sweeps_at_once_complete_an_interrupted_upload_once(world: World) -> None:
    case = world.completing()
    with world.later(IDLE):
        sweep_twice_at_once(world)
        assert world.state(case) is State.QUEUED
        assert len(job_markers(world, case)) == 1
    world.settle()
    assert world.wrongs(case, COMPLETED, run=1) == []


def test_a_sweep_passes_over_what_another_looked_at_since_its_listing(world: World) -> None:
    case = world.running()
    with world.later(IDLE):
        held = Held(world, sweep, "PutObject", "/open/jobs/")
        sweep(world.service)
        version = world.read(case)
        held.go_on()
        assert world.read(case) == version
    ends(world, case, COMPLETED, run=1)


def failed(world: World) -> Case:
    case = world.running()
    world.service.transcriptions.fail(case.held, Failure(code="engine_failed", message="It failed."))
    return case


def retry(service: Service, case: Case) -> Any:
    return service.transcriptions.retry(case.owner, case.id)


def test_a_retry_whose_marker_a_sweep_removes_in_between_begins_anew_with_another_number(
    world: World,
) -> None:
    case = failed(world)
    held = Held(world, lambda service: retry(service, case), "PutObject", "/records/")
    with world.later(IDLE):
        sweep(world.service)
    assert job_markers(world, case) == []
    held.go_on()
    assert job_markers(world, case) == [marker_key(Kind.JOBS, case.owner, case.id, 3)]
    ends(world, case, COMPLETED, run=3)


def test_a_sweep_that_wakes_late_does_not_take_the_marker_of_a_new_retry(world: World) -> None:
    case = failed(world)
    world.service.markers.put(Kind.JOBS, case.owner, case.id, 2)
    with world.later(IDLE):
        held = Held(world, sweep, "DeleteObject", "/open/jobs/")
    stored = retry(world.service, case)
    held.go_on()
    assert job_markers(world, case) == [marker_key(Kind.JOBS, case.owner, case.id, stored.record.run)]
    ends(world, case, COMPLETED)


def test_a_sweep_that_wakes_late_does_not_take_the_marker_of_a_new_delete(world: World) -> None:
    case = world.running()
    world.service.markers.put(Kind.PURGE, case.owner, case.id)
    held = Held(world, sweep, "PutObject", "/records/")
    world.service.transcriptions.delete(case.owner, case.id)
    held.go_on()
    assert world.state(case) is State.DELETED
    ends(world, case, GONE)


def test_a_sweep_that_wakes_late_does_not_take_the_marker_of_an_object_found_late(world: World) -> None:
    case = world.form()
    with world.later(timedelta(hours=3)):
        held = Held(world, sweep, "DeleteObject", "/open/forms/")
    world.bucket.put(case.key, RECORDING)
    finish = Held(
        world, lambda service: service.uploads.finish(case.owner, case.id), "GetObject", "/uploads/"
    )
    held.go_on()
    assert marker_key(Kind.FORMS, case.owner, case.id) in world.keys(case)
    finish.go_on()
    ends(world, case, COMPLETED)


def test_a_sweep_does_not_bring_back_what_is_deleted_during_its_look(world: World) -> None:
    case = world.uploading()
    with world.later(IDLE):
        held = Held(world, sweep, "GetObject", "/records/")
        world.service.transcriptions.delete(case.owner, case.id)
        held.go_on()
    ends(world, case, GONE)


def test_a_refusal_that_comes_late_takes_back_no_newer_promise(world: World) -> None:
    case = world.uploading()
    wrong = (Part(number=1, etag='"00000000000000000000000000000000"'),)
    world.service.records.change(
        case.owner, case.id, lambda record, now: record.to(State.COMPLETING, parts=wrong)
    )
    late = Held(
        world, lambda service: service.uploads.finish(case.owner, case.id), "CompleteMultipartUpload", case.id
    )
    refused(lambda: complete(world.service, case), "invalid_part")
    newer = Held(world, lambda service: complete(service, case), "CompleteMultipartUpload", case.id)
    assert late.go_on().record.state is State.COMPLETING
    assert newer.go_on().state is State.QUEUED
    ends(world, case, COMPLETED, run=1)


# Versions


def test_no_two_versions_of_a_record_are_equal(world: World) -> None:
    case = world.queued()
    key = record_key(case.owner, case.id)
    etags = []
    for _ in range(5):
        claim = world.service.transcriptions.claim(case.job, "a worker")
        assert claim is not None
        etags.append(world.bucket.find(key))
        world.service.transcriptions.release(claim)
        etags.append(world.bucket.find(key))
    assert len({found.etag for found in etags if found is not None}) == len(etags) == 10


def test_a_write_on_an_old_version_is_refused_though_the_state_is_the_same_again(world: World) -> None:
    case = world.queued()
    held = Held(
        world, lambda service: service.transcriptions.cancel(case.owner, case.id), "PutObject", "/records/"
    )
    claim = world.service.transcriptions.claim(case.job, "a worker")
    assert claim is not None
    world.service.transcriptions.release(claim)
    stored = held.go_on()
    assert stored.record.state is State.CANCELED
    assert stored.record.version == 6
    ends(world, case, CANCELED)


def test_no_two_versions_of_a_marker_are_equal(world: World) -> None:
    case = world.uploading()
    key = marker_key(Kind.UPLOADS, case.owner, case.id)
    etags = set()
    for _ in range(5):
        world.service.markers.put(Kind.UPLOADS, case.owner, case.id, key=case.key)
        found = world.bucket.find(key)
        assert found is not None
        etags.add(found.etag)
    assert len(etags) == 5
