"""Signing in where no header can be sent: a session for browsers, and upload tokens for upload clients."""

import time
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from ..auth import Principal, Scope
from ..tokens import TokenKind, issue
from .context import ThePrincipal, TheService
from .guard import COOKIE, PUBLIC, SIGNED_IN, Guard, GuardedRoute, needs
from .problems import problems

router = APIRouter(tags=["sign-in"], route_class=GuardedRoute)

Seconds = Annotated[int, Field(description="Seconds until it ends.")]


class Session(BaseModel):
    """Who is signed in."""

    owner: str
    scopes: list[Scope]
    expires: Seconds


class Visitor(BaseModel):
    """Who asks, if that is known, and the ways to sign in: none in open mode, where everybody is `local`."""

    auth: list[Literal["keys", "oidc"]]
    owner: str | None
    scopes: list[Scope]
    expires: int | None = Field(description="Seconds until these credentials end, if they ever do.")


class UploadToken(BaseModel):
    """A token that allows to upload, and nothing else."""

    token: str
    endpoint: str = Field(
        description="The upload routes with the token in their path: what Uppy 6 calls `companionEndpoint`, "
        "and Uppy 5 `endpoint`.",
        examples=["https://transcripts.example.com/u/AQEBA…"],
    )
    expires: Seconds


@router.post(
    "/session",
    summary="Begin a browser's session",
    description="Sets a cookie for the key or token in the Authorization header. The session ends with it.",
    openapi_extra=SIGNED_IN,
    responses=problems(),
)
def begin_session(response: Response, service: TheService, principal: ThePrincipal) -> Session:
    expires = _end(principal, service.settings.session_seconds)
    token = issue(service.settings.sealing_secret, TokenKind.SESSION, replace(principal, expires=expires))
    left = max(0, expires - int(time.time()))
    response.set_cookie(COOKIE, token, max_age=left, path="/", secure=True, httponly=True, samesite="strict")
    return Session(owner=principal.owner, scopes=sorted(principal.scopes), expires=left)


@router.get(
    "/session",
    summary="Who is signed in, and how one can",
    description="Credentials that are not good, or no longer, are answered as if there were none.",
    openapi_extra=PUBLIC,
    responses=problems("too_many_requests", "issuer_unavailable"),
)
async def read_session(request: Request, service: TheService) -> Visitor:
    guard: Guard = request.app.state.guard
    principal = await guard.recognize(request)
    ways = list(service.settings.auth)
    if principal is None:
        return Visitor(auth=ways, owner=None, scopes=[], expires=None)
    left = None if principal.expires is None else max(0, principal.expires - int(time.time()))
    return Visitor(auth=ways, owner=principal.owner, scopes=sorted(principal.scopes), expires=left)


@router.delete("/session", summary="End this browser's session", openapi_extra=PUBLIC, status_code=204)
def end_session(response: Response) -> None:
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


@router.post(
    "/upload-tokens",
    summary="Make an upload token",
    description="For clients that can send neither headers nor cookies. It stands in the path, is good for "
    "uploading only, and ends with the credentials it was made by.",
    openapi_extra=needs(Scope.UPLOAD),
    responses=problems(),
)
def make_upload_token(request: Request, service: TheService, principal: ThePrincipal) -> UploadToken:
    expires = _end(principal, service.settings.upload_token_seconds)
    uploader = replace(principal, scopes=frozenset({Scope.UPLOAD}), expires=expires)
    token = issue(service.settings.sealing_secret, TokenKind.UPLOAD, uploader)
    return UploadToken(
        token=token,
        endpoint=f"{str(request.base_url).rstrip('/')}/u/{token}",
        expires=max(0, expires - int(time.time())),
    )


def _end(principal: Principal, seconds: int) -> int:
    """When a token for a principal ends, in seconds since 1970: never after what it was made by."""
    end = int(time.time()) + seconds
    return end if principal.expires is None else min(end, principal.expires)
