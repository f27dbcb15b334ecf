"""The measured largest batch with simulated devices, whose measurements are disturbed."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from catimage.pool.loading import load_pool
from catimage.serving.generator import measuring
from catimage.serving.generator.measuring import SpeedMeter
from catimage.serving.generator.speeds import Speeds

FIXED, PER_IMAGE = 0.02, 0.01
"""Seconds of a step of a simulated device, in total and for each image of up to 8."""


def helps(size: int) -> float:
    """Return the seconds of a step of a device with a cache for eight images."""
    return FIXED + PER_IMAGE * size * (1 if size <= 8 else 2)


def linear(size: int) -> float:
    """Return the seconds of a step of a device for which batches are useless."""
    return PER_IMAGE * size


class Device:
    """Returns the times of a device, which other programs disturb.

    Args:
        disturbance: returns a factor of the time of a batch: its number, from 0, and its images.
        step: returns the seconds of a denoising step of a batch.
    """

    def __init__(
        self,
        disturbance: Callable[[int, int], float] = lambda number, size: 1.0,
        step: Callable[[int], float] = helps,
        memory: int = 32,
    ) -> None:
        self.disturbance, self.step, self.memory = disturbance, step, memory
        self.sizes: list[int] = []

    def seconds(self, _: Any, candidate: Any, size: int) -> float:
        if size > self.memory:
            raise MemoryError
        self.sizes.append(size)
        factor = self.disturbance(len(self.sizes) - 1, size)
        return candidate.steps * self.step(size) * factor


def measured(monkeypatch: pytest.MonkeyPatch, device: Device) -> Speeds:
    pool = load_pool("tiny")
    candidates = pool.candidates_of("tiny-sd")
    speeds = Speeds({c.candidate: "tiny-sd" for c in candidates})
    cache: Any = SimpleNamespace(pool=pool, names=("tiny-sd",))
    monkeypatch.setattr(measuring, "_seconds", device.seconds)
    for _ in SpeedMeter(cache, speeds).measure():
        pass
    return speeds


def first_disturbed(number: int, size: int) -> float:
    """Return factors of a program that runs during the first eight batches."""
    return size * 5.0 if number < 8 else 1.0


def test_the_largest_useful_batch_and_the_time_of_each_candidate(monkeypatch):
    load = measured(monkeypatch, Device()).loads()["tiny-sd-8"]
    assert load.batch_size == 8
    assert load.seconds == pytest.approx(8 * (FIXED + PER_IMAGE))
    assert load.batch_seconds == pytest.approx(8 * (FIXED + 8 * PER_IMAGE) / 8)


def test_disturbed_measurements_of_the_first_round_do_not_count(monkeypatch):
    disturbed = measured(monkeypatch, Device(first_disturbed))
    assert disturbed.loads() == measured(monkeypatch, Device()).loads()


@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize(("step", "size"), [(helps, 8), (linear, 1)])
def test_one_disturbed_measurement_changes_nothing(monkeypatch, number, step, size):
    device = Device(lambda i, _: 10.0 if i == number else 1.0, step)
    assert measured(monkeypatch, device).limit("tiny-sd-8") == size


@pytest.mark.parametrize("factor", [2.0, 3.0, 5.0, 10.0])
def test_larger_batches_are_used_if_only_single_images_were_undisturbed(monkeypatch, factor):
    device = Device(lambda _, size: 1.0 if size == 1 else factor)
    assert measured(monkeypatch, device).limit("tiny-sd-8") == 8


@pytest.mark.parametrize("seed", range(20))
def test_random_disturbances_of_most_batches_do_not_lead_to_single_images(monkeypatch, seed):
    draw = random.Random(seed)
    device = Device(lambda _, size: draw.choice([1.0, 2.0, 3.0, 4.0]))
    assert measured(monkeypatch, device).limit("tiny-sd-8") > 1


@pytest.mark.parametrize("seed", range(20))
def test_batches_stay_small_on_a_device_for_which_they_are_useless(monkeypatch, seed):
    draw = random.Random(seed)
    device = Device(lambda _, size: draw.uniform(1.0, 1.05), linear)
    assert measured(monkeypatch, device).limit("tiny-sd-8") == 1


def test_a_batch_that_exceeds_the_memory_is_not_used(monkeypatch):
    speeds = measured(monkeypatch, Device(memory=4))
    assert speeds.limit("tiny-sd-4") == 4
    for _ in range(100):
        assert speeds.limit("tiny-sd-4") <= 4  # nor is it tried with requests
        speeds.record("tiny-sd-4", 4, 1.0)


def test_the_last_round_is_left_out_on_a_slow_device(monkeypatch):
    usual, slow = Device(), Device()
    measured(monkeypatch, usual)
    monkeypatch.setattr(measuring, "LONGEST_SECONDS", 0.0)
    measured(monkeypatch, slow)
    assert slow.sizes == usual.sizes[: len(slow.sizes)]
    assert (usual.sizes.count(32), slow.sizes.count(32)) == (3, 2)


def test_one_line_of_the_log_has_the_measured_sizes(monkeypatch, caplog):
    with caplog.at_level(logging.INFO):
        measured(monkeypatch, Device())
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == "images of the largest batch of each generator, as measured: tiny-sd 8"
