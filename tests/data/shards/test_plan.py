from dataclasses import replace

import pytest

from catimage.data.shards.plan import ShardPlan
from catimage.params import GenerateParams

PLAN = ShardPlan("mini-2", {"weights": "abc"}, 2, (("1", "one"), ("2", "two")), (0, 1), 3)


@pytest.mark.parametrize(
    ("change", "equal"),
    [
        ({"prompts": (("3", "three"),)}, True),
        ({"seeds": (5,)}, True),
        ({"candidate": "mini-3"}, False),
        ({"definition": {"weights": "abd"}}, False),
        ({"steps": 3}, False),
        ({"batch_size": 4}, False),
        ({"encoding": "webp"}, False),
    ],
)
def test_the_recipe_is_everything_except_prompts_and_seeds(change: dict[str, object], equal: bool):
    assert (replace(PLAN, **change).recipe == PLAN.recipe) is equal  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        {"candidate": "mini-3"},
        {"definition": {"weights": "abd"}},
        {"steps": 3},
        {"prompts": (("1", "one"), ("2", "Two"))},
        {"seeds": (1, 0)},
        {"batch_size": 4},
        {"encoding": "webp"},
    ],
)
def test_a_change_of_any_field_changes_the_name_of_a_plan(change: dict[str, object]):
    assert replace(PLAN, **change).name != PLAN.name  # type: ignore[arg-type]
    assert replace(PLAN).name == PLAN.name


def test_the_name_of_a_plan_is_stable():
    """Existing shards stay valid because the name of an unchanged plan does not change."""
    assert PLAN.name == "7bf8313709c357579b2702c7bc18da51"
    other = ShardPlan(
        "straße", {"imported": "x"}, 0, (("1", "Ωμέγα"),), (7,), 1, encoding="as imported"
    )
    assert other.name == "d5de3eb13fadd46034a9ffb967850b38"


def test_images_of_hosted_models_do_not_depend_on_the_batch_size():
    """The batch size is a setting for the memory of this computer; hosted images are paid for."""
    plans = [replace(PLAN, remote=True, batch_size=size) for size in (3, 4, 64)]
    assert len({plan.name for plan in plans}) == len({plan.recipe for plan in plans}) == 1
    assert [len(rows) for rows in plans[0].batches()] == [3, 1], "requests are still batched"
    paid_before = replace(PLAN, batch_size=GenerateParams().batch_size)
    assert (paid_before.name, paid_before.recipe) == (plans[0].name, plans[0].recipe)
