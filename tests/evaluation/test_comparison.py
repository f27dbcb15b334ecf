import numpy as np
import pytest

from catimage.data.missing_labels import best_single_candidate
from catimage.evaluation.comparison import (
    BASELINES,
    comparison_rows,
    concatenate_folds,
    evaluate_fold,
    in_sample_cost_ratio,
)
from catimage.evaluation.comparison_text import comparison_lines, comparison_table
from catimage.evaluation.intervals import PairedBootstrap
from catimage.routing.policy import choose

COST = np.array([1.0, 2.0, 5.0])


def comparison_inputs(predict, n=400, seed=0):
    """Return the arguments of ``comparison_rows`` for five folds and the estimator ``ours``.

    Candidate 1 is the best single one, but candidate 0 is better for half of the prompts.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    noise = rng.normal(size=(n, 1)) + rng.normal(size=(n, 3)) / 10
    labels = np.stack([2.0 * kind, np.full(n, 1.2), np.full(n, 0.5)], axis=1) + noise
    folds, references = [], []
    for part in range(5):
        held_out = np.arange(n) % 5 == part
        predicted = predict(kind, labels, rng)
        predictions = {"ours": (predicted[~held_out], predicted[held_out])}
        folds.append(evaluate_fold(labels[~held_out], labels[held_out], COST, predictions))
        references.append(labels[held_out, best_single_candidate(labels[~held_out], COST)])
    reference = np.concatenate(references)
    return concatenate_folds(folds), reference, np.full(n, 2.0), PairedBootstrap(n, 300, 0)


def true_means(kind, labels, rng):
    return np.stack([2.0 * kind, np.full(len(kind), 1.2), np.full(len(kind), 0.5)], axis=1)


def random_values(kind, labels, rng):
    return rng.normal(size=labels.shape)


def test_a_router_with_true_mean_qualities_gains_at_a_lower_cost():
    rows = {row["estimator"]: row for row in comparison_rows(*comparison_inputs(true_means))}
    assert set(rows) == {*BASELINES, "ours"}
    best = rows["ours"]["max_quality"]
    assert best["gain"] == pytest.approx(0.4, abs=0.06)
    assert best["interval"][0] < best["gain"] < best["interval"][1]
    assert best["cost_ratio"] == pytest.approx(0.75, abs=0.05)
    assert rows["ours"]["verdict"] == "better"
    assert rows["ours"]["match"]["cost_ratio"] <= best["cost_ratio"]
    assert rows["oracle"]["max_quality"]["gain"] >= best["gain"]
    assert rows["fixed"]["max_quality"]["gain"] == 0
    assert rows["fixed"]["mean_curve_gain"] == {"gain": 0.0, "interval": [0.0, 0.0]}
    assert rows["ours"]["mean_curve_gain"]["interval"][0] > 0


def test_a_router_with_random_predictions_does_not_gain():
    rows = comparison_rows(*comparison_inputs(random_values))
    assert rows[-1]["verdict"] != "better"
    assert "gains +" not in comparison_lines(rows, "ours")[0]
    insignificant = [row | {"verdict": "nothing significant"} for row in rows]
    expected = "has no significant gain over the best single candidate"
    assert expected in comparison_lines(insignificant, "ours")[0]


def test_lambda_is_selected_on_the_training_prompts_and_applied_to_the_test_prompts():
    rng = np.random.default_rng(3)
    training, test, out_of_fold, predicted = (rng.normal(size=(50, 3)) for _ in range(4))
    outcome = evaluate_fold(training, test, COST, {"ours": (out_of_fold, predicted)})["ours"]
    lambdas = np.concatenate([[0.0], np.geomspace(1e-4, 10, 4000)])
    quality = [training[np.arange(50), choose(out_of_fold, COST, lam)].mean() for lam in lambdas]
    picked = choose(predicted, COST, lambdas[int(np.argmax(quality))])
    assert outcome.quality[:, 0] == pytest.approx(test[np.arange(50), picked])
    assert outcome.cost[:, 0] == pytest.approx(COST[picked])


def test_without_a_matching_lambda_the_best_single_candidate_is_used():
    training = np.tile([0.0, 1.0, 0.9], (20, 1))
    test = np.tile([0.0, 2.0, 0.0], (4, 1))
    wrong = np.tile([1.0, 0.0, 0.0], (20, 1))
    outcome = evaluate_fold(training, test, COST, {"wrong": (wrong, wrong[:4])})["wrong"]
    assert outcome.quality[:, 2].tolist() == [2.0] * 4
    assert outcome.cost[:, 2].tolist() == [2.0] * 4


def test_candidates_of_equal_cost_are_compared_by_quality():
    rng = np.random.default_rng(4)
    training, test = rng.normal(size=(30, 2)), rng.normal(size=(10, 2))
    outcome = evaluate_fold(training, test, np.ones(2), {"ours": (training, test)})["ours"]
    assert outcome.quality[:, 0] == pytest.approx(test.max(axis=1))
    assert outcome.curve_quality == pytest.approx(test.max(axis=1))


def test_the_table_has_a_cell_for_every_heading():
    rows = comparison_rows(*comparison_inputs(true_means, 100))
    timed = [row | {"fit_seconds": 1.5, "decision_ms": 0.25} for row in rows]
    header, cells = comparison_table(timed)
    assert all(len(line) == len(header) for line in cells)
    assert cells[-1][0] == "ours"
    assert cells[-1][-1] == "better"


def test_ties_for_the_best_single_candidate_go_to_the_cheaper():
    assert best_single_candidate(np.array([[1.0, 1.0, 0.0]]), np.array([3.0, 2.0, 1.0])) == 1


def test_the_in_sample_ratio_is_the_cheapest_mean_cost_that_matches():
    """For half of the prompts, both candidates are equally good, and the predictions are correct.
    A cost of 1 for these prompts and 3 for the others has the quality of cost 3 for all prompts.
    """
    labels, cost = np.array([[1.0, 1.0], [0.0, 1.0]] * 10), np.array([1.0, 3.0])
    assert in_sample_cost_ratio(labels, labels, cost, best=1) == pytest.approx(2 / 3)
    wrong = labels[:, ::-1] - [0, 5]
    assert in_sample_cost_ratio(wrong, labels, cost, best=1) is None, (
        "the expensive candidate is never selected"
    )


def test_the_sentences_name_no_share_of_a_cost_of_0():
    rows = comparison_rows(*comparison_inputs(true_means, 100))
    first, second = comparison_lines(rows, "ours")
    assert ", at " in first
    assert "on the other folds" in second
    free = {"cost_ratio": None, "cost_ratio_interval": None}
    changed = [row | {key: row[key] | free for key in ("max_quality", "match")} for row in rows]
    first, second = comparison_lines(changed, "ours")
    assert ", at " not in first + second
