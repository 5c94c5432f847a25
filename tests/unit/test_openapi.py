"""The OpenAPI document: complete, with examples, and true to the table of problems."""

from typing import Any

import pytest
from bucketscribe.api.app import create_app
from bucketscribe.errors import FAILURES, PROBLEMS, Problem
from bucketscribe.service import Service
from bucketscribe.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    settings = Settings(
        secret="a secret for tests only", s3_endpoint="http://127.0.0.1:1", queue_url="http://127.0.0.1:1/q"
    )
    return create_app(Service.connect(settings)).openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_every_operation_has_a_summary_and_a_tag(document: dict[str, Any]) -> None:
    assert all(operation["summary"] and operation["tags"] for operation in operations(document))


def test_every_problem_is_an_example_somewhere_with_its_own_status(document: dict[str, Any]) -> None:
    shown = set()
    for operation in operations(document):
        for status, response in operation["responses"].items():
            examples = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
            for code, example in examples.items():
                assert example["value"]["code"] == code
                assert example["value"]["status"] == PROBLEMS[code][0] == int(status)
                shown.add(code)
    # No operation's own; and the page is none.
    nowhere = {"method_not_allowed", "internal", "page_not_built"}
    assert shown == set(PROBLEMS) - nowhere


def test_no_operation_promises_fastapi_s_own_error(document: dict[str, Any]) -> None:
    assert "HTTPValidationError" not in str(document)


def test_a_problem_repeats_its_text_where_uppy_looks() -> None:
    told = Problem("too_large", "Too large.", {"maxBytes": 5}).document()
    assert told["detail"] == told["error"] == told["message"] == "Too large."
    assert (told["status"], told["code"], told["maxBytes"]) == (413, "too_large", 5)


def test_no_code_is_both_a_problem_and_a_failure_with_another_meaning() -> None:
    shared = set(PROBLEMS) & set(FAILURES)
    assert shared == {"unsupported_media", "too_large", "recording_changed"}
