"""Calibration of the weights of the plateau rule on synthetic metrics."""

from itertools import product

import numpy as np
import pytest

from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import (
    GRID,
    PlateauCalibration,
    calibrate_weights,
    neighbouring_steps,
)

STEPS = np.array([1.0, 2, 3, 5, 9, 17, 33])


def saturating(n=80, metrics=2, noise=0.0, seed=0):
    """Return predictions and labels of n prompts, (n, metrics, n_steps).

    The metrics saturate at few steps for some prompts and at many steps for others.
    """
    rng = np.random.default_rng(seed)
    saturation = (
        np.exp(rng.normal(1.5, 1.0, (n, 1, 1))) * np.array([1.0, 2.0, 3.0])[None, :metrics, None]
    )
    quality = 1.1 - np.exp(-STEPS / saturation)
    return quality + noise * rng.standard_normal(quality.shape), quality


def test_given_weights_are_kept():
    predicted, quality = saturating(metrics=3)
    weights = calibrate_weights(PlateauCalibration(predicted, quality, STEPS), [0.3, 0.2, 0.5])
    assert weights.omega.tolist() == [0.3, 0.2, 0.5]
    t_star = turning_points(predicted, weights.omega)
    assert weights.mean_cost == pytest.approx(STEPS[t_star].mean())
    uniform = np.array([np.interp(weights.mean_cost, STEPS, q) for q in quality.mean(axis=0)])
    mean_quality = np.array([quality[np.arange(80), m, t_star].mean() for m in range(3)])
    assert weights.gain == pytest.approx((mean_quality / uniform - 1).mean())


def test_one_weight_that_is_not_given_is_the_best_of_the_grid():
    predicted, quality = saturating(noise=0.05)
    data = PlateauCalibration(predicted, quality, STEPS)
    weights = calibrate_weights(data, [0.3, None])
    best = max(data.evaluate(np.array([0.3, w])).gain for w in GRID)
    assert weights.gain == pytest.approx(best)
    assert weights.omega[0] == 0.3


def test_no_common_value_and_no_change_of_one_weight_improves_the_calibrated_weights():
    predicted, quality = saturating(noise=0.05, seed=3)
    data = PlateauCalibration(predicted, quality, STEPS)
    weights = calibrate_weights(data, [None, None])
    gains = {w: data.evaluate(np.array(w)).gain for w in product(GRID, GRID)}
    assert all(weights.gain >= gains[w, w] - 1e-12 for w in GRID)
    first, second = weights.omega.tolist()
    assert all(
        weights.gain >= gain - 1e-12 for (a, b), gain in gains.items() if a == first or b == second
    )


@pytest.mark.parametrize("budget", [1.0, 4.0, 11.0, 33.0])
@pytest.mark.parametrize("given", [[0.3, 0.5], [None, None]])
def test_the_mean_cost_is_within_the_budget_and_close_to_it(budget, given):
    predicted, quality = saturating(noise=0.05, seed=1)
    weights = calibrate_weights(PlateauCalibration(predicted, quality, STEPS), given, budget)
    assert weights.mean_cost <= budget + 1e-9
    highest_cost = STEPS[turning_points(predicted, np.full(2, 99.0))].mean()
    largest_increase = 16 / 80  # one of the 80 prompts moves from 17 to 33 steps
    assert weights.mean_cost > min(budget, highest_cost) - largest_increase - 1e-9
    if given[0] is not None:
        assert np.diff(weights.omega) == pytest.approx(0.2)


def test_exact_predictions_have_a_gain_and_shuffled_predictions_do_not():
    saturation = np.where(np.arange(400) % 2, 0.7, 7.0)[:, None, None] * np.ones((1, 2, 1))
    quality = 1.1 - np.exp(-STEPS / saturation)
    assert calibrate_weights(PlateauCalibration(quality, quality, STEPS), [0.3, 0.3]).gain > 0.02
    shuffled = np.random.default_rng(0).permutation(quality)
    assert calibrate_weights(PlateauCalibration(shuffled, quality, STEPS), [0.3, 0.3]).gain < 0.005


def test_neighbouring_steps_and_their_shares_for_a_mean_cost():
    assert neighbouring_steps(STEPS, 9.0) == (4, 0.0)
    assert neighbouring_steps(STEPS, 7.0) == (3, 0.5)
    assert neighbouring_steps(STEPS, 33.0) == (5, 1.0)
    assert neighbouring_steps(np.array([3.0]), 3.0) == (0, 0.0)
