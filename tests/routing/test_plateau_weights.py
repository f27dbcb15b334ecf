from itertools import product

import numpy as np
import pytest

from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import GRID, calibrate_weights, judged, neighbours

STEPS = np.array([1.0, 2, 3, 5, 9, 17, 33])


def world(n=80, metrics=2, noise=0.0, seed=0):
    """Series that saturate early for some prompts and late for others."""
    rng = np.random.default_rng(seed)
    pace = np.exp(rng.normal(1.5, 1.0, (n, 1, 1))) * np.array([1.0, 2.0, 3.0])[None, :metrics, None]
    quality = 1.1 - np.exp(-STEPS / pace)
    return quality + noise * rng.standard_normal(quality.shape), quality


def test_given_weights_are_the_papers():
    predicted, quality = world(metrics=3)
    found = calibrate_weights(predicted, quality, STEPS, [0.3, 0.2, 0.5])
    assert found.omega.tolist() == [0.3, 0.2, 0.5]
    stops = turning_points(predicted, found.omega)
    assert found.mean_cost == pytest.approx(STEPS[stops].mean())
    uniform = np.array([np.interp(found.mean_cost, STEPS, q) for q in quality.mean(axis=0)])
    ours = np.array([quality[np.arange(80), m, stops].mean() for m in range(3)])
    assert found.gain == pytest.approx((ours / uniform - 1).mean())


def test_one_free_weight_is_the_best_of_the_grid():
    predicted, quality = world(noise=0.05)
    found = calibrate_weights(predicted, quality, STEPS, [0.3, None])
    best = max(judged(np.array([0.3, w]), predicted, quality, STEPS).gain for w in GRID)
    assert found.gain == pytest.approx(best)
    assert found.omega[0] == 0.3


def test_free_weights_are_better_than_any_neighbour_and_any_common_value():
    predicted, quality = world(noise=0.05, seed=3)
    found = calibrate_weights(predicted, quality, STEPS, [None, None])
    every = {w: judged(np.array(w), predicted, quality, STEPS).gain for w in product(GRID, GRID)}
    assert all(found.gain >= every[w, w] - 1e-12 for w in GRID)
    first, second = found.omega.tolist()
    assert all(
        found.gain >= gain - 1e-12 for (a, b), gain in every.items() if a == first or b == second
    )


@pytest.mark.parametrize("budget", [1.0, 4.0, 11.0, 33.0])
@pytest.mark.parametrize("given", [[0.3, 0.5], [None, None]])
def test_a_budget_is_kept_and_nearly_used(budget, given):
    predicted, quality = world(noise=0.05, seed=1)
    found = calibrate_weights(predicted, quality, STEPS, given, budget)
    assert found.mean_cost <= budget + 1e-9
    most = STEPS[turning_points(predicted, np.full(2, 99.0))].mean()
    assert (
        found.mean_cost > min(budget, most) - 16 / 80 - 1e-9
    )  # no prompt could take its next step
    if given[0] is not None:
        assert np.diff(found.omega) == pytest.approx(0.2)


def test_knowing_which_prompts_are_slow_pays_and_knowing_nothing_does_not():
    pace = np.where(np.arange(400) % 2, 0.7, 7.0)[:, None, None] * np.ones((1, 2, 1))
    quality = 1.1 - np.exp(-STEPS / pace)
    assert calibrate_weights(quality, quality, STEPS, [0.3, 0.3]).gain > 0.02
    shuffled = np.random.default_rng(0).permutation(quality)
    assert calibrate_weights(shuffled, quality, STEPS, [0.3, 0.3]).gain < 0.005


def test_neighbours_of_a_mean_cost():
    assert neighbours(STEPS, 9.0) == (4, 0.0)
    assert neighbours(STEPS, 7.0) == (3, 0.5)
    assert neighbours(STEPS, 33.0) == (5, 1.0)
    assert neighbours(np.array([3.0]), 3.0) == (0, 0.0)
