"""Who asks, and what is theirs.

Open mode only: everyone who reaches the API is `local`, and nobody but this machine may reach it.
"""

import ipaddress
import re

from .errors import Problem
from .records import is_id

OPEN_OWNER = "local"

_KEY = re.compile(r"uploads/([a-z0-9-]+)/([0-9a-f-]{36})/([^/\x00-\x1f\x7f]+)")


def is_loopback(host: str) -> bool:
    """Whether an address to listen on is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
