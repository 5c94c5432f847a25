"""Commands on transcriptions one names: get, cancel, retry, rm. One that fails does not stop the others."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import DEFAULT_SERVER, STANDARD, As, Ids, Output, Server, State, chosen
from .output import FAILED, NO_TRANSCRIPT, clean, connected, explained, failure, note, say
from .places import NotWritten, Place, places

if TYPE_CHECKING:
    from ..client import Client, ServerProblem, Transcription


def get(ids: Ids, format: As = None, output: Output = None, server: Server = DEFAULT_SERVER) -> None:
    """Print or save finished transcripts.

    Of one that failed there may be the part before the failure: it is delivered, too, and the status is 3.
    """
    from ..client import ServerProblem

    wanted = chosen(ids)
    several = len(wanted) > 1
    # What makes no sense is told before anyone is asked.
    places(output, format, wanted)
    statuses = {0}
    with connected(server) as client:
        found: list[Transcription] = []
        for id in wanted:
            try:
                found.append(client.get(id))
            except ServerProblem as problem:
                statuses.add(_refused(id if several else "", problem))
        names = [transcription.name for transcription in found]
        for transcription, place in zip(found, places(output, format, names, several), strict=True):
            statuses.add(_fetch(client, transcription, place, several))
    raise typer.Exit(FAILED if FAILED in statuses else max(statuses))


def cancel(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Stop transcriptions, or their uploads."""
    _each(server, chosen(ids), lambda client, id: client.cancel(id).state)


def retry(ids: Ids, server: Server = DEFAULT_SERVER) -> None:
    """Begin again those that failed or were canceled."""
    _each(server, chosen(ids), lambda client, id: client.retry(id).state)


def rm(
    ids: Ids,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
) -> None:
    """Delete transcriptions with their recordings.

    This cannot be undone. On a terminal it asks first.
    """
    wanted = chosen(ids)
    if wanted and not yes and STANDARD not in ids and sys.stdin.isatty() and sys.stderr.isatty():
        what = (
            "this transcription and its recording"
            if len(wanted) == 1
            else f"these {len(wanted)} transcriptions and their recordings"
        )
        typer.confirm(f"Delete {what}?", abort=True, err=True)

    def delete(client: "Client", id: str) -> str:
        client.delete(id)
        return "deleted"

    _each(server, wanted, delete)


def _each(server: str, ids: list[str], act: Callable[["Client", str], str]) -> None:
    from ..client import ServerProblem

    with connected(server) as client:
        failed = False
        for id in ids:
            try:
                say(f"{clean(id)}  {clean(act(client, id))}")
            except ServerProblem as problem:
                failed = True
                note(f"Error: {id}: {explained(problem)}")
    if failed:
        raise typer.Exit(FAILED)


def _fetch(client: "Client", found: "Transcription", place: Place, several: bool) -> int:
    """Deliver one transcript; returns its exit status."""
    from ..client import BucketRefused, ServerProblem

    whose = f"{found.id}: " if several else ""
    try:
        place.deliver(found.id, client.transcript(found.id, place.format))
    except ServerProblem as problem:
        return _refused(found.id if several else "", problem)
    except (BucketRefused, NotWritten) as error:
        note(f"Error: {whose}{explained(error)}")
        return FAILED
    if found.partial:
        note(f"Error: {whose}{failure(found)} This is the transcript up to there.")
        return NO_TRANSCRIPT
    return 0


def _refused(id: str, problem: "ServerProblem") -> int:
    """A transcript that will never be ready is another matter than one that is not ready yet."""
    note(f"Error: {f'{id}: ' if id else ''}{explained(problem)}")
    hopeless = problem.document.get("state") in (State.FAILED, State.CANCELED, State.EXPIRED)
    return NO_TRANSCRIPT if problem.code == "not_ready" and hopeless else FAILED
