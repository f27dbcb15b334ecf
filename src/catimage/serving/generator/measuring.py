"""Measures the largest useful batch and the speed of every candidate at the start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median_high

from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.registry import kind_of
from catimage.pool.spec import Candidate, GeneratorSpec
from catimage.serving.generator.batch_trials import LARGEST_BATCH, MARGIN
from catimage.serving.generator.batches import is_out_of_memory
from catimage.serving.generator.speeds import Speeds
from catimage.serving.tasks import CandidateLoad

PROMPT = "two small red rings and a large blue square on a grey background"
"""The prompt of the measurements, with a number at the end."""
TRIED_BEYOND = 4
"""Batches are doubled up to this multiple of the best batch so far, because other programs may slow
down a single measurement.
"""
ROUNDS = 3
"""Everything is measured this many times, because other programs, such as the start of the router
process or another replica, may slow down the measurements.
"""
LONGEST_SECONDS = 30.0
"""The last round is left out if the others took longer than this, so that measurements do not
disturb a slow device for long. The batches of requests are measurements, too.
"""
STEPS = (2, 4)
"""Numbers of denoising steps from which the time of a candidate with more steps is computed."""
_LOG = logging.getLogger(__name__)


class SpeedMeter:
    """Measures the speeds of loaded generators.

    The largest batch is measured for one of the generators with the same class, base weights, size
    and data type. Afterwards, the batches of requests correct it:
    :mod:`catimage.serving.generator.batch_trials`.

    Args:
        cache: the generators.
        speeds: receives the results.
    """

    def __init__(self, cache: GeneratorCache, speeds: Speeds) -> None:
        self._cache, self._speeds = cache, speeds
        self._batches: dict[str, list[dict[int, float]]] = {}
        """By architecture, the seconds of the batches of each round by the number of images."""
        self._bounds: dict[str, int] = {}
        """The largest batch within the memory, by architecture; only if a larger one exceeds it."""
        self._seconds: dict[str, float] = {}

    def measure(self) -> Iterator[None]:
        """Measure all generators, :data:`ROUNDS` times at most. Yields after every batch."""
        start = time.perf_counter()
        for number in range(1, ROUNDS + 1):
            if number == ROUNDS and time.perf_counter() - start > LONGEST_SECONDS:
                break
            yield from self._measure_largest_batches()
            for name in self._cache.names:
                yield from self._guarded(name, self._measure_speeds(name))
        sizes = ", ".join(f"{name} {size}" for name, size in self._speeds.sizes().items())
        _LOG.info("images of the largest batch of each generator, as measured: %s", sizes)

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
            self._speeds.bound(name, self._bounds.get(key, LARGEST_BATCH))
            self._speeds.set_size(name, _best(self._batches.get(key, []))[0])

    def _measure_speeds(self, name: str) -> Iterator[None]:
        """Measure the time of one image of all candidates. Yields after every image.

        The time per image in a full batch is computed with the ratio that was measured for the
        largest batch.
        """
        size, ratio = _best(self._batches.get(_architecture(self._cache.pool.generators[name]), []))
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
        rounds = self._batches.setdefault(key, [])
        if not rounds:
            _seconds(self._cache, probe, 1)  # a warm-up
            yield
        rounds.append({})
        size = 1
        while size <= min(self._bounds.get(key, LARGEST_BATCH), TRIED_BEYOND * _best(rounds)[0]):
            seconds = _batch_seconds(self._cache, probe, size)
            if seconds is None:
                self._bounds[key] = max(1, size // 2)
                break
            rounds[-1][size] = seconds
            self._speeds.set_size(name, _best(rounds)[0])
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


def _best(rounds: Sequence[Mapping[int, float]]) -> tuple[int, float]:
    """Return the largest useful batch, and its time per image as a share of that of one image.

    A batch hardly takes longer per image than a smaller one, unless it exceeds a cache. If the next
    larger batch does, and the larger ones gain from their size among themselves, they were
    disturbed and the small one was not: it does not count.

    Args:
        rounds: seconds by the number of images in each round; empty if nothing was measured.
    """
    sizes = sorted(set[int]().union(*rounds))
    if not sizes:
        return 1, 1.0
    best = _doubled(rounds, sizes)
    larger = [size for size in sizes if size > best]
    if larger and _time_ratio(rounds, larger[0], best) >= 1 + MARGIN:
        without = _doubled(rounds, larger)
        best = without if without > larger[0] else best
    return best, min(1.0, _time_ratio(rounds, best, 1))


def _doubled(rounds: Sequence[Mapping[int, float]], sizes: Sequence[int]) -> int:
    """Return the largest useful one of ascending sizes."""
    best = sizes[0]
    for size in sizes[1:]:
        if _time_ratio(rounds, size, best) <= 1 - MARGIN:
            best = size
    return best


def _time_ratio(rounds: Sequence[Mapping[int, float]], size: int, other: int) -> float:
    """Return the time per image in batches of ``size``, as a share of that in other batches.

    It is the lower one of two estimates, so that the larger batch is preferred in doubt: the ratio
    of the shortest times, which is right if each size was undisturbed once; and the median of the
    ratios of at least two rounds, which is right if most rounds were equally disturbed.
    """
    shortest = [min(times[n] for times in rounds if n in times) for n in (size, other)]
    ratios = [times[size] / times[other] for times in rounds if size in times and other in times]
    ratio = shortest[0] / shortest[1]
    return (min(ratio, median_high(ratios)) if len(ratios) > 1 else ratio) * other / size


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
