"""API keys: `bks_` and 40 hex digits of randomness, of which the bucket holds only the SHA-256.

    keys/{sha256}.json    whose it is, what it allows, until when

A random key of 160 bits needs no slow hash: there is nothing to guess. A key is one object: it is there or
not, and revoking removes it. Who looks keys up may remember an answer for `REMEMBERED_SECONDS`.
"""

import hashlib
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .auth import Scope
from .bucket import Bucket

SCHEMA = 1
PREFIX = "bks_"
REMEMBERED_SECONDS = 60.0

_API_KEY = re.compile(rf"{PREFIX}[0-9a-f]{{40}}")
_OBJECT = re.compile(r"keys/([0-9a-f]{64})\.json")


class ApiKey(BaseModel):
    """What is kept of a key."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_: int = Field(SCHEMA, alias="schema")
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    created: datetime
    expires: datetime | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A key the bucket holds, under the hex digits of its SHA-256."""

    digest: str
    key: ApiKey


def digest_of(text: str) -> str | None:
    """The SHA-256 of an API key, in hex; None for what cannot be one."""
    return hashlib.sha256(text.encode()).hexdigest() if _API_KEY.fullmatch(text) else None


class Keys:
    """The API keys in a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def new(self, name: str, owner: str, scopes: tuple[Scope, ...], expires: datetime | None) -> str:
        """Make a key and return its text, which is told only now."""
        text = PREFIX + secrets.token_hex(20)
        made = ApiKey(name=name, owner=owner, scopes=scopes, created=self.bucket.now(), expires=expires)
        digest = hashlib.sha256(text.encode()).hexdigest()
        self.bucket.create(_object(digest), made.model_dump_json(by_alias=True).encode())
        return text

    def find(self, digest: str) -> tuple[ApiKey, datetime] | None:
        """A key by its digest, and the bucket's time; None if it is unknown or revoked."""
        document = self.bucket.get(_object(digest))
        return None if document is None else (ApiKey.model_validate_json(document.body), document.at)

    def all(self) -> Iterator[Held]:
        """Every key, in no useful order; what is none is passed over."""
        for entry in self.bucket.listing("keys/"):
            if match := _OBJECT.fullmatch(entry.key):
                try:
                    found = self.find(match[1])
                except ValidationError:
                    continue
                if found is not None:
                    yield Held(match[1], found[0])

    def revoke(self, digest: str) -> None:
        """Remove a key; one that is gone is fine."""
        self.bucket.delete(_object(digest))


def _object(digest: str) -> str:
    return f"keys/{digest}.json"
