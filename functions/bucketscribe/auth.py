"""Who asks, what they may do, and what is theirs.

Every request has a principal: an owner, whose name is the prefix of all that the request may touch, and
scopes. In open mode there is one, `local`, for everyone on this machine, and nobody else may come in.
"""

import hashlib
import ipaddress
import os
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from .errors import Problem
from .records import is_id
from .settings import Settings

OPEN_OWNER = "local"

_KEY = re.compile(r"uploads/([a-z0-9-]+)/([0-9a-f-]{36})/([^/\x00-\x1f\x7f]+)")
_OWNER = re.compile(r"[a-z0-9-]{1,40}-[0-9a-f]{16}")
_SLUG_LENGTH = 40


class Scope(StrEnum):
    """What credentials allow, each for their owner's things only."""

    UPLOAD = "upload"
    """Send recordings: every upload route."""
    READ = "read"
    """Lists, transcripts, recordings, progress."""
    WRITE = "write"
    """Cancel, retry, delete."""
    ADMIN = "admin"
    """How the service itself does: its metrics. Nobody else's recordings."""


class SignIn(StrEnum):
    """How somebody came to be known."""

    OPEN = "open"
    KEYS = "keys"
    OIDC = "oidc"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    `key` is the SHA-256 (hex) of the API key behind it, if there is one; `expires` is when it ends, in
    seconds since 1970, if that is known.
    """

    owner: str
    scopes: frozenset[Scope]
    by: SignIn
    key: str | None = None
    expires: int | None = None


OPEN = Principal(OPEN_OWNER, frozenset(Scope), SignIn.OPEN)


class OpenToOthers(Exception):
    """In open mode we may not be where others can reach us; the text says what to set."""


def check_reach(settings: Settings) -> None:
    """Refuse to serve others without knowing who they are. Raises OpenToOthers."""
    if not settings.open_mode:
        return
    if not is_loopback(settings.host):
        where = f"BUCKETSCRIBE_HOST is {settings.host}"
    elif "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
        where = "This is a Lambda"
    else:
        return
    raise OpenToOthers(
        f"{where}, but no authentication is configured, and open mode is for this machine only. Set "
        "BUCKETSCRIBE_AUTH to keys (and make one with `bucketscribe keys new`), to oidc, or to both."
    )


def is_loopback(host: str) -> bool:
    """Whether an address, or the name of one, is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def owner_slug(issuer: str, subject: str) -> str:
    """The owner somebody is: what is readable of the subject, and 16 hex digits that tell two apart."""
    plain = unicodedata.normalize("NFKD", subject).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", plain)[:_SLUG_LENGTH].strip("-") or "owner"
    # Half a surrogate pair is no text, but a subject all the same.
    digest = hashlib.sha256(f"{issuer}\0{subject}".encode(errors="surrogatepass")).hexdigest()
    return f"{readable}-{digest[:16]}"


def is_owner(text: str) -> bool:
    """Whether this is how an owner is written."""
    return text == OPEN_OWNER or _OWNER.fullmatch(text) is not None


def owned_id(owner: str, key: str) -> str:
    """The id in a recording's key of this owner.

    Raises Problem `not_yours` for a key that is foreign or malformed on its face; no request is made.
    """
    match = _KEY.fullmatch(key)
    if match is None or match[1] != owner or not is_id(match[2]):
        raise Problem(
            "not_yours", "This key does not belong to you; use the key that beginning the upload gave you."
        )
    return match[2]
