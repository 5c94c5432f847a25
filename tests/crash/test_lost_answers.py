"""The server does what was asked, and its answer never arrives: the SDK asks again, and the operation must
still have happened once, as its caller sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from bucketscribe.markers import Kind
from bucketscribe.records import Progress, Record, State
from bucketscribe.service import Service

from tests.crash.proxy import Moment, Trap, changes
from tests.crash.world import (
    RECORDING,
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


@dataclass(frozen=True, slots=True)
class Operation:
    """Something that happens to a case: how it stands then, and how many versions its record has more."""

    prepare: Callable[[World], Case]
    act: Callable[[Service, Case], object]
    state: State | None
    versions: int = 1
    jobs: int = 1


def begin(service: Service, case: Case) -> None:
    service.intake.begin(case.owner, "talk.wav", None, {})


def begin_form(service: Service, case: Case) -> None:
    service.intake.begin_form(case.owner, "talk.wav", None, {})


def claim(service: Service, case: Case) -> None:
    assert service.transcriptions.claim(case.job, "a worker") is not None


def renew(service: Service, case: Case) -> None:
    service.transcriptions.renew(case.held, Progress(stage="transcribing", percent=50))


def release(service: Service, case: Case) -> None:
    service.transcriptions.release(case.held)


def restart(service: Service, case: Case) -> None:
    service.transcriptions.restart(case.held)


def save_and_complete(service: Service, case: Case) -> None:
    work(service, case.held)


def told_apart(world: World) -> Case:
    return world.completed(diarize=True)


OPERATIONS = {
    "begin": Operation(World.case, begin, State.UPLOADING, jobs=0),
    "begin_form": Operation(World.case, begin_form, State.UPLOADING, jobs=0),
    "complete": Operation(World.uploading, complete, State.QUEUED, versions=2),
    "claim": Operation(World.queued, claim, State.RUNNING),
    "renew": Operation(World.running, renew, State.RUNNING),
    "release": Operation(World.running, release, State.QUEUED),
    "restart": Operation(World.running, restart, State.QUEUED, jobs=2),
    "save_and_complete": Operation(World.running, save_and_complete, State.COMPLETED, jobs=0),
    "fail": Operation(World.running, fail, State.FAILED, jobs=0),
    "cancel_uploading": Operation(World.uploading, cancel, State.CANCELED, jobs=0),
    "cancel_queued": Operation(World.queued, cancel, State.CANCELED, jobs=0),
    "retry": Operation(failed, retry, State.QUEUED),
    # One version is the number of the new files' folder, the other points there.
    "rename": Operation(told_apart, rename, State.COMPLETED, versions=2, jobs=0),
    "delete": Operation(World.queued, delete, None, jobs=0),
}


TAKE_LONG = {
    *("save_and_complete", "rename", "delete", "retry", "restart", "begin_form", "cancel_uploading"),
    *("cancel_queued", "fail"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.long) if name in TAKE_LONG else name for name in OPERATIONS],
)
def test_an_operation_whose_answers_are_lost_happens_once(world: World, name: str) -> None:
    operation = OPERATIONS[name]
    assert once(world, operation, None) == []
    requests = world.proxy.seen().requests
    wrongs = []
    for step, request in enumerate(requests):
        if changes(request):
            found = once(world, operation, Trap(step, Moment.AFTER))
            wrongs += [f"no answer to {step}: {request}: {wrong}" for wrong in found]
    assert not wrongs, "\n" + "\n".join(wrongs)


def test_a_create_whose_answer_is_lost_leaves_no_second_upload(world: World) -> None:
    case = world.case()
    child = world.start(lambda service: begin(service, case))
    world.proxy.set(Trap(1, Moment.AFTER))
    child.go()
    assert child.end() is None
    assert [request.endswith("?uploads") for request in world.proxy.seen().requests[1:3]] == [True, True]
    record = record_of(world, case)
    assert record is not None
    case.id, case.key = record.id, record.key
    world.put_part(case, RECORDING)
    world.service.uploads.finish(case.owner, case.id, case.parts)
    world.settle()
    assert world.wrongs(case, frozenset({State.COMPLETED}), run=1) == []


def once(world: World, operation: Operation, trap: Trap | None) -> list[str]:
    case = operation.prepare(world)
    before = record_of(world, case)
    child = world.start(lambda service: operation.act(service, case))
    world.proxy.set(trap)
    child.go()
    error = child.end()
    if error is not None:
        return [f"it raised {error}"]
    after = record_of(world, case)
    state = None if after is None else after.state
    wrongs = [] if state is operation.state else [f"it is {state}"]
    if after is not None:
        versions = after.version - (before.version if before is not None else 0)
        if versions != operation.versions:
            wrongs.append(f"its record went through {versions} versions")
    keys = world.keys(case)
    if (jobs := sum(key.startswith(f"open/{Kind.JOBS}/") for key in keys)) != operation.jobs:
        wrongs.append(f"there are {jobs} job markers")
    if len([key for key in keys if key.startswith("records/")]) != (after is not None):
        wrongs.append(f"there are other records: {keys}")
    with world.later():
        world.settle()
    end = record_of(world, case)
    return wrongs + world.wrongs(case, frozenset({None if end is None else end.state}))


def record_of(world: World, case: Case) -> Record | None:
    keys = [key for key in world.keys(case) if key.startswith("records/")]
    stored = world.service.records.read_key(keys[0]) if keys else None
    return None if stored is None else stored.record
