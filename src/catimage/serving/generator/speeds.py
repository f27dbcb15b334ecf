"""The measured speed of each candidate, kept up to date by the batches that are made."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from catimage.serving.tasks import CandidateLoad

WEIGHT = 0.2
"""The weight of a new batch in the exponential averages."""


class Speeds:
    """Seconds per image and largest batch of each candidate. Methods may be called by any thread.

    Args:
        generators: the generator of each candidate, by name of the candidate.
    """

    def __init__(self, generators: Mapping[str, str]) -> None:
        self._generators = dict(generators)
        self._loads = {name: CandidateLoad(0.0, 0.0, 1) for name in generators}
        self._lock = threading.Lock()

    def limit(self, candidate: str) -> int:
        """Return the largest batch of a candidate."""
        return self._loads[candidate].batch_size

    def loads(self) -> dict[str, CandidateLoad]:
        """Return the speed of every candidate."""
        with self._lock:
            return dict(self._loads)

    def set(self, candidate: str, load: CandidateLoad) -> None:
        """Set the measured speed of a candidate."""
        with self._lock:
            self._loads[candidate] = load

    def set_size(self, generator: str, size: int) -> None:
        """Set the largest batch of all candidates of a generator."""
        with self._lock:
            for name, load in self._loads.items():
                if self._generators[name] == generator:
                    self._loads[name] = replace(load, batch_size=size)

    def record(self, candidate: str, images: int, seconds: float) -> None:
        """Update the averages with a batch that was generated in ``seconds``."""
        with self._lock:
            load = self._loads[candidate]
            if images == 1:
                load = replace(load, seconds=_average(load.seconds, seconds))
            if images >= max(1, load.batch_size // 2):
                per_image = _average(load.batch_seconds, seconds / images)
                load = replace(load, batch_seconds=per_image)
            self._loads[candidate] = load

    def record_request(self, candidate: str, seconds: float) -> None:
        """Update the average of a remote candidate, which takes no time of a device."""
        with self._lock:
            load = self._loads[candidate]
            self._loads[candidate] = replace(load, seconds=_average(load.seconds, seconds))


def _average(old: float, new: float) -> float:
    return new if old == 0 else (1 - WEIGHT) * old + WEIGHT * new
