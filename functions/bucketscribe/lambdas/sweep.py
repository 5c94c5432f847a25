"""The sweep, each time the scheduler says so; whatever it says.

What there is no time for is left to the next one, which begins with those nobody looked at.
"""

from ..sweep import Sweep
from .invocation import Context, first_half, invocation, start

sweep = Sweep(start())


def handler(event: object, context: Context) -> dict[str, int]:
    """Look at what is not finished. Raises what the bucket raises if it cannot even be listed."""
    with invocation(context):
        return {"looked": sweep.run(first_half(context))}
