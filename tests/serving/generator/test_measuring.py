from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from catimage.pool.loading import load_pool
from catimage.serving.generator import measuring
from catimage.serving.generator.measuring import SpeedMeter
from catimage.serving.generator.speeds import Speeds

FIXED, PER_IMAGE = 0.02, 0.01
"""Seconds of a step of a simulated device, in total and for each image of up to 8."""


class Device:
    """Returns the times of a device, which other programs slow down in the first measurements."""

    def __init__(self, disturbed: int) -> None:
        self.disturbed, self.sizes = disturbed, list[int]()

    def seconds(self, _: Any, candidate: Any, size: int) -> float:
        self.sizes.append(size)
        factor = size * 5 if len(self.sizes) <= self.disturbed else 1
        return candidate.steps * (FIXED + PER_IMAGE * size * (1 if size <= 8 else 2)) * factor


def measured(monkeypatch: pytest.MonkeyPatch, device: Device) -> Speeds:
    pool = load_pool("tiny")
    candidates = pool.candidates_of("tiny-sd")
    speeds = Speeds({c.candidate: "tiny-sd" for c in candidates})
    cache: Any = SimpleNamespace(pool=pool, names=("tiny-sd",))
    monkeypatch.setattr(measuring, "_seconds", device.seconds)
    for _ in SpeedMeter(cache, speeds).measure():
        pass
    return speeds


def test_the_largest_useful_batch_and_the_time_of_each_candidate(monkeypatch):
    load = measured(monkeypatch, Device(0)).loads()["tiny-sd-8"]
    assert load.batch_size == 8
    assert load.seconds == pytest.approx(8 * (FIXED + PER_IMAGE))
    assert load.batch_seconds == pytest.approx(8 * (FIXED + 8 * PER_IMAGE) / 8)


def test_disturbed_measurements_of_the_first_round_do_not_count(monkeypatch):
    assert measured(monkeypatch, Device(8)).loads() == measured(monkeypatch, Device(0)).loads()


def test_a_batch_that_exceeds_the_memory_is_not_used(monkeypatch):
    device = Device(0)

    def seconds(cache: Any, candidate: Any, size: int) -> float:
        if size > 4:
            raise MemoryError
        return device.seconds(cache, candidate, size)

    pool = load_pool("tiny")
    speeds = Speeds({c.candidate: "tiny-sd" for c in pool.candidates_of("tiny-sd")})
    cache: Any = SimpleNamespace(pool=pool, names=("tiny-sd",))
    monkeypatch.setattr(measuring, "_seconds", seconds)
    for _ in SpeedMeter(cache, speeds).measure():
        pass
    assert speeds.limit("tiny-sd-4") == 4
