import numpy as np
import pytest

from catimage.data.missing_labels import best_single_candidate
from catimage.evaluation.comparison import (
    BASELINES,
    comparison_rows,
    comparison_table,
    found_ratio,
    joined,
    judge_fold,
    sentences,
)
from catimage.evaluation.intervals import PairedBootstrap
from catimage.routing.policy import choose

COST = np.array([1.0, 2.0, 5.0])


def _folds(predict, n=400, seed=0):
    """Five folds of labels of which candidate 1 is the best single one, though 0 is better for half
    of the prompts.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 2, n)
    y = (
        np.stack([2.0 * kind, np.full(n, 1.2), np.full(n, 0.5)], axis=1)
        + rng.normal(size=(n, 1))
        + rng.normal(size=(n, 3)) / 10
    )
    pooled, rivals = [], []
    for part in range(5):
        held = np.arange(n) % 5 == part
        predicted = predict(kind, y, rng)
        pooled.append(
            judge_fold(y[~held], y[held], COST, {"ours": (predicted[~held], predicted[held])})
        )
        rivals.append(y[held, best_single_candidate(y[~held], COST)])
    rival = np.concatenate(rivals)
    return joined(pooled), rival, np.full(n, 2.0), PairedBootstrap(n, 300, 0)


def _knowing(kind, y, rng):
    return np.stack([2.0 * kind, np.full(len(kind), 1.2), np.full(len(kind), 0.5)], axis=1)


def _ignorant(kind, y, rng):
    return rng.normal(size=y.shape)


def test_a_router_that_knows_gains_what_it_should_and_costs_less():
    rows = {row["estimator"]: row for row in comparison_rows(*_folds(_knowing))}
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


def test_one_that_knows_nothing_is_told_so():
    rows = comparison_rows(*_folds(_ignorant))
    row = rows[-1]
    assert row["verdict"] != "better"
    assert "gains +" not in sentences(rows, "ours")[0]
    nothing = [r | {"verdict": "nothing significant"} for r in rows]
    assert (
        "gains nothing significant over the best single candidate" in sentences(nothing, "ours")[0]
    )


def test_policies_are_those_of_equation_3_at_a_lambda_of_the_known_prompts():
    rng = np.random.default_rng(3)
    known, judged, held, predicted = (rng.normal(size=(50, 3)) for _ in range(4))
    found = judge_fold(known, judged, COST, {"ours": (held, predicted)})["ours"]
    lams = np.concatenate([[0.0], np.geomspace(1e-4, 10, 4000)])
    quality = [known[np.arange(50), choose(held, COST, lam)].mean() for lam in lams]
    picked = choose(predicted, COST, lams[int(np.argmax(quality))])
    assert found.quality[:, 0] == pytest.approx(judged[np.arange(50), picked])
    assert found.cost[:, 0] == pytest.approx(COST[picked])


def test_where_no_lambda_matches_the_best_single_candidate_it_is_taken():
    known = np.tile([0.0, 1.0, 0.9], (20, 1))
    judged = np.tile([0.0, 2.0, 0.0], (4, 1))
    bad = np.tile([1.0, 0.0, 0.0], (20, 1))
    found = judge_fold(known, judged, COST, {"bad": (bad, bad[:4])})["bad"]
    assert found.quality[:, 2].tolist() == [2.0] * 4
    assert found.cost[:, 2].tolist() == [2.0] * 4


def test_candidates_of_one_cost():
    rng = np.random.default_rng(4)
    known, judged = rng.normal(size=(30, 2)), rng.normal(size=(10, 2))
    found = judge_fold(known, judged, np.ones(2), {"ours": (known, judged)})
    assert found["ours"].quality[:, 0] == pytest.approx(judged.max(axis=1))
    assert found["ours"].curve == pytest.approx(judged.max(axis=1))


def test_the_table_has_a_cell_for_every_heading():
    rows = comparison_rows(*_folds(_knowing, 100))
    header, cells = comparison_table(
        [row | {"fit_seconds": 1.5, "decision_ms": 0.25} for row in rows]
    )
    assert all(len(line) == len(header) for line in cells)
    assert cells[-1][0] == "ours"
    assert cells[-1][-1] == "better"


def test_ties_for_the_best_single_candidate_go_to_the_cheaper():
    assert best_single_candidate(np.array([[1.0, 1.0, 0.0]]), np.array([3.0, 2.0, 1.0])) == 1


def test_the_ratio_on_the_own_curve_is_the_cheapest_mean_that_matches():
    """Half of the prompts are as good cheap as dear, and the predictions know which: 1 and 3 in
    equal shares match 3.
    """
    judged = np.array([[1.0, 1.0], [0.0, 1.0]] * 10)
    assert found_ratio(judged, judged, np.array([1.0, 3.0]), best=1) == pytest.approx(2 / 3)
    assert found_ratio(judged[:, ::-1] - [0, 5], judged, np.array([1.0, 3.0]), best=1) is None, (
        "never routed to the dear one"
    )
