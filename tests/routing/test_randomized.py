"""Randomized rules: optimality, spending of the budget, assignment of prompts, and files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.curve import deferral_curve
from catimage.routing.randomized import RoutingRule, rule_within
from tests.routing.problems import means, problems, relaxed_optimum


@settings(max_examples=150, deadline=None)
@given(problems(), st.floats(0, 9.5))
def test_a_randomized_rule_is_the_optimum_of_the_relaxed_problem(problem, extra_budget):
    predicted, cost = problem
    budget = cost.min() + extra_budget
    calibrated = calibrate_to_budget(predicted[0], cost, budget)
    spent, quality = means(calibrated.rule, predicted, cost)
    assert quality[0] == pytest.approx(relaxed_optimum(predicted, cost, budget), abs=1e-7)
    assert spent == pytest.approx(calibrated.mean_cost, abs=1e-9) and spent <= budget + 1e-7


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(0, 1))
def test_the_whole_budget_is_spent(problem, share):
    predicted, cost = problem
    curve = deferral_curve(predicted[0], cost)
    budget = cost.min() + share * (curve.cost[0] - cost.min())
    rule, spent = rule_within(curve, budget, cost)
    assert spent == pytest.approx(budget, abs=1e-7)
    assert means(rule, predicted, cost)[0] == pytest.approx(budget, abs=1e-7)


def test_prompts_with_equal_predictions_are_divided_between_two_candidates():
    predicted = np.tile([0.0, 1.0, 1.5], (10, 1))
    calibrated = calibrate_to_budget(predicted, np.array([1.0, 2.0, 4.0]), 1.25)
    assert calibrated.rule.share.tolist() == pytest.approx([0.25, 0.75])
    assert calibrated.mean_cost == pytest.approx(1.25)
    unmixed = calibrate_to_budget(predicted, np.array([1.0, 2.0, 4.0]), 1.25, mix=False)
    assert (unmixed.rule.share.tolist(), unmixed.mean_cost) == ([1.0], 1.0)
    assert unmixed.lam == calibrated.lam


def test_draws_assign_prompts_to_parts_in_proportion_to_the_shares():
    rule = RoutingRule.from_parts((0.25, 0.0), (0.75, 9.0))
    assert rule.assign_parts(np.array([0.0, 0.2499, 0.25, 0.999])).tolist() == [0, 0, 1, 1]
    selected_by_part, draws = np.array([[1, 1, 1], [0, 2, 0]]), np.array([0.9, 0.3, 0.1])
    assert rule.select(selected_by_part, draws).tolist() == [0, 2, 1]
    parts = rule.assign_parts(np.random.default_rng(0).random(20_000))
    assert np.mean(parts == 0) == pytest.approx(0.25, abs=0.01)


def test_a_rule_is_unchanged_by_a_round_trip_through_rows():
    rule = RoutingRule(
        np.array([0.3, 0.7]), np.array([0.1, 0.2]), np.array([[1.0, 2.0], [3.0, 4.0]])
    )
    rows = rule.to_rows(["a", "b"])
    assert rows[1] == {"share": 0.7, "lambda": 0.2, "multipliers": {"a": 3.0, "b": 4.0}}
    reordered = RoutingRule.from_rows(rows, ["b", "a"])
    assert reordered.multipliers.tolist() == [[2.0, 1.0], [4.0, 3.0]]
    assert reordered.lam.tolist() == [0.1, 0.2]
    assert RoutingRule.from_parts((0.0, 5.0), (2.0, 1.0)).to_rows([]) == [
        {"share": 1.0, "lambda": 1.0, "multipliers": {}}
    ]


def test_further_metrics_are_required_and_weighted_by_their_multipliers():
    rule, cost = RoutingRule(np.ones(1), np.zeros(1), np.array([[2.0]])), np.array([1.0, 1.0])
    assert rule.choose_by_part(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), cost).tolist() == [[1]]
    with pytest.raises(ValueError, match="of 2 metrics"):
        rule.choose_by_part(np.array([[1.0, 0.0]]), cost)


def test_a_budget_below_the_cost_of_the_cheapest_candidate_is_refused():
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        calibrate_to_budget(np.zeros((3, 2)), np.array([1.0, 2.0]), 0.9)


def test_a_single_candidate_can_be_calibrated():
    assert calibrate_to_budget(np.zeros((3, 1)), np.array([2.0]), 2.0).mean_cost == 2


def test_a_prompt_with_a_missing_label_contributes_to_the_cost_only():
    predicted, cost = np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([1.0, 2.0])
    curve = deferral_curve(predicted, cost, np.array([[5.0, 7.0], [np.nan, 9.0]]))
    assert (
        curve.lam.tolist() == [0, 1, 2]
        and curve.cost.tolist() == [2, 1.5, 1]
        and curve.quality.tolist() == [7, 5, 5]
    )
    for actual in (
        np.full((2, 2), np.nan),
        np.array([[np.inf, 0.0], [0.0, 0.0]]),
        np.zeros((1, 2)),
    ):
        with pytest.raises(ValueError, match="actual"):
            deferral_curve(predicted, cost, actual)
