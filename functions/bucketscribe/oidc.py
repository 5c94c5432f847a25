"""JSON Web Tokens (RFC 7519) of an OpenID Connect issuer, as a way to sign in.

The issuer's public keys come from its JWKS (RFC 7517), which its discovery document names (OpenID Connect
Discovery 1.0, 4). They are kept for five minutes; a key id nobody knows has them fetched again, but not more
often than every half minute, so that made-up ids cost the issuer nothing. An issuer that does not answer is
left alone for ten seconds, and only those wait for it whose key is not known: PyJWT's own client has every
check of a token wait.
"""

import threading
import time
from math import inf
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog
import urllib3

from .auth import Principal, Scope, SignIn, owner_slug
from .errors import Problem
from .settings import Settings

log = structlog.get_logger()

JWKS_SECONDS = 300
UNKNOWN_KEY_SECONDS = 30
ANSWER_SECONDS = 5
REST_SECONDS = 10
LONGEST_TOKEN = 16_384
LATEST = 253_402_300_799
"""The end of the year 9999, in seconds since 1970: later than that is as good as never."""

SCOPES = frozenset({Scope.UPLOAD, Scope.READ, Scope.WRITE})
"""A token's bearer may do everything with what is theirs; how the service does is for its operators."""


class Oidc:
    """Tokens of the issuer that the settings name. For any number of threads; may make requests."""

    def __init__(self, settings: Settings) -> None:
        if settings.oidc_issuer is None or settings.oidc_audience is None:
            raise ValueError("oidc_issuer and oidc_audience are not set")
        self.issuer = settings.oidc_issuer
        self.audience = settings.oidc_audience
        self.owner_claim = settings.oidc_owner_claim
        self.algorithms = list(settings.oidc_algorithms)
        self.leeway = settings.oidc_leeway_seconds
        self._keys = IssuerKeys(self.issuer, settings.oidc_jwks_url)

    def principal(self, token: str) -> Principal:
        """Whom a token speaks for.

        Raises Problem `bad_credentials`, `credentials_expired` and `issuer_unavailable`.
        """
        try:
            claims = self._claims(token)
        except jwt.ExpiredSignatureError:
            raise Problem("credentials_expired", "The token has expired; sign in again.") from None
        except jwt.PyJWTError as error:
            raise Problem("bad_credentials", f"The token is not accepted: {error}.") from None
        subject = claims[self.owner_claim]
        if not isinstance(subject, str) or not subject.strip():
            raise Problem("bad_credentials", f"The token's claim {self.owner_claim} names nobody.")
        expires = min(int(claims["exp"]) + self.leeway, LATEST)
        return Principal(owner_slug(self.issuer, subject), SCOPES, SignIn.OIDC, expires=expires)

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise jwt.InvalidTokenError("it is too long")
        header = jwt.get_unverified_header(token)
        # Before anybody is asked for keys: what is not signed as it must be needs none.
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self.algorithms:
            raise jwt.InvalidAlgorithmError(f"its algorithm is not one of {', '.join(self.algorithms)}")
        if not isinstance(kid, str):
            raise jwt.InvalidTokenError("its header names no key")
        key = self._keys.key(kid)
        if key.get("alg", algorithm) != algorithm:
            raise jwt.InvalidAlgorithmError("its algorithm is not that of its key")
        claims: dict[str, Any] = jwt.decode(
            token,
            jwt.PyJWK(key, algorithm),
            algorithms=self.algorithms,
            audience=self.audience,
            issuer=self.issuer,
            leeway=self.leeway,
            options={"require": ["exp", "iss", "aud", self.owner_claim]},
        )
        return claims


class IssuerKeys:
    """The public keys of an issuer, as JWKs by their ids. For any number of threads; may make requests."""

    def __init__(self, issuer: str, url: str | None) -> None:
        self.issuer = issuer
        self._url = self._given_url = url
        self._lock = threading.Lock()
        self._held: tuple[dict[str, dict[str, Any]], float] = {}, -inf
        self._rests_until = -inf

    def key(self, kid: str) -> dict[str, Any]:
        """The key of this id. Raises InvalidTokenError if there is none, and Problem `issuer_unavailable`."""
        key = self._known(kid)
        if key is None:
            with self._lock:
                # Somebody else may have asked meanwhile.
                key = self._known(kid)
                if key is None:
                    self._ask()
                    key = self._known(kid)
        if key is None:
            raise jwt.InvalidTokenError("the issuer has no such key")
        return key

    def _known(self, kid: str) -> dict[str, Any] | None:
        """The key; None where the issuer must be asked. Raises InvalidTokenError if it was just now."""
        keys, asked = self._held
        age = time.monotonic() - asked
        if kid in keys and age < JWKS_SECONDS:
            return keys[kid]
        if age < UNKNOWN_KEY_SECONDS:
            raise jwt.InvalidTokenError("the issuer has no such key")
        return None

    def _ask(self) -> None:
        asked = time.monotonic()
        if asked < self._rests_until:
            raise _unavailable()
        try:
            if self._url is None:
                self._url = self._discover()
            keys = _get(self._url).get("keys")
            if not isinstance(keys, list):
                raise ValueError(f"{self._url} is no set of keys")
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            self._rests_until = time.monotonic() + REST_SECONDS
            # It may have moved them.
            self._url = self._given_url
            log.warning("issuer does not answer", code="issuer_unavailable", reason=str(error))
            raise _unavailable() from error
        usable = [key for key in keys if isinstance(key, dict) and key.get("use", "sig") == "sig"]
        self._held = {key["kid"]: key for key in usable if isinstance(key.get("kid"), str)}, asked

    def _discover(self) -> str:
        """The URL of the keys, as the issuer tells it. Raises ValueError and urllib3's HTTPError."""
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _get(url)
        if document.get("issuer") != self.issuer:
            raise ValueError(f"{url} is not the discovery document of {self.issuer}")
        keys = str(document.get("jwks_uri", ""))
        if urlsplit(keys).scheme != "https" and urlsplit(url).scheme == "https":
            raise ValueError(f"{self.issuer} has its keys where anybody could change them: {keys}")
        return keys


def _get(url: str) -> dict[str, Any]:
    """The JSON object at a URL. Raises ValueError and urllib3's HTTPError."""
    answer = urllib3.request("GET", url, timeout=ANSWER_SECONDS, retries=False, redirect=False)
    if answer.status != 200:
        raise ValueError(f"{url} answered {answer.status}")
    document = answer.json()
    if not isinstance(document, dict):
        raise ValueError(f"{url} is no JSON object")
    return document


def _unavailable() -> Problem:
    return Problem(
        "issuer_unavailable",
        "The issuer of the token does not tell its keys at the moment. Nothing is lost; try again soon.",
        {"retryAfter": REST_SECONDS},
    )
