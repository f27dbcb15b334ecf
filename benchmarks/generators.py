"""Members of the tiny pool against its many-step one at equal batches, and what switching between
candidates takes.

python -m benchmarks.generators [POOL]
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
from catimage.scenes.grammar import draw_scene

PAIRS: tuple[tuple[str, str, float], ...] = (
    ("tiny-turbo", "tiny-sd-32", 8),
    ("tiny-deepcache-32", "tiny-sd-32", 1.5),
)
"""The faster candidate, the one that it is compared with, and the target."""
BATCH, ROUNDS = 16, 2


def images_per_second(cache: GeneratorCache, names: list[str]) -> dict[str, float]:
    """Of each candidate, for a batch of captions with one seed each; the best of two rounds, in
    which they take turns.
    """
    rng = np.random.default_rng(0)
    prompts, seeds = [draw_scene(rng).caption() for _ in range(BATCH)], list(range(BATCH))
    best = dict.fromkeys(names, 0.0)
    for round_ in range(ROUNDS + 1):
        for candidate in map(cache.pool.candidate, names):
            generator = cache.get(candidate.generator)
            encoded = generator.encode(prompts)
            start = time.perf_counter()
            generator.generate(prompts, candidate, seeds, encoded)
            if round_:  # the first one warms up
                best[candidate.candidate] = max(
                    best[candidate.candidate], BATCH / (time.perf_counter() - start)
                )
    return best


def switching(pool: Pool) -> Row:
    """From one candidate to another of the same, open generator, against loading that generator."""
    name = pool.candidates[0].generator
    candidates, cache = pool.candidates_of(name), GeneratorCache(pool, "cpu")
    generator = cache.get(name)
    assert isinstance(generator, DiffusionGenerator)

    def switch() -> None:
        assert cache.get(name) is generator
        new_scheduler(generator.spec.with_settings_of(candidates[-1]), generator.pipeline.scheduler)

    ours, fresh = seconds(switch), seconds(lambda: GeneratorCache(pool, "cpu").get(name), repeats=3)
    what = f"switching between candidates of {name}"
    return Row(
        what,
        f"{1000 * ours:.2f} ms",
        f"{1000 * fresh:.0f} ms (loading it)",
        f"{fresh / ours:.0f}x",
        "loads nothing",
    )


def rows(pool_name: str = "tiny") -> list[Row]:
    pool = load_pool(pool_name)
    best = images_per_second(
        GeneratorCache(pool, "cpu"), sorted({name for pair in PAIRS for name in pair[:2]})
    )
    out = [switching(pool)]
    for fast, slow, target in PAIRS:
        what, ratio = f"{fast}, batches of {BATCH}, text encoding left out", best[fast] / best[slow]
        out.append(
            Row(
                what,
                f"{best[fast]:.1f} images/s",
                f"{best[slow]:.1f} ({slow})",
                f"{ratio:.2f}x",
                f"{target:g}x",
            )
        )
    return out


if __name__ == "__main__":
    for row in rows(*sys.argv[1:]):
        print(row)
