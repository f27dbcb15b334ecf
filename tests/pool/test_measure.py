"""The clock is turned by hand, so that the figures are exact, and NVML needs a GPU, so its counter
is a stand-in; tests/stages measures.
"""

from typing import Any

import numpy as np
import pytest

from catimage.pool.measure import EnergyMeter, Measured, energy_meter, measure
from catimage.pool.spec import Candidate

CANDIDATE = Candidate(candidate="c", generator="g", steps=3)


class Worker:
    """Takes as long as it is told, image after image, at 360 watts; the last wait goes on."""

    def __init__(self, waits: list[float]) -> None:
        self.waits = waits
        self.seeds: list[int] = []
        self.clock = 50.0

    def encode(self, prompts: list[str]) -> None:
        raise AssertionError("a request encodes its own prompt, within the time that is measured")

    def generate(
        self, prompts: list[str], candidate: Candidate, seeds: list[int], encoded: Any = None
    ) -> np.ndarray:
        assert (len(prompts), candidate, len(seeds)) == (1, CANDIDATE, 1)
        self.clock += self.waits[min(len(self.seeds), len(self.waits) - 1)]
        self.seeds += seeds
        return np.zeros((1, 8, 8, 3), np.uint8)


class Counter(EnergyMeter):
    """A counter that the worker turns."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def joules(self) -> float:
        return 360 * self.worker.clock


def working(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> Worker:
    worker = Worker(waits)
    monkeypatch.setattr("time.perf_counter", lambda: worker.clock)
    return worker


def test_the_median_after_a_warm_up_with_the_spread_of_the_repeats(monkeypatch: pytest.MonkeyPatch):
    worker = working(monkeypatch, [9, 8, 2, 4, 6, 8, 20])
    assert measure(worker, CANDIDATE, repeats=5) == Measured(6, 4, None, None)
    assert worker.seeds == [0, 0, 0, 1, 2, 3, 4]


def test_watt_hours_are_read_over_half_a_second_of_images(monkeypatch: pytest.MonkeyPatch):
    worker = working(monkeypatch, [7, 0.125])
    made = measure(worker, CANDIDATE, repeats=2, meter=Counter(worker))
    assert (made.seconds, made.seconds_iqr) == (0.125, 0)
    assert (made.wh, made.wh_iqr) == (pytest.approx(0.125 * 360 / 3600), pytest.approx(0, abs=1e-9))
    assert worker.seeds == [0, 0, *range(8)]


def test_no_gpu_no_meter():
    assert energy_meter("cpu") is None


def test_the_counters_of_all_cards_are_added(monkeypatch: pytest.MonkeyPatch):
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


def test_a_card_without_a_counter_is_no_meter(monkeypatch: pytest.MonkeyPatch):
    import pynvml

    def refuse(*_: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr("catimage.common.devices.device_of", lambda _: "cuda")
    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert energy_meter("auto") is None
