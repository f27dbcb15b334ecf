"""Lower bounds ("floors") on mean quality.

:func:`cheapest_reaching` finds the cheapest rule that reaches a floor of the routed metric;
:func:`best_with_floors` maximises the routed metric while other metrics keep their floors. A floor
bounds the mean label of the prompts used for calibration; for a randomized rule, its expectation.
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
    """Find the cheapest rule of a curve whose mean quality is at least ``floor``.

    Args:
        curve: a deferral curve with its quality from labels.
        floor: mean quality.
        mix: if True, combine the two points of the curve on either side of the floor.

    Returns:
        The rule and its mean cost.

    Raises:
        InputError: no point of the curve reaches the floor.
    """
    slack = _ROUNDING * max(float(np.abs(curve.quality).max()), abs(floor))
    reached = np.flatnonzero(curve.quality >= floor - slack)
    if not len(reached):
        best = int(np.argmax(curve.quality))
        raise InputError(
            f"calibrate.quality_floor: {floor:g} is above the best mean quality on the validation"
            f" split, {curve.quality[best]:.6g} at a mean cost of {curve.cost[best]:.4g}. Lower it."
        )
    i = int(reached[-1])
    if not mix or i + 1 == len(curve):
        return mixed_rule(curve, i, 0.0, curve.quality)
    return mixed_rule(curve, i + 1, floor - float(curve.quality[i + 1]), curve.quality)


@dataclass(frozen=True)
class FloorProblem:
    """The problem of :func:`best_with_floors`.

    Attributes:
        scores: predicted quality, (1 + n_floors, n_prompts, n_candidates), the routed metric first.
        labels: labels of the other metrics, (n_floors, n_prompts, n_candidates), NaN where one is
            missing.
        cost: (n_candidates,).
        budget: upper bound of the mean cost.
        floors: lower bounds of the mean labels, (n_floors,).
        names: names of the other metrics, for error messages.
    """

    scores: Floats
    labels: Floats
    cost: Floats
    budget: float
    floors: Floats
    names: Sequence[str]

    def listed(self, values: Floats, digits: str = "g") -> str:
        """Format one value per floor, with the names of the metrics."""
        pairs = zip(self.names, values.tolist(), strict=True)
        return " and ".join(f"{name} {value:{digits}}" for name, value in pairs)


@dataclass(frozen=True)
class FloorSolution:
    """A rule, its mean cost, its mean predicted quality, and the mean labels of the floors' metrics
    (n_floors,).
    """

    rule: RoutingRule
    mean_cost: float
    quality: float
    mean_labels: Floats


def best_with_floors(problem: FloorProblem) -> FloorSolution:
    """Find the rule with the best predicted quality within the budget and above the floors.

    The linear program is defined on predictions, but a floor applies to labels. While a floor is
    missed by the labels, or exceeded at the expense of quality, the program is solved again with
    that floor moved by the difference.

    Raises:
        InputError: no rule within the budget reaches the floors.
    """
    check_budget(problem.budget, float(problem.cost.min()))
    floors, target, best = problem.floors, problem.floors.copy(), None
    last: FloorSolution | None = None
    for _ in range(_MAX_ROUNDS):
        optimum = optimal_rule(problem.scores, problem.cost, problem.budget, target)
        if not optimum.feasible:
            break
        last = _evaluate_rule(optimum.rule, problem)
        short = floors - last.mean_labels
        short[np.abs(short) <= _ROUNDING * np.maximum(np.abs(floors), 1e-300)] = 0.0
        if (short <= 0).all() and (best is None or last.quality > best.quality):
            best = last
        active = (short > 0) | (optimum.rule.multipliers > 0).any(axis=0)
        move = np.where(active, short, 0.0)
        if not move.any():
            break
        target = target + move
    if best is None:
        raise InputError(_infeasible_message(problem, last))
    return best


def _evaluate_rule(rule: RoutingRule, problem: FloorProblem) -> FloorSolution:
    choices = rule.choices(problem.scores, problem.cost)
    return FloorSolution(
        rule,
        float(rule.expected(choices, problem.cost).mean()),
        float(rule.expected(choices, problem.scores[0]).mean()),
        np.array([_mean_label(rule, choices, labels) for labels in problem.labels]),
    )


def _mean_label(rule: RoutingRule, choices: Ints, labels: Floats) -> float:
    """Return the expected mean label of the prompts that have all labels."""
    complete = complete_rows(labels)
    return float(rule.expected(choices[:, complete], labels[complete]).mean())


def _infeasible_message(problem: FloorProblem, last: FloorSolution | None) -> str:
    """Name the floors that cannot be reached, and the values that can."""
    message = (
        f"calibrate.floors: no rule within a budget of {problem.budget:.4g} reaches"
        f" {problem.listed(problem.floors)} on the validation split"
    )
    if last is not None:
        return (
            f"{message}. The rule that reaches them by the predictions has"
            f" {problem.listed(last.mean_labels, '.6g')} by the labels. Lower the floors to these"
            " values, or raise the budget."
        )
    largest = np.array([largest_mean(problem, k) for k in range(len(problem.floors))])
    least = smallest_budget(problem)
    fix = (
        "No budget reaches them: lower the floors."
        if least is None
        else f"A budget of {least:.4g} reaches them: raise it, or lower the floors."
    )
    return (
        f"{message}. By the predictions, each alone reaches {problem.listed(largest, '.6g')}. {fix}"
    )


def largest_mean(problem: FloorProblem, k: int) -> float:
    """Return the largest mean prediction of the k-th floor's metric within the budget."""
    scores = problem.scores[[1 + k]]
    rule = optimal_rule(scores, problem.cost, problem.budget, np.zeros(0)).rule
    return float(rule.expected(rule.choices(scores, problem.cost), scores[0]).mean())


def smallest_budget(problem: FloorProblem) -> float | None:
    """Return the least mean cost at which the predictions reach all floors, or None."""
    cost, scores = problem.cost, problem.scores
    negated = np.broadcast_to(-cost, scores.shape[1:])[None]
    objective = np.concatenate([negated, scores[1:]])
    optimum = optimal_rule(objective, cost, float(cost.max()), problem.floors)
    if not optimum.feasible:
        return None
    rule = optimum.rule
    return float(rule.expected(rule.choices(objective, cost), cost).mean())
