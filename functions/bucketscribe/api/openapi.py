"""The OpenAPI document: FastAPI's, with how one signs in and by what problems one is turned away."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from .guard import ADMISSION, SECURITY_SCHEMES
from .openai import PREFIX as OPENAI
from .openai_answers import OpenAIError, OpenAIProblemDocument, reshape
from .problems import ProblemDocument, problems

TOKEN_PREFIX = "/u/{token}"  # noqa: S105 -- where a token stands in a path
"""Here the upload routes are once more, for clients that can send neither headers nor cookies."""

BY_OTHER_MEANS = ("sign_in_required", "foreign_origin", "issuer_unavailable")
"""Problems that only those have who come without a token in the path."""


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document of an application, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        components = document["components"]
        components["securitySchemes"] = SECURITY_SCHEMES
        components["schemas"]["ProblemDocument"] = ProblemDocument.model_json_schema()
        for model in (OpenAIProblemDocument, OpenAIError):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            components["schemas"][model.__name__] = {k: v for k, v in schema.items() if k != "$defs"}
        for unused in ("HTTPValidationError", "ValidationError"):
            components["schemas"].pop(unused, None)
        for path, operations in document["paths"].items():
            for operation in operations.values():
                _tell_admission(path, operation)
                if path.startswith(OPENAI):
                    reshape(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _tell_admission(path: str, operation: dict[str, Any]) -> None:
    """Add the problems by which a request is not let in."""
    codes = ["this_machine_only"]
    by_token = path.startswith(TOKEN_PREFIX)
    if operation["security"]:
        codes += [code for code in ADMISSION if not (by_token and code in BY_OTHER_MEANS)]
    if "requestBody" in operation:
        codes.append("body_too_large")
    if by_token:
        operation["security"] = []
    for status, response in problems(*codes, everywhere=False).items():
        told = operation["responses"].setdefault(str(status), response)
        if told is not response:
            for media, content in response["content"].items():
                examples = told.setdefault("content", {}).setdefault(media, content)["examples"]
                examples |= content["examples"]
            told["description"] = (
                ", ".join(
                    f"`{code}`" for media in told["content"].values() for code in media.get("examples", {})
                )
                or told["description"]
            )
