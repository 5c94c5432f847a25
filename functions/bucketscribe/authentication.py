"""From credentials to a principal: API keys, JSON Web Tokens, and the tokens of our own that come from them.

What is known of an API key or a JSON Web Token is remembered for a minute: so signing a part needs no
request, and a key that was revoked is dead everywhere a minute later, with all tokens made by it.
"""

import hashlib
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog
from pydantic import ValidationError

from .auth import OPEN, Principal, SignIn
from .bucket import Bucket
from .errors import Problem
from .keys import PREFIX, REMEMBERED_SECONDS, ApiKey, Keys, digest_of
from .settings import Settings
from .tokens import BrokenToken, TokenKind, read

if TYPE_CHECKING:
    from .oidc import Oidc

log = structlog.get_logger()

REMEMBERED = 10_000
"""So many credentials at most are remembered; memory must not grow by what strangers send."""


class Kind(StrEnum):
    """Where in a request the credentials were."""

    BEARER = "bearer"
    """An API key or a JSON Web Token, in the Authorization header."""
    PATH = "path"
    """An upload token."""
    COOKIE = "cookie"
    """A session."""
    TICKET = "ticket"
    """A ticket, in the query of a WebSocket's address."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody sent to say who they are. Never logged."""

    kind: Kind
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """Who it is, or a problem's code and text; and until when that counts, by both clocks.

    `time.monotonic` may stand still while a Lambda is frozen, and `time.time` can be set back.
    """

    found: Principal | tuple[str, str]
    until: float
    until_by_date: float

    def principal(self) -> Principal:
        """Who it is. Raises the Problem."""
        if isinstance(self.found, tuple):
            raise Problem(*self.found)
        return self.found


class Authentication:
    """Who is behind credentials. For any number of threads."""

    def __init__(self, settings: Settings, bucket: Bucket) -> None:
        self.settings = settings
        self.keys = Keys(bucket)
        self.secret = settings.sealing_secret
        self._oidc = _oidc(settings)
        self._remembered: dict[str, _Remembered] = {}

    def principal(self, credentials: Credentials, *, ask: bool) -> Principal | None:
        """Who it is. None where that needs a request and we may not `ask`.

        Raises Problem `bad_credentials`, `credentials_expired`, `issuer_unavailable`; StorageError.
        """
        match credentials.kind:
            case Kind.BEARER:
                return self._of_bearer(credentials.text, ask)
            case Kind.PATH:
                return self._of_token(TokenKind.UPLOAD, credentials.text, ask)
            case Kind.COOKIE:
                return self._of_token(TokenKind.SESSION, credentials.text, ask)
            case Kind.TICKET:
                return self._of_token(TokenKind.TICKET, credentials.text, ask)

    def _of_bearer(self, text: str, ask: bool) -> Principal | None:
        if text.startswith(PREFIX):
            digest = digest_of(text)
            if digest is None or SignIn.KEYS not in self.settings.auth:
                raise _unknown()
            return self.of_key(digest, ask=ask)
        if self._oidc is None:
            raise _unknown()
        name = f"jwt {hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()}"
        known = self._recall(name)
        if known is None:
            if not ask:
                return None
            asked = time.monotonic()
            principal = self._oidc.principal(text)
            left = (principal.expires or 0) - time.time()
            known = self._remember(name, principal, asked, left)
        return known.principal()

    def of_key(self, digest: str, *, ask: bool) -> Principal | None:
        """Who has the API key of this SHA-256 (hex); as `principal` has it."""
        known = self._recall(digest)
        if known is None:
            if not ask:
                return None
            asked = time.monotonic()
            found, seconds = self._look_up(digest)
            known = self._remember(digest, found, asked, seconds)
        return known.principal()

    def _look_up(self, digest: str) -> tuple[Principal | tuple[str, str], float]:
        """What the bucket says of a key, and for how many seconds that is so, by its clock."""
        try:
            found = self.keys.find(digest)
        except ValidationError as error:
            # Written by hand, or by a newer version that knows of limits we do not.
            log.warning("unreadable key", digest=digest, code="unreadable_key", reason=str(error))
            found = None
        if found is None:
            return _UNKNOWN, REMEMBERED_SECONDS
        key, now = found
        if key.expires is None:
            return _principal(digest, key), REMEMBERED_SECONDS
        left = (key.expires - now).total_seconds()
        if left > 0:
            return _principal(digest, key), left
        text = f"The API key expired at {key.expires.isoformat()}; ask for a new one."
        return ("credentials_expired", text), REMEMBERED_SECONDS

    def _of_token(self, kind: TokenKind, text: str, ask: bool) -> Principal | None:
        try:
            told = read(self.secret, kind, text)
        except BrokenToken:
            raise _unknown() from None
        if told.expires is None or told.expires <= time.time():
            raise Problem("credentials_expired", "The token has expired; ask for a new one.")
        # A token made in open mode is worth nothing once others can reach us.
        if told.by not in (self.settings.auth or (OPEN.by,)):
            raise _unknown()
        if told.key is None:
            return told
        behind = self.of_key(told.key, ask=ask)
        return None if behind is None else replace(told, scopes=told.scopes & behind.scopes)

    def _recall(self, name: str) -> _Remembered | None:
        known = self._remembered.get(name)
        if known is None or time.monotonic() >= known.until or time.time() >= known.until_by_date:
            return None
        return known

    def _remember(
        self, name: str, found: Principal | tuple[str, str], asked: float, seconds: float
    ) -> _Remembered:
        until = asked + min(seconds, REMEMBERED_SECONDS)
        known = _Remembered(found, until, time.time() + until - time.monotonic())
        if len(self._remembered) >= REMEMBERED:
            self._forget()
        self._remembered[name] = known
        return known

    def _forget(self) -> None:
        """Make room. Strangers go first: they must not have those who are known looked up anew."""
        now = time.monotonic()
        for name, known in tuple(self._remembered.items()):
            if known.until <= now or isinstance(known.found, tuple):
                self._remembered.pop(name, None)
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()


def _oidc(settings: Settings) -> "Oidc | None":
    if SignIn.OIDC not in settings.auth:
        return None
    from .oidc import Oidc  # what it needs is in the extra `api`, and not everybody signs in so

    return Oidc(settings)


def _principal(digest: str, key: ApiKey) -> Principal:
    expires = None if key.expires is None else int(key.expires.timestamp())
    return Principal(key.owner, frozenset(key.scopes), SignIn.KEYS, digest, expires)


_UNKNOWN = (
    "bad_credentials",
    "These credentials are not known here, or were revoked. Check them, or get others.",
)


def _unknown() -> Problem:
    return Problem(*_UNKNOWN)
