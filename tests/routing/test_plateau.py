import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from catimage.errors import InputError
from catimage.routing.plateau import metric_turning_points, reserves, shift_for, turning_points

VALUES = st.integers(-4, 4).map(lambda v: v / 4)


def series_of(n=3, metrics=2, steps=4):
    return arrays(
        float, st.tuples(st.integers(1, n), st.just(metrics), st.just(steps)), elements=VALUES
    )


def slowly(series, weights, literal=False, margin=0.0):
    """The rule by its words, a prompt and metric at a time."""
    out = []
    for prompt in series:
        stops = []
        for values, omega in zip(prompt, weights, strict=True):
            threshold = np.median(values) + omega * np.std(values)
            if not literal:
                threshold = min(threshold, np.max(values) - margin * np.ptp(values))
            reached = [t for t, v in enumerate(values) if v >= threshold - 1e-12]
            stops.append(
                (reached[-1] if literal else reached[0]) if reached else int(np.argmax(values))
            )
        out.append(max(stops))
    return np.array(out)


WEIGHTS = arrays(float, 2, elements=st.sampled_from([-1.37, -0.71, -0.013, 0.29, 0.53, 0.97, 5.0]))


@given(series_of(), WEIGHTS, st.booleans(), st.sampled_from([0.0, 0.06, 0.27]))
def test_the_rule_is_equation_7_word_by_word(series, weights, literal, margin):
    flat = np.ptp(series, axis=2) == 0
    if literal and flat.any():
        return  # a flat series reaches a positive omega nowhere: what it is then is the test below
    assert (
        turning_points(series, weights, literal, margin).tolist()
        == slowly(series, weights, literal, margin).tolist()
    )


def test_read_literally_the_last_step_of_a_rising_series_always_wins():
    rising = 1 - np.exp(-np.array([1, 2, 3, 5, 9, 17, 33]) / 4)[None, None]
    for omega in (-1.0, 0.2, 0.5):
        assert turning_points(rising, np.array([omega]), literal=True).tolist() == [6]
    # median .713 (t = 5), sigma .288: .713 + .3 * .288 = .80 is first reached at t = 9
    assert turning_points(rising, np.array([0.3])).tolist() == [4]


def test_a_flat_series_stops_at_once_whatever_omega():
    flat = np.full((1, 1, 5), 0.1 + 0.2)
    for omega in (-2.0, 0.0, 3.0):
        assert turning_points(flat, np.array([omega])).tolist() == [0]
    with_rising = np.concatenate([flat, np.arange(5.0)[None, None]], axis=1)
    assert turning_points(with_rising, np.array([3.0, 0.0])).tolist() == [2]


def test_a_series_that_never_reaches_its_threshold_stops_where_it_is_highest():
    series = np.array([[[0.0, 3.0, 1.0, 3.0]]])
    assert turning_points(series, np.array([9.0]), margin=0.0).tolist() == [1]
    assert turning_points(series, np.array([9.0]), literal=True).tolist() == [1]


def test_a_series_that_plateaus_early_stops_early():
    easy = 1.1 - np.exp(-np.array([1, 2, 3, 5, 9, 17, 33]) / 0.7)[None, None]
    assert turning_points(easy, np.array([0.3]), margin=0.0).tolist() == [
        6
    ]  # median 1.099, sigma .09: above all that it reaches
    assert turning_points(easy, np.array([0.3])).tolist() == [3]  # 1.099, within .012 of 1.1


def test_t_star_is_the_largest_over_the_metrics():
    series = np.array([[[0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]]])
    assert metric_turning_points(series, np.array([0.0, 1.0])).tolist() == [[1, 3]]
    assert turning_points(series, np.array([0.0, 1.0])).tolist() == [3]


@given(arrays(float, 6, elements=VALUES), st.sampled_from([-0.71, 0.29, 0.53]))
def test_it_is_the_first_crossing_of_the_interpolated_series_rounded_up(values, omega):
    steps = np.array([1, 2, 3, 5, 9, 17])
    if np.ptp(values) == 0:
        return
    dense = np.arange(1, 17.0001, 0.25)
    between = np.interp(dense, steps, values)
    threshold = np.median(values) + omega * values.std()
    crossed = dense[between >= threshold - 1e-12]
    expected = (
        steps[np.searchsorted(steps, crossed[0])] if len(crossed) else steps[np.argmax(values)]
    )
    assert steps[turning_points(values[None, None], np.array([omega]), margin=0.0)[0]] == expected


@given(series_of(n=4), WEIGHTS, st.floats(0, 1))
@settings(max_examples=200)
def test_the_shift_is_the_largest_that_keeps_the_budget(series, weights, share):
    cost = np.array([1.0, 2.0, 4.0, 9.0])
    budget = 1 + share * 8
    found = shift_for(series, weights, cost, budget)
    assert cost[turning_points(series, weights + found.shift)].mean() == pytest.approx(
        found.mean_cost
    )
    assert found.mean_cost <= budget + 1e-9
    places = reserves(series, weights)
    every = np.unique(places[np.isfinite(places)])
    for shift in np.concatenate(
        [every - 1e-7, every + 1e-7]
    ):  # on either side of every place where anything changes
        mean = cost[turning_points(series, weights + shift)].mean()
        assert mean > budget + 1e-9 or mean <= found.mean_cost + 1e-9


def test_costs_rise_with_the_shift_from_the_first_step_to_the_best_one():
    rng = np.random.default_rng(0)
    series, cost = rng.random((50, 3, 7)), np.array([1.0, 2, 3, 5, 9, 17, 33])
    means = [
        shift_for(series, np.array([0.3, 0.2, 0.5]), cost, b).mean_cost
        for b in np.linspace(1, 33, 40)
    ]
    assert means[0] == 1.0
    assert (np.diff(means) >= 0).all()
    assert means[-1] == cost[turning_points(series, np.full(3, 99.0))].mean()


def test_one_step_needs_no_search_and_a_budget_below_it_is_refused():
    assert shift_for(np.zeros((2, 1, 1)), np.zeros(1), np.array([3.0]), 3.0).mean_cost == 3.0
    with pytest.raises(InputError, match="fewest steps, which cost 3"):
        shift_for(np.zeros((2, 1, 1)), np.zeros(1), np.array([3.0]), 2.9)


def test_shapes_and_holes_are_refused():
    with pytest.raises(ValueError, match="prompts, metrics, steps"):
        turning_points(np.zeros((2, 3)), np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        turning_points(np.full((1, 1, 2), np.nan), np.zeros(1))
    with pytest.raises(ValueError, match="not descend"):
        shift_for(np.zeros((1, 1, 2)), np.zeros(1), np.array([2.0, 1.0]), 3.0)
