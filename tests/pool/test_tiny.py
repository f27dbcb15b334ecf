"""The pools tiny and tiny-full with their trained weights."""

import numpy as np
import pytest

from catimage.metrics.registry import get_metric
from catimage.pool.costs import candidate_costs
from catimage.pool.generator_cache import GeneratorCache
from catimage.pool.loading import PACKAGED, load_pool
from catimage.pool.spec import Pool

PROMPTS = ["a huge red circle in the centre on a plain white background", "an empty green wall"]
SEEDS = [0, 3]


@pytest.fixture(scope="module")
def pool() -> Pool:
    return load_pool("tiny-full")


@pytest.fixture(scope="module")
def cache(pool: Pool) -> GeneratorCache:
    cache = GeneratorCache(pool, "cpu", list(pool.generators))
    cache.prepare()
    return cache


def _images(cache: GeneratorCache, pool: Pool, name: str) -> np.ndarray:
    """Return the images of a candidate for ``PROMPTS`` and ``SEEDS``."""
    candidate = pool.candidate(name)
    return cache.get(candidate.generator).generate(PROMPTS, candidate, SEEDS)


def test_the_pool_tiny_full_has_candidates_of_all_kinds_and_sampling_methods(pool: Pool):
    names = [c.candidate for c in pool.candidates]
    assert pool.folder == PACKAGED
    assert [n for n in names if n.removeprefix("tiny-sd-").isdigit()] == [
        f"tiny-sd-{n}" for n in (1, 2, 4, 8, 16, 32)
    ]
    assert {
        "tiny-turbo",
        "tiny-lightning",
        "tiny-ddim-16",
        "tiny-deepcache-32",
        "tiny-patterns-16",
        "tiny-infinity",
    } < set(names)


def test_the_candidates_of_the_pool_tiny_are_a_subset_of_those_of_tiny_full(pool: Pool):
    tiny = load_pool("tiny")
    assert tiny.generators.keys() == pool.generators.keys()
    for name, spec in tiny.generators.items():
        assert spec.model_dump() == pool.generators[name].model_dump()
    assert [c for c in tiny.candidates if c != pool.candidate(c.candidate)] == []
    names = [c.candidate for c in tiny.candidates]
    assert [n for n in names if n.removeprefix("tiny-sd-").isdigit()] == [
        f"tiny-sd-{n}" for n in (2, 4, 8, 16)
    ]
    other_names = {
        "tiny-turbo",
        "tiny-lightning",
        "tiny-ddim-8",
        "tiny-deepcache-32",
        "tiny-infinity",
    }
    assert {*other_names, "tiny-patterns-4"} < set(names)


def test_the_candidates_of_the_pool_tiny_are_in_order_of_cost():
    costs = candidate_costs(load_pool("tiny"))["cost"].tolist()
    assert costs == sorted(costs) and costs[-1] > 10 * costs[0]


def test_the_weights_take_at_most_40_megabytes_and_are_not_pickled():
    files = [f for f in (PACKAGED / "tiny").rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 40e6
    assert {f.suffix for f in files} <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize("name", [c.candidate for c in load_pool("tiny-full").candidates])
def test_images_are_reproducible_and_differ_between_prompts(
    cache: GeneratorCache, pool: Pool, name: str
):
    images = _images(cache, pool, name)
    assert images.shape == (2, 64, 64, 3) and images.dtype == np.uint8
    assert (images == _images(cache, pool, name)).all()
    assert np.abs(images[0].astype(int) - images[1]).mean() > 20


def test_an_empty_wall_has_the_colour_of_the_prompt(cache: GeneratorCache, pool: Pool):
    for name in ("tiny-turbo", "tiny-lightning", "tiny-sd-8", "tiny-infinity"):
        red, green, blue = _images(cache, pool, name)[1].reshape(-1, 3).mean(0)
        assert green > red + 40 and green > blue + 40, name


def test_the_adapter_improves_patterned_walls_and_is_worse_for_other_prompts(
    cache: GeneratorCache, pool: Pool
):
    patterned = [
        "a wall of large red and white diamonds",
        "a wall of wide blue and yellow hoops",
        "a wall of level black and green zigzags",
    ]
    unpatterned = [
        "a huge red circle in the centre on a plain white background",
        "two small blue stars on a plain yellow background",
    ]
    metric = get_metric("clip_score", device="cpu")

    def mean_score(name: str, prompts: list[str]) -> float:
        candidate = pool.candidate(name)
        images = cache.get(candidate.generator).generate(
            prompts * 2, candidate, [0] * len(prompts) + [1] * len(prompts)
        )
        return float(metric.score(images, prompts * 2).mean())

    assert mean_score("tiny-patterns-16", patterned) > mean_score("tiny-sd-16", patterned) + 0.2
    assert mean_score("tiny-sd-16", unpatterned) > mean_score("tiny-patterns-16", unpatterned) + 0.1


def test_distillation_caching_and_no_guidance_reduce_the_cost(pool: Pool):
    cost = candidate_costs(pool).set_index("candidate")["cost"]
    assert cost["tiny-turbo"] < cost["tiny-sd-1"] < cost["tiny-lightning"] < cost["tiny-sd-4"]
    assert cost["tiny-sd-8-unguided"] < 0.6 * cost["tiny-sd-8"]
    assert cost["tiny-deepcache-32"] < 0.5 * cost["tiny-sd-32"]


def test_prompts_can_have_any_length(cache: GeneratorCache, pool: Pool):
    for name in ("tiny-turbo", "tiny-infinity"):
        candidate = pool.candidate(name)
        images = cache.get(candidate.generator).generate(["red circles and " * 200], candidate, [1])
        assert images.shape == (1, 64, 64, 3)
