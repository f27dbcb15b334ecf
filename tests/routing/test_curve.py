"""The deferral curve, compared with a selection of candidates for one lambda at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from catimage.errors import InputError
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.curve import DeferralCurve, deferral_curve, lambda_of_point
from catimage.routing.policy import choose


@st.composite
def problems(draw):
    """Draw predictions and labels (n_prompts, n_candidates) and costs (n_candidates,)."""
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    values = st.integers(-20, 20).map(lambda v: v / 7)
    predicted = draw(npst.arrays(float, (n, m), elements=values))
    actual = draw(npst.arrays(float, (n, m), elements=values))
    cost = draw(npst.arrays(float, (m,), elements=st.integers(0, 9).map(float)))
    return predicted, cost, actual


def means_at_lambda(predicted, cost, actual, lam):
    """Return the mean cost and the mean label of equation 3 with one lambda."""
    chosen = choose(predicted, cost, lam)
    return cost[chosen].mean(), actual[np.arange(len(chosen)), chosen].mean()


@settings(max_examples=150, deadline=None)
@given(problems())
def test_every_point_of_the_curve_is_the_result_of_equation_3(problem):
    predicted, cost, actual = problem
    curve = deferral_curve(predicted, cost, actual)
    for i in range(len(curve)):
        assert means_at_lambda(predicted, cost, actual, lambda_of_point(curve, i)) == pytest.approx(
            (curve.cost[i], curve.quality[i])
        )


@settings(max_examples=150, deadline=None)
@given(problems(), st.floats(0, 50))
def test_every_lambda_gives_a_point_of_the_curve(problem, lam):
    predicted, cost, actual = problem
    curve = deferral_curve(predicted, cost, actual)
    i = np.searchsorted(curve.lam, lam, side="right") - 1
    points = [j for j in (i - 1, i, i + 1) if 0 <= j < len(curve)]  # rounding may move lambda
    expected = means_at_lambda(predicted, cost, actual, lam)
    assert any(expected == pytest.approx((curve.cost[j], curve.quality[j])) for j in points)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_lambda_ascends_and_cost_and_predicted_quality_descend_along_the_curve(problem):
    predicted, cost, _ = problem
    curve = deferral_curve(predicted, cost)
    assert curve.lam[0] == 0 and (np.diff(curve.lam) > 0).all()
    assert (np.diff(curve.cost) <= 1e-12).all() and (np.diff(curve.quality) <= 1e-12).all()
    assert curve.quality[0] == pytest.approx(predicted.max(axis=1).mean())
    assert curve.cost[-1] == pytest.approx(cost.min())


@settings(max_examples=150, deadline=None)
@given(problems(), st.floats(0, 10))
def test_calibration_finds_the_smallest_lambda_within_the_budget(problem, budget):
    predicted, cost, _ = problem
    if budget < cost.min():
        with pytest.raises(InputError, match="below the cost of the cheapest"):
            calibrate_to_budget(predicted, cost, budget, mix=False)
        return
    calibrated = calibrate_to_budget(predicted, cost, budget, mix=False)
    mean_cost = cost[choose(predicted, cost, calibrated.lam)].mean()
    assert mean_cost == pytest.approx(calibrated.mean_cost) and mean_cost <= budget + 1e-6
    smaller = calibrated.curve.lam[calibrated.curve.lam < calibrated.lam * (1 - 1e-6)]
    if len(smaller) > 1:
        smaller_lambda = lambda_of_point(calibrated.curve, len(smaller) - 2)
        assert cost[choose(predicted, cost, smaller_lambda)].mean() > budget


def test_the_curve_of_two_candidates_equals_its_closed_form():
    curve = deferral_curve(np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([1.0, 2.0]))
    assert (
        curve.lam.tolist() == [0, 1, 2]
        and curve.cost.tolist() == [2, 1.5, 1]
        and curve.quality.tolist() == [1.5, 1, 0]
    )


def test_a_thinned_curve_keeps_its_ends_and_its_best_point():
    rng = np.random.default_rng(0)
    curve = deferral_curve(rng.random((800, 5)), np.arange(1.0, 6.0), rng.random((800, 5)))
    thinned = curve.thinned(100)
    assert len(curve) > 500 and len(thinned) <= 100
    assert thinned.quality.max() == curve.quality.max()
    assert thinned.cost[0] == curve.cost[0] and thinned.cost[-1] == curve.cost[-1]


@pytest.mark.parametrize(
    "predicted", [np.array([[np.nan, 1.0]]), np.zeros((0, 2)), np.zeros((1, 3))]
)
def test_invalid_predictions_are_refused(predicted):
    with pytest.raises(ValueError):
        deferral_curve(predicted, np.array([1.0, 2.0]))


def test_mean_quality_equals_its_closed_form():
    steps = DeferralCurve(
        np.array([0.0, 1.0, 2.0]), np.array([10.0, 4.0, 1.0]), np.array([0.8, 0.9, 0.3])
    )
    assert steps.mean_quality(1, 10) == pytest.approx((3 * 0.3 + 6 * 0.9) / 9)
    assert steps.mean_quality(1, 20) == pytest.approx((3 * 0.3 + 16 * 0.9) / 19)
    assert steps.mean_quality(10, 10) == 0.9 and steps.mean_quality(1, 1) == 0.3
    line = DeferralCurve(np.array([0.0, 1.0]), np.array([4.0, 2.0]), np.array([0.9, 0.5]))
    assert line.mean_quality(2, 6, linear=True) == pytest.approx((2 * 0.7 + 2 * 0.9) / 4)


def test_mean_quality_of_equal_costs_is_not_changed_by_rounding_errors():
    curve = deferral_curve(np.array([[0.0, 1.0]] * 7), np.full(2, 0.1))
    assert curve.mean_quality(0.1, 0.1) == 1
