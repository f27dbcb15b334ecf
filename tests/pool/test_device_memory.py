import pytest
import torch

from catimage.errors import InputError
from catimage.pool import device_memory as module
from catimage.pool.device_memory import Workshop, free_bytes, module_bytes


class Moved(torch.nn.Linear):
    """A module of 4,000 bytes that writes down where it is sent."""

    def __init__(self, log: list[str], name: str) -> None:
        super().__init__(999, 1, dtype=torch.float32)
        self._log, self._name = log, name

    def to(self, device: str) -> "Moved":  # type: ignore[override]
        self._log.append(f"{self._name} {device}")
        return self


def _workshop(
    monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> tuple[Workshop, list[str], list[Moved]]:
    """Of a device that this machine need not have."""
    monkeypatch.setattr(module, "device_of", lambda name: name)
    log: list[str] = []
    return Workshop("card", limit), log, [Moved(log, name) for name in "abc"]


def test_what_has_rested_longest_makes_room(monkeypatch: pytest.MonkeyPatch):
    workshop, log, (a, b, c) = _workshop(monkeypatch, limit=9000)
    assert module_bytes(a) == 4000
    for modules in ([a], [b], [a], [c], [a], [b]):
        workshop.bring(modules)
    assert log == ["a card", "b card", "b cpu", "c card", "c cpu", "b card"]


def test_without_a_limit_all_stays(monkeypatch: pytest.MonkeyPatch):
    workshop, log, modules = _workshop(monkeypatch, limit=None)
    for _ in range(2):
        for single in modules:
            workshop.bring([single])
    assert log == ["a card", "b card", "c card"]


def test_a_generator_larger_than_the_limit_has_the_device_to_itself(
    monkeypatch: pytest.MonkeyPatch,
):
    workshop, log, (a, b, c) = _workshop(monkeypatch, limit=5000)
    workshop.bring([c])
    workshop.bring([a, b])
    assert log == ["c card", "c cpu", "a card", "b card"]


def test_dropped_parts_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    workshop, log, (a, b, _) = _workshop(monkeypatch, limit=4000)
    workshop.parts = {"a": a, "b": b}
    workshop.bring([a])
    workshop.drop(["a", "unknown"])
    workshop.bring([b])
    assert list(workshop.parts) == ["b"]
    assert log == ["a card", "b card"]


def test_the_device_and_its_memory():
    assert Workshop("cpu").limit is None
    assert (free_bytes("cpu") or 2**30) > 2**20
    with pytest.raises(InputError, match="device 'teapot'"):
        Workshop("teapot")
