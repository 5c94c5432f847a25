"""Models that are kept as long as there is memory."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from bucketscribe.worker.engines.memory import Warm, free_on_cpu, size_on_disk


class StandInModel:
    """Takes memory of its device as long as anything refers to it, itself included, as torch's modules do."""

    def __init__(self, device: "StandInDevice", size: int) -> None:
        if size > device.free:
            raise MemoryError
        device.taken += size
        self.circle = self
        weakref.finalize(self, device.give_back, size)


class StandInDevice:
    """So much memory, and what was loaded onto it, in order."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.taken = 0
        self.loads: list[str] = []

    @property
    def free(self) -> int:
        return self.size - self.taken

    def give_back(self, size: int) -> None:
        self.taken -= size

    def loading(self, name: str, size: int) -> Callable[[], StandInModel]:
        def load() -> StandInModel:
            self.loads.append(name)
            return StandInModel(self, size)

        return load


@pytest.fixture
def device() -> StandInDevice:
    gc.collect()
    return StandInDevice(100)


@pytest.fixture
def warm(device: StandInDevice) -> Warm:
    return Warm(lambda: device.free)


def test_a_model_is_loaded_once(device: StandInDevice, warm: Warm) -> None:
    first = warm.get("a", device.loading("a", 40), 40)
    assert warm.get("a", device.loading("a", 40), 40) is first
    assert device.loads == ["a"]


def test_the_one_not_used_for_longest_goes_first(device: StandInDevice, warm: Warm) -> None:
    for name in "abac":  # a is used again after b
        warm.get(name, device.loading(name, 40), 40)
    assert ["a" in warm, "b" in warm, "c" in warm] == [True, False, True]
    assert device.taken == 80


def test_models_go_until_there_is_room(device: StandInDevice, warm: Warm) -> None:
    for name in "abc":
        warm.get(name, device.loading(name, 30), 30)
    warm.get("large", device.loading("large", 60), 60)
    assert ["b" in warm, "c" in warm, "large" in warm] == [False, True, True]


def test_a_load_that_needs_more_than_was_thought_gets_all_there_is(device: StandInDevice, warm: Warm) -> None:
    for name in "ab":
        warm.get(name, device.loading(name, 30), 30)
    warm.get("large", device.loading("large", 90), 10)
    assert device.loads == ["a", "b", "large", "large"]
    assert ["a" in warm, "b" in warm, "large" in warm] == [False, False, True]


def test_a_model_larger_than_the_device_is_told(device: StandInDevice, warm: Warm) -> None:
    with pytest.raises(MemoryError):
        warm.get("huge", device.loading("huge", 101), 101)
    assert "huge" not in warm
    warm.get("a", device.loading("a", 100), 100)


def test_a_load_that_fails_otherwise_costs_the_others_nothing(device: StandInDevice, warm: Warm) -> None:
    def fails() -> None:
        raise OSError("no such file")

    warm.get("a", device.loading("a", 40), 40)
    with pytest.raises(OSError, match="no such file"):
        warm.get("b", fails, 40)
    assert "a" in warm


def test_work_that_runs_out_of_memory_is_tried_again_alone(device: StandInDevice, warm: Warm) -> None:
    for name in "ab":
        warm.get(name, device.loading(name, 40), 40)
    warm.alone_if_needed("b", lambda: StandInModel(device, 50))
    assert ["a" in warm, "b" in warm] == [False, True]
    with pytest.raises(MemoryError):
        warm.alone_if_needed("b", lambda: StandInModel(device, 80))


def test_what_is_dropped_is_free(device: StandInDevice, warm: Warm) -> None:
    warm.get("a", device.loading("a", 40), 40)
    warm.drop("a")
    warm.drop("a")
    assert device.taken == 0
    assert not warm.free_others("b")


def test_a_models_size_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "model.bin").write_bytes(bytes(7))
    (tmp_path / "config.json").write_bytes(bytes(3))
    assert size_on_disk([tmp_path]) == 10
    assert size_on_disk([tmp_path / "config.json", tmp_path / "no such file"]) == 3


@pytest.mark.parametrize(
    ("most", "free"),
    [
        ("max", 8000 * 1024),
        ("5000000", 5_000_000 - 3_000_000 + 500_000),
        ("90000000", 8000 * 1024),
        (None, 8000 * 1024),
    ],
    ids=["no limit", "the container's", "the machine's", "no container"],
)
def test_free_is_what_the_machine_and_the_container_leave(
    tmp_path: Path, most: str | None, free: int
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    if most is not None:
        (tmp_path / "memory.max").write_text(f"{most}\n")
        (tmp_path / "memory.current").write_text("3000000\n")
        (tmp_path / "memory.stat").write_text("anon 2000000\ninactive_file 500000\n")
    assert free_on_cpu(tmp_path / "meminfo", tmp_path) == free


def test_this_machine_has_memory() -> None:
    assert free_on_cpu() > 0
