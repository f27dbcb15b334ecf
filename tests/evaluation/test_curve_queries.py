import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.evaluation.curve_queries import (
    best_position,
    cost_at,
    position_at_cost,
    position_to_match,
    quality_at,
)
from catimage.evaluation.policies import fixed_policies, randomized_policies, routed_policies
from catimage.routing.curve import DeferralCurve
from catimage.routing.policy import choose
from tests.evaluation.synthetic import problems

STEPS = DeferralCurve(
    np.array([0.0, 1.0, 2.0]), np.array([10.0, 4.0, 1.0]), np.array([0.8, 0.9, 0.3])
)
LINE = DeferralCurve(np.array([0.0, 1.0]), np.array([4.0, 2.0]), np.array([0.9, 0.5]))


def test_positions_on_a_step_function_are_indices_of_points():
    assert best_position(STEPS) == 1
    assert position_at_cost(STEPS, 3.9) == 2
    assert position_at_cost(STEPS, 4.0) == 1
    assert position_at_cost(STEPS, 99) == 1
    assert position_at_cost(STEPS, 0.5) is None
    assert position_to_match(STEPS, 0.3) == 2
    assert position_to_match(STEPS, 0.31) == 1
    assert position_to_match(STEPS, 0.91) is None


def test_rounding_errors_do_not_exclude_a_point():
    assert position_at_cost(STEPS, 4.0 - 1e-12) == 1
    assert position_to_match(STEPS, 0.9 + 1e-12) == 1


def test_positions_on_a_line_may_lie_between_two_points():
    assert position_at_cost(LINE, 2.5, linear=True) == pytest.approx(0.75)
    assert quality_at(LINE, 0.75) == pytest.approx(0.6)
    assert cost_at(LINE, 0.75) == pytest.approx(2.5)
    assert position_to_match(LINE, 0.6, linear=True) == pytest.approx(0.75)
    assert position_at_cost(LINE, 9, linear=True) == 0
    assert position_at_cost(LINE, 1.9, linear=True) is None
    assert position_to_match(LINE, 0.1, linear=True) == 1
    assert position_to_match(LINE, 1, linear=True) is None


@settings(max_examples=60, deadline=None)
@given(problems())
def test_mean_quality_is_the_integral_of_the_quality_at_each_cost(problem):
    predicted, actual, cost = problem
    low, high = cost.min(), cost.max()
    grid = np.linspace(low, high, 301)[:-1] + (high - low) / 600
    costs = grid[:: 1 if high > low else 300]
    for policies in (
        routed_policies(predicted, actual, predicted, actual, cost),
        fixed_policies(actual, actual, cost),
        randomized_policies(actual, actual, cost),
    ):
        curve = policies.curve
        exact = curve.mean_quality(low, high, policies.linear)
        positions = [position_at_cost(curve, c, policies.linear) for c in costs]
        summed = np.mean([quality_at(curve, p) for p in positions])
        span = np.ptp(actual) + 1e-9
        assert exact == pytest.approx(summed, abs=span * len(curve) / 150)
        assert actual.mean(axis=0).min() - span <= exact <= curve.quality.max() + 1e-9


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(0, 10))
def test_no_policy_is_better_than_the_oracle_at_any_lambda(problem, lam):
    predicted, actual, cost = problem
    oracle = routed_policies(actual, actual, actual, actual, cost).curve
    best = (oracle.quality - lam * oracle.cost).max()
    picked = choose(predicted, cost, lam)
    assert best >= (actual[np.arange(len(picked)), picked] - lam * cost[picked]).mean() - 1e-9
    hull = randomized_policies(actual, actual, cost).curve
    assert best >= (hull.quality - lam * hull.cost).max() - 1e-9


@settings(max_examples=100, deadline=None)
@given(problems())
def test_the_curve_of_mixes_is_concave_and_above_the_fixed_candidates(problem):
    _, actual, cost = problem
    curve = randomized_policies(actual, actual, cost).curve
    slopes = np.diff(curve.quality) / np.diff(curve.cost)
    assert (np.diff(slopes) >= -1e-9).all()
    for m, c in enumerate(cost):
        mixed = quality_at(curve, position_at_cost(curve, c, linear=True))
        assert mixed >= actual[:, m].mean() - 1e-9


def test_a_tiny_budget_admits_no_expensive_point():
    """With a tolerance relative to the highest cost, a point of 50 times the budget would pass."""
    curve = DeferralCurve(np.zeros(3), np.array([1e6, 5e-5, 1e-6]), np.array([0.9, 0.8, 0.1]))
    assert position_at_cost(curve, 1e-6) == 2
    assert position_at_cost(curve, 5e-5) == 1
    free = DeferralCurve(np.zeros(2), np.array([1.0, 0.0]), np.array([0.9, 0.1]))
    assert position_at_cost(free, 0.0) == 1
    assert position_at_cost(free, 1e-17) == 1
