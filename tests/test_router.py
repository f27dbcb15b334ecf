import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from scipy.stats import ks_2samp, kstest

from catimage.data.prompts.identity import prompt_id, split_of
from catimage.errors import InputError
from catimage.router import Certified, Router, draw_of
from catimage.routing.randomized import Rule
from tests.built import COST, build


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build(tmp_path_factory.mktemp("router"))[0]


@pytest.fixture(scope="module")
def router(built):
    return Router.load(built.router)


def test_crowded_prompts_go_to_the_dear_candidate_and_plain_ones_to_the_cheap(router):
    plain, crowded = router.route(["plain sage number 7", "crowded sage number 8"], lam=0.05)
    assert (plain.candidate, crowded.candidate) == ("mini-1", "mini-4")
    assert plain.cost == COST["mini-1"] and set(plain.qualities) == set(COST)
    assert crowded.predicted_quality == crowded.qualities["mini-4"]


def test_the_extremes_of_lambda(router):
    prompts = ["crowded sage number 8"]
    assert router.route(prompts, lam=math.inf)[0].candidate == "mini-1"
    assert router.route(prompts, lam=0.0)[0].predicted_quality == max(router.predict(prompts)[0])


def test_a_smaller_budget_means_a_larger_lambda(router):
    lambdas = [router.rule_for(budget=b).lam.max() for b in np.linspace(1, 4, 13)]
    assert lambdas == sorted(lambdas, reverse=True) and lambdas[0] > lambdas[-1] == 0
    assert router.rule_for(budget=router.budget).lam.max() == pytest.approx(router.lam, rel=1e-6)


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        (["a"], {"budget": 0.5}, "below the cheapest"),
        (["a"], {"budget": 2, "lam": 1}, "not both"),
        (["a"], {"lam": -1}, "0 or more"),
        (["a"], {"lam": math.nan}, "0 or more"),
        (["a", "  "], {}, "prompt 2 is empty"),
        (["x" * 100_000], {}, "100,000 characters"),
    ],
)
def test_bad_requests_get_one_sentence(router, prompts, options, words):
    with pytest.raises(InputError, match=words):
        router.route(prompts, **options)


def copied(router_folder, tmp_path, **changed):
    folder = shutil.copytree(router_folder, tmp_path / "router")
    document = json.loads((folder / "router.json").read_text())
    (folder / "router.json").write_text(
        json.dumps({k: v for k, v in (document | changed).items() if v != "gone"})
    )
    return folder


def test_a_router_of_another_version_is_refused_and_not_misread(built, tmp_path):
    for i, changed in enumerate(({"format": "gone", "rule": "gone"}, {"format": 1})):
        with pytest.raises(
            InputError, match=r"another version of CATImage.*run 'catimage calibrate' again"
        ):
            Router.load(copied(built.router, tmp_path / str(i), **changed))


def test_mixed_parts_share_the_prompts_and_a_prompt_keeps_its_own(built, tmp_path):
    rows = [
        {"share": 0.3, "lambda": 0.0, "multipliers": {}},
        {"share": 0.7, "lambda": 1e9, "multipliers": {}},
    ]
    router = Router.load(copied(built.router, tmp_path, rule=rows))
    prompts = [f"crowded number {i}" for i in range(400)]
    lambdas = np.array([d.lam for d in router.route(prompts)])
    assert set(lambdas) == {0.0, 1e9} and np.mean(lambdas == 0) == pytest.approx(0.3, abs=0.08)
    alone = [router.route([f"  {p} "])[0].lam for p in prompts[:8]]
    assert alone == lambdas[:8].tolist() and router.lam == 1e9


def test_the_draw_is_uniform_and_not_that_of_the_split():
    prompts = [f"number {i}" for i in range(4000)]
    draws = np.array([draw_of(p) for p in prompts])
    assert kstest(draws, "uniform").pvalue > 1e-3
    train = np.array([split_of(prompt_id(p)) == "train" for p in prompts])
    assert ks_2samp(draws[train], draws[~train]).pvalue > 1e-3


def test_any_budget_is_mixed_like_the_calibrated_one(router):
    cheap, dear = (float(router.curve.cost[i]) for i in (5, 4))
    rule = router.rule_for(budget=cheap + 0.25 * (dear - cheap))
    assert rule.share.tolist() == pytest.approx([0.25, 0.75]) and rule.lam[0] < rule.lam[1]
    assert router.rule_for(budget=router.budget) is router.rule
    unmixed = dataclasses.replace(router, mix=False).rule_for(budget=cheap + 0.25 * (dear - cheap))
    assert unmixed.lam.tolist() == [rule.lam[1]]


def test_a_certified_router_gives_any_budget_the_rule_of_the_nearest_below(router):
    certified = Certified(
        np.array([1.0, 2.0, 3.0]), tuple(Rule.of((1.0, lam)) for lam in (9.0, 0.2, 0.1))
    )
    sure = dataclasses.replace(router, confidence=0.9, certified=certified)
    assert [sure.rule_for(budget=b).lam.max() for b in (1.0, 1.99, 2.0, 2.5, 99.0)] == [
        9.0,
        9.0,
        0.2,
        0.2,
        0.1,
    ]
    with pytest.raises(InputError, match="below the cheapest"):
        sure.rule_for(budget=0.9)


def test_floors_are_of_one_budget_and_multipliers_stay_with_another_lambda(router):
    rule = Rule(np.array([0.5, 0.5]), np.array([0.1, 0.2]), np.array([[1.0], [3.0]]))
    floored = dataclasses.replace(
        router, rule=rule, floors={"sharpness": 0.3}, others={"sharpness": router.estimator}
    )
    with pytest.raises(
        InputError,
        match=r"keeps sharpness 0\.3, as calibrated for 2\.4: set 'budget', and calibrate again",
    ):
        floored.rule_for(budget=3.0)
    assert floored.rule_for(budget=floored.budget) is rule
    assert floored.rule_for(lam=5.0).multipliers.tolist() == [[2.0]]
    found = [r.route(["crowded sage number 8"], lam=0.15)[0].candidate for r in (floored, router)]
    assert found == ["mini-4", "mini-1"]


def test_risk_aversion_takes_spreads_off_but_not_off_what_is_told(router):
    class Spread:
        def predict(self, prompts):
            return np.tile([0.0, 0.0, 9.0], (len(prompts), 1))

    bold, shy = router, dataclasses.replace(router, risk_aversion=1.0, spread=Spread())
    (dear,), (cheap,) = (r.route(["crowded sage number 8"], lam=0.0) for r in (bold, shy))
    assert dear.candidate == "mini-4" and cheap.candidate == "mini-2"
    assert cheap.qualities == dear.qualities


def test_no_router_and_a_damaged_one(tmp_path):
    with pytest.raises(InputError, match="catimage calibrate"):
        Router.load(tmp_path)
    (tmp_path / "router.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        Router.load(tmp_path)
