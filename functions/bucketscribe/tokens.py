"""Tokens of our own: what a sealed word says of its bearer, without a request to anybody.

An upload token stands in the path of clients that can send neither headers nor cookies; a session stands in
a browser's cookie; a ticket, in a query, opens a WebSocket. All name the API key they came from, so that they
end with it. `bkt_`, by which logs know them, and in base64url, with an HMAC-SHA256 (RFC 2104) over all of it:
version (1 byte) · kind (1) · sign-in (1) · scopes (1) · expires (8) · the key's SHA-256 (32, zeros without
one) · owner (UTF-8) · MAC (32).
"""

import base64
import binascii
import hashlib
import hmac
import struct
from enum import IntEnum

from .auth import Principal, Scope, SignIn

PREFIX = "bkt_"

_HEAD = struct.Struct(">BBBBQ32s")
_VERSION = 1
_MAC_BYTES = 32
# What stands in tokens that are out there: never given to another.
_SIGN_INS = {SignIn.OPEN: 0, SignIn.KEYS: 1, SignIn.OIDC: 2}
_SCOPES = {Scope.UPLOAD: 1, Scope.READ: 2, Scope.WRITE: 4, Scope.ADMIN: 8}
_NO_KEY = bytes(32)


class TokenKind(IntEnum):
    """What a token is for."""

    UPLOAD = 1
    SESSION = 2
    TICKET = 3


class BrokenToken(Exception):
    """This is not a token of ours, or not one of this kind."""


def issue(secret: bytes, kind: TokenKind, principal: Principal) -> str:
    """A token for a principal, which must have an end."""
    if principal.expires is None:
        raise ValueError("a token must expire")
    scopes = sum(_SCOPES[scope] for scope in principal.scopes)
    key = _NO_KEY if principal.key is None else bytes.fromhex(principal.key)
    head = _HEAD.pack(_VERSION, kind, _SIGN_INS[principal.by], scopes, principal.expires, key)
    payload = head + principal.owner.encode()
    return PREFIX + base64.urlsafe_b64encode(payload + _mac(secret, payload)).rstrip(b"=").decode()


def read(secret: bytes, kind: TokenKind, token: str) -> Principal:
    """Whom a token speaks for; whether it has expired is for the caller to see. Raises BrokenToken."""
    if not token.startswith(PREFIX):
        raise BrokenToken
    sealed = token.removeprefix(PREFIX)
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BrokenToken from None
    payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if len(payload) < _HEAD.size or not hmac.compare_digest(mac, _mac(secret, payload)):
        raise BrokenToken
    version, told_kind, by, scopes, expires, key = _HEAD.unpack_from(payload)
    if (version, told_kind) != (_VERSION, kind):
        raise BrokenToken
    return Principal(
        owner=payload[_HEAD.size :].decode(),
        scopes=frozenset(scope for scope, bit in _SCOPES.items() if scopes & bit),
        by=next(sign_in for sign_in, code in _SIGN_INS.items() if code == by),
        key=None if key == _NO_KEY else key.hex(),
        expires=expires,
    )


def _mac(secret: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, b"bucketscribe token\0" + payload, hashlib.sha256)
