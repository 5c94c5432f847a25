"""What a route needs besides its request: the service, and whose request it is."""

from typing import Annotated, cast

from fastapi import Depends, Request

from ..auth import OPEN_OWNER
from ..service import Service


async def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


async def _owner() -> str:
    return OPEN_OWNER


TheService = Annotated[Service, Depends(_service)]
TheOwner = Annotated[str, Depends(_owner)]
