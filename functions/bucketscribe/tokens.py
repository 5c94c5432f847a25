"""Tokens of our own: what a sealed word says of its bearer, without a request to anybody.

An upload token stands in the path of clients that can send neither headers nor cookies; a session stands in
a browser's cookie. Both name the API key they came from, so that they end with it. HMAC-SHA256 (RFC 2104)
over all of it, in base64url. Layout: version (1 byte) · kind (1) · sign-in (1) · scopes (1) · expires (8) ·
the key's SHA-256 (32, zeros without one) · owner (UTF-8) · MAC (32).
"""

import base64
import binascii
import hashlib
import hmac
import struct
from enum import IntEnum

from .auth import Principal, Scope, SignIn

_HEAD = struct.Struct(">BBBBQ32s")
_VERSION = 1
_MAC_BYTES = 32
_SIGN_INS = tuple(SignIn)
_SCOPES = tuple(Scope)
_NO_KEY = bytes(32)


class TokenKind(IntEnum):
    """What a token is for."""

    UPLOAD = 1
    SESSION = 2


class BrokenToken(Exception):
    """This is not a token of ours, or not one of this kind."""


def issue(secret: bytes, kind: TokenKind, principal: Principal) -> str:
    """A token for a principal, which must have an end."""
    if principal.expires is None:
        raise ValueError("a token must expire")
    scopes = sum(1 << place for place, scope in enumerate(_SCOPES) if scope in principal.scopes)
    key = _NO_KEY if principal.key is None else bytes.fromhex(principal.key)
    head = _HEAD.pack(_VERSION, kind, _SIGN_INS.index(principal.by), scopes, principal.expires, key)
    payload = head + principal.owner.encode()
    return base64.urlsafe_b64encode(payload + _mac(secret, payload)).rstrip(b"=").decode()


def read(secret: bytes, kind: TokenKind, token: str) -> Principal:
    """Whom a token speaks for; whether it has expired is for the caller to see. Raises BrokenToken."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
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
        scopes=frozenset(scope for place, scope in enumerate(_SCOPES) if scopes >> place & 1),
        by=_SIGN_INS[by],
        key=None if key == _NO_KEY else key.hex(),
        expires=expires,
    )


def _mac(secret: bytes, payload: bytes) -> bytes:
    return hmac.digest(secret, b"bucketscribe token\0" + payload, hashlib.sha256)
