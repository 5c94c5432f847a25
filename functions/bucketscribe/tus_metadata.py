"""`Upload-Metadata` (tus 1.0.0, "Creation"): names, each with a value in base64, separated by commas.

What it names is the file (`filename` or `name`, `filetype` or `type`), options of the transcription by their
names, whatever begins with `x-`, and the `taskId` by which clients of the older service ask for the task.
What upload libraries add by themselves is passed over; any other name has no effect and breaks no client:
the record says so.
"""

import re
from base64 import b64decode
from binascii import Error as NoBase64
from dataclasses import dataclass
from typing import Final

from .errors import Problem
from .options import CALLBACK, OPTION_NAMES, ignored_names
from .tasks import NAME_CHARACTERS

UNNAMED: Final = "recording"
"""What a file is called that has no name."""

MOST_CHARACTERS: Final = 16 * 1024

_ABSENT: Final = frozenset({"", "undefined", "null"})
"""What Uppy sends for a field that is allowed and that a file does not have."""

_TASK: Final = "taskId"

_ADDED_BY_LIBRARIES: Final = frozenset(
    {
        *("relativePath", "lastModified", "size", "partSize", "fileId", "fileExt", "contentType"),
        *("modified", "date", "checksum", "thumbnail", "preview", "caption", "null", "is_confidential"),
    }
)
_PLACES: Final = {"name": "name", "filename": "name", "type": "type", "filetype": "type"}
_NAME: Final = re.compile(r"[!-+\--~]{1,256}")


@dataclass(frozen=True, slots=True)
class Told:
    """Metadata, understood: what the file is called and is, its options, and what has no effect.

    `task` is the name by which its client will ask for the task.
    """

    name: str | None
    type: str | None
    task: str | None
    options: dict[str, str]
    ignored: tuple[str, ...]


def read_upload_metadata(text: str) -> Told:
    """Take a header's value apart. Raises Problem `invalid_upload_metadata`."""
    values = {name: value for name, value in _values(text).items() if value not in _ABSENT}
    file: dict[str, str] = {}
    options: dict[str, str] = {}
    ignored = []
    task = values.pop(_TASK, None)
    if task is not None and len(task) > NAME_CHARACTERS:
        # A task cannot be asked for by so long a name.
        ignored.append(_TASK)
        task = None
    for name, value in values.items():
        if name in _PLACES:
            # The name that says more comes first: `filename`, `filetype`.
            if name.startswith("file") or _PLACES[name] not in file:
                file[_PLACES[name]] = value
        elif name in OPTION_NAMES or name == CALLBACK or name.startswith("x-"):
            options[name] = value
        elif name not in _ADDED_BY_LIBRARIES:
            ignored.append(name)
    return Told(file.get("name"), file.get("type"), task, options, ignored_names(sorted(ignored)))


def _values(text: str) -> dict[str, str]:
    if len(text) > MOST_CHARACTERS:
        raise _invalid(f"It may have {MOST_CHARACTERS} characters at most.")
    values: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        name, _, encoded = pair.strip().partition(" ")
        if not _NAME.fullmatch(name):
            raise _invalid("Each name is of visible ASCII characters, without commas, and none is empty.")
        if name in values:
            raise _invalid(f"{name} stands there twice.")
        try:
            values[name] = b64decode(encoded, validate=True).decode()
        except (NoBase64, ValueError):
            raise _invalid(f"The value of {name} is not text in UTF-8, in base64.") from None
    return values


def _invalid(detail: str) -> Problem:
    return Problem(
        "invalid_upload_metadata",
        f"{detail} Upload-Metadata is a list of names, each with its value in base64, as in: filename "
        "dGFsay5tcDM=,language ZW4=",
    )
