from dataclasses import replace

import numpy as np
import pytest

from catimage.evaluation.budget import Floor, Operating, budget_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.routing.randomized import Rule

COST = np.array([1.0, 3.0])
LABELS = np.array([[0.0, 1.0], [0.2, 0.4], [0.1, 0.9], [0.5, 0.5]])
CHOICES = np.array([[1, 1, 1, 0], [0, 0, 1, 0]])
"""By each part of the rule."""
RULE = Rule.of((0.25, 0.1), (0.75, 0.3))
PREDICTED = np.array([[0.0, 0.5], [0.0, 0.4], [0.0, 0.9], [0.5, 0.5]])


def router(**more):
    return Operating(
        "knn", 2.0, RULE, PREDICTED, PREDICTED, np.array([0.0, 0.25, 0.9, 0.2]), **more
    )


def document(**more):
    return budget_document(
        router(**more), LABELS, LABELS, 1, ["a", "b"], COST, PairedBootstrap(4, 200, 0)
    )


def test_mixed_rules_are_judged_by_their_expectation():
    outcome = router().outcome(LABELS, COST)
    assert outcome.cost.tolist() == [1.5, 1.5, 3, 1] and outcome.quality.tolist() == pytest.approx(
        [0.25, 0.25, 0.9, 0.5]
    )
    found = document()
    assert found["realised_mean_cost"] == pytest.approx(1.75) and found[
        "realised_quality"
    ] == pytest.approx(0.475)
    assert (found["estimator"], found["target"], found["lambda"]) == ("knn", 2.0, 0.3) and found[
        "rule"
    ] == RULE.rows([])
    assert found["confidence"] is None and found["floors"] == []


def test_the_draws_average_to_the_expectation():
    rng = np.random.default_rng(0)
    part = (rng.random((20_000, 4)) >= 0.25).astype(int)
    drawn = COST[CHOICES[part, np.arange(4)]]
    assert drawn.mean() == pytest.approx(document()["realised_mean_cost"], abs=0.01)


def test_each_prompt_is_served_by_one_part_or_by_another_rule():
    assert router().served(COST).tolist() == [1, 0, 1, 0]
    assert router().served(COST, Rule.of((1.0, 0.1))).tolist() == CHOICES[0].tolist()


def test_floors_stand_with_what_they_have_on_test():
    other = np.array([[0.9, 0.1], [np.nan, 0.3], [0.4, 0.6], [0.8, 0.2]])
    kept = (Floor("sharpness", 0.5, other), Floor("lpips", 0.1, np.full((4, 2), np.nan)))
    rule = replace(RULE, multipliers=np.zeros((2, 2)))
    point = replace(
        router(confidence=0.9, floors=kept), rule=rule, scores=np.stack([PREDICTED] * 3)
    )
    found = budget_document(point, LABELS, LABELS, 1, ["a", "b"], COST, PairedBootstrap(4, 200, 0))
    assert found["rule"] == rule.rows(["sharpness", "lpips"])
    assert found["confidence"] == 0.9
    first, second = found["floors"]
    assert first == {
        "metric": "sharpness",
        "floor": 0.5,
        "realised": pytest.approx(np.mean([0.7, 0.6, 0.8])),
    }
    assert second == {"metric": "lpips", "floor": 0.1, "realised": None}
