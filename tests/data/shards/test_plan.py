from collections import Counter
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.data.shards.plan import ShardPlan, plan_blocks
from catimage.errors import InputError
from catimage.pool.spec import Pool
from catimage.pool.loading import load_pool
from tests.miniature import pool_tree

PLAN = ShardPlan("mini-2", {"weights": "abc"}, 2, (("1", "one"), ("2", "two")), (0, 1), 3)


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Pool:
    path = tmp_path_factory.mktemp("plan") / "pool.yaml"
    path.write_text(yaml.safe_dump(pool_tree("sd")))
    return load_pool(str(path))


def _prompts(count: int) -> list[tuple[str, str]]:
    return [(str(i), f"prompt {i}") for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 30),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    batch=st.integers(1, 9),
    size=st.integers(1, 20),
)
def test_every_prompt_candidate_and_seed_is_planned_once(
    pool: Pool, count: int, seeds: list[int], batch: int, size: int
):
    blocks = plan_blocks(
        pool, {c.candidate: {} for c in pool.candidates}, _prompts(count), seeds, batch, size
    )
    plans = [plan for block in blocks for plan in block.plans]
    planned = Counter(
        (i, p.candidate, seed) for p in plans for rows in p.batches() for i, _, seed in rows
    )
    assert planned == Counter(
        (str(i), c.candidate, seed) for i in range(count) for c in pool.candidates for seed in seeds
    )
    assert len({p.name for p in plans}) == len(plans)
    for plan in plans:
        sizes = [len(rows) for rows in plan.batches()]
        assert sum(sizes) == plan.images <= max(size, len(seeds))
        assert all(n == batch for n in sizes[:-1])


@settings(max_examples=30, deadline=None)
@given(before=st.integers(1, 30), more=st.integers(1, 30), size=st.integers(1, 12))
def test_a_table_that_grows_at_its_end_keeps_its_full_shards(
    pool: Pool, before: int, more: int, size: int
):
    def full(count: int) -> set[str]:
        blocks = plan_blocks(
            pool, {c.candidate: {} for c in pool.candidates}, _prompts(count), [0], 4, size
        )
        return {plan.name for block in blocks for plan in block.plans if plan.images == size}

    assert full(before) <= full(before + more)


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": "mini-3"},
        {"definition": {"weights": "abd"}},
        {"steps": 3},
        {"prompts": (("1", "one"), ("2", "Two"))},
        {"seeds": (1, 0)},
        {"batch": 4},
        {"encoding": "webp"},
    ],
)
def test_whatever_could_change_an_image_changes_the_name(change: dict[str, object]):
    assert replace(PLAN, **change).name != PLAN.name  # type: ignore[arg-type]
    assert replace(PLAN).name == PLAN.name


def test_a_seed_listed_twice_is_refused(pool: Pool):
    with pytest.raises(InputError, match=r"generate\.seeds lists the seed 1 twice"):
        plan_blocks(pool, {c.candidate: {} for c in pool.candidates}, _prompts(2), [1, 0, 1], 4, 4)
