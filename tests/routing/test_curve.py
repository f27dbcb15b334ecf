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
    n, m = draw(st.integers(1, 12)), draw(st.integers(1, 6))
    values = st.integers(-20, 20).map(lambda v: v / 7)
    predicted = draw(npst.arrays(float, (n, m), elements=values))
    actual = draw(npst.arrays(float, (n, m), elements=values))
    cost = draw(npst.arrays(float, (m,), elements=st.integers(0, 9).map(float)))
    return predicted, cost, actual


def brute_force(predicted, cost, actual, lam):
    picked = choose(predicted, cost, lam)
    return cost[picked].mean(), actual[np.arange(len(picked)), picked].mean()


@settings(max_examples=150, deadline=None)
@given(problems())
def test_every_point_of_the_curve_is_the_result_of_equation_3(problem):
    predicted, cost, actual = problem
    curve = deferral_curve(predicted, cost, actual)
    for i in range(len(curve)):
        assert brute_force(predicted, cost, actual, lambda_of_point(curve, i)) == pytest.approx(
            (curve.cost[i], curve.quality[i])
        )


@settings(max_examples=150, deadline=None)
@given(problems(), st.floats(0, 50))
def test_every_lambda_gives_a_point_of_the_curve(problem, lam):
    predicted, cost, actual = problem
    curve = deferral_curve(predicted, cost, actual)
    i = np.searchsorted(curve.lam, lam, side="right") - 1
    near = [j for j in (i - 1, i, i + 1) if 0 <= j < len(curve)]
    point = brute_force(predicted, cost, actual, lam)
    assert any(point == pytest.approx((curve.cost[j], curve.quality[j])) for j in near)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_shape_of_the_curve(problem):
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
    realised = cost[choose(predicted, cost, calibrated.lam)].mean()
    assert realised == pytest.approx(calibrated.mean_cost) and realised <= budget + 1e-6
    smaller = calibrated.curve.lam[calibrated.curve.lam < calibrated.lam * (1 - 1e-6)]
    if len(smaller) > 1:
        just_below = lambda_of_point(calibrated.curve, len(smaller) - 2)
        assert cost[choose(predicted, cost, just_below)].mean() > budget


def test_two_candidates_in_closed_form():
    curve = deferral_curve(np.array([[0.0, 1.0], [0.0, 2.0]]), np.array([1.0, 2.0]))
    assert (
        curve.lam.tolist() == [0, 1, 2]
        and curve.cost.tolist() == [2, 1.5, 1]
        and curve.quality.tolist() == [1.5, 1, 0]
    )


def test_thinning_keeps_ends_and_best():
    rng = np.random.default_rng(0)
    curve = deferral_curve(rng.random((800, 5)), np.arange(1.0, 6.0), rng.random((800, 5)))
    thin = curve.thinned(100)
    assert len(curve) > 500 and len(thin) <= 100
    assert (
        thin.quality.max() == curve.quality.max()
        and thin.cost[0] == curve.cost[0]
        and thin.cost[-1] == curve.cost[-1]
    )


@pytest.mark.parametrize("bad", [np.array([[np.nan, 1.0]]), np.zeros((0, 2)), np.zeros((1, 3))])
def test_bad_arrays_are_refused(bad):
    with pytest.raises(ValueError):
        deferral_curve(bad, np.array([1.0, 2.0]))


def test_mean_quality_in_closed_form():
    steps = DeferralCurve(
        np.array([0.0, 1.0, 2.0]), np.array([10.0, 4.0, 1.0]), np.array([0.8, 0.9, 0.3])
    )
    assert steps.mean_quality(1, 10) == pytest.approx((3 * 0.3 + 6 * 0.9) / 9)
    assert steps.mean_quality(1, 20) == pytest.approx((3 * 0.3 + 16 * 0.9) / 19)
    assert steps.mean_quality(10, 10) == 0.9 and steps.mean_quality(1, 1) == 0.3
    line = DeferralCurve(np.array([0.0, 1.0]), np.array([4.0, 2.0]), np.array([0.9, 0.5]))
    assert line.mean_quality(2, 6, linear=True) == pytest.approx((2 * 0.7 + 2 * 0.9) / 4)


def test_equal_costs_have_one_quality_despite_rounding_of_their_mean():
    curve = deferral_curve(np.array([[0.0, 1.0]] * 7), np.full(2, 0.1))
    assert curve.mean_quality(0.1, 0.1) == 1
