"""What the functions have in common: how an environment begins, and what stands round each invocation.

The context is AWS's: https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
"""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from structlog.contextvars import bound_contextvars

from .. import logs, metrics
from ..service import Service
from ..settings import Settings


class Context(Protocol):
    """What Lambda says of an invocation."""

    @property
    def aws_request_id(self) -> str:
        """The invocation's id, the same when it is repeated."""

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the invocation is killed."""


def start() -> Service:
    """The service of an environment, from its settings. Makes no request."""
    settings = Settings()
    logs.configure(settings)
    metrics.configure()
    return Service.connect(settings)


@contextmanager
def invocation(context: Context, **facts: str) -> Iterator[None]:
    """Have every log line say which invocation it is of, and write out what was counted."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
    with bound_contextvars(invocation=context.aws_request_id, **facts):
        try:
            yield
        finally:
            metrics.flush()


def first_half(context: Context) -> Callable[[], bool]:
    """What tells whether more than half of the time from now on is left: enough to begin something else."""
    half = context.get_remaining_time_in_millis() / 2
    return lambda: context.get_remaining_time_in_millis() > half
