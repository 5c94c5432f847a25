"""`keys`: the operator makes, lists and revokes API keys, in the bucket itself; no server takes part.

A key is told once, on standard output, and named by its id from then on. It is never taken from the command
line either, which every user of the machine can read in the list of its processes.
"""

import json
import re
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from .arguments import STANDARD
from .operator import DataDir, known_settings, sdk_credentials
from .output import clean, fail, note, say, senseless

if TYPE_CHECKING:
    from ..keys import Held, Keys
    from ..settings import Settings

ID_DIGITS = 12
"""So many digits of a key's SHA-256 are its id; more of them name it, too."""

NAME_CHARACTERS = 100

ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS},64}}")
PERIOD = re.compile(r"([0-9]{1,5})([dh])")


class Scope(StrEnum):
    """What a key may allow: as `auth.Scope`, which takes half a second to import."""

    UPLOAD = "upload"
    READ = "read"
    WRITE = "write"
    ADMIN = "admin"


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you know it by; not the key itself.")],
    owner: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER",
            help="Whose recordings it reaches: an owner as `keys ls` shows them, or any name, which always "
            "stands for the same one. By default a new one, of this key alone.",
        ),
    ] = None,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows, once for each; upload, read and write if unset."),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(metavar="90d|12h|2027-01-31", help="When it ends; on a date that is at 00:00 UTC."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make an API key, and print it: it is told only now."""
    from .. import auth

    _check_name(name, "NAME")
    if owner is not None:
        _check_name(owner, "--owner")
    whose = _owner(name, owner)
    wanted = set(scope or (Scope.UPLOAD, Scope.READ, Scope.WRITE))
    scopes = tuple(auth.Scope(known) for known in Scope if known in wanted)
    when = None if expires is None else _when(expires)
    settings = known_settings(data_dir)
    with _kept(settings) as keys:
        end = None if when is None else _end(when, keys.bucket.now())
        text = keys.new(name, whose, scopes, end)
        id = _tell(keys, text)
    note("That is the API key, for BUCKETSCRIBE_API_KEY or a Bearer header. It is not shown again.")
    note(f"id: {id}, owner: {whose}, scopes: {', '.join(scopes)}, expires: {_moment(end) or 'never'}")
    if "keys" not in settings.auth:
        note(
            "Warning: BUCKETSCRIBE_AUTH is without keys here: a server must have it to take them. [not_taken]"
        )


def ls(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, one key a line.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List API keys, newest first, by what is known of them: not the keys themselves.

    In a pipe, a line each with tabs between id, time of creation, owner, scopes, end and name.
    """
    with _kept(known_settings(data_dir)) as keys:
        found = sorted(keys.all(), key=_created, reverse=True)
        now = keys.bucket.now()
    if as_json:
        for held in found:
            shown = {} if held.key is None else held.key.model_dump(mode="json", exclude={"schema_"})
            say(json.dumps({"id": _id(held.digest), **shown}))
    elif sys.stdout.isatty():
        _table(found, now)
    else:
        for held in found:
            say("\t".join(map(clean, _fields(held))))


def revoke(
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="Its id, or its name if no other has it; - reads the key itself from standard input.",
        ),
    ],
    data_dir: DataDir = None,
) -> None:
    """Revoke an API key, and with it all sessions and tokens that it made.

    Servers may remember it for a minute.
    """
    from pydantic import ValidationError

    from ..keys import REMEMBERED_SECONDS

    _check_argument(key, "KEY")
    digest = _digest_of_input() if key == STANDARD else None
    with _kept(known_settings(data_dir)) as keys:
        if digest is None:
            digest = _named(keys, key)
        else:
            # One that cannot be read can be revoked.
            with suppress(ValidationError):
                if keys.find(digest) is None:
                    _fail_for_none()
        keys.revoke(digest)
    say(f"{_id(digest)}  revoked")
    note(f"Servers that have just seen it may take it for {REMEMBERED_SECONDS:g} s more.")


@contextmanager
def _kept(settings: "Settings") -> "Iterator[Keys]":
    """The keys in the operator's bucket. Ends the command where it does not answer, or refuses."""
    from ..bucket import Bucket, StorageError
    from ..keys import Keys

    sdk_credentials()
    try:
        yield Keys(Bucket.connect(settings))
    except StorageError as error:
        fail(f"The bucket {settings.bucket}: {error} [storage_unavailable]")


def _tell(keys: "Keys", text: str) -> str:
    """Print a new key; its id. One that could not be printed is revoked: nobody has it."""
    from ..keys import digest_of

    digest = digest_of(text) or ""
    try:
        say(text)
    except BaseException:
        keys.revoke(digest)
        raise
    return _id(digest)


def _named(keys: "Keys", word: str) -> str:
    """The digest of the one key with this id, or else this name."""
    known = list(keys.all())
    found = [held for held in known if ID.fullmatch(word) and held.digest.startswith(word)]
    found = found or [held for held in known if held.key is not None and held.key.name == word]
    if not found:
        _fail_for_none()
    if len(found) > 1:
        ids = ", ".join(_id(held.digest) for held in found)
        fail(f"Several keys have this name; give the id of one: {ids} [several_keys]")
    return found[0].digest


def _fail_for_none() -> NoReturn:
    fail(
        "There is no such key, or it was revoked; `bucketscribe keys ls` shows those there are. [no_such_key]"
    )


def _digest_of_input() -> str:
    """The digest of the key on standard input; a terminal does not show what is typed."""
    from ..keys import digest_of

    text = (
        typer.prompt("API key", hide_input=True, err=True)
        if sys.stdin.isatty()
        else sys.stdin.buffer.read().decode("ascii", "replace")
    )
    digest = digest_of(text.strip())
    if digest is None:
        raise senseless("what is on standard input is no API key", STANDARD)
    return digest


def _owner(name: str, asked: str | None) -> str:
    """Whose recordings a key reaches. A name that was used before must not open what is another's."""
    from ..auth import is_owner, owner_slug

    if asked is None:
        readable, _, _ = owner_slug("keys", name).rpartition("-")
        return f"{readable}-{secrets.token_hex(8)}"
    return asked if is_owner(asked) else owner_slug("keys", asked)


def _check_argument(word: str, what: str) -> None:
    """Refuse an API key where others can read it."""
    from ..keys import PREFIX

    if word.startswith(PREFIX):
        raise senseless(
            "an API key does not belong on a command line, which every user of this machine can read in the "
            "list of processes: revoke this one, by its id or with - and standard input",
            what,
        )


def _check_name(word: str, what: str) -> None:
    _check_argument(word, what)
    if not (word.strip() and word.isprintable() and len(word) <= NAME_CHARACTERS):
        raise senseless(f"up to {NAME_CHARACTERS} characters, all of which can be printed", what)


def _when(word: str) -> timedelta | datetime:
    """A length of time, or a date as the moment at which it begins."""
    try:
        if period := PERIOD.fullmatch(word):
            count = int(period[1])
            return timedelta(days=count) if period[2] == "d" else timedelta(hours=count)
        return datetime.strptime(word, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise senseless(
            "days such as 90d, hours such as 12h, or a date such as 2027-01-31", "--expires"
        ) from None


def _end(when: timedelta | datetime, now: datetime) -> datetime:
    """The end of a key, by the bucket's time."""
    end = now + when if isinstance(when, timedelta) else when
    if end <= now:
        raise senseless(f"it is {_moment(now)} already", "--expires")
    return end


def _id(digest: str) -> str:
    return digest[:ID_DIGITS]


def _moment(time: datetime | None) -> str:
    return "" if time is None else f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _created(held: "Held") -> datetime:
    return datetime.max.replace(tzinfo=UTC) if held.key is None else held.key.created


def _fields(held: "Held") -> tuple[str, ...]:
    key = held.key
    if key is None:
        return _id(held.digest), "", "", "", "", "(not readable here)"
    return (
        _id(held.digest),
        _moment(key.created),
        key.owner,
        ",".join(key.scopes),
        _moment(key.expires),
        key.name,
    )


def _table(found: "list[Held]", now: datetime) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "created", "owner", "scopes", "expires", "name"):
        table.add_column(column, no_wrap=column == "id", overflow="fold")
    for held in found:
        id, created, owner, scopes, expires, name = map(clean, _fields(held))
        end = None if held.key is None else held.key.expires
        expired = end is not None and end <= now
        table.add_row(
            id,
            created[:10],
            Text(owner),
            Text(scopes),
            Text("expired" if expired else expires[:10] or "never", "red" if expired else ""),
            Text(name),
        )
    Console().print(table)
