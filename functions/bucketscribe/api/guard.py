"""Who may call which route: looked at before anything of a request's body is read.

Each route says what it needs where the OpenAPI document says it, in `openapi_extra`: `needs(Scope.READ)`,
`SIGNED_IN` or `PUBLIC`. A route that says nothing cannot be made, so none can be forgotten.
"""

import ipaddress
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

from anyio import CapacityLimiter, to_thread
from fastapi import HTTPException, Request, Response
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection

from ..auth import OPEN, Principal, Scope
from ..authentication import Authentication, Credentials, Kind
from ..bucket import Bucket
from ..errors import Problem
from ..keys import PREFIX
from ..settings import Settings
from .rate_limit import RateLimit

COOKIE = "__Host-bucketscribe"
"""The prefix has browsers see to it that the cookie is Secure, and of this host and no other."""

LOOK_UP_THREADS = 8
"""Of an issuer and of the bucket: one that takes long must not hold up who is known by the other."""

MAX_BODY_BYTES = 2 * 1024**2
"""Of requests to the API; the list of 10,000 parts has about 1 MB."""

LOOPBACK_ORIGIN: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?"

SECURITY_SCHEMES: Final[dict[str, Any]] = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key (`bks_…`), or a JSON Web Token of the configured issuer. In open mode "
        "nothing is needed.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A browser's session, from `POST /session`.",
    },
}

PUBLIC: Final[dict[str, Any]] = {"security": []}
SIGNED_IN: Final[dict[str, Any]] = {"security": [{"bearer": []}, {"session": []}]}


def needs(*scopes: Scope) -> dict[str, Any]:
    """What a route writes into its `openapi_extra` that only credentials of all these scopes may call."""
    values = [scope.value for scope in scopes]
    return {"security": [{"bearer": values}, {"session": values}]}


class GuardedRoute(APIRoute):
    """A route that knows who may call it. Raises TypeError where it was not told."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind the guard of its application."""
        handle = super().get_route_handler()
        if self.openapi_extra is None or "security" not in self.openapi_extra:
            raise TypeError(f"{self.path} does not say who may call it")
        security = self.openapi_extra["security"]
        scopes = [Scope(scope) for way in security for scope in way.get("bearer", ())]

        async def guarded(request: Request) -> Response:
            if security:
                guard: Guard = request.app.state.guard
                request.state.principal = await guard.admit(request, scopes)
            return await handle(request if self.body_field is None else _of_limited_size(request))

        return guarded


class Guard:
    """Lets in who may come in, to one application."""

    def __init__(self, settings: Settings, bucket: Bucket, *, on_lambda: bool) -> None:
        self.settings = settings
        self.authentication = Authentication(settings, bucket)
        limit = None if on_lambda else settings.requests_limit
        self._principals = RateLimit(limit)
        self._strangers = RateLimit(limit)
        self._of_bucket = CapacityLimiter(LOOK_UP_THREADS)
        self._of_issuer = CapacityLimiter(LOOK_UP_THREADS)

    async def admit(self, request: HTTPConnection, scopes: list[Scope]) -> Principal:
        """Who asks, and may. Raises the Problems that `ADMISSION` names."""
        credentials = _credentials(request)
        if self.settings.open_mode and (credentials is None or credentials.kind is not Kind.PATH):
            principal = OPEN
        elif credentials is None:
            raise Problem(
                "sign_in_required",
                "Send an API key or a token, as in `Authorization: Bearer bks_…`.",
            )
        else:
            principal = await self._known(request, credentials)
        kind = None if credentials is None else credentials.kind
        # Where nobody signs in any word is a ticket, also one that another site's page made up.
        by_itself = kind in (None, Kind.COOKIE) or (kind is Kind.TICKET and self.settings.open_mode)
        # An answer another site's page may not read; what a socket says, it may.
        if by_itself and (scopes != [Scope.READ] or request.scope["type"] == "websocket"):
            self._check_origin(request, by_cookie=kind is Kind.COOKIE)
        self._principals.take(principal.owner if principal.key is None else principal.key)
        if missing := [scope for scope in scopes if scope not in principal.scopes]:
            raise Problem(
                "scope_missing",
                f"This needs the scope {missing[0]}; these credentials have "
                f"{', '.join(sorted(principal.scopes)) or 'none'}.",
                {"scope": missing[0]},
            )
        return principal

    async def recognize(self, request: Request) -> Principal | None:
        """Who asks where anybody may; None of those who bring no credentials, or none that are good.

        Raises Problem `too_many_requests`, `issuer_unavailable`; StorageError.
        """
        if self.settings.open_mode:
            return OPEN
        try:
            credentials = _credentials(request)
            return None if credentials is None else await self._known(request, credentials)
        except Problem as problem:
            if problem.status != 401:
                raise
            return None

    async def still_admits(self, request: HTTPConnection) -> bool:
        """Whether the credentials of a request that takes long are good yet. Raises StorageError."""
        credentials = _credentials(request)
        if credentials is not None and not self.settings.open_mode:
            try:
                if credentials.kind is Kind.TICKET:
                    # It has let its bearer in, and has ended since; what it was made by may be good.
                    await self._good_yet(request.state.principal)
                else:
                    await self._known(request, credentials, stranger=False)
            except Problem as problem:
                # An issuer that is silent, say, turns nobody out.
                return problem.status != 401
        return True

    async def _good_yet(self, principal: Principal) -> None:
        if principal.key is not None:
            ask = partial(self.authentication.of_key, principal.key, ask=True)
            await to_thread.run_sync(ask, limiter=self._of_bucket)

    async def _known(
        self, request: HTTPConnection, credentials: Credentials, *, stranger: bool = True
    ) -> Principal:
        principal = self.authentication.principal(credentials, ask=False)
        if principal is None:
            # Looking up what nobody knows costs a request, so a stranger does not get as many as they like.
            if stranger:
                self._strangers.take(_network(request))
            ask = partial(self.authentication.principal, credentials, ask=True)
            by_issuer = credentials.kind is Kind.BEARER and not credentials.text.startswith(PREFIX)
            threads = self._of_issuer if by_issuer else self._of_bucket
            principal = await to_thread.run_sync(ask, limiter=threads)
        if principal is None:
            raise Problem("bad_credentials", "These credentials are not known here.")
        return principal

    def _check_origin(self, request: HTTPConnection, *, by_cookie: bool) -> None:
        """See that no page of another site has a browser send this, by what browsers tell of themselves.

        `Sec-Fetch-Site` (W3C Fetch Metadata) and `Origin` (RFC 6454). Raises Problem `foreign_origin`.
        """
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
        if origin is not None:
            allowed = self.settings.allowed_origins
            # Also for our own page, where a proxy in front gives us another Host than the browser has.
            known = origin in allowed or "*" in allowed
            # A proxy in front may have ended TLS; where we see it ourselves, a page without it is another's.
            schemes = ("https",) if request.scope.get("scheme") == "https" else ("https", "http")
            host = request.headers.get("host", "").lower()
            here = host != "" and origin in [f"{scheme}://{host}" for scheme in schemes]
            on_this_machine = self.settings.open_mode and re.fullmatch(LOOPBACK_ORIGIN, origin)
            own = known or here or bool(on_this_machine)
        elif site is not None:
            own = site in ("same-origin", "none")
        else:
            own = not by_cookie
        if not own:
            raise Problem(
                "foreign_origin",
                "A page of another site may not do this. If it is yours, name its origin in "
                "BUCKETSCRIBE_ALLOWED_ORIGINS.",
            )


ADMISSION: Final = (
    "sign_in_required",
    "bad_credentials",
    "credentials_expired",
    "scope_missing",
    "foreign_origin",
    "too_many_requests",
    "issuer_unavailable",
    "storage_unavailable",
)
"""The problems by which a request is not let in."""


def _credentials(request: HTTPConnection) -> Credentials | None:
    """What a request brings along: a token of ours decides alone, and a header before a cookie.

    Raises Problem `bad_credentials` for two headers: who is in front of us may have looked at the other.
    """
    if token := request.path_params.get("token"):
        return Credentials(Kind.PATH, token)
    if request.scope["type"] == "websocket" and (ticket := request.query_params.get("ticket")):
        return Credentials(Kind.TICKET, ticket)
    headers = request.headers.getlist("authorization")
    if len(headers) > 1:
        raise Problem("bad_credentials", "Send one Authorization header.")
    scheme, _, text = "".join(headers).partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return Credentials(Kind.BEARER, text.strip())
    if cookie := request.cookies.get(COOKIE):
        return Credentials(Kind.COOKIE, cookie)
    return None


def declared_bytes(request: Request) -> int | None:
    """The length of a request's body, in bytes, where it is told before."""
    declared = request.headers.get("content-length", "")
    # Of what is longer than any number we take, the beginning is enough.
    return int(declared[:18]) if declared.isascii() and declared.isdecimal() else None


def _of_limited_size(request: Request) -> Request:
    """The same request, whose body ends with status 413 where it is too large.

    Raises that at once where the body's length is declared.
    """
    if (declared_bytes(request) or 0) > MAX_BODY_BYTES:
        raise HTTPException(413)
    taken = 0

    async def receive() -> Any:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY_BYTES:
            raise HTTPException(413)
        return message

    return Request(request.scope, receive)


def _network(request: HTTPConnection) -> str:
    """What a stranger is known by: the address; of IPv6 its first half, as one may choose the other."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        return host
    return str(address.ipv4_mapped or ipaddress.IPv6Network((int(address), 64), strict=False))
