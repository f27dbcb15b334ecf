"""Simulation of services whose traffic is steady, or shifts, for the benchmark ``monitor``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Protocol

import numpy as np

from benchmarks.monitor_data import Traffic
from catimage.monitoring.prompt_drift import PromptDrift
from catimage.monitoring.streams import detect_change
from catimage.params import MonitorParams

SETTINGS = MonitorParams()
PER_HOUR = 1000 / 24
DAYS, SHIFTS, WARM_UP_DAYS, LONGEST_HOURS = 2000, 200, 2, 48


class Detector(Protocol):
    """A check of several independent services."""

    def hour(self, rows: np.ndarray) -> np.ndarray:
        """Check the requests of an hour, positions of prompts (services, n).

        Returns which services raise an alarm; their evidence starts again.
        """
        ...


NewDetector = Callable[[Traffic, int], Detector]


class Prompts:
    """The check ``prompts``."""

    def __init__(self, data: Traffic, services: int) -> None:
        self.data = data
        self.state = PromptDrift.start(data.points.shape[1], services)
        self.threshold = np.log(SETTINGS.threshold(SETTINGS.max_requests))
        self.auc = np.full(services, 0.5)

    def hour(self, rows: np.ndarray) -> np.ndarray:
        points = self.data.points[rows]
        self.state, ranks = self.state.update(self.data.reference, points, SETTINGS.prompts)
        self.auc, alarms = ranks.mean(1), self.state.evidence >= self.threshold
        self.state.detector[alarms] = self.state.restarted().detector[alarms]
        return alarms


class Streams:
    """The check ``streams`` for the distances of prompts."""

    def __init__(self, data: Traffic, services: int) -> None:
        self.ranks = data.reference.distance_ranks(data.points)
        self.values: list[list[float]] = [[] for _ in range(services)]

    def hour(self, rows: np.ndarray) -> np.ndarray:
        alarms = np.zeros(len(rows), bool)
        for i, new in enumerate(self.ranks[rows].tolist()):
            change = detect_change(self.values[i], new, SETTINGS.streams)
            alarms[i], self.values[i] = change.detected, change.values
        return alarms


def sizes(hours: int) -> Iterator[int]:
    """The number of requests of each hour."""
    ends = np.floor(np.arange(hours + 1) * PER_HOUR).astype(int)
    return (b - a for a, b in pairwise(ends))


def false_alarms(new: NewDetector, data: Traffic, seed: int, services: int = 40) -> int:
    """Count the alarms in :data:`DAYS` days of steady traffic, divided among services."""
    detector, rng = new(data, services), np.random.default_rng(seed)
    return sum(
        int(detector.hour(data.draw("coco", rng, (services, n))).sum())
        for n in sizes(DAYS * 24 // services)
    )


def delays(new: NewDetector, data: Traffic, name: str, seed: int) -> np.ndarray:
    """Requests after a shift until the hourly check that raises an alarm, (SHIFTS,).

    The shift comes after :data:`WARM_UP_DAYS` days of steady traffic, at a random request of an
    hour. Infinite without an alarm within :data:`LONGEST_HOURS` hours.
    """
    detector, rng = new(data, SHIFTS), np.random.default_rng(seed)
    found = np.full(SHIFTS, np.inf)
    for n in sizes(WARM_UP_DAYS * 24):
        detector.hour(data.draw("coco", rng, (SHIFTS, n)))
    seen = -rng.integers(0, n, SHIFTS)
    for n in sizes(LONGEST_HOURS):
        shape = (SHIFTS, n)
        before = seen[:, None] + np.arange(n) < 0
        rows = np.where(before, data.draw("coco", rng, shape), data.draw(name, rng, shape))
        seen = seen + n
        new_alarms = detector.hour(rows) & np.isinf(found)
        found[new_alarms] = seen[new_alarms]
        if np.isfinite(found).all():
            break
    return found
