"""Measures the largest useful batch and the speed of every candidate at the start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping

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
ROUNDS = 2
"""Everything is measured this many times, and the shortest time counts: other programs, such as the
start of the router process, may slow down all measurements of the first round.
"""
STEPS = (2, 4)
"""Numbers of denoising steps from which the time of a candidate with more steps is computed."""
_LOG = logging.getLogger(__name__)


class SpeedMeter:
    """Measures the speeds of loaded generators.

    The largest batch is measured for one of the generators with the same class, base weights, size
    and data type.

    Args:
        cache: the generators.
        speeds: receives the results.
    """

    def __init__(self, cache: GeneratorCache, speeds: Speeds) -> None:
        self._cache, self._speeds = cache, speeds
        self._batches: dict[str, dict[int, float]] = {}
        """The shortest time of a batch, by architecture and number of images."""
        self._seconds: dict[str, float] = {}

    def measure(self) -> Iterator[None]:
        """Measure all generators, :data:`ROUNDS` times. Yields after every batch."""
        for _ in range(ROUNDS):
            yield from self._measure_largest_batches()
            for name in self._cache.names:
                yield from self._guarded(name, self._measure_speeds(name))

    def _measure_largest_batches(self) -> Iterator[None]:
        """Measure the largest batch of all generators. Yields after every batch.

        The candidate with the fewest steps is used, with at most two steps if the time is linear in
        the steps.
        """
        done: set[str] = set()
        for name in self._cache.names:
            key = _architecture(self._cache.pool.generators[name])
            if key not in done:
                yield from self._guarded(name, self._measure_batches(name, key))
                done.add(key)
            self._speeds.set_size(name, _best(self._batches.get(key, {}))[0])

    def _measure_speeds(self, name: str) -> Iterator[None]:
        """Measure the time of one image of all candidates. Yields after every image.

        The time per image in a full batch is computed with the ratio that was measured for the
        largest batch.
        """
        size, ratio = _best(self._batches.get(_architecture(self._cache.pool.generators[name]), {}))
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
        times = self._batches.setdefault(key, {})
        if not times:
            _seconds(self._cache, probe, 1)  # a warm-up
            yield
        size = 1
        while size <= min(LARGEST_BATCH, TRIED_BEYOND * _best(times)[0]):
            seconds = _batch_seconds(self._cache, probe, size)
            if seconds is None:
                break
            times[size] = min(seconds, times.get(size, seconds))
            self._speeds.set_size(name, _best(times)[0])
            yield
            size *= 2

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
        """Return the shortest measured seconds of one image, after one more measurement."""
        key = repr((candidate.generator, candidate.steps, sorted(candidate.settings.items())))
        seconds = _seconds(self._cache, candidate, 1)
        self._seconds[key] = min(seconds, self._seconds.get(key, seconds))
        return self._seconds[key]


def _best(times: Mapping[int, float]) -> tuple[int, float]:
    """Return the largest useful batch, and its time per image as a share of that of one image.

    Args:
        times: seconds by the number of images; empty if nothing was measured.
    """
    best = 1
    for size in sorted(times):
        if times[size] / size <= (1 - MARGIN) * times[best] / best:
            best = size
    return best, times[best] / best / times[1] if times else 1.0


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
