"""How the images of a run are divided into shards."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.data.shards.blocks import plan_blocks
from catimage.data.shards.plan import EarlierShard, PlannedCandidate, ShardPlan
from catimage.errors import InputError

CANDIDATES = [
    PlannedCandidate(f"mini-{steps}", "mini", steps, {"weights": "abc"}) for steps in (1, 2, 4)
] + [PlannedCandidate("other", "second", 2, {})]


def _prompts(count: int) -> list[tuple[str, str]]:
    return [(str(i), f"prompt {i}") for i in range(count)]


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(0, 30),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
    batch_size=st.integers(1, 9),
    size=st.integers(1, 20),
)
def test_every_prompt_candidate_and_seed_is_planned_once(
    count: int, seeds: list[int], batch_size: int, size: int
):
    blocks = plan_blocks(CANDIDATES, _prompts(count), seeds, batch_size, size)
    plans = [plan for block in blocks for plan in block.plans]
    planned = Counter(
        (i, p.candidate, seed) for p in plans for rows in p.batches() for i, _, seed in rows
    )
    assert planned == Counter(
        (str(i), c.candidate, seed) for i in range(count) for c in CANDIDATES for seed in seeds
    )
    assert len({p.name for p in plans}) == len(plans)
    for plan in plans:
        sizes = [len(rows) for rows in plan.batches()]
        assert sum(sizes) == plan.image_count <= max(size, len(seeds))
        assert all(n == batch_size for n in sizes[:-1])


@settings(max_examples=30, deadline=None)
@given(before=st.integers(1, 30), more=st.integers(1, 30), size=st.integers(1, 12))
def test_prompts_added_at_the_end_do_not_change_full_shards(before: int, more: int, size: int):
    def full_shards(count: int) -> set[str]:
        blocks = plan_blocks(CANDIDATES, _prompts(count), [0], 4, size)
        return {plan.name for block in blocks for plan in block.plans if plan.image_count == size}

    assert full_shards(before) <= full_shards(before + more)


def _earlier(count: int, size: int) -> list[EarlierShard]:
    """Return the shards of a run with ``count`` prompts and the seed 0."""
    blocks = plan_blocks(CANDIDATES, _prompts(count), [0], 4, size)
    plans = [plan for block in blocks for plan in block.plans]
    return [EarlierShard(p.name, p.candidate, p.recipe, tuple(p.keys)) for p in plans]


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(1, 20),
    size=st.integers(1, 8),
    new_size=st.integers(1, 8),
    positions=st.permutations(range(30)),
    kept=st.integers(1, 30),
)
def test_shards_whose_prompts_remain_stay_in_the_plan(
    before: int, size: int, new_size: int, positions: list[int], kept: int
):
    """The prompts are in any order, some are new, and others are removed."""
    prompts = [(str(i), f"prompt {i}") for i in positions[:kept]]
    earlier = _earlier(before, size)
    blocks = plan_blocks(CANDIDATES, prompts, [0], 4, new_size, earlier)
    plans = [plan for block in blocks for plan in block.plans]
    planned = Counter((i, p.candidate) for p in plans for i, _ in p.keys)
    assert planned == Counter((i, c.candidate) for i, _ in prompts for c in CANDIDATES)
    identifiers = {i for i, _ in prompts}
    complete = {s.name for s in earlier if {i for i, _ in s.keys} <= identifiers}
    assert complete <= {plan.name for plan in plans}


@settings(max_examples=60, deadline=None)
@given(
    before=st.integers(0, 15),
    size=st.integers(1, 6),
    positions=st.permutations(range(20)),
    kept=st.integers(1, 20),
    data=st.data(),
)
def test_an_interrupted_run_on_changed_prompts_continues_with_the_same_plans(
    before: int, size: int, positions: list[int], kept: int, data: st.DataObject
):
    """Any of the new shards may be finished when the run is killed."""
    prompts = [(str(i), f"prompt {i}") for i in positions[:kept]]
    earlier = _earlier(before, size)
    plans = [
        plan
        for block in plan_blocks(CANDIDATES, prompts, [0], 4, size, earlier)
        for plan in block.plans
    ]
    finished = data.draw(st.lists(st.sampled_from(plans), unique_by=lambda plan: plan.name))
    shards = [EarlierShard(p.name, p.candidate, p.recipe, tuple(p.keys)) for p in finished]
    blocks = plan_blocks(CANDIDATES, prompts, [0], 4, size, [*earlier, *shards])
    assert {plan.name for block in blocks for plan in block.plans} == {p.name for p in plans}


def test_earlier_shards_with_another_definition_do_not_determine_the_plan():
    earlier = _earlier(5, 3)
    changed = [replace(c, definition={"weights": "new"}) for c in CANDIDATES]
    assert plan_blocks(changed, _prompts(9), [0], 4, 4, earlier) == plan_blocks(
        changed, _prompts(9), [0], 4, 4
    )


def test_a_shard_of_some_prompts_of_an_added_candidate_does_not_split_the_other_shards():
    earlier = _earlier(8, 4)
    added = ShardPlan("added", {}, 1, tuple(_prompts(8)[2:6:2]), (0,), 4)
    shard = EarlierShard(added.name, "added", added.recipe, tuple(added.keys))
    candidates = [*CANDIDATES, PlannedCandidate("added", "added", 1, {})]
    blocks = plan_blocks(candidates, _prompts(8), [0], 4, 4, [shard, *earlier])
    assert {s.name for s in earlier} <= {plan.name for block in blocks for plan in block.plans}
    assert len(blocks) == 3 * 2


def test_blocks_are_ordered_by_generator_and_then_by_prompt():
    blocks = plan_blocks(CANDIDATES, _prompts(5), [0, 1], 4, 6)
    assert [(b.generator, [i for i, _ in b.prompts]) for b in blocks] == [
        ("mini", ["0", "1", "2"]),
        ("mini", ["3", "4"]),
        ("second", ["0", "1", "2"]),
        ("second", ["3", "4"]),
    ]
    assert [plan.candidate for plan in blocks[0].plans] == ["mini-1", "mini-2", "mini-4"]
    assert {plan.prompts for plan in blocks[1].plans} == {blocks[1].prompts}


def test_a_seed_listed_twice_is_refused():
    with pytest.raises(InputError, match=r"generate\.seeds: the seed 1 is listed twice\. Remove"):
        plan_blocks(CANDIDATES, _prompts(2), [1, 0, 1], 4, 4)
