"""The generator services of a Bento and its service module."""

from __future__ import annotations

import ast

import pytest
from pydantic import ValidationError

from catimage.errors import InputError
from catimage.params.evaluate import GroupParams, PackageParams
from catimage.pool.groups import GroupPlan, plan_groups
from catimage.pool.loading import load_pool
from catimage.pool.service_module import render_service_module


def candidates(pool: str) -> list[str]:
    return [c.candidate for c in load_pool(pool).candidates]


def test_by_default_a_device_has_one_group() -> None:
    pool = load_pool("tiny")
    (group,) = plan_groups(pool, candidates("tiny"), {}, "auto")
    assert (group.name, group.device, group.gpus) == ("generators", "auto", 0)
    assert {*group.generators} == {pool.candidate(c).generator for c in candidates("tiny")}


def test_only_generators_of_the_candidates_of_the_router_are_served() -> None:
    (group,) = plan_groups(load_pool("tiny"), ["tiny-sd-4"], {}, "cpu")
    assert group.generators == ("tiny-sd",)


def test_hosted_models_have_a_group_of_their_own() -> None:
    pool = load_pool("hosted")
    groups = plan_groups(pool, candidates("hosted"), {}, "cuda")
    assert [(g.name, g.device, g.gpus) for g in groups] == [
        ("generators", "cuda", 1),
        ("hosted", "cpu", 0),
    ]


def test_groups_have_devices_and_every_needed_generator() -> None:
    pool = load_pool("tiny")
    names = list(dict.fromkeys(pool.candidate(c).generator for c in candidates("tiny")))
    split = {
        "slow": GroupParams(generators=names[:1], device="cuda"),
        "fast": GroupParams(generators=names[1:], device="cuda:1"),
    }
    groups = plan_groups(pool, candidates("tiny"), split, "auto")
    assert [(g.name, g.generators, g.gpus) for g in groups] == [
        ("slow", tuple(names[:1]), 1),
        ("fast", tuple(names[1:]), 0),
    ]
    with pytest.raises(InputError, match=f"no group has the generators {names[0]}"):
        plan_groups(pool, candidates("tiny"), {"fast": split["fast"]}, "auto")
    with pytest.raises(InputError, match=r"the pool 'tiny' has no generator 'x'\. Use one of"):
        plan_groups(pool, candidates("tiny"), {"a": GroupParams(generators=["x"])}, "auto")


@pytest.mark.parametrize(
    "groups",
    [
        {"router": {"generators": ["a"]}},
        {"Fast": {"generators": ["a"]}},
        {"a": {"generators": []}},
        {"a": {"generators": ["x"], "device": "tpu"}},
        {"a": {"generators": ["x"]}, "b": {"generators": ["x"]}},
    ],
)
def test_invalid_groups_are_refused(groups: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PackageParams.model_validate({"groups": groups})


def test_the_service_module_names_a_class_per_group() -> None:
    groups = [
        GroupPlan("generators", ("a", "b"), "auto"),
        GroupPlan("hosted-models", ("c",), "cpu"),
    ]
    tree = ast.parse(render_service_module(groups, 12.0))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    assert [*classes] == ["Generators", "HostedModelsGroup", "Router"]
    router = ast.unparse(classes["Router"])
    assert "hosted_models = depends(HostedModelsGroup)" in router and "12.0" in router
