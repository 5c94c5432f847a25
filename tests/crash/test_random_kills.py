"""Hundreds of kills at random requests, several at a time, with sweeps in between; nothing may be lost.

BUCKETSCRIBE_TEST_KILLS says how many, BUCKETSCRIBE_TEST_SEED which; the seed fixes what is done and where it
is to die, and the servers' timing the rest. The sweeps' clocks run ahead, so that they meddle with everything
that is under way.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import pytest
from bucketscribe.errors import Problem
from bucketscribe.records import NoRecord, Record, State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from bucketscribe.sweep import Sweep
from bucketscribe.transcriptions import LeaseLost

from tests.conftest import LaterBucket
from tests.crash.proxy import Moment, Proxy, Trap, proxying
from tests.crash.world import RECORDING, TEXT, Case, Child, World, cancel, delete, retry, work
from tests.servers import Servers

KILLS = int(os.environ.get("BUCKETSCRIBE_TEST_KILLS", "200"))
SEED = int(os.environ.get("BUCKETSCRIBE_TEST_SEED", "20261121"))
LANES = 4
ROUNDS_TO_AN_END = 12
LAST_STEP = 16
AHEAD = timedelta(minutes=20)
LEGAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELED, State.EXPIRED, None})

Step = Callable[[Service, Case], object]


@pytest.fixture
def lanes(servers: Servers) -> Iterator[list[Proxy]]:
    """A proxy for each child that runs at the same time, so that each has its own count of requests."""
    with ExitStack() as stack:
        yield [stack.enter_context(proxying(servers.settings)) for _ in range(LANES)]


@pytest.fixture
def patient(settings: Settings, bucket: LaterBucket, proxy: Proxy) -> World:
    """A world where no number of dead workers makes a run fail."""
    return World(settings.model_copy(update={"max_attempts": 10_000}), bucket, proxy)


@dataclass(slots=True)
class Life:
    """A case on its way, and what must come of it."""

    case: Case
    text: bool
    finished: bool = False
    unwanted: bool = False
    deleted: bool = False
    last: str = ""

    def ends(self) -> frozenset[State | None]:
        """The states it may end in, by what its owner was told and has asked for."""
        if self.deleted:
            return frozenset({None})
        if self.unwanted:
            return LEGAL
        if self.finished:
            return frozenset({State.FAILED if self.text else State.COMPLETED})
        return frozenset({State.EXPIRED, None})


@dataclass(frozen=True, slots=True)
class Move:
    """Something to do next."""

    name: str
    step: Step
    unwanted: bool = False


def begin(service: Service, case: Case) -> None:
    service.intake.begin(case.owner, "talk.wav", None, {})


def finish(service: Service, case: Case) -> None:
    service.uploads.finish(case.owner, case.id, case.parts)


def transcribe(service: Service, case: Case) -> None:
    claim = service.transcriptions.claim(case.job, "a worker")
    if claim is not None:
        work(service, claim)


def give_back(service: Service, case: Case) -> None:
    claim = service.transcriptions.claim(case.job, "a worker")
    if claim is not None:
        service.transcriptions.release(claim)


def sweep(service: Service, case: Case) -> None:
    Sweep(service).run()


BEGIN, FINISH = Move("begin", begin), Move("finish", finish)
TRANSCRIBE, GIVE_BACK = Move("transcribe", transcribe), Move("give back", give_back)
SWEEP, RETRY = Move("sweep", sweep), Move("retry", retry)
CANCEL, DELETE = Move("cancel", cancel, unwanted=True), Move("delete", delete, unwanted=True)

MOVES: dict[State, tuple[Move, ...]] = {
    State.UPLOADING: (FINISH,) * 8 + (SWEEP, CANCEL, DELETE),
    State.COMPLETING: (FINISH, FINISH, SWEEP, SWEEP, SWEEP, CANCEL, DELETE),
    State.QUEUED: (TRANSCRIBE,) * 6 + (GIVE_BACK, SWEEP, CANCEL, DELETE),
    State.RUNNING: (SWEEP, SWEEP, TRANSCRIBE, TRANSCRIBE, CANCEL, DELETE),
    State.COMPLETED: (DELETE, SWEEP),
    State.FAILED: (RETRY, DELETE, SWEEP),
    State.CANCELED: (RETRY, RETRY, DELETE, SWEEP),
    State.EXPIRED: (DELETE, SWEEP),
    State.DELETED: (SWEEP,),
}


def tolerating(step: Step, case: Case) -> Callable[[Service], None]:
    """A step that others may have made impossible in the meantime."""

    def act(service: Service) -> None:
        try:
            step(service, case)
        except (Problem, LeaseLost, NoRecord) as reason:
            print("not possible:", reason)

    return act


class Havoc:
    """Lives under way, the children that push them on, and the kills."""

    def __init__(self, world: World, lanes: list[Proxy], dice: random.Random) -> None:
        self.world = world
        self.lanes = lanes
        self.dice = dice
        self.lives: list[Life] = []
        self.kills = 0
        self.rounds = 0

    def round(self) -> None:
        """A child in each lane; most are killed on the way."""
        self.rounds += 1
        running: list[tuple[Life, Move, Proxy, Child]] = []
        for lane in self.lanes:
            life, move = self._choose()
            life.last = move.name
            self.world.bucket.later = AHEAD if move is SWEEP else timedelta()
            child = self.world.start(tolerating(move.step, life.case), proxy=lane)
            self.world.bucket.later = timedelta()
            moment = self.dice.choice(list(Moment))
            lane.set(Trap(self.dice.randrange(LAST_STEP), moment, child.pid))
            running.append((life, move, lane, child))
        for *_, child in running:
            child.go()
        for life, move, lane, child in running:
            assert (error := child.end()) is None, error
            killed = lane.seen().sprung
            self.kills += killed
            life.unwanted |= move.unwanted
            life.deleted |= move is DELETE and not killed
            self._learn(life)

    def end(self) -> list[str]:
        """Let sweeps and a worker bring all lives to their ends; what is wrong with those."""
        self.world.settle()
        wrongs = [
            f"{life.case.id or life.case.owner}, last {life.last}: {wrong}"
            for life in self.lives
            for wrong in self.world.wrongs(life.case, life.ends())
        ]
        for life in self.lives:
            self.world.forget(life.case)
        self.lives = []
        self.world.bucket.later = timedelta()
        return wrongs

    def _choose(self) -> tuple[Life, Move]:
        known = [life for life in self.lives if life.case.id]
        if len(known) < 2 * LANES or self.dice.random() < 0.1:
            life = Life(self.world.case(), text=self.dice.random() < 0.1)
            self.lives.append(life)
            return life, BEGIN
        life = self.dice.choice(known)
        state = self.world.state(life.case)
        return life, SWEEP if state is None else self.dice.choice(MOVES[state])

    def _learn(self, life: Life) -> None:
        """What its owner can know of a case by now."""
        case = life.case
        if not case.id:
            record = self._first(case)
            if record is None or record.state is not State.UPLOADING:
                return
            case.id, case.key = record.id, record.key
            self.world.put_part(case, TEXT if life.text else RECORDING)
            return
        stored = self.world.read(case)
        if stored is None:
            return
        case.run = stored.record.run
        life.finished |= stored.record.state not in (State.UPLOADING, State.EXPIRED)

    def _first(self, case: Case) -> Record | None:
        keys = list(self.world.service.records.listing(case.owner))
        stored = self.world.service.records.read_key(keys[0]) if keys else None
        return None if stored is None else stored.record


@pytest.mark.long
@pytest.mark.timeout(900)
def test_nothing_is_lost_doubled_or_left_over_however_often_we_are_killed(
    patient: World, lanes: list[Proxy]
) -> None:
    havoc = Havoc(patient, lanes, random.Random(SEED))
    wrongs: list[str] = []
    while havoc.kills < KILLS and not wrongs:
        havoc.round()
        if havoc.rounds % ROUNDS_TO_AN_END == 0:
            wrongs += havoc.end()
    wrongs += havoc.end()
    assert not wrongs, f"seed {SEED}, after {havoc.kills} kills:\n" + "\n".join(wrongs)
