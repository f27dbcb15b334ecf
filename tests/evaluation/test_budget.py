from dataclasses import replace

import numpy as np
import pytest

from catimage.data.dataset import Candidates
from catimage.evaluation.budget import budget_document
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.operating_point import FloorLabels, OperatingPoint
from catimage.routing.randomized import RoutingRule

COST = np.array([1.0, 3.0])
CANDIDATES = Candidates(["a", "b"], COST, "seconds")
LABELS = np.array([[0.0, 1.0], [0.2, 0.4], [0.1, 0.9], [0.5, 0.5]])
CHOSEN_BY_PART = np.array([[1, 1, 1, 0], [0, 0, 1, 0]])
"""Position of the candidate that each part of the rule chooses for each prompt."""
RULE = RoutingRule.from_parts((0.25, 0.1), (0.75, 0.3))
PREDICTED = np.array([[0.0, 0.5], [0.0, 0.4], [0.0, 0.9], [0.5, 0.5]])
DRAWS = np.array([0.0, 0.25, 0.9, 0.2])


def point_of(**settings):
    """Return the operating point of a router with a randomized rule."""
    return OperatingPoint("knn", 2.0, RULE, PREDICTED, PREDICTED, DRAWS, **settings)


def document_of(point):
    return budget_document(point, LABELS, LABELS, 1, CANDIDATES, PairedBootstrap(4, 200, 0))


def test_a_randomized_rule_is_evaluated_by_its_expectation():
    outcome = point_of().outcome(LABELS, COST)
    assert outcome.cost.tolist() == [1.5, 1.5, 3, 1]
    assert outcome.quality.tolist() == pytest.approx([0.25, 0.25, 0.9, 0.5])
    document = document_of(point_of())
    assert document["realised_mean_cost"] == pytest.approx(1.75)
    assert document["realised_quality"] == pytest.approx(0.475)
    assert (document["estimator"], document["target"], document["lambda"]) == ("knn", 2.0, 0.3)
    assert document["rule"] == RULE.to_rows([])
    assert document["confidence"] is None
    assert document["floors"] == []


def test_the_realised_mean_cost_is_the_mean_over_random_draws():
    rng = np.random.default_rng(0)
    part = (rng.random((20_000, 4)) >= 0.25).astype(int)
    drawn = COST[CHOSEN_BY_PART[part, np.arange(4)]]
    expected = document_of(point_of())["realised_mean_cost"]
    assert drawn.mean() == pytest.approx(expected, abs=0.01)


def test_served_applies_the_drawn_part_of_the_rule_or_a_given_rule():
    assert point_of().served(COST).tolist() == [1, 0, 1, 0]
    other = RoutingRule.from_parts((1.0, 0.1))
    assert point_of().served(COST, other).tolist() == CHOSEN_BY_PART[0].tolist()


def test_floors_are_listed_with_their_realised_means():
    labels = np.array([[0.9, 0.1], [np.nan, 0.3], [0.4, 0.6], [0.8, 0.2]])
    floors = (
        FloorLabels("sharpness", 0.5, labels),
        FloorLabels("lpips", 0.1, np.full((4, 2), np.nan)),
    )
    rule = replace(RULE, multipliers=np.zeros((2, 2)))
    point = point_of(confidence=0.9, floors=floors)
    point = replace(point, rule=rule, scores=np.stack([PREDICTED] * 3))
    document = document_of(point)
    assert document["rule"] == rule.to_rows(["sharpness", "lpips"])
    assert document["confidence"] == 0.9
    first, second = document["floors"]
    realised = pytest.approx(np.mean([0.7, 0.6, 0.8]))
    assert first == {"metric": "sharpness", "floor": 0.5, "realised": realised}
    assert second == {"metric": "lpips", "floor": 0.1, "realised": None}
