"""The measured speed of each candidate, kept up to date by the batches that are made."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import replace

from catimage.serving.generator.batch_trials import LARGEST_BATCH, BatchTrials
from catimage.serving.tasks import CandidateLoad

WEIGHT = 0.2
"""The weight of a new batch in the exponential averages."""
_LOG = logging.getLogger(__name__)


class Speeds:
    """Seconds per image and largest batch of each candidate. Methods may be called by any thread.

    Args:
        generators: the generator of each candidate, by name of the candidate.
    """

    def __init__(self, generators: Mapping[str, str]) -> None:
        self._generators = dict(generators)
        self._loads = {name: CandidateLoad(0.0, 0.0, 1) for name in generators}
        self._trials = {name: BatchTrials() for name in generators}
        self._bounds = dict.fromkeys(generators.values(), LARGEST_BATCH)
        """The largest batch for which the memory is sufficient, by generator."""
        self._lock = threading.Lock()

    def limit(self, candidate: str) -> int:
        """Return the largest number of images of a candidate's next batch.

        It differs from the largest batch of :meth:`loads` for a trial of another size:
        :mod:`catimage.serving.generator.batch_trials`.
        """
        with self._lock:
            return self._trials[candidate].limit(self._bounds[self._generators[candidate]])

    def loads(self) -> dict[str, CandidateLoad]:
        """Return the speed of every candidate."""
        with self._lock:
            return dict(self._loads)

    def sizes(self) -> dict[str, int]:
        """Return the largest batch of every generator."""
        loads = self.loads()
        return {self._generators[name]: load.batch_size for name, load in loads.items()}

    def set(self, candidate: str, load: CandidateLoad) -> None:
        """Set the measured speed of a candidate."""
        with self._lock:
            self._loads[candidate] = load
            self._resize(candidate, load.batch_size)

    def set_size(self, generator: str, size: int) -> None:
        """Set the largest batch of all candidates of a generator, within the memory."""
        with self._lock:
            self._resize_all(generator, size)

    def bound(self, generator: str, size: int) -> None:
        """Record that the memory is not sufficient for batches of more than ``size`` images."""
        with self._lock:
            self._bounds[generator] = min(size, self._bounds[generator])
            for name in self._of(generator):
                self._resize(name, self._loads[name].batch_size)

    def record(self, candidate: str, images: int, seconds: float) -> None:
        """Update the averages, and the largest batch, with a batch that was made in ``seconds``."""
        with self._lock:
            load = self._loads[candidate]
            if images == 1:
                load = replace(load, seconds=_average(load.seconds, seconds))
            if images >= max(1, load.batch_size // 2):
                per_image = _average(load.batch_seconds, seconds / images)
                load = replace(load, batch_seconds=per_image)
            self._loads[candidate] = load
            self._correct(candidate, images, seconds)

    def record_request(self, candidate: str, seconds: float) -> None:
        """Update the average of a remote candidate, which takes no time of a device."""
        with self._lock:
            load = self._loads[candidate]
            self._loads[candidate] = replace(load, seconds=_average(load.seconds, seconds))

    def _correct(self, candidate: str, images: int, seconds: float) -> None:
        """Change the largest batch if the trials say so, and log it."""
        before = self._loads[candidate]
        generator = self._generators[candidate]
        size = self._trials[candidate].record(images, seconds)
        if size != before.batch_size:
            message = "generator %s: batches of at most %d images from now on, %d before"
            _LOG.info(message, generator, size, before.batch_size)
            self._loads[candidate] = replace(before, batch_seconds=seconds / images)
            self._resize_all(generator, size)

    def _of(self, generator: str) -> list[str]:
        return [name for name, owner in self._generators.items() if owner == generator]

    def _resize_all(self, generator: str, size: int) -> None:
        for name in self._of(generator):
            self._resize(name, size)

    def _resize(self, candidate: str, size: int) -> None:
        """Set the largest batch of a candidate, within the memory, and begin new trials."""
        size = min(size, self._bounds[self._generators[candidate]])
        self._loads[candidate] = replace(self._loads[candidate], batch_size=size)
        if self._trials[candidate].size != size:
            self._trials[candidate].restart(size)


def _average(old: float, new: float) -> float:
    return new if old == 0 else (1 - WEIGHT) * old + WEIGHT * new
