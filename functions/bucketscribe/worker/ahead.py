"""A recording's windows as samples, each decoded while the one before it is transcribed.

Two windows are in memory at most. A recording is always decoded from its beginning, and what is not wanted is
thrown away: no container can be trusted to seek to a sample, and an hour takes seconds. Raises whatever
opening and decoding raise.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial

import numpy as np

from .decode import Decoder
from .engines.base import Samples
from .plan import Stretch

type Open = Callable[[], AbstractContextManager[Decoder]]


def windows(
    open_recording: Open,
    stretches: Sequence[Stretch],
    check: Callable[[], None],
    first: Samples | None = None,
) -> Generator[Samples]:
    """The samples of each stretch; these must be in order. `check` is called often, and may raise.

    `first` are the samples of the first stretch where they are known already.
    """
    known = [] if first is None else [first]
    del first
    reading = _read(open_recording, stretches[len(known) :], check)
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as thread:
        try:
            following = thread.submit(known.pop if known else partial(next, reading))
            for number in range(len(stretches)):
                samples = following.result()
                if number + 1 < len(stretches):
                    following = thread.submit(next, reading)
                else:
                    del following
                yield samples
                del samples
        finally:
            # Not before the thread is done with it.
            thread.submit(reading.close)


def _read(
    open_recording: Open, stretches: Sequence[Stretch], check: Callable[[], None]
) -> Generator[Samples]:
    if not stretches:
        return
    with open_recording() as decoder:
        blocks = decoder.blocks()
        block, begin = np.empty(0, np.float32), 0  # a block, and the number of its first sample
        for stretch in stretches:
            samples = np.empty(stretch.end - stretch.first, np.float32)
            filled = 0
            while filled < len(samples):
                check()
                if begin + len(block) <= stretch.first + filled:
                    begin += len(block)
                    block = next(blocks)
                    continue
                part = block[stretch.first + filled - begin :][: len(samples) - filled]
                samples[filled : filled + len(part)] = part
                filled += len(part)
            yield samples
            del samples
