"""Other detectors of drift of prompts, for the benchmark ``monitor``."""

from __future__ import annotations

import numpy as np

from benchmarks.monitor_data import Traffic
from benchmarks.monitor_simulation import DAYS, SETTINGS
from catimage.monitoring.e_detector import advance, initial, log_evidence

WINDOW, REFERENCE, RESAMPLES, ALLOWED = 100, 1000, 20_000, 12


class Distances:
    """An e-detector of the mean rank of the distance to the nearest training prompts, two-sided."""

    def __init__(self, data: Traffic, services: int) -> None:
        self.ranks = data.reference.distance_ranks(data.points)
        self.state = initial(2, services)
        self.threshold = np.log(SETTINGS.threshold(SETTINGS.max_requests))

    def hour(self, rows: np.ndarray) -> np.ndarray:
        values = self.ranks[rows]
        self.state = advance(self.state, np.stack([values, 1 - values]), 0.5 + 0.1)
        alarms = log_evidence(self.state).max(0) >= self.threshold + np.log(2)
        self.state[:, alarms] = -np.inf
        return alarms


class PageHinkley:
    """``river.drift.PageHinkley``, as it is by default, of the ranks of the distances."""

    def __init__(self, data: Traffic, services: int) -> None:
        from river.drift import PageHinkley as River

        self.ranks = data.reference.distance_ranks(data.points)
        self.detectors = [River() for _ in range(services)]

    def hour(self, rows: np.ndarray) -> np.ndarray:
        alarms = np.zeros(len(rows), bool)
        for i, values in enumerate(self.ranks[rows].tolist()):
            for value in values:
                self.detectors[i].update(value)
                alarms[i] |= self.detectors[i].drift_detected
        return alarms


class WindowedMmd:
    """The squared maximum mean discrepancy of the last prompts and the training prompts.

    The kernel is Gaussian with the median distance. The threshold is the quantile of windows drawn
    from the training prompts with which, on average, 12 of all checks of :data:`DAYS` days alarm.
    """

    def __init__(self, data: Traffic, services: int) -> None:
        rng = np.random.default_rng(0)
        order = rng.permutation(len(data.train))
        self.reference, others = data.train[order[:REFERENCE]], data.train[order[REFERENCE:]]
        self.scale = float(np.median(1 - others[:500] @ others[500:1000].T))
        self.data, self.window = data, np.empty((services, 0), int)
        self.near = self._kernel(data.embeddings, self.reference).mean(1)
        threshold = [self._drawn(others, rng) for _ in range(RESAMPLES)]
        self.threshold = np.quantile(threshold, 1 - ALLOWED / (DAYS * 24))

    def _kernel(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """For embeddings of unit length: the squared distance is twice the cosine distance."""
        return np.exp(-(1 - a @ np.swapaxes(b, -1, -2)) / self.scale)

    def _drawn(self, others: np.ndarray, rng: np.random.Generator) -> float:
        sample = others[rng.integers(0, len(others), WINDOW)]
        near = self._kernel(sample, self.reference).mean(1)
        return float(self._statistic(sample[None], near[None])[0])

    def _statistic(self, sample: np.ndarray, near: np.ndarray) -> np.ndarray:
        """The statistic without its constant term."""
        within = self._kernel(sample, sample)
        mean = (within.sum((1, 2)) - np.trace(within, axis1=1, axis2=2)) / WINDOW / (WINDOW - 1)
        return mean - 2 * near.mean(1)

    def hour(self, rows: np.ndarray) -> np.ndarray:
        self.window = np.concatenate([self.window, rows], 1)[:, -WINDOW:]
        if self.window.shape[1] < WINDOW:
            return np.zeros(len(rows), bool)
        sample = self.data.embeddings[self.window]
        return self._statistic(sample, self.near[self.window]) > self.threshold
