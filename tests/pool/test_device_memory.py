"""Device memory: modules move to the host when the limit is reached, and parts are evicted."""

import pytest
import torch

from catimage.errors import InputError
from catimage.pool import device_memory
from catimage.pool.device_memory import DeviceMemory, free_bytes, module_bytes


class LoggedModule(torch.nn.Linear):
    """A module of 4,000 bytes that logs the devices to which it is moved."""

    def __init__(self, log: list[str], name: str) -> None:
        super().__init__(999, 1, dtype=torch.float32)
        self._log, self._name = log, name

    def to(self, device: str) -> "LoggedModule":  # type: ignore[override]
        self._log.append(f"{self._name} {device}")
        return self


def _memory(
    monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> tuple[DeviceMemory, list[str], list[LoggedModule]]:
    """Return the memory of a fake device ``card``, a log of moves, and three modules."""
    monkeypatch.setattr(device_memory, "device_of", lambda name: name)
    log: list[str] = []
    return DeviceMemory("card", limit), log, [LoggedModule(log, name) for name in "abc"]


def test_the_least_recently_used_module_is_moved_to_the_host(monkeypatch: pytest.MonkeyPatch):
    memory, log, (a, b, c) = _memory(monkeypatch, limit=9000)
    assert module_bytes(a) == 4000
    for modules in ([a], [b], [a], [c], [a], [b]):
        memory.load(modules)
    assert log == ["a card", "b card", "b cpu", "c card", "c cpu", "b card"]


def test_all_modules_stay_on_a_device_without_a_limit(monkeypatch: pytest.MonkeyPatch):
    memory, log, modules = _memory(monkeypatch, limit=None)
    for _ in range(2):
        for module in modules:
            memory.load([module])
    assert log == ["a card", "b card", "c card"]


def test_modules_that_exceed_the_limit_together_are_moved_to_the_device_without_others(
    monkeypatch: pytest.MonkeyPatch,
):
    memory, log, (a, b, c) = _memory(monkeypatch, limit=5000)
    memory.load([c])
    memory.load([a, b])
    assert log == ["c card", "c cpu", "a card", "b card"]


def test_the_rest_of_modules_that_exceed_the_limit_is_moved_before_a_part_of_them_runs_alone(
    monkeypatch: pytest.MonkeyPatch,
):
    memory, log, (a, b, _) = _memory(monkeypatch, limit=5000)
    memory.load([a, b])
    memory.load([b])
    memory.load([b])
    assert log == ["a card", "b card", "a cpu"]


def test_evicted_parts_are_removed(monkeypatch: pytest.MonkeyPatch):
    memory, log, (a, b, _) = _memory(monkeypatch, limit=4000)
    memory.parts = {"a": a, "b": b}
    memory.load([a])
    memory.evict(["a", "unknown"])
    memory.load([b])
    assert list(memory.parts) == ["b"]
    assert log == ["a card", "b card"]


def test_a_cpu_has_no_limit_and_an_unknown_device_is_refused():
    assert DeviceMemory("cpu").limit is None
    assert (free_bytes("cpu") or 2**30) > 2**20
    with pytest.raises(InputError, match="device 'unknown'"):
        DeviceMemory("unknown")
