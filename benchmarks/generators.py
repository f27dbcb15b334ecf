"""Speed of the fast generators of the embedded pool, and of switching between candidates.

Usage: python -m benchmarks.generators [POOL]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from benchmarks.measure import Row, seconds
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.generators.diffusion.generator import DiffusionGenerator
from catimage.pool.generators.diffusion.sampling import new_scheduler
from catimage.pool.loading import load_pool
from catimage.pool.spec import Pool
from catimage.scenes.grammar import sample_scene

PAIRS: tuple[tuple[str, str, float], ...] = (
    ("tiny-turbo", "tiny-sd-32", 8),
    ("tiny-deepcache-32", "tiny-sd-32", 1.5),
)
"""A fast candidate, the slow candidate that it is compared with, and the target speed ratio."""
BATCH_SIZE, ROUNDS = 16, 2


def images_per_second(cache: GeneratorCache, names: list[str]) -> dict[str, float]:
    """Measure the speed of each candidate for one batch: the best of two alternating rounds."""
    rng = np.random.default_rng(0)
    prompts = [sample_scene(rng).caption() for _ in range(BATCH_SIZE)]
    seeds = list(range(BATCH_SIZE))
    best = dict.fromkeys(names, 0.0)
    for round_ in range(ROUNDS + 1):
        for candidate in map(cache.pool.candidate, names):
            generator = cache.get(candidate.generator)
            encoded = generator.encode(prompts)
            start = time.perf_counter()
            generator.generate(prompts, candidate, seeds, encoded)
            speed = BATCH_SIZE / (time.perf_counter() - start)
            if round_:  # the first round is a warm-up
                best[candidate.candidate] = max(best[candidate.candidate], speed)
    return best


def switching(pool: Pool) -> Row:
    """Measure switching between candidates of a loaded generator, compared with its loading."""
    name = pool.candidates[0].generator
    candidates, cache = pool.candidates_of(name), GeneratorCache(pool, "cpu")
    generator = cache.get(name)
    assert isinstance(generator, DiffusionGenerator)

    def switch() -> None:
        assert cache.get(name) is generator
        new_scheduler(generator.spec.with_settings_of(candidates[-1]), generator.pipeline.scheduler)

    switched = seconds(switch)
    loaded = seconds(lambda: GeneratorCache(pool, "cpu").get(name), repeats=3)
    return Row(
        f"switching between candidates of {name}",
        f"{1000 * switched:.2f} ms",
        f"{1000 * loaded:.0f} ms (loading it)",
        f"{loaded / switched:.0f}x",
        "no loading of weights",
    )


def rows(pool_name: str = "tiny-full") -> list[Row]:
    """Measure switching between candidates, and the candidates of :data:`PAIRS`."""
    pool = load_pool(pool_name)
    names = sorted({name for pair in PAIRS for name in pair[:2]})
    best = images_per_second(GeneratorCache(pool, "cpu"), names)
    return [
        switching(pool),
        *(
            Row(
                f"{fast}, batches of {BATCH_SIZE}, without text encoding",
                f"{best[fast]:.1f} images/s",
                f"{best[slow]:.1f} ({slow})",
                f"{best[fast] / best[slow]:.2f}x",
                f"{target:g}x",
            )
            for fast, slow, target in PAIRS
        ),
    ]


if __name__ == "__main__":
    for row in rows(*sys.argv[1:]):
        print(row)
