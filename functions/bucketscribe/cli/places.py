"""Where each transcript of a command goes: standard output, a file, or a file of its own in a folder.

What makes no sense is `typer.BadParameter`, found out now and not after hours of transcribing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import typer

from .arguments import Format
from .output import clean, write


class NotWritten(Exception):
    """A transcript could not be put into its place. `detail` says which, why, and where it still is."""

    code = "not_written"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Place:
    """Where one transcript goes, and in which format. Without a file it is printed, under its header."""

    file: Path | None
    format: Format
    header: str = ""

    def deliver(self, id: str, transcript: bytes) -> None:
        """Put the transcript there. Raises NotWritten."""
        if self.file is None:
            write(self.header.encode(errors="replace") + transcript)
            return
        try:
            self.file.write_bytes(transcript)
        except OSError as error:
            raise NotWritten(
                f"{self.file}: {error.strerror}. The transcript stays: bucketscribe get {id}"
            ) from error


def places(
    output: str | None, format: Format | None, names: Sequence[str], several: bool | None = None
) -> list[Place]:
    """A place for each recording of these names, no two alike; `several` if more were asked for.

    Makes the folder.
    """
    several = len(names) > 1 if several is None else several
    if output is None:
        printed = format or Format.TXT
        if several and printed is not Format.TXT:
            raise typer.BadParameter(
                f"several {printed} transcripts are no {printed} file: give a folder with --output",
                param_hint="--format",
            )
        headers = [f"==> {clean(name)} <==\n" for name in names] if several else [""] * len(names)
        return [Place(None, printed, "\n" * bool(number) + header) for number, header in enumerate(headers)]
    if output.endswith("/") or Path(output).is_dir():
        kind = format or Format.TXT
        return [Place(_made(output) / f"{stem}.{kind}", kind) for stem in stems(names)]
    if several:
        raise typer.BadParameter(
            f"{output} is not a folder: for several, end it in a slash", param_hint="--output"
        )
    file = Path(output)
    if not file.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {file.parent}", param_hint="--output")
    suffix = file.suffix.removeprefix(".").lower()
    return [Place(file, format or (Format(suffix) if suffix in Format else Format.TXT))]


def stems(names: Iterable[str]) -> list[str]:
    """Names without folder and extension; one alike an earlier one, in whatever case, gets a number."""
    taken: set[str] = set()
    chosen = []
    for name in names:
        stem = candidate = clean(Path(name).stem) or "recording"
        number = 1
        while candidate.casefold() in taken:
            number += 1
            candidate = f"{stem}-{number}"
        taken.add(candidate.casefold())
        chosen.append(candidate)
    return chosen


def _made(folder: str) -> Path:
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{folder}: {error.strerror}", param_hint="--output") from None
    return path
