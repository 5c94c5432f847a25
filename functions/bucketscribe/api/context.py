"""What a route needs besides its request: the service, what is under way, and whose request it is."""

from typing import Annotated, cast

from fastapi import Depends, Request

from ..auth import Principal
from ..service import Service
from .completions import Completions


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def _principal(request: Request) -> Principal:
    return cast("Principal", request.state.principal)


async def _owner(request: Request) -> str:
    return cast("Principal", request.state.principal).owner


async def _completions(request: Request) -> Completions:
    return cast("Completions", request.app.state.completions)


async def _copies(request: Request) -> Completions:
    return cast("Completions", request.app.state.copies)


TheCompletions = Annotated[Completions, Depends(_completions)]
TheCopies = Annotated[Completions, Depends(_copies)]
TheService = Annotated[Service, Depends(_service)]
ThePrincipal = Annotated[Principal, Depends(_principal)]
TheOwner = Annotated[str, Depends(_owner)]
