"""One readable log of all processes: each line begins with who said it, in that one's colour.

Colours only where standard output is a terminal and NO_COLOR (no-color.org) is not set. What processes say
is cleaned of control characters. A terminal that has gone away is no reason to fail.
"""

import os
import re
import sys
from contextlib import suppress
from typing import TextIO

COLOURS = {"up": 1, "seaweedfs": 34, "sqs": 36, "api": 32, "worker": 35, "sweep": 33}
WIDTH = max(map(len, COLOURS))
CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f]")


class Log:
    """Writes to one stream, by default standard output."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._colours = self._stream.isatty() and not os.environ.get("NO_COLOR")

    def line(self, name: str, text: str) -> None:
        """One line said by `name`."""
        prefix = f"{name:<{WIDTH}} |"
        if self._colours:
            prefix = f"\x1b[{COLOURS.get(name, 37)}m{prefix}\x1b[0m"
        self.bare(f"{prefix} {clean(text)}")

    def bare(self, text: str) -> None:
        """One line as it is."""
        with suppress(OSError, ValueError):
            self._stream.write(f"{text}\n")
            self._stream.flush()


def clean(text: str) -> str:
    """The text without colours and other control characters."""
    return CONTROL.sub("", text)
