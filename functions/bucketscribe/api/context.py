"""What a route needs besides its request: the service, what is under way, and whose request it is."""

from typing import Annotated, cast

from fastapi import Depends, Request

from ..auth import OPEN_OWNER
from ..service import Service
from .completions import Completions


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def _owner() -> str:
    return OPEN_OWNER


async def _completions(request: Request) -> Completions:
    return cast("Completions", request.app.state.completions)


TheCompletions = Annotated[Completions, Depends(_completions)]
TheService = Annotated[Service, Depends(_service)]
TheOwner = Annotated[str, Depends(_owner)]
