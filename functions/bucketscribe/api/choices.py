"""What one may choose from when an upload begins, so that a client can refuse in time, in its own words."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ..media import EXTENSIONS
from ..options import LANGUAGES
from .context import TheService
from .guard import PUBLIC, GuardedRoute

router = APIRouter(tags=["uploads"], route_class=GuardedRoute)


class Choices(BaseModel):
    """What a recording may be like, and what may be asked for."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    max_upload_bytes: int = Field(description="Largest recording accepted, in bytes.")
    upload_idle_seconds: int = Field(
        description="An upload of which no part was finished for this long ends, in seconds."
    )
    extensions: tuple[str, ...] = Field(
        description="Extensions of file names that are taken, without the dot.", examples=[["mp3", "wav"]]
    )
    languages: tuple[str, ...] = Field(
        description="Values of the option `language`.", examples=[["de", "en"]]
    )
    models: tuple[str, ...] = Field(description="Values of the option `model`.", examples=[["base"]])
    default_model: str = Field(description="The model of those who name none.", examples=["base"])


@router.get(
    "/options",
    summary="What an upload may be, and what may be asked for",
    description="The same for everybody, so that one need not sign in.",
    openapi_extra=PUBLIC,
)
def choices(service: TheService) -> Choices:
    settings = service.settings
    return Choices(
        max_upload_bytes=settings.max_upload_bytes,
        upload_idle_seconds=settings.upload_idle_seconds,
        extensions=tuple(EXTENSIONS),
        languages=LANGUAGES,
        models=settings.allowed_models,
        default_model=settings.model,
    )
