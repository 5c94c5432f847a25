"""The OpenAPI document is true: whatever is sent, in every way to sign in, is answered as it says.

Requests are made up from the document, good ones and bad ones, and sent over real HTTP; half of them name
something that is there. No answer is a mistake of ours, and each has a status, a type and a form that the
document names.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import schemathesis
from bucketscribe import metrics
from bucketscribe.api import openai
from bucketscribe.api.app import create_app
from bucketscribe.auth import OPEN_OWNER, Scope, owner_slug
from bucketscribe.errors import PROBLEMS
from bucketscribe.keys import Keys
from bucketscribe.queue import Queue
from bucketscribe.records import State
from bucketscribe.service import Service
from bucketscribe.settings import Settings
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import LaterBucket
from tests.integration.test_access import ANN, OPERATIONS, Operation, World
from tests.integration.test_oidc import Issuer, trusting
from tests.integration.test_sign_in import listening
from tests.integration.test_uploading import refused
from tests.servers import Servers

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ANYTHING_GOES = {"max_requests_per_second": 100_000, "max_open_uploads": 100_000}


# Bytes are bytes.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


@dataclass
class Way:
    """One way to sign in: where its server is, what is sent along, and whose things are there."""

    url: str
    owner: str
    headers: dict[str, str]
    world: World
    token: str

    def real(self, case: Any, state: State) -> None:
        """Have a request name something that is there."""
        parameters = case.path_parameters
        if "id" in parameters and case.operation.path.startswith("/uploads/files/"):
            parameters["id"] = self.world.service.tus.create(self.owner, 1000, "filename dGFsay53YXY=").id
        elif "id" in parameters:
            parameters["id"] = self.world.transcription(state, self.owner)
        if "upload_id" in parameters:
            begun = self.world.upload(self.owner)
            parameters["upload_id"] = begun.upload_id
            case.query = {**(case.query or {}), "key": begun.key}
            if isinstance(case.body, dict) and state is not State.UPLOADING:
                part = self.world.part(begun)
                case.body["parts"] = [{"PartNumber": 1, "ETag": part.etag}]


@pytest.fixture(scope="module")
def ways(servers: Servers) -> Iterator[dict[str, Way]]:
    """Open, with a key, with nothing, with a JSON Web Token: on one bucket that no other test empties."""
    queue = Queue.connect(servers.settings).client.create_queue(QueueName=f"jobs-{uuid.uuid4()}")["QueueUrl"]
    base = servers.settings.model_copy(update={"bucket": "schema", "queue_url": queue, **ANYTHING_GOES})
    bucket = LaterBucket.connect(base)
    bucket.client.create_bucket(Bucket="schema")
    issuer = Issuer()
    key = Keys(bucket).new("a test's", ANN, tuple(Scope), None)
    lasting = issuer.token({"exp": int(time.time()) + 3600})
    owner_of_token = owner_slug(issuer.url, "ann")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(metrics, "_backend", None)
        metrics.configure()
        for seconds in ("WAIT_SECONDS", "STREAM_SECONDS"):
            patch.setattr(openai, seconds, 0.0)
        found = {}

        def way(
            name: str, settings: Settings, owner: str, headers: dict[str, str], known: bool = True
        ) -> None:
            service = Service.of(settings, bucket, Queue.connect(settings))
            app = create_app(service)
            url = f"http://127.0.0.1:{stack.enter_context(listening(app))}"
            token = "x"
            if known:
                token = httpx2.post(f"{url}/upload-tokens", headers=headers).json()["token"]
            found[name] = Way(url, owner, headers, World(service, TestClient(app), Keys(bucket)), token)

        by_keys = base.model_copy(update={"auth": ("keys",)})
        way("open", base, OPEN_OWNER, {})
        way("key", by_keys, ANN, {"Authorization": f"Bearer {key}"})
        way("nothing", by_keys, ANN, {}, known=False)
        way("token", trusting(base, issuer), owner_of_token, {"Authorization": f"Bearer {lasting}"})
        yield found
    issuer.server.shutdown()
    issuer.server.server_close()


def made_up(operation: Operation, way: Way) -> Callable[[Any], None]:
    """A test of one operation, to be given data by Hypothesis."""
    schema = schemathesis.openapi.from_dict(way.world.api.app.openapi())  # type: ignore[attr-defined]
    described = schema[operation.path][operation.method.upper()]
    strategies = {mode: described.as_strategy(generation_mode=mode) for mode in GenerationMode}

    def test(data: Any) -> None:
        case = data.draw(strategies[data.draw(st.sampled_from(list(GenerationMode)))])
        real, known = data.draw(st.booleans()), operation.by_token and data.draw(st.booleans())
        if real:
            way.real(case, data.draw(st.sampled_from(MADE)))
        if known:
            case.path_parameters["token"] = way.token
        # What was wrong may be right once it names something that is there.
        checks = CHECKS if real or known else [*CHECKS, negative_data_rejection]
        if "wait" in (case.query or {}) or operation.path.endswith("/events"):
            # A good wait would be one.
            case.query = {**case.query, "wait": 0} if _is_good_wait(case.query) else case.query
        response = case.call(base_url=way.url, headers=way.headers, timeout=30)
        if response.content == b"Invalid HTTP request received.":
            # An address that no server takes does not get to us.
            return
        case.validate_response(response, checks=checks)
        assert response.headers["x-content-type-options"] == ["nosniff"]
        if response.headers.get("content-type") == ["application/problem+json"] and response.content:
            told = response.json()
            assert PROBLEMS[told["code"]][0] == told["status"] == response.status_code

    return test


MADE = (State.UPLOADING, State.QUEUED, State.COMPLETED, State.CANCELED)


def _is_good_wait(query: dict[str, Any]) -> bool:
    try:
        return 0 <= float(query.get("wait", 300)) <= 3600
    except (TypeError, ValueError):
        return False


def run(operation: Operation, way: Way, count: int, *, random: bool) -> None:
    check = given(data=st.data())(made_up(operation, way))
    examples(
        max_examples=count,
        derandomize=not random,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(check)()


each = pytest.mark.parametrize("operation", OPERATIONS, ids=str)
each_way = pytest.mark.parametrize("name", ["open", "key", "nothing", "token"])


@each
@pytest.mark.parametrize(
    "name", ["key", *(pytest.param(name, marks=pytest.mark.long) for name in ("open", "nothing", "token"))]
)
def test_whatever_is_sent_is_answered_as_the_document_says(
    ways: dict[str, Way], name: str, operation: Operation
) -> None:
    run(operation, ways[name], 4, random=False)


@pytest.mark.long
@each
# A route is the same for whoever has come in, and out here everybody is turned away alike.
@pytest.mark.parametrize("name", ["open", "key"])
def test_much_more_of_whatever_is_sent_is_answered_as_the_document_says(
    ways: dict[str, Way], name: str, operation: Operation
) -> None:
    run(operation, ways[name], 15, random=True)


@pytest.mark.parametrize("path", sorted({operation.path for operation in OPERATIONS}))
@each_way
def test_a_method_an_address_does_not_take_is_a_405_that_names_those_it_takes(
    ways: dict[str, Way], name: str, path: str
) -> None:
    address = path.replace("{", "").replace("}", "")
    taken = {
        operation.method.upper()
        for operation in OPERATIONS
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", operation.path), address)
    }
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - taken:
        answer = httpx2.request(method, ways[name].url + address, headers=ways[name].headers)
        refused(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == ", ".join(sorted(taken))
    if "HEAD" not in taken:
        assert httpx2.head(ways[name].url + address).status_code == 405


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", '"\\ud800"', "[NaN]"])
def test_what_is_no_json_is_not_kept(ways: dict[str, Way], value: str) -> None:
    for body in (
        f'{{"filename": "talk.wav", "metadata": {{"x-a": {value}}}}}',
        f'{{"filename": "talk.wav", "metadata": {{"size": {value}}}}}',
        f'{{"filename": {value}}}',
        f'{{"filename": "talk.wav", "metadata": {{{value if value[0] == '"' else '"b"'}: 1}}}}',
    ):
        way = ways["open"]
        answer = httpx2.post(
            f"{way.url}/s3/multipart", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] in ("invalid_request", "invalid_option", "unknown_option")
