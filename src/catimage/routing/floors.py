"""Lower bounds ("floors") on mean quality.

:func:`cheapest_reaching` finds the cheapest rule that reaches a floor of the routed metric.
:func:`best_with_floors` finds the rule with the best predicted quality that reaches floors of other
metrics. A floor is a lower bound of the mean label (mean score over seeds) over the calibration
prompts; for a randomized rule, of the expectation of this mean. Higher values are better in all
arrays: metrics whose low values are good are negated by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.data.missing_labels import complete_rows
from catimage.errors import InputError
from catimage.routing.curve import DeferralCurve
from catimage.routing.linear_program import optimal_rule
from catimage.routing.randomized import RoutingRule, check_budget, mixed_rule

_MAX_ROUNDS = 12
_ROUNDING = 1e-9


def cheapest_reaching(
    curve: DeferralCurve, floor: float, mix: bool = True
) -> tuple[RoutingRule, float]:
    """Find the cheapest rule whose mean quality is at least ``floor``.

    Args:
        curve: a deferral curve whose quality is that of labels.
        floor: the mean quality to reach.
        mix: if True, combine the two points of the curve whose qualities enclose the floor.

    Returns:
        The rule and its mean cost.

    Raises:
        InputError: no point of the curve reaches the floor.
    """
    tolerance = _ROUNDING * max(float(np.abs(curve.quality).max()), abs(floor))
    reached = np.flatnonzero(curve.quality >= floor - tolerance)
    if not len(reached):
        best = int(np.argmax(curve.quality))
        raise InputError(
            f"calibrate.quality_floor: {floor:g} is above the best mean quality on the validation"
            f" split, {curve.quality[best]:.6g} at a mean cost of {curve.cost[best]:.4g}. Lower the"
            " floor to at most this value."
        )
    i = int(reached[-1])
    if not mix or i + 1 == len(curve):
        return mixed_rule(curve, i, 0.0, curve.quality)
    return mixed_rule(curve, i + 1, floor - float(curve.quality[i + 1]), curve.quality)


@dataclass(frozen=True)
class FloorProblem:
    """The input of :func:`best_with_floors`.

    Attributes:
        predicted: predicted metrics, (1 + n_floors, n_prompts, n_candidates), the routed metric
            first and then the metrics of the floors.
        labels: labels of the metrics of the floors, (n_floors, n_prompts, n_candidates), NaN where
            a label is missing.
        cost: cost of one image, (n_candidates,).
        budget: upper bound of the mean cost per image.
        floors: lower bounds of the mean labels, (n_floors,).
        names: names of the metrics of the floors, for error messages.
    """

    predicted: Floats
    labels: Floats
    cost: Floats
    budget: float
    floors: Floats
    names: Sequence[str]

    def format_values(self, values: Floats, number_format: str = "g") -> str:
        """Format one value per floor, (n_floors,), with the names of the metrics."""
        pairs = zip(self.names, values.tolist(), strict=True)
        return " and ".join(f"{name} {value:{number_format}}" for name, value in pairs)


@dataclass(frozen=True)
class FloorSolution:
    """A rule, and its results on the calibration prompts.

    Attributes:
        rule: the rule.
        mean_cost: mean cost per image.
        quality: mean predicted value of the routed metric.
        mean_labels: mean labels of the metrics of the floors, (n_floors,).
    """

    rule: RoutingRule
    mean_cost: float
    quality: float
    mean_labels: Floats


def best_with_floors(problem: FloorProblem) -> FloorSolution:
    """Find the rule with the best predicted quality that keeps the budget and reaches the floors.

    The linear program (:mod:`~catimage.routing.linear_program`) constrains mean predictions, but a
    floor applies to a mean label. If a mean label is below its floor, or above its floor although
    the constraint reduces the quality, the program is solved again with the constraint changed by
    the difference. At most 12 programs are solved.

    Raises:
        InputError: no rule within the budget reaches the floors.
    """
    check_budget(problem.budget, float(problem.cost.min()))
    floors, target, best = problem.floors, problem.floors.copy(), None
    # Relative to the labels too: the mean of labels of both signs rounds to 1e-17, not to 0.
    largest = np.nanmax(np.abs(problem.labels), axis=(1, 2))
    rounding = _ROUNDING * np.maximum(np.abs(floors), largest)
    last: FloorSolution | None = None
    for _ in range(_MAX_ROUNDS):
        optimum = optimal_rule(problem.predicted, problem.cost, problem.budget, target)
        if not optimum.feasible:
            break
        last = _evaluate_rule(optimum.rule, problem)
        shortfall = floors - last.mean_labels
        shortfall[np.abs(shortfall) <= rounding] = 0.0
        if (shortfall <= 0).all() and (best is None or last.quality > best.quality):
            best = last
        active = (shortfall > 0) | (optimum.rule.multipliers > 0).any(axis=0)
        change = np.where(active, shortfall, 0.0)
        if not change.any():
            break
        target = target + change
    if best is None:
        raise InputError(_infeasible_message(problem, last))
    return best


def _evaluate_rule(rule: RoutingRule, problem: FloorProblem) -> FloorSolution:
    chosen_by_part = rule.choose_by_part(problem.predicted, problem.cost)
    return FloorSolution(
        rule,
        float(rule.expected(chosen_by_part, problem.cost).mean()),
        float(rule.expected(chosen_by_part, problem.predicted[0]).mean()),
        np.array([_mean_label(rule, chosen_by_part, labels) for labels in problem.labels]),
    )


def _mean_label(rule: RoutingRule, chosen_by_part: Ints, labels: Floats) -> float:
    """Return the expected mean label over the prompts that have a label for every candidate."""
    complete = complete_rows(labels)
    return float(rule.expected(chosen_by_part[:, complete], labels[complete]).mean())


def _infeasible_message(problem: FloorProblem, last: FloorSolution | None) -> str:
    """Describe the floors that no rule reaches, and the largest values that a rule reaches."""
    message = (
        f"calibrate.floors: no rule within a budget of {problem.budget:.4g} reaches"
        f" {problem.format_values(problem.floors)} on the validation split"
    )
    if last is not None:
        return (
            f"{message}. A rule whose mean predictions reach the floors has mean labels of"
            f" {problem.format_values(last.mean_labels, '.6g')}. Lower the floors to these values,"
            " or raise the budget."
        )
    largest = np.array([largest_mean(problem, k) for k in range(len(problem.floors))])
    least = smallest_budget(problem)
    fix = (
        "No budget is high enough. Lower the floors."
        if least is None
        else f"Raise the budget to {least:.4g}, or lower the floors."
    )
    return (
        f"{message}. The largest mean prediction of each metric within the budget is"
        f" {problem.format_values(largest, '.6g')}. {fix}"
    )


def largest_mean(problem: FloorProblem, k: int) -> float:
    """Return the largest mean prediction of the metric of floor ``k`` within the budget."""
    predicted = problem.predicted[[1 + k]]
    rule = optimal_rule(predicted, problem.cost, problem.budget, np.zeros(0)).rule
    return float(rule.expected(rule.choose_by_part(predicted, problem.cost), predicted[0]).mean())


def smallest_budget(problem: FloorProblem) -> float | None:
    """Return the smallest mean cost of a rule whose mean predictions reach all floors.

    None is returned if there is no such rule.
    """
    cost, predicted = problem.cost, problem.predicted
    negated = np.broadcast_to(-cost, predicted.shape[1:])[None]
    objective = np.concatenate([negated, predicted[1:]])
    optimum = optimal_rule(objective, cost, float(cost.max()), problem.floors)
    if not optimum.feasible:
        return None
    rule = optimum.rule
    return float(rule.expected(rule.choose_by_part(objective, cost), cost).mean())
