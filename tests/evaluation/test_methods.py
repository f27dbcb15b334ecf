import json

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from catimage.data.dataset import Candidates
from catimage.evaluation.curve_rows import curve_rows
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import (
    Method,
    fixed_policies,
    randomized_policies,
    routed_policies,
)
from catimage.evaluation.tables import by_candidate
from catimage.evaluation.test_data import LabelledPredictions
from catimage.routing.curve import deferral_curve, lambda_of_point
from catimage.routing.match import MatchSearch
from catimage.routing.policy import choose
from tests.evaluation.synthetic import CANDIDATES, COST, NAMES, document_of, operating_point

TWO_CANDIDATES = Candidates(["a", "b"], np.array([1.0, 2.0]), "s")


def test_the_statistics_agree_with_the_known_best_policy_of_the_labels(document):
    assert document["n_test"] == 300
    assert document["cost_unit"] == "seconds"
    assert document["lower_is_better"] is False
    assert document["best_single"]["candidate"] == "expensive"
    assert document["best_single"]["cost"] == 10
    good = document["methods"]["good"]
    assert good["max_quality"] == pytest.approx(0.66, abs=0.005)
    match = good["selected"]["match"]
    assert match["cost_ratio"] == pytest.approx(0.55, abs=0.06)
    best = good["selected"]["max_quality"]
    assert best["quality"] == pytest.approx(0.66, abs=0.005)
    assert best["interval"][0] < best["gain"] < best["interval"][1]
    assert best["interval"][0] > 0
    assert document["methods"]["oracle"]["max_quality"] == pytest.approx(document["oracle_quality"])


def test_the_calibrated_router_is_compared_with_the_baselines(document):
    budget = document["budget"]
    assert budget["realised_mean_cost"] == pytest.approx(5.5)
    assert budget["realised_quality"] == pytest.approx(0.66, abs=0.005)
    low, high = budget["realised_mean_cost_interval"]
    assert low < 5.5 < high
    assert budget["best_fixed"]["candidate"] == "middle"
    assert budget["best_fixed"]["gain"] == pytest.approx(0.135, abs=0.01)
    assert budget["mix"]["cost"] == pytest.approx(5.5)
    assert budget["mix"]["quality"] == pytest.approx(0.555, abs=0.01)
    assert budget["mix"]["interval"][0] > 0
    assert budget["best_single"]["interval"][0] > 0


def test_the_document_has_the_documented_keys(document):
    top = "metric cost_unit n_test candidates by_metric best_single oracle_quality budget methods"
    assert set(top.split()) <= set(document)
    assert set(document["methods"]) == {"fixed", "mix", "oracle", "good", "constant"}
    keys = {
        "curve",
        "max_quality",
        "max_quality_cost",
        "quality_at_best_single_cost",
        "cost_ratio_to_match_best_single",
        "mean_curve_quality",
        "selected",
        "by_candidate",
    }
    for method in document["methods"].values():
        assert keys <= set(method)
        assert 0 < len(method["curve"]) <= 500
        assert all(len(row) == 3 for row in method["curve"])
        assert set(method["selected"]) == {"max_quality", "match"}
        for row in filter(None, method["selected"].values()):
            assert set(row) == {"lambda", "cost", "quality", "gain", "interval", "cost_ratio"}
        assert [row["candidate"] for row in method["by_candidate"]] == NAMES
    assert document["by_metric"]["quality"]["methods"] == document["methods"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_method_fixed_has_no_lambda_and_selects_on_validation(document):
    method = document["methods"]["fixed"]
    assert [row[0] for row in method["curve"]] == [10, 6, 1]
    assert all(row[2] is None for row in method["curve"])
    assert method["selected"]["max_quality"]["lambda"] is None
    assert method["selected"]["max_quality"]["cost"] == 10
    assert method["selected"]["max_quality"]["interval"] == [0, 0]
    assert method["selected"]["match"]["cost_ratio"] == 1
    assert document["methods"]["mix"]["mean_curve_quality"] > method["mean_curve_quality"]


def test_constant_predictions_gain_nothing(document):
    constant = document["methods"]["constant"]
    best = constant["selected"]["max_quality"]
    assert best["gain"] == 0
    assert best["interval"] == [0, 0]
    assert constant["cost_ratio_to_match_best_single"] == 1


def test_the_selected_lambda_reproduces_the_statistics_of_the_match(data, document):
    on_val, on_test = data.predictions["good"]
    match = document["methods"]["good"]["selected"]["match"]
    picked = choose(on_test, COST, match["lambda"])
    assert COST[picked].mean() == pytest.approx(match["cost"])
    quality = data.test[np.arange(len(picked)), picked].mean()
    assert quality == pytest.approx(match["quality"])
    certified = []
    for lam in np.geomspace(1e-4, 1, 400):
        picked = choose(on_val, COST, lam)
        differs = picked != 2
        gains = (data.validation[np.arange(len(picked)), picked] - data.validation[:, 2])[differs]
        if ttest_1samp(gains, 0, alternative="greater").pvalue > 0.05:
            break
        certified.append(COST[picked].mean())
    cost = COST[choose(on_val, COST, match["lambda"])].mean()
    assert cost == pytest.approx(min(certified))


def test_a_missing_match_has_a_reason():
    labels = np.array([[0.0, 1.0], [0.0, 1.0]] * 10) + np.arange(20)[:, None] / 100
    wrong = 1 - labels  # never selects the expensive candidate
    data = LabelledPredictions("q", labels, labels, labels, {"wrong": (wrong, wrong)})
    document = document_of([data], TWO_CANDIDATES, operating_point("wrong", 2.0, 0.0, wrong))
    method = document["methods"]["wrong"]
    assert method["selected"]["match"] is None
    assert "validation" in method["no_match"]
    assert method["selected"]["max_quality"]["gain"] == -1
    assert method["no_match"].endswith("with a confidence of 0.95")
    assert document["methods"]["fixed"]["no_match"] is None


def test_ties_for_the_best_single_candidate_go_to_the_cheaper():
    labels = np.array([[0.5, 0.5, 0.1]])
    data = LabelledPredictions("q", labels, labels, labels)
    assert data.best_single(np.array([2.0, 1.0, 3.0])) == 1


def test_the_best_single_candidate_is_selected_without_the_test_split():
    train, test = np.array([[1.0, 0.0]]), np.array([[0.0, 9.0]])
    data = LabelledPredictions("q", train, train, test)
    document = document_of([data], TWO_CANDIDATES, operating_point("e", 2.0, 0.0, test))
    assert document["best_single"] == {"candidate": "a", "cost": 1.0, "quality": 0.0}


def test_the_statistics_of_two_candidates_agree_with_a_closed_form():
    """For the four prompts, the second candidate gains 0, 1, 2 and 3 at an additional cost of 1."""
    labels = np.stack([np.zeros(4), np.arange(4.0)], axis=1)
    data = LabelledPredictions("q", labels, labels, labels)
    document = document_of([data], TWO_CANDIDATES, operating_point("e", 2.0, 0.0, labels))
    oracle = document["methods"]["oracle"]
    curve = [[1.75, 1.5], [1.5, 1.25], [1.25, 0.75], [1.0, 0.0]]
    assert [row[:2] for row in oracle["curve"]] == curve
    assert oracle["mean_curve_quality"] == pytest.approx((0 + 0.75 + 1.25 + 1.5) / 4)
    assert oracle["max_quality"] == 1.5
    assert oracle["max_quality_cost"] == 1.75
    assert oracle["cost_ratio_to_match_best_single"] == 0.875
    assert oracle["quality_at_best_single_cost"] == 1.5
    assert document["methods"]["fixed"]["mean_curve_quality"] == 0
    assert document["methods"]["mix"]["mean_curve_quality"] == pytest.approx(0.75)
    assert [row["cost_ratio_to_match"] for row in oracle["by_candidate"]] == [1, 0.875]


def test_candidates_of_equal_cost_are_compared_by_quality():
    rng = np.random.default_rng(0)
    labels = rng.random((50, 3))
    candidates = Candidates(["a", "b", "c"], np.full(3, 0.1), "unit")
    data = LabelledPredictions("q", labels, labels, labels, {"e": (labels, labels)})
    document = document_of([data], candidates, operating_point("e", 0.1, 0.0, labels))
    for method in document["methods"].values():
        assert method["mean_curve_quality"] == method["max_quality"]
    assert document["methods"]["e"]["max_quality"] == pytest.approx(document["oracle_quality"])
    assert document["methods"]["e"]["by_candidate"][0]["cost_ratio_to_match"] == pytest.approx(1)


def test_a_candidate_without_cost_has_no_cost_ratio():
    labels = np.array([[0.9, 0.1]])
    candidates = Candidates(["free", "paid"], np.array([0.0, 1.0]), "usd")
    data = LabelledPredictions("q", labels, labels, labels)
    document = document_of([data], candidates, operating_point("e", 0.0, 1.0, labels))
    assert document["methods"]["oracle"]["cost_ratio_to_match_best_single"] is None
    assert document["budget"]["best_single"]["cost_ratio"] is None
    json.dumps(document, allow_nan=False)


def test_thinned_rows_keep_the_ends_the_best_and_the_referenced_points():
    rng = np.random.default_rng(0)
    predicted, actual, cost = rng.random((900, 6)), rng.random((900, 6)), np.arange(1.0, 7.0)
    curve = deferral_curve(predicted, cost, actual)
    keep = [17, 333, 1001]
    rows = curve_rows(curve, keep)
    assert len(curve) > 1001
    assert len(rows) <= 500
    for i in (0, len(curve) - 1, int(curve.quality.argmax()), *keep):
        assert [curve.cost[i], curve.quality[i], curve.lam[i]] in rows
    assert len(curve_rows(curve, list(range(1200)))) <= 500


def test_statistics_are_computed_from_all_points_and_their_points_stay_in_the_thinned_curve():
    rng = np.random.default_rng(1)
    labels, cost = rng.random((800, 5)), np.arange(1.0, 6.0)
    predicted = labels + rng.normal(0, 0.5, labels.shape)
    data = LabelledPredictions("q", labels, labels, labels, {"e": (predicted, predicted)})
    candidates = Candidates(list("abcde"), cost, "s")
    document = document_of([data], candidates, operating_point("e", 3.0, 0.1, predicted))
    method = document["methods"]["e"]
    curve, shown = deferral_curve(predicted, cost, labels), np.array(method["curve"])
    assert len(curve) > 500 >= len(shown)
    assert method["max_quality"] == curve.quality.max() == shown[:, 1].max()
    for row, c in zip(method["by_candidate"], cost, strict=True):
        assert row["quality_at_cost"] == curve.quality[curve.cost <= c + 1e-9].max()
        assert row["quality_at_cost"] == shown[shown[:, 0] <= c + 1e-9, 1].max()


def test_by_candidate_measures_the_policies_selected_on_validation():
    rng = np.random.default_rng(2)
    val, test, cost = rng.random((60, 3)), rng.random((70, 3)), np.array([1.0, 2.0, 4.0])
    method = Method(
        routed_policies(test, test, test, test, cost), routed_policies(val, val, test, test, cost)
    )
    bootstrap, candidates = PairedBootstrap(70, 200, 0), Candidates(["a", "b", "c"], cost, "s")
    for m, row in enumerate(by_candidate(method, candidates, test, bootstrap, 0.95)):
        picked = choose(test, cost, row["selected_lambda"])
        quality = test[np.arange(70), picked]
        assert row["selected_quality"] == pytest.approx(quality.mean())
        assert row["selected_cost"] == pytest.approx(cost[picked].mean())
        assert row["gain"] == pytest.approx((quality - test[:, m]).mean())
        assert row["interval"] == pytest.approx(bootstrap.interval(quality - test[:, m]))
        assert cost[choose(val, cost, row["selected_lambda"])].mean() <= cost[m] + 1e-9


def test_a_lower_is_better_metric_is_marked(data):
    negated = LabelledPredictions(
        "error", -data.train, -data.validation, -data.test, {}, None, lower_is_better=True
    )
    point = operating_point("good", 6.0, 0.01, data.predictions["good"][1])
    document = document_of([data, negated], CANDIDATES, point)
    error = document["by_metric"]["error"]
    assert document["lower_is_better"] is False
    assert error["lower_is_better"] is True
    assert error["best_single"]["candidate"] == "cheap"
    assert error["oracle_quality"] < 0


def test_a_mix_of_two_candidates_equals_each_candidate_at_its_cost():
    labels, cost = np.array([[0.0, 1.0]]), np.array([1.0, 3.0])
    candidates, bootstrap = Candidates(["a", "b"], cost, "s"), PairedBootstrap(1, 100, 0)
    fixed, mixed = fixed_policies(labels, labels, cost), randomized_policies(labels, labels, cost)
    rows = [by_candidate(Method(p, p), candidates, labels, bootstrap, 0.95) for p in (fixed, mixed)]
    assert rows[0] == rows[1]


def test_the_match_certified_on_validation_is_measured_on_the_test_split():
    rng = np.random.default_rng(5)
    cost = np.array([1.0, 2.0, 4.0])
    val, test = (rng.random((200, 3)) + np.array([0.0, 0.05, 0.1]) for _ in range(2))
    on_val, on_test = (y + rng.normal(0, 0.3, y.shape) for y in (val, test))
    method = Method(
        routed_policies(on_test, test, on_test, test, cost),
        routed_policies(on_val, val, on_test, test, cost),
    )
    bootstrap, candidates = PairedBootstrap(200, 200, 0), Candidates(["a", "b", "c"], cost, "s")
    rows = by_candidate(method, candidates, test, bootstrap, 0.9)
    search, curve = MatchSearch(on_val, cost, val), deferral_curve(on_val, cost)
    for m, row in enumerate(rows):
        picked = choose(on_test, cost, lambda_of_point(curve, search.certified(m, 0.9)))
        gain = test[np.arange(200), picked] - test[:, m]
        match = row["selected_match"]
        assert match["cost_ratio"] == pytest.approx(cost[picked].mean() / cost[m])
        assert match["gain"] == pytest.approx(gain.mean())
        assert match["interval"] == pytest.approx(bootstrap.interval(gain))
        ratio_interval = [end / cost[m] for end in bootstrap.interval(cost[picked])]
        assert match["cost_ratio_interval"] == pytest.approx(ratio_interval)
        assert row["fixed_se"] == pytest.approx(test[:, m].std(ddof=1) / np.sqrt(200))


def test_few_validation_prompts_certify_no_match():
    labels = np.tile([0.0, 1.0, 2.0], (19, 1))
    cost = np.array([1.0, 1.0, 4.0])
    policies = routed_policies(labels, labels, labels, labels, cost)
    method, candidates = Method(policies, policies), Candidates(["a", "b", "c"], cost, "s")
    rows = by_candidate(method, candidates, labels, PairedBootstrap(19, 100, 0), 0.9)
    assert [row["selected_match"] for row in rows] == [None] * 3


def test_the_held_out_mean_curve_is_compared_with_the_best_mix(document):
    for name, method in document["methods"].items():
        mean_curve = method["selected_mean_curve"]
        low, high = mean_curve["interval"]
        assert low < mean_curve["quality"] < high
        assert (mean_curve["gain_interval"][0] > 0) == (name in ("oracle", "good"))
    assert document["methods"]["mix"]["selected_mean_curve"]["gain_over_mix"] == 0


def test_the_best_single_candidate_does_not_depend_on_which_labels_are_missing():
    easy = np.arange(20) % 2
    labels = np.stack([easy + 0.1, np.where(easy, easy, np.nan)], axis=1)
    data = LabelledPredictions("q", labels, labels[1::2], labels[1::2])
    assert data.best_single(np.array([1.0, 2.0])) == 0
