"""The API, put together: `uvicorn --factory bucketscribe.api.app:create_app`, or Mangum on a Lambda."""

from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi

from .. import logs
from ..service import Service
from ..settings import Settings
from . import health, problems, transcriptions, uploads
from .completions import Completions

DESCRIPTION = """
Upload a recording of up to 5 GB straight into an object-storage bucket, and get a transcript.

The bytes go from the client to the bucket by presigned URLs, never through this API. Every refusal is an
RFC 9457 problem with a stable `code`, and says what to do next.
"""

LOOPBACK_ORIGIN = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"


def create_app(service: Service | None = None) -> FastAPI:
    """The application. Without a service, one is made from the environment's settings."""
    if service is None:
        settings = Settings()
        logs.configure(settings)
        service = Service.connect(settings)
    app = FastAPI(title="Bucketscribe", version="0.1.0", description=DESCRIPTION, redoc_url=None)
    app.state.service = service
    app.state.completions = Completions()
    app.add_middleware(problems.RequestLog)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=service.settings.allowed_origins,
        # Without a sign-in, any other page this browser visits could read and delete transcripts.
        allow_origin_regex=LOOPBACK_ORIGIN,
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=["ETag", "Location"],
        max_age=3600,
    )
    problems.install(app)
    for module in (uploads, transcriptions, health):
        app.include_router(module.router)

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = schema["components"]["schemas"]
            schemas["ProblemDocument"] = problems.ProblemDocument.model_json_schema()
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app
