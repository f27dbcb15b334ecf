"""The plateau rule, compared with the definition in equation 7 of the BudgetFusion paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catimage.errors import InputError
from catimage.routing.plateau import (
    largest_shifts,
    metric_turning_points,
    shift_for,
    turning_points,
)

VALUES = st.integers(-4, 4).map(lambda v: v / 4)


def series_of(n=3, metrics=2, steps=4):
    """Draw the metrics of 1 to n prompts, (n_prompts, metrics, steps)."""
    return arrays(
        float, st.tuples(st.integers(1, n), st.just(metrics), st.just(steps)), elements=VALUES
    )


def by_definition(series, weights, literal=False, margin=0.0):
    """Apply the definition of the rule to one prompt and metric at a time."""
    t_star = []
    for prompt in series:
        metric_t_star = []
        for values, omega in zip(prompt, weights, strict=True):
            threshold = np.median(values) + omega * np.std(values)
            if not literal:
                threshold = min(threshold, np.max(values) - margin * np.ptp(values))
            reached = [t for t, v in enumerate(values) if v >= threshold - 1e-12]
            metric_t_star.append(
                (reached[-1] if literal else reached[0]) if reached else int(np.argmax(values))
            )
        t_star.append(max(metric_t_star))
    return np.array(t_star)


WEIGHTS = arrays(float, 2, elements=st.sampled_from([-1.37, -0.71, -0.013, 0.29, 0.53, 0.97, 5.0]))


@given(series_of(), WEIGHTS, st.booleans(), st.sampled_from([0.0, 0.06, 0.27]))
def test_t_star_equals_the_definition_in_equation_7(series, weights, literal, margin):
    constant = np.ptp(series, axis=2) == 0
    if literal and constant.any():
        return  # equation 7 as printed is not tested on constant series
    assert (
        turning_points(series, weights, literal, margin).tolist()
        == by_definition(series, weights, literal, margin).tolist()
    )


def test_equation_7_as_printed_selects_the_last_step_of_an_increasing_series():
    rising = 1 - np.exp(-np.array([1, 2, 3, 5, 9, 17, 33]) / 4)[None, None]
    for omega in (-1.0, 0.2, 0.5):
        assert turning_points(rising, np.array([omega]), literal=True).tolist() == [6]
    # The median is 0.713 (t = 5) and the standard deviation 0.288. The threshold
    # 0.713 + 0.3 * 0.288 = 0.80 is first reached at t = 9.
    assert turning_points(rising, np.array([0.3])).tolist() == [4]


def test_a_constant_series_stops_at_the_first_step_for_any_omega():
    constant = np.full((1, 1, 5), 0.1 + 0.2)
    for omega in (-2.0, 0.0, 3.0):
        assert turning_points(constant, np.array([omega])).tolist() == [0]
    two_metrics = np.concatenate([constant, np.arange(5.0)[None, None]], axis=1)
    assert turning_points(two_metrics, np.array([3.0, 0.0])).tolist() == [2]


def test_a_series_that_never_reaches_its_threshold_stops_at_its_highest_value():
    series = np.array([[[0.0, 3.0, 1.0, 3.0]]])
    assert turning_points(series, np.array([9.0]), margin=0.0).tolist() == [1]
    assert turning_points(series, np.array([9.0]), literal=True).tolist() == [1]


def test_the_margin_stops_an_early_plateau_early():
    easy = 1.1 - np.exp(-np.array([1, 2, 3, 5, 9, 17, 33]) / 0.7)[None, None]
    # The median is 1.099 and the standard deviation 0.09: the threshold is above the highest value.
    assert turning_points(easy, np.array([0.3]), margin=0.0).tolist() == [6]
    # The value 1.099 at position 3 is within the margin of the highest value, 1.1.
    assert turning_points(easy, np.array([0.3])).tolist() == [3]


def test_t_star_is_the_largest_over_the_metrics():
    series = np.array([[[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]]])
    assert metric_turning_points(series, np.array([0.0, 1.0])).tolist() == [[1, 3]]
    assert turning_points(series, np.array([0.0, 1.0])).tolist() == [3]


@given(arrays(float, 6, elements=VALUES), st.sampled_from([-0.71, 0.29, 0.53]))
def test_t_star_is_the_first_crossing_of_the_interpolated_series_rounded_up(values, omega):
    steps = np.array([1, 2, 3, 5, 9, 17])
    if np.ptp(values) == 0:
        return
    grid = np.arange(1, 17.0001, 0.25)
    interpolated = np.interp(grid, steps, values)
    threshold = np.median(values) + omega * values.std()
    crossed = grid[interpolated >= threshold - 1e-12]
    expected = (
        steps[np.searchsorted(steps, crossed[0])] if len(crossed) else steps[np.argmax(values)]
    )
    assert steps[turning_points(values[None, None], np.array([omega]), margin=0.0)[0]] == expected


@given(series_of(n=4), WEIGHTS, st.floats(0, 1))
@settings(max_examples=200)
def test_the_shift_is_the_largest_within_the_budget(series, weights, share):
    cost = np.array([1.0, 2.0, 4.0, 9.0])
    budget = 1 + share * 8
    result = shift_for(series, weights, cost, budget)
    assert cost[turning_points(series, weights + result.shift)].mean() == pytest.approx(
        result.mean_cost
    )
    assert result.mean_cost <= budget + 1e-9
    shifts = largest_shifts(series, weights)
    changes = np.unique(shifts[np.isfinite(shifts)])  # the shifts at which a step count changes
    for shift in np.concatenate([changes - 1e-7, changes + 1e-7]):
        mean_cost = cost[turning_points(series, weights + shift)].mean()
        assert mean_cost > budget + 1e-9 or mean_cost <= result.mean_cost + 1e-9


def test_mean_cost_increases_with_the_budget_from_the_first_step_to_the_best_step():
    rng = np.random.default_rng(0)
    series, cost = rng.random((50, 3, 7)), np.array([1.0, 2, 3, 5, 9, 17, 33])
    mean_costs = [
        shift_for(series, np.array([0.3, 0.2, 0.5]), cost, b).mean_cost
        for b in np.linspace(1, 33, 40)
    ]
    assert mean_costs[0] == 1.0
    assert (np.diff(mean_costs) >= 0).all()
    assert mean_costs[-1] == cost[turning_points(series, np.full(3, 99.0))].mean()


def test_a_single_step_and_a_budget_below_its_cost():
    assert shift_for(np.zeros((2, 1, 1)), np.zeros(1), np.array([3.0]), 3.0).mean_cost == 3.0
    with pytest.raises(InputError, match="below the cost of the fewest steps, 3"):
        shift_for(np.zeros((2, 1, 1)), np.zeros(1), np.array([3.0]), 2.9)


def test_invalid_arrays_are_refused():
    with pytest.raises(ValueError, match="n_prompts, n_metrics, n_steps"):
        turning_points(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        turning_points(np.full((1, 1, 2), np.nan), np.zeros(1))
    with pytest.raises(ValueError, match="must be in ascending order"):
        shift_for(np.zeros((1, 1, 2)), np.zeros(1), np.array([2.0, 1.0]), 3.0)
