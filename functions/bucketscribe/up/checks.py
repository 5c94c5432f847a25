"""What can be said to be wrong before anything is started, in a line that says what to do.

    python -m bucketscribe.up.checks

reads the settings and nothing else; it needs the base install only, so `make up` asks it before the rest is
installed. Prints one line a setting and ends with status 1.
"""

import sys

from pydantic import ValidationError

from ..auth import OpenToOthers, check_reach
from ..settings import Settings


class CannotStart(Exception):
    """`bucketscribe up` cannot go on; the text says why and what to do."""


def explain(error: ValidationError) -> list[str]:
    """One readable line for each setting that makes no sense."""
    lines = []
    for problem in error.errors(include_url=False):
        reason = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:
            lines.append(f"Settings: {reason}.")
            continue
        name = str(problem["loc"][0])
        given = "" if name in ("secret", "events_token", "webhook_secret") else f", not {problem['input']!r}"
        lines.append(f"BUCKETSCRIBE_{name.upper()}: {reason}{given}.")
    return lines


def check_host(settings: Settings) -> None:
    """Refuse an address others can reach, where nobody need sign in. Raises CannotStart."""
    try:
        check_reach(settings)
    except OpenToOthers as problem:
        raise CannotStart(str(problem)) from None


def main() -> int:
    """Check the settings; 0 if all is well."""
    try:
        check_host(Settings())
    except ValidationError as error:
        sys.stderr.writelines(f"{line}\n" for line in explain(error))
        return 1
    except CannotStart as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
