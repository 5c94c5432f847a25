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

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from .auth import Scope, is_owner
from .bucket import Bucket

SCHEMA = 1
PREFIX = "bks_"
REMEMBERED_SECONDS = 60.0

_API_KEY = re.compile(rf"{PREFIX}[0-9a-f]{{40}}")
_OBJECT = re.compile(r"keys/([0-9a-f]{64})\.json")


class ApiKey(BaseModel):
    """What is kept of a key. One of a newer version is not read: it may have limits we do not know."""

    model_config = ConfigDict(extra="allow", frozen=True)

    schema_: int = Field(SCHEMA, alias="schema", le=SCHEMA)
    name: str
    owner: str
    scopes: tuple[Scope, ...]
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @field_validator("owner")
    @classmethod
    def _check_owner(cls, owner: str) -> str:
        if not is_owner(owner):
            raise ValueError("an owner is written as readable-0123456789abcdef, or local")
        return owner


@dataclass(frozen=True, slots=True)
class Held:
    """A key the bucket holds, under the hex digits of its SHA-256; None is one that we cannot read."""

    digest: str
    key: ApiKey | None


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
        # Nobody else can have made this one, so it may be sent again where an answer was lost.
        self.bucket.put(_object(digest), made.model_dump_json(by_alias=True).encode())
        return text

    def find(self, digest: str) -> tuple[ApiKey, datetime] | None:
        """A key by its digest, and the bucket's time; None if it is unknown or revoked.

        Raises pydantic's ValidationError for what is no key.
        """
        document = self.bucket.get(_object(digest))
        return None if document is None else (ApiKey.model_validate_json(document.body), document.at)

    def all(self) -> Iterator[Held]:
        """Every key, in no useful order."""
        for entry in self.bucket.listing("keys/"):
            if match := _OBJECT.fullmatch(entry.key):
                try:
                    found = self.find(match[1])
                except ValidationError:
                    yield Held(match[1], None)
                else:
                    if found is not None:
                        yield Held(match[1], found[0])

    def revoke(self, digest: str) -> None:
        """Remove a key; one that is gone is fine."""
        self.bucket.delete(_object(digest))


def _object(digest: str) -> str:
    return f"keys/{digest}.json"
