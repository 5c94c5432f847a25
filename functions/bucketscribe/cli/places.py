"""Where each transcript of a command goes: standard output, a file, or a file of its own in a folder.

What makes no sense is `typer.BadParameter`, found out now and not after hours of transcribing.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .arguments import Format
from .output import clean, senseless, write


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
            _write(self.file, transcript)
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
            raise senseless(
                f"several {printed} transcripts are no {printed} file: give a folder with --output",
                "--format",
            )
        headers = [f"==> {clean(name)} <==\n" for name in names] if several else [""] * len(names)
        return [Place(None, printed, "\n" * bool(number) + header) for number, header in enumerate(headers)]
    if output.endswith("/") or Path(output).is_dir():
        kind = format or Format.TXT
        return [Place(_made(output) / f"{stem}.{kind}", kind) for stem in stems(names)]
    if several:
        raise senseless(f"{output} is not a folder: for several, end it in a slash", "--output")
    file = Path(output)
    if not file.absolute().parent.is_dir():
        raise senseless(f"there is no folder {file.parent}", "--output")
    return [Place(file, _format(file, format))]


def _format(file: Path, told: Format | None) -> Format:
    """The format told, or else that of the file's name. Nothing is written over what may be a recording."""
    from ..media import EXTENSIONS

    suffix = file.suffix.removeprefix(".").lower()
    if suffix in EXTENSIONS:
        raise senseless(f"{file} is a recording by its name", "--output")
    if told is None and suffix and suffix not in Format:
        raise senseless(f"{file}: its name tells no format, add --format", "--output")
    return told or (Format(suffix) if suffix else Format.TXT)


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
        raise senseless(f"{folder}: {error.strerror}", "--output") from None
    return path


def _write(file: Path, data: bytes) -> None:
    """The file appears whole or not at all, but for one such as a named pipe. Raises OSError."""
    if file.exists() and not file.is_file():
        file.write_bytes(data)
        return
    target = file.resolve()
    beside = target.with_name(f".bucketscribe-{os.getpid()}.new")
    try:
        beside.write_bytes(data)
        beside.replace(target)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
