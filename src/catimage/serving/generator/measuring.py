"""Measures the largest useful batch and the speed of every candidate at the start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, GeneratorSpec
from catimage.serving.generator.batches import is_out_of_memory
from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import CandidateLoad

PROMPT = "two small red rings and a large blue square on a grey background"
"""The prompt of the measurements, with a number at the end."""
MARGIN = 0.1
"""A larger batch is better if the time per image falls by at least this share."""
TRIED_BEYOND = 4
"""Batches are doubled up to this multiple of the best batch so far, because other programs may slow
down a single measurement.
"""
LARGEST_BATCH = 32
"""The largest batch that is tried."""
STEPS = (2, 4)
"""Numbers of denoising steps from which the time of a candidate with more steps is computed."""
_LOG = logging.getLogger(__name__)


class SpeedMeter:
    """Measures the speeds of loaded generators.

    The largest batch is measured once for generators with the same class, base weights, size and
    data type.

    Args:
        cache: the generators.
        speeds: receives the results.
    """

    def __init__(self, cache: GeneratorCache, speeds: Speeds) -> None:
        self._cache, self._speeds = cache, speeds
        self._batches: dict[str, tuple[int, float]] = {}
        self._seconds: dict[str, float] = {}

    def measure_batches(self) -> Iterator[None]:
        """Measure the largest batch of all generators. Yields after every batch.

        The candidate with the fewest steps is used, with at most two steps if the time is linear in
        the steps.
        """
        for name in self._cache.names:
            key = _architecture(self._cache.pool.generators[name])
            if key not in self._batches:
                yield from self._guarded(name, self._measure_batches(name, key))
            if key in self._batches:
                self._speeds.set_size(name, self._batches[key][0])

    def measure_speeds(self) -> Iterator[None]:
        """Measure the time of one image of all candidates, after :meth:`measure_batches`.

        The time per image in a full batch is computed with the ratio that was measured for the
        largest batch. Yields after every image.
        """
        for name in self._cache.names:
            yield from self._guarded(name, self._measure_speeds(name))

    def _measure_speeds(self, name: str) -> Iterator[None]:
        size, ratio = self._batches.get(_architecture(self._cache.pool.generators[name]), (1, 1.0))
        linear = _is_linear(self._cache, name)
        for candidate in self._cache.pool.candidates_of(name):
            seconds = self._alone(candidate, linear)
            self._speeds.set(candidate.candidate, CandidateLoad(seconds, seconds * ratio, size))
            yield

    def _guarded(self, name: str, steps: Iterator[None]) -> Iterator[None]:
        """Measure a generator; if it fails, it makes batches of one image, and the log says so."""
        try:
            yield from steps
        except Exception as error:  # generators raise exceptions of any type
            _LOG.warning("generator %s: cannot be measured (%s)", name, type(error).__name__)

    def _measure_batches(self, name: str, key: str) -> Iterator[None]:
        """Double the batch as long as it is worth it."""
        probe = min(self._cache.pool.candidates_of(name), key=lambda candidate: candidate.steps)
        if _is_linear(self._cache, name):
            probe = with_steps(probe, min(probe.steps, STEPS[0]))
        _seconds(self._cache, probe, 1)  # a warm-up
        yield
        alone = min(_seconds(self._cache, probe, 1), _seconds(self._cache, probe, 1))
        best, per_image, size = 1, alone, 1
        while size < min(LARGEST_BATCH, TRIED_BEYOND * best):
            yield
            size *= 2
            seconds = _batch_seconds(self._cache, probe, size)
            if seconds is None:
                break
            if seconds / size <= (1 - MARGIN) * per_image:
                best, per_image = size, seconds / size
                self._speeds.set_size(name, best)
        self._batches[key] = best, per_image / alone

    def _alone(self, candidate: Candidate, linear: bool) -> float:
        """Return the seconds of one image; with many steps, computed from runs with fewer steps."""
        few, more = STEPS
        if not linear or candidate.steps <= more:
            return self._single(candidate)
        short = self._single(with_steps(candidate, few))
        longer = self._single(with_steps(candidate, more))
        per_step = max(0.0, longer - short) / (more - few)
        return short + per_step * (candidate.steps - few)

    def _single(self, candidate: Candidate) -> float:
        """Return the seconds of one image, measured once per generator, settings and steps."""
        key = repr((candidate.generator, candidate.steps, sorted(candidate.settings.items())))
        if key not in self._seconds:
            self._seconds[key] = _seconds(self._cache, candidate, 1)
        return self._seconds[key]


def _batch_seconds(cache: GeneratorCache, probe: Candidate, size: int) -> float | None:
    """Return the seconds of a batch; None if it exceeds the memory."""
    try:
        return _seconds(cache, probe, size)
    except Exception as error:  # generators raise exceptions of any type
        if not is_out_of_memory(error):
            raise
        return None


def with_steps(candidate: Candidate, steps: int) -> Candidate:
    """Return a candidate with another number of steps."""
    return candidate.model_copy(update={"steps": steps})


def _seconds(cache: GeneratorCache, candidate: Candidate, size: int) -> float:
    """Return the seconds of one batch, with the encoding of its prompts."""
    generator = cache.get(candidate.generator)
    prompts = [f"{PROMPT} {i}" for i in range(size)]
    start = time.perf_counter()
    generator.generate(prompts, candidate, list(range(size)), generator.encode(prompts))
    return time.perf_counter() - start


def _is_linear(cache: GeneratorCache, name: str) -> bool:
    """Return whether images of all candidates of a generator can have other numbers of steps."""
    spec, candidates = cache.pool.generators[name], cache.pool.candidates_of(name)
    calls = [getattr(spec.with_settings_of(candidate), "call", {}) for candidate in candidates]
    has_schedule = any({"timesteps", "sigmas"} & set(call) for call in calls)
    return kind_of(spec, cache.pool.folder).linear_steps and not has_schedule


def _architecture(spec: GeneratorSpec) -> str:
    """Return a key that is equal for generators with parts of the same shapes."""
    names = ("kind", "pipeline", "weights", "revision", "size", "dtype")
    return repr([getattr(spec, name, None) for name in names])
