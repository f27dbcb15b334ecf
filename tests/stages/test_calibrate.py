"""The stage calibrate on synthetic scores: outputs and refused settings."""

import json
import shutil

import numpy as np
import pytest

from catimage.data.dataset import Dataset
from catimage.data.schema import SCORES, read_table, write_table
from catimage.errors import InputError
from tests.stages.calibration import (
    copy_workspace,
    run_calibrate,
    train_two_metrics,
    validation_means,
)


@pytest.fixture(scope="module")
def trained_workspace(tmp_path_factory):
    return train_two_metrics(tmp_path_factory.mktemp("calibrate"))


@pytest.fixture
def trained_copy(trained_workspace, tmp_path):
    return copy_workspace(trained_workspace, tmp_path / "w")


def test_the_whole_budget_is_spent_and_the_comparison_is_printed(trained_copy, capsys):
    router, document = run_calibrate(trained_copy, budget="2.25")
    spent, quality, _ = validation_means(trained_copy, router)
    assert spent == pytest.approx(2.25) == document["validation_mean_cost"]
    assert quality == pytest.approx(document["validation_quality"])
    assert document["compared"]["on"] == "train"
    assert document["compared"]["estimators"][0]["estimator"] == "ridge"
    lines = capsys.readouterr().out.splitlines()
    assert "ridge of 1: cross-validated mean curve quality" in lines[0]
    assert "mean cost 2.25 of 2.25 tflops" in lines[1]
    assert not list((trained_copy[0].router / "estimator").glob("out_of_fold*"))


def test_estimators_without_out_of_fold_predictions_are_compared_on_validation(
    trained_copy, capsys
):
    (trained_copy[0].estimators / "clip_score" / "ridge" / "out_of_fold.parquet").unlink()
    _, document = run_calibrate(trained_copy, mix=False)
    assert document["compared"]["on"] == "val"
    assert "ridge of 1: validation mean curve quality" in capsys.readouterr().out
    assert len(document["rule"]) == 1 and document["validation_mean_cost"] < 2.4


def test_an_estimator_named_in_the_settings_is_used_without_a_comparison(trained_copy):
    assert run_calibrate(trained_copy, estimator="ridge")[1]["compared"] is None


def test_a_confidence_is_corrected_for_every_setting_compared_on_the_validation_split(trained_copy):
    path = trained_copy[0].estimators / "clip_score" / "ridge" / "estimator.json"
    meta = json.loads(path.read_text())
    assert meta["tried"] == 8  # values of alpha
    _, with_eight_settings = run_calibrate(trained_copy, confidence=0.95)
    path.write_text(json.dumps(meta | {"tried": 1}))
    _, with_one_setting = run_calibrate(trained_copy, confidence=0.95)
    _, with_higher_confidence = run_calibrate(trained_copy, confidence=1 - 0.05 / 8)
    assert with_eight_settings["lambda"] == with_higher_confidence["lambda"]
    assert with_eight_settings["lambda"] > with_one_setting["lambda"]


def test_a_confidence_reduces_the_mean_cost_and_applies_to_any_other_budget(trained_copy, capsys):
    without_confidence, _ = run_calibrate(trained_copy)
    router, document = run_calibrate(trained_copy, confidence=0.95)
    assert document["validation_mean_cost"] < 2.3
    assert "met with a confidence of 0.95" in capsys.readouterr().out
    uncertified_lambda = without_confidence.rule_for(budget=3.0).lam.max()
    assert router.rule_for(budget=3.0).lam.max() > uncertified_lambda
    assert router.rule_for(budget=1.0).lam.min() > 1e6
    certified, document = run_calibrate(trained_copy, budget="1.05", confidence=0.999)
    assert document["validation_mean_cost"] == 1.0 and certified.lam > 1e6
    assert "validation prompts are too few to certify a lambda" in capsys.readouterr().out


def test_a_budget_slightly_above_a_certified_one_has_the_calibrated_rule(trained_copy):
    router, _ = run_calibrate(trained_copy, budget="2.55", confidence=0.95)
    assert router.rule_for(budget=2.55) is router.rule
    assert 2.55 in router.certified.budgets
    for budget in (2.55 * (1 + 1e-12), 2.5500001, 2.56):
        rule = router.rule_for(budget=budget)
        assert rule.lam.tolist() == router.rule.lam.tolist()
        assert rule.share == pytest.approx(router.rule.share)


@pytest.mark.parametrize("settings", [{}, {"confidence": 0.9}, {"mix": False}])
def test_a_larger_served_budget_never_has_a_lower_cost_or_predicted_quality(trained_copy, settings):
    router, _ = run_calibrate(trained_copy, budget="2.55", **settings)
    texts = Dataset.read(trained_copy[0], router.cost_unit).split("val").texts.tolist()
    predicted = router.predict(texts)
    budgets = np.sort([*np.linspace(1, 4.5, 60), 2.55, 2.55 * (1 + 1e-9), 2.550001])
    rules = [router.rule_for(budget=float(budget)) for budget in budgets]
    chosen = [rule.choose_by_part(predicted, router.costs) for rule in rules]
    pairs = list(zip(rules, chosen, strict=True))
    costs = [rule.expected(choice, router.costs).mean() for rule, choice in pairs]
    qualities = [rule.expected(choice, predicted).mean() for rule, choice in pairs]
    assert (np.diff(costs) >= -1e-9).all()
    assert (np.diff(qualities) >= -1e-9).all()
    assert (np.array(costs) <= budgets * (1 + 1e-8)).all()


def test_a_quality_floor_replaces_the_budget(trained_copy):
    router, document = run_calibrate(trained_copy, quality_floor=0.6)
    spent, quality, _ = validation_means(trained_copy, router)
    assert quality == pytest.approx(0.6) and router.budget == pytest.approx(spent)
    assert document["quality_floor"] == 0.6
    with pytest.raises(
        InputError, match=r"quality_floor: 0.9 is above the best mean quality .* 0\.6"
    ):
        run_calibrate(trained_copy, quality_floor=0.9)


def test_floors_of_another_metric_are_reached_within_the_budget(trained_copy, capsys):
    unconstrained = validation_means(trained_copy, run_calibrate(trained_copy)[0])
    router, document = run_calibrate(
        trained_copy, floors={"sharpness": round(unconstrained[2] + 0.03, 4)}
    )
    spent, quality, sharpness = validation_means(trained_copy, router)
    assert sharpness == pytest.approx(router.floors["sharpness"], abs=1e-4)
    assert document["validation_floors"]["sharpness"] == pytest.approx(
        router.floors["sharpness"], abs=1e-4
    )
    assert spent <= 2.4 + 1e-9 and quality < unconstrained[1]
    assert f", sharpness {sharpness:.5g}" in capsys.readouterr().out
    with pytest.raises(
        InputError,
        match=(
            r"reaches sharpness 0\.9 on the validation split\. The largest mean prediction of each"
            r" metric within the budget is sharpness 0\.\d+\."
        ),
    ):
        run_calibrate(trained_copy, floors={"sharpness": 0.9})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"floors": {"clip_score": 0.5}},
            r"clip_score is the routed metric\. Set calibrate\.quality_floor",
        ),
        ({"floors": {"lpips": 0.5}}, r"'lpips' has no estimator\. Add it to train\.metrics"),
        (
            {"floors": {"sharpness": 0.5}, "mix": False},
            r"floors need randomized rules\. Set calibrate\.mix to true",
        ),
        (
            {"floors": {"sharpness": 0.5}, "confidence": 0.9},
            "calibrate: floors and confidence exclude each other",
        ),
        (
            {"quality_floor": 0.5, "confidence": 0.9},
            "calibrate: quality_floor and confidence exclude each other",
        ),
        (
            {"quality_floor": 0.5, "floors": {"sharpness": 0.5}},
            "calibrate: quality_floor and floors exclude each other",
        ),
    ],
)
def test_settings_that_exclude_each_other_are_refused_and_the_last_router_is_kept(
    trained_copy, settings, message
):
    before = (trained_copy[0].router / "router.json").read_text()
    with pytest.raises(InputError, match=message):
        run_calibrate(trained_copy, **settings)
    assert (trained_copy[0].router / "router.json").read_text() == before


def test_risk_aversion_needs_predictive_standard_deviations(trained_copy):
    source = trained_copy[0].estimators / "clip_score" / "ridge" / "spread"
    if source.exists():
        router, document = run_calibrate(trained_copy, risk_aversion=1.5)
        prompts = ["crowded amber number 3", "plain dune number 5"]
        spread = router.spread.predict(np.array(prompts, object))
        assert router.rule_inputs(prompts, router.predict(prompts))[0] == pytest.approx(
            router.predict(prompts) - 1.5 * spread
        )
        assert document["risk_aversion"] == 1.5
        shutil.rmtree(source)
    with pytest.raises(InputError, match=r"no predictive spread\. Set train\.folds to 2 or more"):
        run_calibrate(trained_copy, risk_aversion=1.0)


def test_an_estimator_of_other_candidates_is_refused(trained_copy):
    from catimage.estimators import store

    folder = trained_copy[0].estimators / "clip_score" / "ridge"
    estimator, meta = store.load(folder)
    store.save(estimator, folder, meta | {"candidates": ["mini-1", "gone"]})
    with pytest.raises(
        InputError,
        match=r"ridge: the estimator was trained on other candidates\. Run 'catimage train'",
    ):
        run_calibrate(trained_copy, estimator="ridge")


def test_a_constant_metric_routes_to_the_cheapest_candidate(trained_copy):
    workspace, params = trained_copy
    scores = read_table(workspace.scores, SCORES, "label")
    write_table(scores.assign(value=0.5), workspace.scores, SCORES)
    from catimage.estimators import store

    folder = workspace.estimators / "clip_score" / "ridge"
    estimator, meta = store.load(folder)
    train = Dataset.read(workspace, params.cost_unit).split("train")
    constant = np.full_like(train.labels("clip_score"), 0.5)
    store.save(estimator.fit(train.texts, constant), folder, meta)
    for settings in ({}, {"confidence": 0.95}, {"quality_floor": 0.5}):
        _, document = run_calibrate(trained_copy, estimator="ridge", **settings)
        assert document["validation_mean_cost"] <= 1.01 or document["validation_quality"] == 0.5
