"""Every operation, killed at every one of its requests.

What comes after is either the client's repeat or nobody but the sweeps and a worker. Either way nothing may
be lost, done twice or left over.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import pytest
from bucketscribe.errors import Problem
from bucketscribe.markers import Kind
from bucketscribe.queue import body_of
from bucketscribe.records import Progress, State, new_id
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep

from tests.crash.proxy import Moment, Trap, changes
from tests.crash.world import (
    RECORDING,
    TEXT,
    Case,
    World,
    cancel,
    complete,
    delete,
    fail,
    failed,
    rename,
    retry,
    work,
)

Step = Callable[[Service, Case], object]
Ends = frozenset[State | None]
NOTHING: Ends = frozenset({None})
COMPLETED: Ends = frozenset({State.COMPLETED})
FAILED: Ends = frozenset({State.FAILED})
CANCELED: Ends = frozenset({State.CANCELED})
EXPIRED: Ends = frozenset({State.EXPIRED})
BEFORE_A_RUN = (State.UPLOADING, State.COMPLETING, State.QUEUED)

SEED = int(os.environ.get("BUCKETSCRIBE_TEST_SEED", "20261121"))

IDLE = timedelta(minutes=20)
"""Longer than an upload may be idle, a lease lasts, or a job is not looked at."""


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens to a case, and how the case may end when it dies on the way.

    `ends` maps the state the dead operation left behind to the states that sweeps and worker may make of it;
    `repeated` are those after the client called again, where it would.
    """

    prepare: Callable[[World], Case]
    act: Step
    ends: dict[State | None, Ends]
    repeat: Step | None = None
    repeated: Ends = frozenset()
    later: timedelta = timedelta()
    run: int | None = 1


def die_at_every_step(world: World, operation: Operation, *, both_sides: bool = False) -> None:
    """Run an operation once unharmed, and once for each death that leaves something else behind.

    What a death before a request leaves is what one after the request before it left, and a request that only
    reads leaves nothing new. With `both_sides`, each request is died at on both sides all the same.
    """
    wrongs = [f"unharmed: {wrong}" for wrong in _once(world, operation, None)[1]]
    requests = world.proxy.seen().requests
    assert requests, "the operation makes no requests"
    traps = [Trap(step, moment) for step in range(len(requests)) for moment in Moment]
    if not both_sides:
        changing = {step for step, request in enumerate(requests) if changes(request)}
        traps = [Trap(0, Moment.BEFORE), *(Trap(step, Moment.AFTER) for step in sorted(changing))]
    for trap in traps:
        for repeated in (False, True) if operation.repeat else (False,):
            request, found = _once(world, operation, trap, repeated=repeated)
            after = "then the client repeats it" if repeated else "then nobody but the sweeps"
            wrongs += [f"killed {trap.moment} {trap.step}: {request}, {after}: {wrong}" for wrong in found]
    assert not wrongs, "\n" + "\n".join(wrongs)


def _once(
    world: World, operation: Operation, trap: Trap | None, *, repeated: bool = False
) -> tuple[str, list[str]]:
    case = operation.prepare(world)
    with world.later(operation.later):
        outcome = world.run(lambda service: operation.act(service, case), trap)
        if outcome.error is not None:
            return "", [f"it raised {outcome.error}"]
        if trap is not None and not outcome.seen.sprung:
            return "", ["there is no such step any more"]
        request = "" if trap is None else outcome.seen.describe(trap.step)
        if repeated and operation.repeat is not None:
            operation.repeat(world.service, case)
            ends = operation.repeated
        else:
            state = world.state(case) if case.id else _state_of_unknown(world, case)
            if state not in operation.ends:
                return request, [f"it died leaving the state {state}"]
            ends = operation.ends[state]
        world.settle()
        wrongs = world.wrongs(case, ends, operation.run if ends == COMPLETED else None)
        if not wrongs:
            world.forget(case)
        return request, wrongs


def _state_of_unknown(world: World, case: Case) -> State | None:
    keys = [key for key in world.keys(case) if key.startswith("records/")]
    stored = world.service.records.read_key(keys[0]) if keys else None
    return None if stored is None else stored.record.state


def repeating(step: Step, *codes: str) -> Step:
    """A step that may be told that it has been done already."""

    def again(service: Service, case: Case) -> None:
        try:
            step(service, case)
        except Problem as problem:
            if problem.code not in codes:
                raise

    return again


# Uploads


def begin(service: Service, case: Case) -> None:
    service.intake.begin(case.owner, "talk.wav", None, {})


def begin_counted(service: Service, case: Case) -> None:
    begin(limited(service), case)


def begin_form(service: Service, case: Case) -> None:
    service.intake.begin_form(case.owner, "talk.wav", None, {})


def finish(service: Service, case: Case) -> None:
    service.uploads.finish(case.owner, case.id)


def sweep(service: Service, case: Case) -> None:
    Sweep(service).run()


def limited(service: Service) -> Service:
    """The service with limits, and the smallest of them."""
    few = {"max_open_uploads": 5, "max_daily_bytes": 10**12, "max_upload_bytes": len(RECORDING) - 1}
    return Service.of(service.settings.model_copy(update=few), service.bucket, service.queue)


def sweep_limited(service: Service, case: Case) -> None:
    sweep(limited(service), case)


def list_limited(service: Service, case: Case) -> None:
    limited(service).uploads.list_parts(case.owner, case.key, case.upload_id)


def lost_begin(world: World) -> Case:
    case = lost(world, Kind.UPLOADS)
    world.bucket.begin_upload(case.key, "audio/wav")
    return case


def lost(world: World, kind: Kind) -> Case:
    """A begin died right after its marker."""
    case = world.case()
    case.id = new_id()
    case.key = f"uploads/{case.owner}/{case.id}/talk.wav"
    world.service.markers.put(kind, case.owner, case.id, key=case.key)
    return case


refuse = repeating(complete, "unsupported_media")

UPLOADS = {
    "begin": Operation(World.case, begin, {None: NOTHING | EXPIRED, State.UPLOADING: EXPIRED}),
    "begin_counted": Operation(
        World.case, begin_counted, {None: NOTHING | EXPIRED, State.UPLOADING: EXPIRED}
    ),
    "begin_form": Operation(World.case, begin_form, {None: NOTHING | EXPIRED, State.UPLOADING: EXPIRED}),
    "complete": Operation(
        World.uploading,
        complete,
        {State.UPLOADING: EXPIRED, State.COMPLETING: COMPLETED, State.QUEUED: COMPLETED},
        repeat=complete,
        repeated=COMPLETED,
    ),
    "complete_refused": Operation(
        lambda world: world.uploading(TEXT, "talk.mp3"),
        refuse,
        {State.UPLOADING: EXPIRED, State.COMPLETING: FAILED, State.FAILED: FAILED},
        repeat=refuse,
        repeated=FAILED,
    ),
    "finish_form": Operation(
        lambda world: world.form(RECORDING), finish, dict.fromkeys(BEFORE_A_RUN, COMPLETED)
    ),
    "refuse_form": Operation(
        lambda world: world.form(TEXT), finish, dict.fromkeys((*BEFORE_A_RUN, State.FAILED), FAILED)
    ),
    "sweep_idle_upload": Operation(
        World.uploading, sweep, {State.UPLOADING: EXPIRED, State.EXPIRED: EXPIRED}, later=IDLE
    ),
    # Nobody but who died knows the smaller limit; so what was not refused yet is idle in the end.
    "sweep_outgrown_upload": Operation(
        World.uploading, sweep_limited, {State.UPLOADING: EXPIRED, State.FAILED: FAILED}, later=IDLE / 4
    ),
    "list_outgrown_upload": Operation(
        World.uploading,
        repeating(list_limited, "too_large"),
        {State.UPLOADING: EXPIRED, State.FAILED: FAILED},
    ),
    "sweep_lost_begin": Operation(lost_begin, sweep, {None: EXPIRED, State.EXPIRED: EXPIRED}, later=IDLE),
    "sweep_lost_form": Operation(
        lambda world: lost(world, Kind.FORMS), sweep, {None: EXPIRED, State.EXPIRED: EXPIRED}, later=IDLE
    ),
    "sweep_unused_form": Operation(
        World.form, sweep, {State.UPLOADING: EXPIRED, State.EXPIRED: EXPIRED}, later=timedelta(hours=3)
    ),
    "sweep_used_form": Operation(
        lambda world: world.form(RECORDING), sweep, dict.fromkeys(BEFORE_A_RUN, COMPLETED)
    ),
    "sweep_interrupted_complete": Operation(
        World.completing, sweep, dict.fromkeys(BEFORE_A_RUN, COMPLETED), later=IDLE
    ),
}


# Runs


def claim(service: Service, case: Case) -> None:
    assert service.transcriptions.claim(case.job, "a worker") is not None


def renew(service: Service, case: Case) -> None:
    service.transcriptions.renew(case.held, Progress(stage="transcribing", percent=50))


def save_and_complete(service: Service, case: Case) -> None:
    work(service, case.held)


def release(service: Service, case: Case) -> None:
    service.transcriptions.release(case.held)


def restart(service: Service, case: Case) -> None:
    service.transcriptions.restart(case.held)


def bury(service: Service, case: Case) -> None:
    service.dead_letters.bury(body_of(case.job))


RUNS = {
    "claim": Operation(World.queued, claim, {State.QUEUED: COMPLETED, State.RUNNING: COMPLETED}),
    "renew": Operation(World.running, renew, {State.RUNNING: COMPLETED}),
    "save_and_complete": Operation(
        World.running, save_and_complete, {State.RUNNING: COMPLETED, State.COMPLETED: COMPLETED}
    ),
    "save_speakers_and_complete": Operation(
        lambda world: world.running(diarize=True),
        save_and_complete,
        {State.RUNNING: COMPLETED, State.COMPLETED: COMPLETED},
    ),
    "fail": Operation(World.running, fail, {State.RUNNING: COMPLETED, State.FAILED: FAILED}),
    "release": Operation(World.running, release, {State.RUNNING: COMPLETED, State.QUEUED: COMPLETED}),
    "restart": Operation(
        World.running, restart, {State.RUNNING: COMPLETED, State.QUEUED: COMPLETED}, run=None
    ),
    "bury": Operation(
        World.queued, bury, {State.QUEUED: COMPLETED, State.FAILED: FAILED}, repeat=bury, repeated=FAILED
    ),
    "sweep_lost_lease": Operation(
        World.running, sweep, {State.RUNNING: COMPLETED, State.QUEUED: COMPLETED}, later=IDLE
    ),
}


# What its owner may do


def canceled(world: World) -> Case:
    case = world.queued()
    cancel(world.service, case)
    return case


def named(world: World) -> Case:
    case = world.completed(diarize=True)
    world.service.renaming.rename(case.owner, case.id, None, {"SPEAKER_00": "Bob"})
    return case


def retry_died(world: World) -> Case:
    """A retry died between its marker and the record."""
    case = failed(world)
    world.service.markers.put(Kind.JOBS, case.owner, case.id, 2)
    return case


def delete_died(world: World) -> Case:
    """A delete died between its marker and the record."""
    case = world.completed()
    world.service.markers.put(Kind.PURGE, case.owner, case.id)
    return case


def cancelable(prepare: Callable[[World], Case], state: State, otherwise: Ends) -> Operation:
    return Operation(
        prepare, cancel, {state: otherwise, State.CANCELED: CANCELED}, repeat=cancel, repeated=CANCELED
    )


def deletable(prepare: Callable[[World], Case], state: State, otherwise: Ends) -> Operation:
    # Once its marker stands, a delete that died is carried out.
    ends = {state: otherwise | NOTHING, State.DELETED: NOTHING, None: NOTHING}
    again = repeating(delete, "no_such_transcription")
    return Operation(prepare, delete, ends, repeat=again, repeated=NOTHING)


OWNERS = {
    "cancel_uploading": cancelable(World.uploading, State.UPLOADING, EXPIRED),
    "cancel_completing": cancelable(World.completing, State.COMPLETING, COMPLETED),
    "cancel_queued": cancelable(World.queued, State.QUEUED, COMPLETED),
    "cancel_running": cancelable(World.running, State.RUNNING, COMPLETED),
    "cancel_form": cancelable(lambda world: world.form(RECORDING), State.UPLOADING, COMPLETED),
    "retry_failed": Operation(
        failed,
        retry,
        {State.FAILED: FAILED, State.QUEUED: COMPLETED},
        repeat=repeating(retry, "not_possible"),
        repeated=COMPLETED,
        run=2,
    ),
    "retry_canceled": Operation(
        canceled,
        retry,
        {State.CANCELED: CANCELED, State.QUEUED: COMPLETED},
        repeat=repeating(retry, "not_possible"),
        repeated=COMPLETED,
        run=2,
    ),
    # What one that died has written stays for the next one an hour later: there may be more files.
    "rename": Operation(
        named, rename, {State.COMPLETED: COMPLETED}, repeat=rename, repeated=COMPLETED, run=None
    ),
    "sweep_dead_retry": Operation(retry_died, sweep, {State.FAILED: FAILED}, later=IDLE),
    "delete_uploading": deletable(World.uploading, State.UPLOADING, EXPIRED),
    "delete_completing": deletable(World.completing, State.COMPLETING, COMPLETED),
    "delete_form": deletable(lambda world: world.form(RECORDING), State.UPLOADING, COMPLETED),
    "delete_running": deletable(World.running, State.RUNNING, COMPLETED),
    "delete_completed": deletable(World.completed, State.COMPLETED, COMPLETED),
    "sweep_dead_delete": Operation(
        delete_died, sweep, dict.fromkeys((State.COMPLETED, State.DELETED, None), NOTHING)
    ),
}


ALL = UPLOADS | RUNS | OWNERS


@pytest.mark.parametrize("name", UPLOADS)
def test_a_step_of_an_upload_can_be_killed_anywhere(world: World, name: str) -> None:
    die_at_every_step(world, UPLOADS[name])


@pytest.mark.parametrize("name", RUNS)
def test_a_step_of_a_run_can_be_killed_anywhere(world: World, name: str) -> None:
    die_at_every_step(world, RUNS[name])


TAKE_LONG = {
    *("rename", "delete_form", "delete_uploading", "delete_completing", "delete_running"),
    *("retry_canceled", "sweep_dead_delete"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in TAKE_LONG else name for name in OWNERS]
)
def test_what_its_owner_does_can_be_killed_anywhere(world: World, name: str) -> None:
    die_at_every_step(world, OWNERS[name])


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(ALL)[SEED % 6 :: 6])
def test_some_of_all_can_be_killed_on_both_sides_of_every_request(world: World, name: str) -> None:
    """One in six; which, BUCKETSCRIBE_TEST_SEED says."""
    die_at_every_step(world, ALL[name], both_sides=True)
