import json

import numpy as np
import pytest

from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import MetricData, Pool, best_single, curve_rows, metrics_document
from catimage.evaluation.noise import oracle_on_other_seeds
from catimage.evaluation.policies import fixed, mix, routed
from catimage.evaluation.tables import by_candidate
from catimage.routing.curve import deferral_curve
from catimage.routing.policy import choose
from tests.evaluation.worlds import COST, NAMES, operating


def test_the_world_whose_answer_is_known(document):
    assert (
        document["n_test"] == 300
        and document["cost_unit"] == "seconds"
        and document["lower_is_better"] is False
    )
    assert document["best_single"]["candidate"] == "dear" and document["best_single"]["cost"] == 10
    good = document["methods"]["good"]
    assert good["max_quality"] == pytest.approx(0.66, abs=0.005)
    match = good["selected"]["match"]
    assert match["cost_ratio"] == pytest.approx(0.55, abs=0.06)
    best = good["selected"]["max_quality"]
    assert (
        best["quality"] == pytest.approx(0.66, abs=0.005)
        and best["interval"][0] < best["gain"] < best["interval"][1]
    )
    assert best["interval"][0] > 0
    assert document["methods"]["oracle"]["max_quality"] == pytest.approx(document["oracle_quality"])


def test_budget_against_what_else_it_buys(document):
    budget = document["budget"]
    assert budget["realised_mean_cost"] == pytest.approx(5.5) and budget[
        "realised_quality"
    ] == pytest.approx(0.66, abs=0.005)
    low, high = budget["realised_mean_cost_interval"]
    assert low < 5.5 < high
    assert budget["best_fixed"]["candidate"] == "middle" and budget["best_fixed"][
        "gain"
    ] == pytest.approx(0.135, abs=0.01)
    assert budget["mix"]["cost"] == pytest.approx(5.5) and budget["mix"][
        "quality"
    ] == pytest.approx(0.555, abs=0.01)
    assert budget["mix"]["interval"][0] > 0 and budget["best_single"]["interval"][0] > 0


def test_every_key_of_the_design(document):
    assert {
        "metric",
        "cost_unit",
        "n_test",
        "candidates",
        "by_metric",
        "best_single",
        "oracle_quality",
        "budget",
        "methods",
    } <= set(document)
    assert set(document["methods"]) == {"fixed", "mix", "oracle", "good", "blind"}
    for method in document["methods"].values():
        assert {"curve", "max_quality", "max_quality_cost", "quality_at_best_single_cost"} <= set(
            method
        )
        assert {
            "cost_ratio_to_match_best_single",
            "mean_curve_quality",
            "selected",
            "by_candidate",
        } <= set(method)
        assert 0 < len(method["curve"]) <= 500 and all(len(row) == 3 for row in method["curve"])
        for figures in method["selected"].values():
            assert set(figures) == {"lambda", "cost", "quality", "gain", "interval", "cost_ratio"}
        assert [row["candidate"] for row in method["by_candidate"]] == NAMES
    assert document["by_metric"]["quality"]["methods"] == document["methods"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_fixed_has_no_lambda_and_chooses_on_validation(document):
    method = document["methods"]["fixed"]
    assert [row[0] for row in method["curve"]] == [10, 6, 1] and all(
        row[2] is None for row in method["curve"]
    )
    assert (
        method["selected"]["max_quality"]["lambda"] is None
        and method["selected"]["max_quality"]["cost"] == 10
    )
    assert (
        method["selected"]["max_quality"]["interval"] == [0, 0]
        and method["selected"]["match"]["cost_ratio"] == 1
    )
    assert document["methods"]["mix"]["mean_curve_quality"] > method["mean_curve_quality"]


def test_a_blind_estimator_gains_nothing(document):
    blind = document["methods"]["blind"]["selected"]["max_quality"]
    assert blind["gain"] == 0 and blind["interval"] == [0, 0]
    assert document["methods"]["blind"]["cost_ratio_to_match_best_single"] == 1


def test_selected_lambda_gives_that_point(world, document):
    on_val, on_test = world.predictions["good"]
    chosen = document["methods"]["good"]["selected"]["match"]
    picked = choose(on_test, COST, chosen["lambda"])
    assert COST[picked].mean() == pytest.approx(chosen["cost"])
    assert world.test[np.arange(len(picked)), picked].mean() == pytest.approx(chosen["quality"])
    lambdas = np.geomspace(1e-4, 1, 400)
    matching = []
    for lam in lambdas:
        picked = choose(on_val, COST, lam)
        if world.validation[np.arange(len(picked)), picked].mean() >= world.validation[:, 2].mean():
            matching.append(COST[picked].mean())
    assert COST[choose(on_val, COST, chosen["lambda"])].mean() == pytest.approx(min(matching))


def test_no_match_is_said_in_words():
    labels = np.array([[0.0, 1.0], [0.0, 1.0]])
    wrong = 1 - labels  # the estimator has it upside down, and never chooses the dear candidate
    data = MetricData("q", labels, labels, labels, {"wrong": (wrong, wrong)})
    document = metrics_document(
        data,
        [],
        Pool(["a", "b"], np.array([1.0, 2.0]), "s"),
        operating("wrong", 2.0, 0.0, wrong),
        100,
        0,
    )
    method = document["methods"]["wrong"]
    assert method["selected"]["match"] is None and "validation" in method["no_match"]
    assert method["selected"]["max_quality"]["gain"] == -1
    assert document["methods"]["oracle"]["no_match"] is None


def test_ties_for_best_single_go_to_the_cheaper():
    labels = np.array([[0.5, 0.5, 0.1]])
    assert best_single(MetricData("q", labels, labels, labels), np.array([2.0, 1.0, 3.0])) == 1


def test_best_single_is_known_before_the_test_split():
    data = MetricData("q", np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]]), np.array([[0.0, 9.0]]))
    document = metrics_document(
        data,
        [],
        Pool(["a", "b"], np.array([1.0, 2.0]), "s"),
        operating("e", 2.0, 0.0, data.test),
        100,
        0,
    )
    assert document["best_single"] == {"candidate": "a", "cost": 1.0, "quality": 0.0}


def test_two_candidates_in_closed_form():
    """Four prompts; the second candidate gains 0, 1, 2, 3 for a cost of 1 more: the oracle's curve
    is known point by point.
    """
    labels = np.stack([np.zeros(4), np.arange(4.0)], axis=1)
    cost = np.array([1.0, 2.0])
    document = metrics_document(
        MetricData("q", labels, labels, labels),
        [],
        Pool(["a", "b"], cost, "s"),
        operating("e", 2.0, 0.0, labels),
        100,
        0,
    )
    oracle = document["methods"]["oracle"]
    assert [row[:2] for row in oracle["curve"]] == [
        [1.75, 1.5],
        [1.5, 1.25],
        [1.25, 0.75],
        [1.0, 0.0],
    ]
    assert oracle["mean_curve_quality"] == pytest.approx((0 + 0.75 + 1.25 + 1.5) / 4)
    assert oracle["max_quality"] == 1.5 and oracle["max_quality_cost"] == 1.75
    assert (
        oracle["cost_ratio_to_match_best_single"] == 0.875
        and oracle["quality_at_best_single_cost"] == 1.5
    )
    fixed_rows, mixed = document["methods"]["fixed"], document["methods"]["mix"]
    assert fixed_rows["mean_curve_quality"] == 0 and mixed["mean_curve_quality"] == pytest.approx(
        0.75
    )
    assert [row["cost_ratio_to_match"] for row in oracle["by_candidate"]] == [1, 0.875]


def test_equal_costs_compare_quality_alone():
    rng = np.random.default_rng(0)
    labels = rng.random((50, 3))
    pool = Pool(["a", "b", "c"], np.full(3, 0.1), "unit")
    document = metrics_document(
        MetricData("q", labels, labels, labels, {"e": (labels, labels)}),
        [],
        pool,
        operating("e", 0.1, 0.0, labels),
        100,
        0,
    )
    for method in document["methods"].values():
        assert method["mean_curve_quality"] == method["max_quality"]
    assert document["methods"]["e"]["max_quality"] == pytest.approx(document["oracle_quality"])
    assert document["methods"]["e"]["by_candidate"][0]["cost_ratio_to_match"] == pytest.approx(1)


def test_a_free_candidate_has_no_ratio():
    labels = np.array([[0.9, 0.1]])
    pool = Pool(["free", "paid"], np.array([0.0, 1.0]), "usd")
    document = metrics_document(
        MetricData("q", labels, labels, labels), [], pool, operating("e", 0.0, 1.0, labels), 100, 0
    )
    assert document["methods"]["oracle"]["cost_ratio_to_match_best_single"] is None
    assert document["budget"]["best_single"]["cost_ratio"] is None
    json.dumps(document, allow_nan=False)


def test_thinned_rows_keep_the_ends_the_best_and_the_answers():
    rng = np.random.default_rng(0)
    predicted, actual, cost = rng.random((900, 6)), rng.random((900, 6)), np.arange(1.0, 7.0)
    curve = deferral_curve(predicted, cost, actual)
    keep = [17, 333, 1001]
    rows = curve_rows(curve, keep)
    assert len(curve) > 1001 and len(rows) <= 500
    for i in (0, len(curve) - 1, int(curve.quality.argmax()), *keep):
        assert [curve.cost[i], curve.quality[i], curve.lam[i]] in rows
    assert len(curve_rows(curve, list(range(1200)))) <= 500


def test_figures_come_from_the_whole_curve_and_stay_in_the_thinned_one():
    rng = np.random.default_rng(1)
    labels, cost = rng.random((800, 5)), np.arange(1.0, 6.0)
    predicted = labels + rng.normal(0, 0.5, labels.shape)
    data = MetricData("q", labels, labels, labels, {"e": (predicted, predicted)})
    method = metrics_document(
        data, [], Pool(list("abcde"), cost, "s"), operating("e", 3.0, 0.1, predicted), 100, 0
    )["methods"]["e"]
    curve, shown = deferral_curve(predicted, cost, labels), np.array(method["curve"])
    assert (
        len(curve) > 500 >= len(shown)
        and method["max_quality"] == curve.quality.max() == shown[:, 1].max()
    )
    for row, c in zip(method["by_candidate"], cost, strict=True):
        assert (
            row["quality_at_cost"]
            == curve.quality[curve.cost <= c + 1e-9].max()
            == shown[shown[:, 0] <= c + 1e-9, 1].max()
        )


def test_by_candidate_judges_what_validation_chose():
    rng = np.random.default_rng(2)
    val, test, cost = rng.random((60, 3)), rng.random((70, 3)), np.array([1.0, 2.0, 4.0])
    found, honest = routed(test, test, test, test, cost), routed(val, val, test, test, cost)
    bootstrap = PairedBootstrap(70, 200, 0)
    for m, row in enumerate(
        by_candidate(found, honest, ["a", "b", "c"], cost, val, test, bootstrap)
    ):
        picked = choose(test, cost, row["selected_lambda"])
        routed_quality = test[np.arange(70), picked]
        assert row["selected_quality"] == pytest.approx(routed_quality.mean()) and row[
            "selected_cost"
        ] == pytest.approx(cost[picked].mean())
        assert row["gain"] == pytest.approx((routed_quality - test[:, m]).mean())
        assert row["interval"] == pytest.approx(bootstrap.interval(routed_quality - test[:, m]))
        assert cost[choose(val, cost, row["selected_lambda"])].mean() <= cost[m] + 1e-9


def test_lower_is_better_is_said(world):
    negated = MetricData(
        "error", -world.train, -world.validation, -world.test, {}, None, lower_is_better=True
    )
    pool = Pool(NAMES, COST, "seconds")
    document = metrics_document(
        world, [negated], pool, operating("good", 6.0, 0.01, world.predictions["good"][1]), 100, 0
    )
    assert (
        document["lower_is_better"] is False
        and document["by_metric"]["error"]["lower_is_better"] is True
    )
    assert (
        document["by_metric"]["error"]["best_single"]["candidate"] == "cheap"
        and document["by_metric"]["error"]["oracle_quality"] < 0
    )


def test_an_oracle_of_luck_is_worth_nothing_on_other_seeds():
    by_seed = np.random.default_rng(0).normal(size=(4000, 6, 2))
    assert by_seed.mean(axis=2).max(axis=1).mean() > 0.5
    assert oracle_on_other_seeds(by_seed) == pytest.approx(0, abs=0.05)


def test_an_oracle_of_skill_keeps_its_worth_and_holes_are_left_out():
    truth = np.random.default_rng(0).normal(size=(100, 3, 1))
    by_seed = np.repeat(truth, 3, axis=2)
    by_seed[:50, :, 2] = np.nan
    by_seed[:10, 1, 1:] = np.nan
    expected = np.average(truth[10:, :, 0].max(axis=1), weights=[2] * 40 + [3] * 50)
    assert oracle_on_other_seeds(by_seed) == pytest.approx(expected)
    assert oracle_on_other_seeds(by_seed[:, :, :1]) is None


def test_mix_between_budgets_beats_steps():
    labels = np.array([[0.0, 1.0]])
    cost = np.array([1.0, 3.0])
    rows = [
        by_candidate(f, f, ["a", "b"], cost, labels, labels, PairedBootstrap(1, 100, 0))
        for f in (fixed(labels, labels, cost), mix(labels, labels, cost))
    ]
    assert rows[0] == rows[1]


def test_the_match_that_validation_chooses_against_brute_force():
    rng = np.random.default_rng(5)
    cost = np.array([1.0, 2.0, 4.0])
    val, test = (rng.random((50, 3)) + np.array([0.0, 0.05, 0.1]) for _ in range(2))
    on_val, on_test = (y + rng.normal(0, 0.3, y.shape) for y in (val, test))
    found, honest = (
        routed(on_test, test, on_test, test, cost),
        routed(on_val, val, on_test, test, cost),
    )
    bootstrap = PairedBootstrap(50, 200, 0)
    lambdas = np.append(np.unique(deferral_curve(on_val, cost).lam) * (1 + 1e-9), 1e9)
    rows = by_candidate(found, honest, ["a", "b", "c"], cost, val, test, bootstrap)
    assert any(row["selected_match"] for row in rows)
    for m, row in enumerate(rows):
        picks = [(choose(on_val, cost, lam), lam) for lam in lambdas]
        good = [
            (cost[p].mean(), lam)
            for p, lam in picks
            if val[np.arange(50), p].mean() >= val[:, m].mean() - 1e-12
        ]
        if not good:
            assert row["selected_match"] is None
            continue
        picked = choose(on_test, cost, min(good)[1])
        gain = test[np.arange(50), picked] - test[:, m]
        match = row["selected_match"]
        assert match["cost_ratio"] == pytest.approx(cost[picked].mean() / cost[m]) and match[
            "gain"
        ] == pytest.approx(gain.mean())
        assert match["interval"] == pytest.approx(bootstrap.interval(gain))
        assert match["cost_ratio_interval"] == pytest.approx(
            [end / cost[m] for end in bootstrap.interval(cost[picked])]
        )
        assert row["fixed_se"] == pytest.approx(test[:, m].std(ddof=1) / np.sqrt(50))


def test_the_honest_mean_curve_is_held_against_the_best_mix(document):
    for name, method in document["methods"].items():
        low, high = method["selected_mean_curve"]["interval"]
        assert low < method["selected_mean_curve"]["quality"] < high
        better = name in ("oracle", "good")
        assert (method["selected_mean_curve"]["gain_interval"][0] > 0) == better
    assert document["methods"]["mix"]["selected_mean_curve"]["gain_over_mix"] == 0


def test_best_single_with_holes_compares_like_with_like():
    easy = np.arange(20) % 2
    labels = np.stack([easy + 0.1, np.where(easy, easy, np.nan)], axis=1)
    assert (
        best_single(MetricData("q", labels, labels[1::2], labels[1::2]), np.array([1.0, 2.0])) == 0
    )
