"""Rules with lower bounds on mean quality, compared with the linear program in scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catimage.errors import InputError
from catimage.routing.curve import deferral_curve
from catimage.routing.floors import (
    FloorProblem,
    best_with_floors,
    cheapest_reaching,
    largest_mean,
    smallest_budget,
)
from catimage.routing.randomized import rule_within
from tests.routing.problems import means, problems, relaxed_optimum

COST = np.array([1.0, 2.0, 4.0])


@settings(max_examples=100, deadline=None)
@given(problems(), st.floats(0, 1))
def test_the_cheapest_rule_for_a_quality_is_the_best_rule_for_its_cost(problem, share):
    predicted, cost = problem
    curve = deferral_curve(predicted[0], cost)
    floor = curve.quality[-1] + share * (curve.quality[0] - curve.quality[-1])
    rule, spent = cheapest_reaching(curve, floor)
    assert means(rule, predicted, cost) == (
        pytest.approx(spent, abs=1e-7),
        pytest.approx([floor], abs=1e-6),
    )
    assert relaxed_optimum(predicted, cost, spent + 1e-9) == pytest.approx(floor, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(problems(metrics=2), st.floats(-4, 4))
def test_the_cheapest_rule_for_a_mean_label_is_on_the_interpolated_curve(problem, floor):
    (predicted, labels), cost = problem
    curve = deferral_curve(predicted, cost, labels)
    if abs(curve.quality.max() - floor) < 1e-9:
        return
    if curve.quality.max() < floor:
        with pytest.raises(InputError, match=r"above the best mean quality .* Lower the floor to"):
            cheapest_reaching(curve, floor)
        return
    rule, spent = cheapest_reaching(curve, floor)
    chosen_by_part = rule.choose_by_part(predicted, cost)
    assert rule.expected(chosen_by_part, labels).mean() >= floor - 1e-6
    assert rule.expected(chosen_by_part, cost).mean() == pytest.approx(spent, abs=1e-6)
    grid = np.linspace(0, len(curve) - 1, 400)
    reached = np.interp(grid, np.arange(len(curve)), curve.quality) >= floor + 1e-9
    assert (
        not reached.any()
        or spent <= np.interp(grid, np.arange(len(curve)), curve.cost)[reached].min() + 1e-9
    )
    unmixed, unmixed_cost = cheapest_reaching(curve, floor, mix=False)
    assert len(unmixed.share) == 1 and unmixed_cost >= spent - 1e-9


def solve(predicted, labels, budget, floor):
    return best_with_floors(problem_of(predicted, labels, budget, floor))


def problem_of(predicted, labels, budget, floor):
    return FloorProblem(predicted, labels[1:], COST, budget, np.array([floor]), ["sharpness"])


def truth_and_labels(n=300, noise=0.1):
    """Return true values and noisy labels of two metrics, (2, n_prompts, n_candidates).

    The first metric is the routed metric; the second is the metric of the floor.
    """
    rng = np.random.default_rng(0)
    truth = np.stack(
        [
            rng.normal(size=(n, 1)) * np.log(COST),
            rng.normal(size=(n, 1)) * -np.log(COST) + [0.0, 0.1, 0.3],
        ]
    )
    return truth, truth + noise * rng.normal(size=truth.shape)


def test_mean_labels_reach_the_floor_if_the_predictions_are_biased():
    truth, labels = truth_and_labels()
    # The predictions of the metric of the floor are 0.25 too high.
    predicted = truth + np.array([0.0, 0.25])[:, None, None]
    solution = solve(predicted, labels, 2.0, 0.3)
    assert solution.mean_labels == pytest.approx([0.3], abs=1e-6)
    assert solution.mean_cost == pytest.approx(2.0)
    unconstrained = rule_within(deferral_curve(predicted[0], COST), 2.0, COST)[0]
    assert means(unconstrained, labels, COST)[1][1] < 0.2 and (solution.rule.multipliers > 0).all()


def test_a_floor_that_every_rule_reaches_does_not_change_the_rule():
    truth, labels = truth_and_labels()
    solution = solve(truth, labels, 2.0, -5.0)
    without_floor, spent = rule_within(deferral_curve(truth[0], COST), 2.0, COST)
    assert solution.mean_cost == pytest.approx(spent) and not solution.rule.multipliers.any()
    expected_quality = means(without_floor, truth, COST)[1][0]
    assert means(solution.rule, truth, COST)[1][0] == pytest.approx(expected_quality)


def test_prompts_with_a_missing_label_are_ignored_in_the_mean_label():
    truth, labels = truth_and_labels()
    labels[1, :50, 0] = np.nan
    solution = solve(truth, labels, 2.0, 0.2)
    chosen_by_part = solution.rule.choose_by_part(truth, COST)
    assert (
        solution.rule.expected(chosen_by_part, labels[1])[50:].mean()
        == pytest.approx(0.2, abs=1e-6)
        == solution.mean_labels[0]
    )


def test_the_message_for_an_infeasible_floor_has_the_feasible_values():
    truth, labels = truth_and_labels()
    with pytest.raises(InputError) as error:
        solve(truth, labels, 1.2, 0.5)
    problem = problem_of(truth, labels, 1.2, 0.5)
    largest, budget = largest_mean(problem, 0), smallest_budget(problem)
    assert f"of each metric within the budget is sharpness {largest:.6g}" in str(
        error.value
    ) and f"Raise the budget to {budget:.4g}, or" in str(error.value)
    assert relaxed_optimum(truth[[1]], COST, 1.2) == pytest.approx(largest, abs=1e-7)
    assert (
        relaxed_optimum(truth, COST, budget + 1e-6, [0.5]) is not None
        and relaxed_optimum(truth, COST, budget - 1e-3, [0.5]) is None
    )
    with pytest.raises(InputError, match=r"No budget is high enough\. Lower the floors"):
        solve(truth, labels, 1.2, 50.0)
    with pytest.raises(InputError, match="below the cost of the cheapest"):
        solve(truth, labels, 0.5, 0.1)


def test_the_message_for_too_high_predictions_has_the_mean_labels():
    truth, labels = truth_and_labels()
    with pytest.raises(
        InputError,
        match=r"predictions reach the floors has mean labels of sharpness .*\. Lower the floors",
    ):
        solve(truth + np.array([0.0, 9.0])[:, None, None], labels, 2.0, 9.0)
