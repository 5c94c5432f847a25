"""Sealed upload ids: what our API calls `uploadId`.

S3's own id, the exact size and the part size if they were declared, and an HMAC-SHA256 (RFC 2104) over them
and the key, in base64url. So an id signs only for its own key and its own lengths, and is checked without a
request. Layout: version (1 byte) · size (8) · part size (8) · S3's id (UTF-8) · MAC (16).
"""

import base64
import binascii
import hashlib
import hmac
import struct
from dataclasses import dataclass

_HEAD = struct.Struct(">BQQ")
_VERSION = 1
_MAC_BYTES = 16


class BrokenSeal(Exception):
    """This is not an id we made for this key."""


@dataclass(frozen=True, slots=True)
class UploadSeal:
    """What a sealed id says. `size` and `part_size` in bytes; zero where none was declared."""

    upload_id: str
    size: int = 0
    part_size: int = 0

    @property
    def last_part(self) -> int:
        """The number of the last part, from 1; S3's own limit where no size was declared."""
        if not self.size or not self.part_size:
            return 10_000
        return -(-self.size // self.part_size)

    def length_of(self, number: int) -> int | None:
        """The exact length of a part in bytes, or None where that is not known."""
        if not self.size or not self.part_size:
            return None
        return min(self.part_size, self.size - (number - 1) * self.part_size)


def _mac(secret: bytes, key: str, payload: bytes) -> bytes:
    message = b"bucketscribe upload id\0" + key.encode() + b"\0" + payload
    return hmac.digest(secret, message, hashlib.sha256)[:_MAC_BYTES]


def seal(secret: bytes, key: str, upload: UploadSeal) -> str:
    """The id to hand out for this key."""
    payload = _HEAD.pack(_VERSION, upload.size, upload.part_size) + upload.upload_id.encode()
    return base64.urlsafe_b64encode(payload + _mac(secret, key, payload)).rstrip(b"=").decode()


def unseal(secret: bytes, key: str, sealed: str) -> UploadSeal:
    """What an id for this key says. Raises BrokenSeal."""
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise BrokenSeal from None
    payload, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    try:
        expected = _mac(secret, key, payload)
    except UnicodeEncodeError:
        raise BrokenSeal from None
    if len(payload) < _HEAD.size or not hmac.compare_digest(mac, expected):
        raise BrokenSeal
    version, size, part_size = _HEAD.unpack_from(payload)
    if version != _VERSION:
        raise BrokenSeal
    return UploadSeal(payload[_HEAD.size :].decode(), size, part_size)
