"""Webhooks, killed at every request: whoever is owed one is told, at least once, and nothing is left over."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from typing import override

import pytest
from bucketscribe.records import Record, State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.up.home import Credentials
from pydantic import SecretStr

from tests.conftest import OWNER, LaterBucket
from tests.crash.proxy import Proxy
from tests.crash.test_every_step import Operation, die_at_every_step, repeating
from tests.crash.world import RECORDING, Case, World, cancel, fail, failed, retry
from tests.receiver import Receiver, receiving

# The receiver's thread holds no lock that a child would ask for.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")

SECRET = Credentials.new().webhook_secret


class ToldWorld(World):
    """A world in which a receiver is to be told of every end."""

    def __init__(self, settings: Settings, bucket: LaterBucket, proxy: Proxy, receiver: Receiver) -> None:
        ours = {"webhook_secret": SecretStr(SECRET), "private_hosts": ("127.0.0.1",)}
        super().__init__(settings.model_copy(update=ours), bucket, proxy)
        self.receiver = receiver

    @property
    def hook(self) -> dict[str, str]:
        """Options of an upload that has a webhook."""
        return {"webhook_url": self.receiver.url}

    @override
    def uploading(self, body: bytes = RECORDING, name: str = "talk.wav", *, diarize: bool = False) -> Case:
        case = Case(OWNER)
        begun = self.service.intake.begin(case.owner, name, None, self.hook)
        case.id, case.key, case.upload_id = begun.id, begun.key, begun.upload_id
        self.put_part(case, body)
        return case

    def told(self, case: Case) -> list[str]:
        """The ids of the notices of a case that came, in order."""
        ids = []
        while not self.receiver.got.empty():
            got = self.receiver.got.get()
            if self.receiver.verified(got)["data"]["id"] == case.id:
                ids.append(got.headers["webhook-id"])
        return ids

    @override
    def wrongs(self, case: Case, ends: frozenset[State | None], run: int | None = None) -> list[str]:
        wrongs = super().wrongs(case, ends, run)
        stored = self.read(case)
        told = self.told(case)
        if stored is not None and stored.record.state in (State.COMPLETED, State.FAILED):
            wrongs += self._untold(stored.record, told)
        elif told:
            wrongs.append(f"told of what has not ended so: {told}")
        return wrongs

    def _untold(self, record: Record, told: list[str]) -> list[str]:
        wanted = f"msg_{record.id}_{record.run}"
        if wanted not in told or told.count(wanted) > 2:
            return [f"told {told}, where {wanted} was owed"]
        if record.webhook is None or record.webhook.delivered is None:
            return [f"told, and the record has {record.webhook}"]
        return []


@pytest.fixture
def told(settings: Settings, bucket: LaterBucket, proxy: Proxy) -> Iterator[ToldWorld]:
    with receiving(SECRET) as receiver:
        yield ToldWorld(settings, bucket, proxy, receiver)


def sweep(service: Service, case: Case) -> None:
    Sweep(service).run()


COMPLETED = frozenset({State.COMPLETED})
FAILED = frozenset({State.FAILED})
CANCELED = frozenset({State.CANCELED})
EXPIRED = frozenset({State.EXPIRED})

OPERATIONS = {
    "tell": Operation(failed, sweep, {State.FAILED: FAILED}),
    "fail": Operation(World.running, fail, {State.RUNNING: COMPLETED, State.FAILED: FAILED}),
    "retry": Operation(
        failed,
        retry,
        {State.FAILED: FAILED, State.QUEUED: COMPLETED},
        repeat=repeating(retry, "not_possible"),
        repeated=COMPLETED,
        run=2,
    ),
    "cancel": Operation(World.queued, cancel, {State.QUEUED: COMPLETED, State.CANCELED: CANCELED}),
}


@pytest.mark.parametrize(
    "name", [name if name == "tell" else pytest.param(name, marks=pytest.mark.long) for name in OPERATIONS]
)
def test_who_is_owed_a_notice_gets_it_wherever_somebody_dies(told: ToldWorld, name: str) -> None:
    die_at_every_step(told, OPERATIONS[name])


def test_a_begin_with_a_webhook_that_dies_leaves_nothing(told: ToldWorld) -> None:
    def begin(service: Service, case: Case) -> None:
        service.intake.begin(case.owner, "talk.wav", None, told.hook)

    ends = {None: frozenset({None, State.EXPIRED}), State.UPLOADING: EXPIRED}
    die_at_every_step(told, Operation(World.case, begin, ends))


def test_who_dies_while_it_is_answered_is_repeated_with_the_same_id(told: ToldWorld) -> None:
    case = failed(told)
    child = told.start(lambda service: Sweep(service).run())
    told.receiver.held = lambda: os.kill(child.pid, signal.SIGKILL)
    child.go()
    child.end()
    told.receiver.held = None
    assert told.told(case) == [f"msg_{case.id}_1"]
    told.bucket.later += timedelta(minutes=1)
    Sweep(told.service).run()
    assert told.wrongs(case, FAILED) == []
