"""Decisions of a calibrated router, and the loading of routers from files."""

import dataclasses
import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.stats import binom

from catimage.data.router_files import FORMAT
from catimage.errors import InputError
from catimage.router import Router
from catimage.routing.certificate import CertifiedRules
from catimage.routing.randomized import RoutingRule
from tests.trained_workspace import COSTS, train_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return train_workspace(tmp_path_factory.mktemp("router"))[0]


@pytest.fixture(scope="module")
def router(workspace):
    return Router.load(workspace.router)


def test_crowded_prompts_get_the_expensive_candidate_and_plain_prompts_the_cheap_one(router):
    plain, crowded = router.route(["plain sage number 7", "crowded sage number 8"], lam=0.05)
    assert (plain.candidate, crowded.candidate) == ("mini-1", "mini-4")
    assert plain.cost == COSTS["mini-1"] and set(plain.qualities) == set(COSTS)
    assert crowded.predicted_quality == crowded.qualities["mini-4"]


def test_a_huge_lambda_selects_the_cheapest_candidate_and_lambda_0_the_best(router):
    prompts = ["crowded sage number 8"]
    assert router.route(prompts, lam=1e300)[0].candidate == "mini-1"
    assert router.route(prompts, lam=0.0)[0].predicted_quality == max(router.predict(prompts)[0])


def test_a_smaller_budget_has_a_larger_lambda(router):
    lambdas = [router.rule_for(budget=b).lam.max() for b in np.linspace(1, 4, 13)]
    assert lambdas == sorted(lambdas, reverse=True) and lambdas[0] > lambdas[-1] == 0
    assert router.rule_for(budget=router.budget).lam.max() == pytest.approx(router.lam, rel=1e-6)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (["a"], {"budget": 0.5}, "below the cost of the cheapest"),
        (["a"], {"budget": 2, "lam": 1}, "together with lambda"),
        (["a"], {"lam": -1}, "0 or more"),
        (["a"], {"lam": math.nan}, "lambda: must be a finite number, not nan"),
        (["a"], {"lam": math.inf}, "lambda: must be a finite number, not inf"),
        (["a"], {"lam": "much"}, "lambda: must be a finite number, not 'much'"),
        (["a"], {"budget": math.nan}, "budget: must be a finite number, not nan"),
        (["a"], {"budget": math.inf}, "budget: must be a finite number, not inf"),
        (["a"], {"budget": "60%"}, "budget: must be a finite number, not '60%'"),
        (["a"], {"budget": -0.0}, "budget: 0 is below the cost of the cheapest"),
        (["a"], {"request_ids": []}, "request_ids: 0 ids for 1 prompts"),
        (["a", "  "], {}, "prompt 2: the prompt is empty"),
        (["x" * 100_000], {}, "100,000 characters"),
        (["caf\udce9"], {}, "prompt 1: the prompt contains a lone surrogate"),
    ],
)
def test_invalid_requests_are_refused(router, prompts, options, message):
    with pytest.raises(InputError, match=message):
        router.route(prompts, **options)


REMOVED = "removed"
"""The value that a key of ``changes`` has in :func:`copy_router` if the key is to be removed."""


def copy_router(router_folder, tmp_path, **changes):
    """Copy a router, change keys of its ``router.json``, and return the folder of the copy."""
    folder = shutil.copytree(router_folder, tmp_path / "router")
    document = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(
        json.dumps({k: v for k, v in (document | changes).items() if v != REMOVED})
    )
    return folder


def test_a_router_of_another_version_is_refused(workspace, tmp_path):
    for i, changes in enumerate(
        (
            {"format": REMOVED, "rule": REMOVED},
            {"format": 1},
            {"format": 2},
            {"format": 3},
        )
    ):
        with pytest.raises(
            InputError,
            match=r"an older version of CATImage.*Run 'catimage train' and 'catimage calib",
        ):
            Router.load(copy_router(workspace.router, tmp_path / str(i), **changes))
    newer = copy_router(workspace.router, tmp_path / "newer", format=FORMAT + 1)
    with pytest.raises(InputError, match=r"a newer version of CATImage wrote this router \(format"):
        Router.load(newer)


@pytest.fixture
def randomized_router(workspace, tmp_path):
    """A router that routes 30% of the requests with lambda 0, and the others with a large one."""
    rows = [
        {"share": 0.3, "lambda": 0.0, "multipliers": {}},
        {"share": 0.7, "lambda": 1e9, "multipliers": {}},
    ]
    return Router.load(copy_router(workspace.router, tmp_path, rule=rows))


def lambdas_of(decisions):
    return [decision.lam for decision in decisions]


def test_a_randomized_rule_divides_the_requests_also_if_prompts_are_repeated(randomized_router):
    """Without a seed, a prompt that is sent often does not always use the same part of the rule."""
    low, high = binom.interval(0.9998, 600, 0.3)
    for prompts in (["crowded number 1"] * 600, [f"crowded number {i}" for i in range(600)]):
        for options in ({}, {"seed": 5}, {"request_ids": [f"id {i}" for i in range(600)]}):
            lambdas = lambdas_of(randomized_router.route(prompts, **options))
            assert set(lambdas) == {0.0, 1e9}
            assert low <= lambdas.count(0.0) <= high
    assert randomized_router.lam == 1e9


def test_decisions_with_a_seed_are_repeatable_whatever_the_other_requests_are(randomized_router):
    prompts = [f"crowded number {i}" for i in range(40)]
    decisions = randomized_router.route(prompts, seed=11)
    assert randomized_router.route(prompts, seed=11) == decisions
    assert lambdas_of(randomized_router.route(prompts, seed=12)) != lambdas_of(decisions)
    assert randomized_router.route(prompts[:7], seed=11) == decisions[:7]
    ids = [f"request {i}" for i in range(40)]
    by_id = randomized_router.route(prompts, request_ids=ids)
    assert randomized_router.route(prompts[::-1], request_ids=ids[::-1]) == by_id[::-1]
    single = randomized_router.route([prompts[3]], request_ids=[ids[3]])[0]
    assert (single.candidate, single.lam) == (by_id[3].candidate, by_id[3].lam)


def test_concurrent_requests_without_a_seed_are_divided(randomized_router):
    with ThreadPoolExecutor(8) as pool:
        routed = pool.map(lambda _: randomized_router.route(["crowded number 1"])[0], range(400))
        lambdas = lambdas_of(routed)
    low, high = binom.interval(0.9998, 400, 0.3)
    assert low <= lambdas.count(0.0) <= high


def test_the_rule_for_another_budget_is_randomized(router):
    low, high = (float(router.curve.cost[i]) for i in (5, 4))
    rule = router.rule_for(budget=low + 0.25 * (high - low))
    assert rule.share.tolist() == pytest.approx([0.25, 0.75]) and rule.lam[0] < rule.lam[1]
    assert router.rule_for(budget=router.budget) is router.rule
    unmixed = dataclasses.replace(router, mix=False).rule_for(budget=low + 0.25 * (high - low))
    assert unmixed.lam.tolist() == [rule.lam[1]]


def test_a_certified_router_uses_the_rule_of_the_largest_certified_budget_within(router):
    certified = CertifiedRules(
        np.array([1.0, 2.0, 3.0]),
        tuple(RoutingRule.from_parts((1.0, lam)) for lam in (9.0, 0.2, 0.1)),
    )
    with_confidence = dataclasses.replace(router, confidence=0.9, certified=certified)
    for budget, lam in {1.0: 9.0, 1.99: 9.0, 2.0: 0.2, 2.5: 0.2, 99.0: 0.1}.items():
        assert with_confidence.rule_for(budget=budget).lam.max() == lam
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        with_confidence.rule_for(budget=0.9)


def test_floors_refuse_another_budget_and_multipliers_apply_to_any_lambda(router):
    rule = RoutingRule(np.array([0.5, 0.5]), np.array([0.1, 0.2]), np.array([[1.0], [3.0]]))
    with_floors = dataclasses.replace(
        router,
        rule=rule,
        floors={"sharpness": 0.3},
        floor_estimators={"sharpness": router.estimator},
    )
    with pytest.raises(
        InputError,
        match=r"not the budget 2\.4 for which the floors .*sharpness 0\.3.* Set 'budget'",
    ):
        with_floors.rule_for(budget=3.0)
    assert with_floors.rule_for(budget=with_floors.budget) is rule
    assert with_floors.rule_for(lam=5.0).multipliers.tolist() == [[2.0]]
    candidates = [
        r.route(["crowded sage number 8"], lam=0.15)[0].candidate for r in (with_floors, router)
    ]
    assert candidates == ["mini-4", "mini-1"]


def test_risk_aversion_changes_the_selected_candidate_but_not_the_reported_qualities(router):
    class Spread:
        def predict(self, prompts):
            return np.tile([0.0, 0.0, 9.0], (len(prompts), 1))

    risk_averse = dataclasses.replace(router, risk_aversion=1.0, spread=Spread())
    (neutral_decision,) = router.route(["crowded sage number 8"], lam=0.0)
    (averse_decision,) = risk_averse.route(["crowded sage number 8"], lam=0.0)
    assert neutral_decision.candidate == "mini-4" and averse_decision.candidate == "mini-2"
    assert averse_decision.qualities == neutral_decision.qualities


def test_a_missing_and_a_damaged_router_are_refused(tmp_path):
    with pytest.raises(InputError, match="catimage calibrate"):
        Router.load(tmp_path)
    (tmp_path / "router.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Router.load(tmp_path)
