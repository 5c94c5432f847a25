"""Open mode's wall: whoever is not on this machine is not answered.

What a server listens on is not for us to decide, so each connection is looked at: the address it came in on
must be the loopback's, and the name it asks for one of this machine's. The latter keeps out a web page whose
host name was pointed here after it was loaded (DNS rebinding). What a proxy on this machine passes on for
somebody elsewhere is refused as well, if the proxy says so; of one that is silent nothing can be seen.
"""

import re

from starlette.datastructures import Headers
from starlette.status import WS_1008_POLICY_VIOLATION
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from ..auth import is_loopback
from ..errors import Problem
from .problems import answer

PASSED_ON = ("forwarded", "x-real-ip", "via")
"""Headers of whoever passes a request on, and says so (RFC 7239; RFC 9110, 7.6.3)."""

_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([a-z0-9.-]+))(?::[0-9]{0,5})?", re.IGNORECASE)
"""A Host header (RFC 9110, 7.2): an IPv6 address, or another host, and perhaps a port."""


class ThisMachineOnly:
    """ASGI middleware that refuses with Problem `this_machine_only`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not _is_local(scope):
            await WebSocketClose(WS_1008_POLICY_VIOLATION)(scope, receive, send)
            return
        if scope["type"] == "http" and not _is_local(scope):
            detail = (
                "Nobody signs in here, so only this machine is answered, by the name localhost or 127.0.0.1. "
                "To serve others, set BUCKETSCRIBE_AUTH."
            )
            await answer(Problem("this_machine_only", detail))(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_local(scope: Scope) -> bool:
    server = scope.get("server")
    # A Unix socket has a path and no port.
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        return False
    headers = Headers(scope=scope)
    if any(name in headers for name in PASSED_ON):
        return False
    behind = ",".join(headers.getlist("x-forwarded-for") + headers.getlist("x-forwarded-host"))
    hosts = [headers.get("host", ""), *(host.strip() for host in behind.split(",") if host.strip())]
    return all(map(_is_ours, hosts))


def _is_ours(header: str) -> bool:
    if is_loopback(header):
        return True
    match = _HOST.fullmatch(header)
    return match is not None and is_loopback((match[1] or match[2]).lower())
