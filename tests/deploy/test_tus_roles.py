"""What API, completion and sweep ask the bucket for because of tus, against what their roles allow."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.sweep import Sweep
from fastapi.testclient import TestClient

from tests.conftest import LaterBucket
from tests.deploy.policies import Ask, Template, allowed, recording
from tests.integration.conftest import calling
from tests.tus import MIB, TusUpload, ask, checksum, create, created
from tests.tus import recording as body_of

pytestmark = pytest.mark.deploy

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
BODY = body_of(7 * MIB)


@contextmanager
def as_role(role: str, service: Service) -> Iterator[None]:
    """See that all that is asked for until the end of the block is allowed to this role."""
    statements = Template.load(TEMPLATE, {}, {"MediaBucket": service.bucket.name}).statements(role)
    with recording(service.bucket.client) as asked:
        yield
    assert any("/tus/" in each.resource for each in asked)
    assert {each for each in asked if not allowed(statements, each)} == set[Ask]()


def partials(api: TestClient) -> list[TusUpload]:
    """Two, one of them empty."""
    return [created(api, ask(api, len(body), body or None, Upload_Concat="partial")) for body in (BODY, b"")]


def together(uploads: list[TusUpload]) -> str:
    return "final;" + " ".join(upload.path for upload in uploads)


def test_the_api_may_do_all_of_tus(service: Service) -> None:
    api = calling(service)
    with as_role("ApiRole", service):
        upload = create(api, len(BODY))
        assert upload.patch(0, bytes(6 * MIB), **checksum(BODY[: 6 * MIB])).status_code == 460
        upload.append(BODY, 4 * MIB)
        assert ask(api, -1, Upload_Concat=together(partials(api))).status_code == 201
        unwanted = created(api, ask(api, 20 * MIB, BODY))
        assert unwanted.delete().status_code == 204
        unwanted_partial = created(api, ask(api, 20 * MIB, BODY, Upload_Concat="partial"))
        assert unwanted_partial.delete().status_code == 204


def test_the_sweep_may_end_and_complete_what_came_by_tus(service: Service, bucket: LaterBucket) -> None:
    api = calling(service)
    idle = created(api, ask(api, 20 * MIB, BODY))
    created(api, ask(api, 20 * MIB, BODY, Upload_Concat="partial"))
    # One that is put together by nobody else.
    begun = service.concatenation.begin("local", [one.id for one in partials(api)], "filename dGFsay53YXY=")
    bucket.later = timedelta(minutes=20)
    with as_role("SweepRole", service):
        Sweep(service).run()
    states = [service.transcriptions.get("local", id).record.state for id in (idle.id, begun.record.id)]
    assert states == [State.EXPIRED, State.QUEUED]


def test_the_completion_may_accept_what_came_by_tus(service: Service) -> None:
    api = calling(service)
    upload = created(api, ask(api, len(BODY) + 1, BODY))
    # As if the API had died when the bucket had completed it.
    record = service.records.change(
        "local", upload.id, lambda record, now: record.to(State.COMPLETING, size=5 * MIB)
    ).record
    listed = service.bucket.list_parts(record.key, record.upload_id or "")
    assert listed is not None
    service.bucket.complete_upload(
        record.key, record.upload_id or "", [(part.number, part.etag) for part in listed[0]]
    )
    with as_role("CompletionRole", service):
        assert service.uploads.finish("local", upload.id).record.state is State.QUEUED
