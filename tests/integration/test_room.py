"""More bodies at once than there is room for, by tus and in forms: who waits, who is told to, who gets in."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2
import pytest
from bucketscribe.api import room, tus_body
from bucketscribe.service import Service

from tests.conftest import OWNER
from tests.crash.test_processes import until
from tests.integration.test_tus_at_once import BODY, SECONDS, Trickle, is_held, silent
from tests.integration.test_tus_protocol import arrived, serving
from tests.integration.test_uploading import refused
from tests.tus import MIB, SPEECH, TusUpload, ask, create, in_time
from tests.unit.test_forms import FILE, TYPE, form, part

SENT = 6 * MIB


@pytest.fixture
def narrow(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """An API with room for one."""
    monkeypatch.setattr(room, "MOST", 1)
    with serving(service) as client:
        yield client


@contextmanager
def taken(service: Service, upload: TusUpload) -> Iterator[None]:
    """A body that comes and comes, until the block ends."""
    slow = Trickle(BODY, MIB)
    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(upload.patch, 0, slow)
        try:
            until(lambda: is_held(service, upload), "it is let in")
            yield
        finally:
            slow.go_on.set()
        assert writer.result().status_code == 204


def test_who_finds_no_room_waits_and_gets_in_and_all_else_goes_on(
    narrow: httpx2.Client, service: Service
) -> None:
    first, second, third = (create(narrow, len(BODY)) for _ in range(3))
    with ThreadPoolExecutor(1) as threads:
        with taken(service, first):
            waiting = threads.submit(second.patch, 0, BODY)
            with pytest.raises(TimeoutError):
                waiting.result(1)
            assert not is_held(service, second)
            assert [upload.offset() for upload in (first, second, third)] == [0, 0, 0]
            assert third.delete().status_code == 204
        assert waiting.result().status_code == 204
    arrived(service, first, BODY, queued=2)
    arrived(service, second, BODY, queued=2)


def test_who_waits_for_long_is_told_to_come_again_and_nothing_was_begun(
    narrow: httpx2.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "WAIT_SECONDS", 0.3)
    first, second = (create(narrow, len(BODY)) for _ in range(2))
    with taken(service, first):
        answer = second.patch(0, BODY)
        assert refused(answer, 503, "busy")["retryAfter"] == int(answer.headers["retry-after"])
        assert not is_held(service, second)
        refused(ask(narrow, len(BODY), BODY), 503, "busy")
        refused(narrow.post("/upload/stream", files={"file": ("talk.wav", SPEECH)}), 503, "busy")
        assert len(service.transcriptions.page(OWNER, None, None, 10)[0]) == 2
    second.append(BODY)
    assert ask(narrow, len(BODY), BODY).status_code == 201
    assert narrow.post("/upload/stream", files={"file": ("talk.wav", SPEECH)}).status_code == 200


def test_a_form_takes_room_until_its_last_byte(
    narrow: httpx2.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = create(narrow, len(BODY))
    slow = Trickle(form(part(BODY, FILE)), MIB)
    with ThreadPoolExecutor(1) as threads:
        sent = threads.submit(narrow.post, "/upload/stream", content=slow, headers={"Content-Type": TYPE})
        until(lambda: len(service.transcriptions.page(OWNER, None, None, 10)[0]) == 2, "it is let in")
        monkeypatch.setattr(room, "WAIT_SECONDS", 0.3)
        refused(upload.patch(0, BODY), 503, "busy")
        slow.go_on.set()
        assert sent.result().status_code == 200
    assert upload.patch(0, BODY).status_code == 204


def test_a_second_writer_is_told_so_at_once_where_there_is_no_room(
    narrow: httpx2.Client, service: Service
) -> None:
    upload = create(narrow, len(BODY))
    with taken(service, upload):
        begun = time.monotonic()
        refused(upload.patch(0, BODY), 423, "upload_locked")
        assert time.monotonic() - begun < room.WAIT_SECONDS / 2


def test_a_client_whose_own_request_hangs_in_the_room_gets_in(
    narrow: httpx2.Client, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tus_body, "GIVES_WAY_SECONDS", 60.0)
    upload = create(narrow, len(BODY))
    with silent(narrow, upload, BODY[:SENT]):
        until(lambda: is_held(service, upload), "the one that hangs is let in")
        in_time(lambda: upload.patch(SENT), SECONDS)
        assert in_time(lambda: upload.patch(SENT, BODY[SENT:]), SECONDS).status_code == 204
    arrived(service, upload, BODY)


def test_one_that_says_nothing_gives_way_to_who_waits_and_loses_nothing(
    narrow: httpx2.Client, service: Service
) -> None:
    hanging, other = (create(narrow, len(BODY)) for _ in range(2))
    with silent(narrow, hanging, BODY[:SENT]) as connection:
        until(lambda: is_held(service, hanging), "the one that hangs is let in")
        assert other.patch(0, BODY).status_code == 204
        assert b" 503 " in connection.recv(65536).partition(b"\r\n")[0]
    assert hanging.offset() == SENT
    hanging.append(BODY)
    arrived(service, hanging, BODY, queued=2)
