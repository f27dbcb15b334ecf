"""The generators of one device: one thread loads them, measures them and makes all batches."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from catimage.pool.generator_cache import GeneratorCache
from catimage.serving.generator.batches import BatchRunner
from catimage.serving.generator.fair_queue import FairQueue, QueuedImage
from catimage.serving.generator.measuring import SpeedMeter
from catimage.serving.generator.speeds import Speeds
from catimage.serving.telemetry.metrics import shared_metrics

GATHER_SHARE = 0.05
"""After a batch of several tasks, the next batch waits for as many tasks for at most this share of
the time of the batch.
"""
MEASURING_SHARE = 0.2
"""Largest share of the time of the device that measurements have while requests wait."""


class DeviceLane:
    """The queue and the thread of a device.

    The largest batches are measured after the generators are loaded. Requests that arrive in this
    time are answered between two measurements.

    Args:
        cache: the generators.
        speeds: the measured speeds.

    Attributes:
        queue: the queue.
        measured: set when all speeds are measured.
    """

    def __init__(self, cache: GeneratorCache, speeds: Speeds) -> None:
        self.queue = FairQueue()
        self.measured = threading.Event()
        self._cache, self._speeds = cache, speeds
        self._running: tuple[Sequence[QueuedImage], float] | None = None

    def run(self, on_ready: Callable[[], None]) -> None:
        """Load the generators, and make batches until the queue is closed.

        Args:
            on_ready: called when all generators are loaded.

        Raises:
            InputError: a generator cannot be loaded.
        """
        self._load()
        on_ready()
        runner = BatchRunner(self._cache, self.queue, self._speeds)
        measurements = SpeedMeter(self._cache, self._speeds).measure()
        owed = 0.0  # seconds of requests until the next measurement
        while True:
            timeout = None if self.measured.is_set() else 0.0
            images = self.queue.take(self._speeds.limit, timeout)
            if images is None:
                return
            start = time.perf_counter()
            if images:
                self._make(images, runner)
                owed -= time.perf_counter() - start
            if not self.measured.is_set() and (not images or owed <= 0):
                owed = self._measure(measurements) * (1 / MEASURING_SHARE - 1)

    def _measure(self, measurements: Iterator[None]) -> float:
        """Make one measurement, and return its seconds."""
        start = time.perf_counter()
        if next(measurements, "end") == "end":
            self.measured.set()
        return time.perf_counter() - start

    def _make(self, images: Sequence[QueuedImage], runner: BatchRunner) -> None:
        """Make a batch, and let the clients of a shared batch send their next requests."""
        start = time.perf_counter()
        self._running = images, start
        candidate = images[0].owner.task.candidate
        shared_metrics().observe("catimage_batch_size", len(images), candidate=candidate)
        runner.run(images)
        self._running = None
        tasks = len({image.owner for image in images})
        if tasks > 1:
            self.queue.gather(tasks, GATHER_SHARE * (time.perf_counter() - start))

    def _load(self) -> None:
        self._cache.prepare()
        for name in self._cache.names:
            self._cache.get(name)

    @property
    def running_images(self) -> int:
        """Number of images of the current batch."""
        running = self._running
        return len(running[0]) if running else 0

    @property
    def queue_seconds(self) -> float:
        """Estimated time until an image that arrives now starts."""
        loads, running = self._speeds.loads(), self._running
        waiting = Counter[str]()
        for candidate, number in self.queue.waiting():
            waiting[candidate] += number
        seconds = sum(loads[name].device_seconds(number) for name, number in waiting.items())
        if running:
            images, start = running
            duration = loads[images[0].owner.task.candidate].device_seconds(len(images))
            seconds += max(0.0, duration - (time.perf_counter() - start))
        return seconds
