"""What a shell completes beyond commands, options and choices: languages, and ids of transcriptions.

Asked at every press of Tab, so it imports little, waits a second at most for the server, and stays silent
when it fails. Names and ids are the server's words, and zsh evaluates what it is given to show: little of
them is passed on.
"""

import json
import re
from http.client import HTTPException
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import typer

from .credentials import api_key

if TYPE_CHECKING:
    from http.client import HTTPConnection

ANSWER_SECONDS = 1.0
SHOWN = 50
"""The newest so many are offered."""

ID = re.compile("[0-9a-f-]+")


def transcriptions(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids that begin so, with what their owner knows them by."""
    server = ctx.params.get("server")
    given = ctx.params.get("ids") or ()
    try:
        found = _newest(str(server))
        return [
            (one["id"], _plain(f"{one['state']} {one['name']}"))
            for one in found
            if ID.fullmatch(one["id"]) and one["id"].startswith(incomplete) and one["id"] not in given
        ]
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return []


def languages(incomplete: str) -> list[str]:
    """Codes of languages that begin so."""
    from ..options import LANGUAGES

    return [code for code in ("auto", *LANGUAGES) if code.startswith(incomplete)]


def _newest(server: str) -> list[dict[str, Any]]:
    connection = _connection(server)
    key = api_key()
    try:
        connection.request(
            "GET",
            f"{urlsplit(server).path.rstrip('/')}/transcriptions?limit={SHOWN}",
            headers={} if key is None else {"Authorization": f"Bearer {key}"},
        )
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
    """Letters, digits and a few signs that no shell takes for anything else."""
    return "".join(c if c.isalnum() or c in " ._-" else " " for c in name)
