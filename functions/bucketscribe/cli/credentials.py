"""Who asks a server: the API key in the environment, and what to say to whom a server refuses.

There is no option for it: every user of a machine can read what stands on a command line in the list of its
processes.
"""

import os

VARIABLE = "BUCKETSCRIBE_API_KEY"

ADVICE = {
    "sign_in_required": f"Set {VARIABLE}; the server's operator makes a key with `bucketscribe keys new`.",
    "bad_credentials": f"They are those in {VARIABLE}.",
    "credentials_expired": f"Set {VARIABLE} to it.",
    "scope_missing": f"Set {VARIABLE} to a key that has it.",
}
"""What to do about a server's refusal, by its code."""


def api_key() -> str | None:
    """The key, or None where there is none."""
    return os.environ.get(VARIABLE, "").strip() or None
