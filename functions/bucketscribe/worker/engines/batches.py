"""Batches that shrink where the device's memory is too small, and remember what fitted.

Torch-free: what ran out of memory is told by its type's name and its text, for CTranslate2 and cuBLAS say it
in a plain `RuntimeError`. Raises `OutOfMemory` where not even one piece at a time fits.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence

from .base import OutOfMemory

# CTranslate2 and torch, cuBLAS, cuDNN, cuFFT, the C++ library, torch on a CPU, the system and oneMKL.
_SIGNS = (
    "out of memory",
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",
    "cudnn_status_alloc_failed",
    "unable to find an engine to execute this computation",  # there is no room for any that cuDNN has
    "cufft_alloc_failed",
    "bad_alloc",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate memory",
)


def out_of_memory(error: BaseException) -> bool:
    """Whether this, or what it came from, is for want of memory."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and any(sign in str(cause).lower() for sign in _SIGNS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class Batches:
    """How many pieces of work a device takes at once, for each kind of work."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._fitting: dict[Hashable, int] = {}

    def size(self, kind: Hashable) -> int:
        """How many are tried at once."""
        return self._fitting.get(kind, self._most)

    def run[Piece, Result](
        self,
        kind: Hashable,
        pieces: Sequence[Piece],
        work: Callable[[Sequence[Piece]], Result],
        make_room: Callable[[], bool],
    ) -> Iterator[tuple[Sequence[Piece], Result]]:
        """Each batch with what came of it, in order; every piece is done once.

        `make_room` frees what others take, and tells whether there was anything: then as many are tried once
        more. What `work` raises for another reason passes through.
        """
        at = 0
        while at < len(pieces):
            batch = pieces[at : at + self.size(kind)]
            try:
                result = work(batch)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                reason = f"{type(error).__name__}: {error}"
            else:
                at += len(batch)
                yield batch, result
                continue
            # Not in `except`: the traceback holds on to what the failed work had allocated.
            if make_room():
                continue
            if len(batch) == 1:
                raise OutOfMemory(reason)
            self._fitting[kind] = len(batch) // 2
