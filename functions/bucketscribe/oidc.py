"""JSON Web Tokens (RFC 7519) of an OpenID Connect issuer, as a way to sign in.

The issuer's public keys come from its JWKS (RFC 7517), which its discovery document names (OpenID Connect
Discovery 1.0, 4). They are kept for five minutes; a key id nobody knows has them fetched again, but not more
often than every half minute, so that made-up ids cost the issuer nothing. An issuer that does not answer is
left alone for ten seconds.
"""

import threading
import time
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import jwt
import urllib3

from .auth import Principal, Scope, SignIn, owner_slug
from .errors import Problem
from .settings import Settings

JWKS_SECONDS = 300
UNKNOWN_KEY_SECONDS = 30
ANSWER_SECONDS = 5
REST_SECONDS = 10
LONGEST_TOKEN = 16_384

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
        self.jwks_url = settings.oidc_jwks_url
        self._lock = threading.Lock()
        self._rests_until = 0.0

    def principal(self, token: str) -> Principal:
        """Whom a token speaks for.

        Raises Problem `bad_credentials`, `credentials_expired` and `issuer_unavailable`.
        """
        try:
            claims = self._claims(token)
        except jwt.ExpiredSignatureError:
            raise Problem("credentials_expired", "The token has expired; sign in again.") from None
        except jwt.InvalidTokenError as error:
            raise Problem("bad_credentials", f"The token is not accepted: {error}.") from None
        subject = claims[self.owner_claim]
        if not isinstance(subject, str) or not subject.strip():
            raise Problem("bad_credentials", f"The token's claim {self.owner_claim} names nobody.")
        return Principal(
            owner_slug(self.issuer, subject), SCOPES, SignIn.OIDC, expires=int(claims["exp"]) + self.leeway
        )

    def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > LONGEST_TOKEN:
            raise jwt.InvalidTokenError("it is too long")
        header = jwt.get_unverified_header(token)
        # Before anybody is asked for keys: what is not signed as it must be needs none.
        if header.get("alg") not in self.algorithms:
            raise jwt.InvalidAlgorithmError(f"its algorithm is not one of {', '.join(self.algorithms)}")
        if not isinstance(header.get("kid"), str):
            raise jwt.InvalidTokenError("its header names no key")
        claims: dict[str, Any] = jwt.decode(
            token,
            self._key(header["kid"]),
            algorithms=self.algorithms,
            audience=self.audience,
            issuer=self.issuer,
            leeway=self.leeway,
            options={"require": ["exp", "iss", "aud", self.owner_claim]},
        )
        return claims

    def _key(self, kid: str) -> jwt.PyJWK:
        with self._lock:
            if time.monotonic() < self._rests_until:
                raise _unavailable()
            try:
                return self._jwks.get_signing_key(kid)
            except jwt.PyJWKClientConnectionError as error:
                self._rests_until = time.monotonic() + REST_SECONDS
                raise _unavailable() from error
            except jwt.PyJWKClientError:
                raise jwt.InvalidTokenError("the issuer has no such key") from None
            except (jwt.PyJWKSetError, urllib3.exceptions.HTTPError, ValueError) as error:
                self._rests_until = time.monotonic() + REST_SECONDS
                raise _unavailable() from error

    @cached_property
    def _jwks(self) -> jwt.PyJWKClient:
        return jwt.PyJWKClient(
            self.jwks_url or self._discover(),
            lifespan=JWKS_SECONDS,
            cooldown_duration=UNKNOWN_KEY_SECONDS,
            timeout=ANSWER_SECONDS,
        )

    def _discover(self) -> str:
        """The URL of the keys, as the issuer tells it. Raises ValueError and urllib3's HTTPError."""
        url = f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = urllib3.request("GET", url, timeout=ANSWER_SECONDS, retries=False, redirect=False)
        document = answer.json() if answer.status == 200 else None
        if not isinstance(document, dict) or document.get("issuer") != self.issuer:
            raise ValueError(f"{url} is not the discovery document of {self.issuer}")
        keys = str(document.get("jwks_uri", ""))
        if urlsplit(keys).scheme != "https" and urlsplit(url).scheme == "https":
            raise ValueError(f"{self.issuer} has its keys where anybody could change them: {keys}")
        return keys


def _unavailable() -> Problem:
    return Problem(
        "issuer_unavailable",
        "The issuer of the token does not tell its keys at the moment. Nothing is lost; try again soon.",
        {"retryAfter": REST_SECONDS},
    )
