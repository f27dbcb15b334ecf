"""Measurements with a fake clock and a fake energy counter.

tests/stages/test_generate.py has measurements with a real clock.
"""

from typing import Any

import numpy as np
import pytest

from catimage.pool.measure import EnergyMeter, Measurement, energy_meter, measure
from catimage.pool.spec import Candidate

CANDIDATE = Candidate(candidate="c", generator="g", steps=3)


class FakeGenerator:
    """A generator that advances a fake clock.

    Args:
        durations: seconds of each image; the last value is used for all further images.
    """

    def __init__(self, durations: list[float]) -> None:
        self.durations = durations
        self.seeds: list[int] = []
        self.clock = 50.0

    def encode(self, prompts: list[str]) -> None:
        raise AssertionError("the measurement must include the encoding of the prompt")

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        assert (len(prompts), candidate, len(seeds)) == (1, CANDIDATE, 1)
        self.clock += self.durations[min(len(self.seeds), len(self.durations) - 1)]
        self.seeds += seeds
        return np.zeros((1, 8, 8, 3), np.uint8)


class FakeMeter(EnergyMeter):
    """The energy counter of a fake generator with a power of 360 watts."""

    def __init__(self, generator: FakeGenerator) -> None:
        self.generator = generator

    def joules(self) -> float:
        return 360 * self.generator.clock


def fake_generator(monkeypatch: pytest.MonkeyPatch, durations: list[float]) -> FakeGenerator:
    generator = FakeGenerator(durations)
    monkeypatch.setattr("time.perf_counter", lambda: generator.clock)
    return generator


def test_two_warm_up_images_are_excluded_from_median_and_interquartile_range(
    monkeypatch: pytest.MonkeyPatch,
):
    generator = fake_generator(monkeypatch, [9, 8, 2, 4, 6, 8, 20])
    assert measure(generator, CANDIDATE, repeats=5) == Measurement(6, 4, None, None)
    assert generator.seeds == [0, 0, 0, 1, 2, 3, 4]


def test_watt_hours_are_averaged_over_as_many_images_as_take_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
):
    generator = fake_generator(monkeypatch, [7, 0.125])
    measurement = measure(generator, CANDIDATE, repeats=2, meter=FakeMeter(generator))
    assert (measurement.seconds, measurement.seconds_iqr) == (0.125, 0)
    assert (measurement.wh, measurement.wh_iqr) == (
        pytest.approx(0.125 * 360 / 3600),
        pytest.approx(0, abs=1e-9),
    )
    assert generator.seeds == [0, 0, *range(8)]


def test_a_cpu_has_no_energy_meter():
    assert energy_meter("cpu") is None


def test_the_energy_counters_of_all_gpus_are_added(monkeypatch: pytest.MonkeyPatch):
    import pynvml
    import torch

    class Properties:
        def __init__(self, uuid: str) -> None:
            self.uuid = uuid

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: Properties(["a", "GPU-b"][i])
    )
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", {"GPU-a": 1, "GPU-b": 2}.__getitem__)
    monkeypatch.setattr(
        pynvml, "nvmlDeviceGetTotalEnergyConsumption", {1: 3500, 2: 500}.__getitem__
    )
    assert EnergyMeter().joules() == 4.0


def test_a_gpu_without_an_energy_counter_has_no_energy_meter(monkeypatch: pytest.MonkeyPatch):
    import pynvml

    def raise_error(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr("catimage.pool.measure.device_of", lambda _: "cuda")
    monkeypatch.setattr(pynvml, "nvmlInit", raise_error)
    assert energy_meter("auto") is None
