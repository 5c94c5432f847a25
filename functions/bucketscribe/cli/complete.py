"""What a shell completes beyond commands, options and choices: languages, and ids of transcriptions.

Asked at every press of Tab, so it imports little, waits a second at most for the server, and stays silent
when it fails.
"""

import json
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from http.client import HTTPConnection

ANSWER_SECONDS = 1.0
SHOWN = 50
"""The newest so many are offered."""


def transcriptions(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids that begin so, with what their owner knows them by."""
    server = ctx.params.get("server")
    given = ctx.params.get("ids") or ()
    try:
        found = _newest(str(server))
        return [
            (one["id"], f"{one['state']} {_plain(one['name'])}")
            for one in found
            if one["id"].startswith(incomplete) and one["id"] not in given
        ]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return []


def languages(incomplete: str) -> list[str]:
    """Codes of languages that begin so."""
    from ..options import LANGUAGES

    return [code for code in ("auto", *LANGUAGES) if code.startswith(incomplete)]


def _newest(server: str) -> list[dict[str, Any]]:
    connection = _connection(server)
    try:
        connection.request("GET", f"{urlsplit(server).path.rstrip('/')}/transcriptions?limit={SHOWN}")
        document = json.loads(connection.getresponse().read())
    finally:
        connection.close()
    found: list[dict[str, Any]] = document["transcriptions"]
    return found


def _connection(server: str) -> "HTTPConnection":
    from http.client import HTTPConnection, HTTPSConnection

    parts = urlsplit(server)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)


def _plain(name: str) -> str:
    return "".join(c if c.isprintable() else " " for c in name)
