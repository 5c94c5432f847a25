"""What is online, killed at every request that changes something, and as a real worker in mid-download."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from bucketscribe import part_writer
from bucketscribe.options import read_metadata
from bucketscribe.records import State
from bucketscribe.service import Service

from tests.crash.test_every_step import (
    CANCELED,
    COMPLETED,
    FAILED,
    NOTHING,
    Ends,
    Operation,
    die_at_every_step,
    repeating,
)
from tests.crash.test_processes import is_done, record, until, worker
from tests.crash.world import RECORDING, TEXT, Case, World, cancel, delete, retry, work
from tests.media.make import JFK
from tests.servers import Servers
from tests.website import Gate, Website

# The web server and what sends parts have threads, which stay in the parent.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
LONG = pytest.mark.long


@pytest.fixture
def site() -> Iterator[Website]:
    with Website() as site:
        site.put("/talk.wav", RECORDING)
        site.put("/text.wav", TEXT)
        yield site


@pytest.fixture
def world(world: World) -> World:
    settings = world.settings.model_copy(update={"private_hosts": ("127.0.0.1",)})
    return World(settings, world.bucket, world.proxy)


def request(service: Service, case: Case, url: str) -> None:
    asked = read_metadata({}, service.settings)
    case.id = service.online.request(case.owner, url, asked).record.id


def asked_for(world: World, url: str) -> Case:
    case = world.case()
    request(world.service, case, url)
    return case


def claimed(world: World, url: str) -> Case:
    case = asked_for(world, url)
    case.claim = world.service.transcriptions.claim(case.job, "a worker")
    return case


def died(world: World, url: str) -> Case:
    """A worker has died in the middle of a download."""
    case = claimed(world, url)
    key = case.held.record.key
    upload_id, _ = world.bucket.begin_upload(key, "audio/wav")
    world.bucket.put_part(key, upload_id, 1, RECORDING)
    return case


def failed(world: World, url: str, site: Website) -> Case:
    """It was not there yet."""
    page = site.put("/talk.wav", RECORDING, 404)
    case = claimed(world, url)
    work(world.service, case.held)
    page.status = 200
    return case


def fetch(service: Service, case: Case) -> None:
    # Those of the process it was forked from are not in this one.
    part_writer._threads = ThreadPoolExecutor(part_writer.AT_ONCE)
    work(service, case.held)


def operations(site: Website) -> dict[str, Operation]:
    """What happens to a URL, by name."""
    url = f"{site.url}/talk.wav"
    begun = partial(claimed, url=url)
    dead = partial(died, url=url)
    refused = partial(claimed, url=f"{site.url}/text.wav")
    there_now = partial(failed, url=url, site=site)
    no_more = repeating(delete, "no_such_transcription")
    once = repeating(retry, "not_possible")
    lost = NOTHING | {State.EXPIRED}
    canceled: dict[State | None, Ends] = {State.RUNNING: COMPLETED, State.CANCELED: CANCELED}
    deleted: dict[State | None, Ends] = {
        State.RUNNING: COMPLETED | NOTHING,
        State.DELETED: NOTHING,
        None: NOTHING,
    }
    retried: dict[State | None, Ends] = {State.FAILED: FAILED, State.QUEUED: COMPLETED}
    return {
        "request": Operation(
            World.case, partial(request, url=url), {None: lost, State.QUEUED: COMPLETED, State.EXPIRED: lost}
        ),
        "fetch": Operation(begun, fetch, {State.RUNNING: COMPLETED, State.COMPLETED: COMPLETED}),
        "refuse": Operation(refused, fetch, {State.RUNNING: FAILED, State.FAILED: FAILED}),
        "cancel": Operation(dead, cancel, canceled, repeat=cancel, repeated=CANCELED),
        "retry": Operation(there_now, retry, retried, repeat=once, repeated=COMPLETED, run=2),
        "delete": Operation(dead, delete, deleted, repeat=no_more, repeated=NOTHING),
    }


@pytest.mark.parametrize(
    "name",
    [
        "request",
        "refuse",
        *(pytest.param(name, marks=LONG) for name in ("fetch", "cancel", "retry", "delete")),
    ],
)
def test_what_becomes_of_a_url_can_be_killed_anywhere(world: World, site: Website, name: str) -> None:
    die_at_every_step(world, operations(site)[name])


@LONG
def test_a_worker_killed_in_the_middle_of_a_download_is_followed_by_another(
    world: World, site: Website, servers: Servers
) -> None:
    gate = Gate(128 * 1024)
    site.put("/jfk.wav", JFK.read_bytes(), before=gate)
    case = asked_for(world, f"{site.url}/jfk.wav")
    with worker(servers, world.settings, BUCKETSCRIBE_PRIVATE_HOSTS="127.0.0.1") as first:
        assert gate.reached.wait(60)
        until(lambda: world.pending(case) != [], "the first worker has begun to store it")
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
    gate.open()
    assert record(world, case).state is State.RUNNING
    with worker(servers, world.settings, BUCKETSCRIBE_PRIVATE_HOSTS="127.0.0.1"):
        until(lambda: is_done(world, case), "the second worker has the transcript")
    world.settle()
    assert world.wrongs(case, COMPLETED, run=1) == []


@LONG
def test_a_worker_told_to_stop_in_the_middle_of_a_download_gives_it_back_at_once(
    world: World, site: Website, servers: Servers
) -> None:
    gate = Gate(128 * 1024)
    site.put("/jfk.wav", JFK.read_bytes(), before=gate)
    case = asked_for(world, f"{site.url}/jfk.wav")
    with worker(servers, world.settings, BUCKETSCRIBE_PRIVATE_HOSTS="127.0.0.1") as first:
        assert gate.reached.wait(60)
        until(lambda: world.pending(case) != [], "the worker has begun to store it")
        first.send_signal(signal.SIGTERM)
        # The server says nothing more, and is not waited for.
        assert first.wait(10) == 0
    given_back = record(world, case)
    assert (given_back.state, given_back.attempts) == (State.QUEUED, 0)
    gate.open()
    world.settle()
    assert world.wrongs(case, COMPLETED, run=1) == []
