"""Which recordings a command line means: files, patterns the shell has not expanded, standard input.

A pattern is one only if no file has that name. Its matches come in the order of their names, a file named
twice is taken once. All that makes no sense is `typer.BadParameter`, before anything is sent.
"""

import glob
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from .arguments import STANDARD
from .output import senseless

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FILES = "FILE"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording to send. `name` is what the server is told; a stream cannot be sent a second time."""

    source: Path | BinaryIO
    name: str

    @property
    def resumable(self) -> bool:
        """Whether an upload that was interrupted can go on later."""
        return isinstance(self.source, Path)


def gather(words: Sequence[str], name: str | None) -> list[Recording]:
    """The recordings, in the order given; `name` is for a single one."""
    files: dict[Path, Path] = {}
    streams = 0
    for word in words:
        if word == STANDARD:
            streams += 1
        else:
            files |= {file.absolute(): file for file in _files(word) if file.absolute() not in files}
    if streams and (streams > 1 or files):
        raise senseless("standard input (-) must be the only recording", FILES)
    if name is not None and len(files) > 1:
        raise senseless("a name is for one recording only", "--name")
    if streams:
        return [_standard_input(name)]
    return [Recording(file, name or _text(file.name)) for file in files.values()]


def _text(name: str) -> str:
    """A name that is no text on this machine is made one."""
    return os.fsencode(name).decode(errors="replace")


def _files(word: str) -> list[Path]:
    file = Path(word)
    if file.is_dir():
        raise senseless(f"{word} is a folder: name its files, as in '{word}/*.mp3'", FILES)
    if file.exists() and not file.is_file():
        raise senseless(f"{word} is not a regular file: give - and pipe it in, as with < {word}", FILES)
    if file.exists() or not glob.has_magic(word):
        try:
            file.open("rb").close()
        except OSError as error:
            raise senseless(f"{word}: {error.strerror}", FILES) from None
        return [file]
    matches = map(Path, glob.glob(word, recursive=True))  # noqa: PTH207 -- a pattern may be absolute
    found = sorted(match for match in matches if match.is_file())
    if not found:
        raise senseless(f"no file matches {word}", FILES)
    return found


def _standard_input(name: str | None) -> Recording:
    if sys.stdin.isatty():
        raise senseless("standard input is a terminal: pipe a recording into it", "-")
    # Another program may have left it so that "nothing yet" looks like its end.
    os.set_blocking(sys.stdin.fileno(), True)
    # Unbuffered: Python cannot end while a thread waits for a buffered one.
    stream = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
    if name is not None:
        return Recording(stream, name)
    from ..media import HEAD_BYTES

    head = b""
    while len(head) < HEAD_BYTES and (block := stream.read(HEAD_BYTES - len(head))):
        head += block
    return Recording(_Rejoined(head, stream), f"recording.{_extension(head)}")  # type: ignore[arg-type]


def _extension(head: bytes) -> str:
    """What a recording that begins so is usually named; the worker's decoder looks for itself."""
    import puremagic

    from ..errors import Problem
    from ..media import EXTENSIONS, check_content

    try:
        check_content(head)
        guesses = [guess.extension.removeprefix(".") for guess in puremagic.magic_string(head)]
    except Problem as problem:
        raise senseless(problem.detail, "-") from None
    except puremagic.PureError:
        guesses = []
    known: str | None = next((guess for guess in guesses if guess in EXTENSIONS), None)
    if known is None:
        raise senseless("its first bytes do not tell what it is: name it, as in --name talk.mp3", "-")
    return known


class _Rejoined(io.RawIOBase):
    """A stream whose beginning has been read already."""

    def __init__(self, head: bytes, rest: io.RawIOBase) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        view = memoryview(buffer).cast("B")
        data = self._head[: len(view)] or self._rest.read(len(view))
        if data is None:
            return None
        self._head = self._head[len(data) :]
        view[: len(data)] = data
        return len(data)
