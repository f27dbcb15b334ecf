import numpy as np
import pytest

from catimage.evaluation.budget import Floor, Operating, budget_document
from catimage.evaluation.families import expected_of
from catimage.evaluation.intervals import PairedBootstrap

COST = np.array([1.0, 3.0])
LABELS = np.array([[0.0, 1.0], [0.2, 0.4], [0.1, 0.9], [0.5, 0.5]])
CHOICES = np.array([[1, 1, 1, 0], [0, 0, 1, 0]])
RULE = tuple({"share": s, "lambda": lam, "multipliers": {}} for s, lam in ((0.25, 0.1), (0.75, 0.3)))


def document(**more):
    router = Operating("knn", 2.0, 0.3, LABELS, RULE, CHOICES, **more)
    return budget_document(router, LABELS, LABELS, 1, ["a", "b"], COST, PairedBootstrap(4, 200, 0))


def test_mixed_rules_are_judged_by_their_expectation():
    outcome = expected_of(CHOICES, np.array([0.25, 0.75]), LABELS, COST, 0.3)
    assert outcome.cost.tolist() == [1.5, 1.5, 3, 1] and outcome.quality.tolist() == pytest.approx([0.25, 0.25, 0.9, 0.5])
    found = document()
    assert found["realised_mean_cost"] == pytest.approx(1.75) and found["realised_quality"] == pytest.approx(0.475)
    assert (found["estimator"], found["target"], found["lambda"]) == ("knn", 2.0, 0.3) and found["rule"] == list(RULE)
    assert found["confidence"] is None and found["floors"] == []


def test_the_draws_average_to_the_expectation():
    rng = np.random.default_rng(0)
    part = (rng.random((20_000, 4)) >= 0.25).astype(int)
    drawn = COST[CHOICES[part, np.arange(4)]]
    assert drawn.mean() == pytest.approx(document()["realised_mean_cost"], abs=0.01)


def test_floors_stand_with_what_they_have_on_test():
    other = np.array([[0.9, 0.1], [np.nan, 0.3], [0.4, 0.6], [0.8, 0.2]])
    found = document(confidence=0.9, floors=(Floor("sharpness", 0.5, other), Floor("lpips", 0.1, np.full((4, 2), np.nan))))
    assert found["confidence"] == 0.9
    first, second = found["floors"]
    assert first == {"metric": "sharpness", "floor": 0.5, "realised": pytest.approx(np.mean([0.7, 0.6, 0.8]))}
    assert second == {"metric": "lpips", "floor": 0.1, "realised": None}


def test_without_parts_the_one_lambda_routes():
    router = Operating("knn", 2.0, 0.3, LABELS)
    found = budget_document(router, LABELS, LABELS, 1, ["a", "b"], COST, PairedBootstrap(4, 200, 0))
    assert found["realised_mean_cost"] == 2.0 and found["rule"] == [{"share": 1.0, "lambda": 0.3, "multipliers": {}}]
