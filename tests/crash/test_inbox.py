"""Taking what lies in the inbox, killed at every one of its requests; then nobody but sweeps and a worker.

However it dies, there is one transcription of the object, and the object leaves the inbox; what is refused
stays there.
"""

import uuid
from datetime import timedelta

import pytest
from bucketscribe import inbox
from bucketscribe.inbox import id_of
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep

from tests.conftest import OWNER, LaterBucket
from tests.crash.proxy import Proxy
from tests.crash.test_every_step import (
    BEFORE_A_RUN,
    CANCELED,
    COMPLETED,
    FAILED,
    NOTHING,
    Operation,
    die_at_every_step,
    repeating,
)
from tests.crash.test_races import Held
from tests.crash.world import JUMP, RECORDING, TEXT, Case, World, cancel, delete

MIB = 1024**2


class InboxWorld(World):
    """A world in which something lies in the inbox, and the sweep comes without being called by a marker."""

    def settle(self) -> None:
        """What sweeps and a worker make of it, and one more sweep, which clears the inbox."""
        Sweep(self.service).run()
        super().settle()
        self.bucket.later += JUMP
        Sweep(self.service).run()

    def wrongs(self, case: Case, ends: frozenset[State | None], run: int | None = None) -> list[str]:
        """Also, whether the object is where it should be; it is removed, so that the next case is alone."""
        wrongs = super().wrongs(case, ends, run)
        stays = self.state(case) in (State.FAILED, State.CANCELED)
        if (self.bucket.find(case.key) is not None) != stays:
            wrongs.append(
                "it should still lie in the inbox" if stays else "left over: the object in the inbox"
            )
        self.bucket.delete(case.key)
        return wrongs


@pytest.fixture
def world(settings: Settings, bucket: LaterBucket, proxy: Proxy) -> InboxWorld:
    return InboxWorld(settings, bucket, proxy)


def dropped(world: World, body: bytes = RECORDING, name: str = "talk.wav") -> Case:
    """An object was put there, and nobody has seen it."""
    key = f"{inbox.PREFIX}{OWNER}/{uuid.uuid4()}/{name}"
    world.bucket.put(key, body)
    found = world.bucket.find(key)
    assert found is not None
    return Case(OWNER, id_of(key, found.etag, found.modified), key)


def large(world: World) -> Case:
    """One that is copied in two parts."""
    padding = 6 * MIB
    return dropped(world, RECORDING + b"JUNK" + padding.to_bytes(4, "little") + bytes(padding))


def begun(world: World) -> Case:
    """Its record is there, and it is not copied yet."""
    case = dropped(world)
    assert world.service.inbox.begin(case.key) is not None
    return case


def taken(world: World) -> Case:
    """It was accepted, and still lies there."""
    case = dropped(world)
    take(world.service, case)
    return case


def take(service: Service, case: Case) -> None:
    service.inbox.take(case.key)


def sweep(service: Service, case: Case) -> None:
    Sweep(service).run()


TAKEN = dict.fromkeys((None, *BEFORE_A_RUN), COMPLETED)

OPERATIONS = {
    "take": Operation(dropped, take, TAKEN, repeat=take, repeated=COMPLETED),
    "take_large": Operation(large, take, TAKEN),
    "take_refused": Operation(
        lambda world: dropped(world, TEXT, "talk.mp3"),
        take,
        dict.fromkeys((None, *BEFORE_A_RUN, State.FAILED), FAILED),
    ),
    "take_refused_by_name": Operation(
        lambda world: dropped(world, TEXT, "talk.txt"), take, dict.fromkeys((None, State.FAILED), FAILED)
    ),
    "sweep_dropped": Operation(dropped, sweep, TAKEN),
    "sweep_begun": Operation(begun, sweep, TAKEN, later=timedelta(minutes=5)),
    "sweep_taken": Operation(taken, sweep, {State.QUEUED: COMPLETED}, later=timedelta(minutes=2)),
    "cancel_begun": Operation(
        begun, cancel, {State.UPLOADING: COMPLETED, State.CANCELED: CANCELED}
    ),
    "delete_begun": Operation(
        begun,
        delete,
        {State.UPLOADING: COMPLETED | NOTHING, State.DELETED: NOTHING, None: NOTHING},
        repeat=repeating(delete, "no_such_transcription"),
        repeated=NOTHING,
    ),
}  # fmt: skip


LONG = {
    *("take", "take_large", "take_refused_by_name", "sweep_dropped", "sweep_begun"),
    *("cancel_begun", "delete_begun"),
}
"""What differs from the others in little; `make test-long` runs it."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in OPERATIONS]
)
def test_a_step_of_what_becomes_of_the_inbox_can_be_killed_anywhere(
    world: InboxWorld, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    monkeypatch.setattr(inbox, "COPIES_AT_ONCE", 1)
    die_at_every_step(world, OPERATIONS[name])
    assert not world.bucket.client.list_multipart_uploads(Bucket=world.bucket.name).get("Uploads")


LATE = pytest.mark.parametrize(
    ("request_", "key"),
    [
        ("PutObject", "/open/uploads/"),
        ("PutObject", "/records/"),
        ("CopyObject", "/uploads/"),
        ("PutObject", "/open/jobs/"),
        ("DeleteObject", "/open/uploads/"),
    ],
)


@LATE
def test_two_who_take_an_object_make_one_job(world: InboxWorld, request_: str, key: str) -> None:
    case = dropped(world)
    held = Held(world, lambda service: take(service, case), request_, key)
    take(world.service, case)
    held.go_on()
    assert world.service.queue.count() == 1
    world.settle()
    assert world.wrongs(case, COMPLETED, 1) == []


@LATE
def test_who_takes_what_is_deleted_meanwhile_brings_nothing_back(
    world: InboxWorld, request_: str, key: str
) -> None:
    case = dropped(world)
    held = Held(world, lambda service: take(service, case), request_, key)
    take(world.service, case)
    delete(world.service, case)
    held.go_on()
    world.settle()
    assert world.wrongs(case, NOTHING) == []


def test_two_who_copy_a_large_object_leave_no_upload_behind(
    world: InboxWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PART_BYTES", 5 * MIB)
    for request in ("CreateMultipartUpload", "UploadPartCopy", "CompleteMultipartUpload"):
        case = large(world)
        held = Held(world, lambda service, case=case: take(service, case), request, "/uploads/")  # type: ignore[misc]
        take(world.service, case)
        held.go_on()
        world.settle()
        assert world.wrongs(case, COMPLETED, 1) == []
