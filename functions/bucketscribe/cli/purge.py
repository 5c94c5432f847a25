"""`purge`: the operator has old recordings removed, where the server has no lifecycle rules that do.

Records stay, and so do transcripts unless they are named. It can be repeated, and interrupted at any time.
"""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from .operator import DataDir, known_settings, sdk_credentials
from .output import fail, note, say, senseless

if TYPE_CHECKING:
    from ..retention import Place, Retention

PERIOD = re.compile(r"([0-9]{1,5})([dh])")


def purge(
    older_than: Annotated[
        str,
        typer.Option(metavar="30d|12h", help="How long ago a transcription must have ended, at least."),
    ],
    results: Annotated[
        bool, typer.Option("--results", help="Transcripts and waveforms, too, not only recordings.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Remove the recordings of transcriptions that ended long ago.

    Where bucket rules can do this, let them. It works past any server, on the bucket itself. What is in
    progress stays, and so does every record: lists show it as before, and its media answer 410.
    """
    from ..bucket import Bucket
    from ..records import Records
    from ..retention import Place, Retention

    period = _period(older_than)
    settings = known_settings(data_dir)
    sdk_credentials()
    bucket = Bucket.connect(settings)
    retention = Retention(bucket, Records(bucket))
    for place in (Place.RECORDINGS, Place.RESULTS) if results else (Place.RECORDINGS,):
        _purge(retention, place, period, dry_run, settings.bucket)


def _purge(retention: "Retention", place: "Place", period: timedelta, dry_run: bool, name: str) -> None:
    """One place, and what was removed there, also if that is broken off."""
    from ..bucket import StorageError

    removed = size = unknown = 0
    try:
        for gone in retention.purge(place, retention.bucket.now() - period, dry_run=dry_run):
            if gone.known:
                removed, size = removed + 1, size + gone.bytes
            else:
                unknown += 1
    except StorageError as error:
        fail(f"The bucket {name}: {error} [storage_unavailable]")
    finally:
        did = "would remove" if dry_run else "removed"
        say(f"{place.name.lower()}: {did} those of {removed} transcriptions, {size} bytes")
        if unknown:
            note(f"{place.name.lower()}: left those of {unknown} that have no record. [no_record]")


def _period(word: str) -> timedelta:
    found = PERIOD.fullmatch(word)
    if found is None or int(found[1]) == 0:
        raise senseless("days such as 30d, or hours such as 12h", "--older-than")
    count = int(found[1])
    return timedelta(days=count) if found[2] == "d" else timedelta(hours=count)
