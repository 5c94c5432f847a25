"""Batches that shrink where memory is too small."""

from collections.abc import Sequence

import pytest
from bucketscribe.worker.engines.base import OutOfMemory
from bucketscribe.worker.engines.batches import Batches, out_of_memory
from hypothesis import given
from hypothesis import strategies as st


class StandInDevice:
    """Works on so many pieces at once; more are what CTranslate2 says on a GPU."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.done: list[int] = []
        self.sizes: list[int] = []
        self.room_made = 0

    def work(self, batch: Sequence[int]) -> list[int]:
        self.sizes.append(len(batch))
        if len(batch) > self.most:
            raise RuntimeError("CUDA failed with error out of memory")
        self.done += batch
        return [-piece for piece in batch]

    def make_room(self) -> bool:
        self.room_made += 1
        return self.room_made == 1


def test_what_is_done_is_not_done_again_and_what_fits_is_remembered() -> None:
    batches, device = Batches(8), StandInDevice(3)
    done = list(batches.run("large", range(12), device.work, device.make_room))
    assert device.sizes == [8, 8, 4, 2, 2, 2, 2, 2, 2]
    assert device.done == list(range(12))
    assert [result for _, results in done for result in results] == [-piece for piece in range(12)]

    device.sizes.clear()
    assert len(list(batches.run("large", range(4), device.work, device.make_room))) == 2
    assert device.sizes == [2, 2]
    assert batches.size("tiny") == 8


@given(pieces=st.integers(0, 40), most=st.integers(1, 20), fits=st.integers(1, 20))
def test_every_piece_is_done_once_and_in_order(pieces: int, most: int, fits: int) -> None:
    device = StandInDevice(fits)
    done = list(Batches(most).run("", range(pieces), device.work, device.make_room))
    assert [piece for batch, _ in done for piece in batch] == list(range(pieces)) == device.done


def test_one_piece_has_a_second_chance_where_there_was_room_to_be_made() -> None:
    device = StandInDevice(0)

    def make_room() -> bool:
        device.most = 1
        return True

    assert len(list(Batches(1).run("", [7], device.work, make_room))) == 1


def test_where_room_is_enough_nothing_shrinks() -> None:
    device = StandInDevice(2)

    def make_room() -> bool:
        device.most = 8
        return True

    batches = Batches(8)
    assert len(list(batches.run("", range(16), device.work, make_room))) == 2
    assert (device.sizes, batches.size("")) == ([8, 8, 8], 8)


def test_where_not_one_piece_fits_memory_is_too_small() -> None:
    device = StandInDevice(0)
    with pytest.raises(OutOfMemory, match="out of memory"):
        list(Batches(4).run("", range(9), device.work, device.make_room))
    assert device.sizes == [4, 4, 2, 1]


def test_another_failure_passes_through() -> None:
    def work(batch: Sequence[int]) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        list(Batches(4).run("", range(9), work, lambda: True))


class OutOfMemoryError(RuntimeError):
    """Called as torch's."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA failed with error out of memory"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_NOT_INITIALIZED"),
        RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("mkl_malloc: failed to allocate memory"),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        MemoryError(),
    ],
    ids=str,
)
def test_want_of_memory_is_told_also_by_what_it_led_to(error: Exception) -> None:
    assert out_of_memory(error)

    def load() -> None:
        try:
            raise error
        finally:
            raise ValueError("the model could not be found")  # as whisperx does, without a `from`

    with pytest.raises(ValueError, match="found") as led_to:
        load()
    assert out_of_memory(led_to.value)


@pytest.mark.parametrize(
    "error", [ValueError("out of memory"), RuntimeError("no kernel image"), OSError(12, "")]
)
def test_other_errors_are_not_for_want_of_memory(error: Exception) -> None:
    assert not out_of_memory(error)
