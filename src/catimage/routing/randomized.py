"""Randomized routing rules: some prompts are routed with one lambda, the others with another.

Equation 1 of the CATImage paper maximises quality within a budget. A single lambda cannot always
spend the whole budget: at a lambda where prompts switch candidates, the mean cost jumps. Of the two
rules on either side of the jump, one costs less than the budget and the other more. If each prompt
is assigned to one of these two rules at random, with suitable probabilities, the expected cost
equals the budget. This combination is an optimum of the linear relaxation of equation 1, in which
a prompt may be split between candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError
from catimage.routing.curve import BUDGET_TOLERANCE, DeferralCurve, lambda_of_point
from catimage.routing.policy import choose, choose_each

CHEAPEST_FACTOR = 1e9
"""Factor of a lambda that selects the cheapest candidate for all calibration prompts, so that it
also does so for new prompts.
"""
_MIN_SHARE = 1e-12
"""Shares below this value are rounding errors and are treated as 0."""


@dataclass(frozen=True)
class RoutingRule:
    """A routing rule of one or more parts: equation 3 with one lambda for a share of the prompts.

    Further metrics may contribute to the quality in equation 3: the quality of part j is the
    predicted routed metric plus ``multipliers[j, k]`` times the k-th predicted further metric.

    Attributes:
        share: share of the prompts that each part routes, (n_parts,), positive, with sum 1.
        lam: lambda of each part, (n_parts,), in units of the routed metric per cost unit.
        multipliers: value of one unit of each further metric, in units of the routed metric,
            (n_parts, n_further_metrics).
    """

    share: Floats
    lam: Floats
    multipliers: Floats

    @classmethod
    def from_parts(cls, *parts: tuple[float, float]) -> Self:
        """Build a rule from (share, lambda) pairs; pairs whose share is 0 are omitted."""
        kept = [part for part in parts if part[0] > 0]
        share, lam = np.array(kept, float).T
        return cls(share / share.sum(), lam, np.zeros((len(kept), 0)))

    @classmethod
    def from_rows(cls, rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> Self:
        """Build a rule from the output of :meth:`to_rows`.

        Args:
            rows: one row per part.
            metrics: names of the further metrics, in the order of the columns of ``multipliers``.
        """
        share, lam = (np.array([row[key] for row in rows], float) for key in ("share", "lambda"))
        values = [[row["multipliers"][metric] for metric in metrics] for row in rows]
        return cls(share, lam, np.array(values, float).reshape(len(rows), len(metrics)))

    def to_rows(self, metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Return one row per part, for JSON: ``share``, ``lambda``, and ``multipliers`` by metric.

        Args:
            metrics: names of the further metrics, in the order of the columns of ``multipliers``.
        """
        parts = zip(self.share.tolist(), self.lam.tolist(), self.multipliers.tolist(), strict=True)
        return [
            {"share": share, "lambda": lam, "multipliers": dict(zip(metrics, values, strict=True))}
            for share, lam, values in parts
        ]

    def choose_by_part(self, predicted: Floats, cost: Floats) -> Ints:
        """Select the candidate of each prompt by each part of the rule.

        Args:
            predicted: predicted metrics, (1 + n_further_metrics, n_prompts, n_candidates), the
                routed metric first; or (n_prompts, n_candidates) without further metrics.
            cost: cost of one image, (n_candidates,).

        Returns:
            The positions of the selected candidates, (n_parts, n_prompts).

        Raises:
            ValueError: the number of metrics differs from that of the rule.
        """
        by_metric = predicted[None] if predicted.ndim == 2 else predicted
        if by_metric.shape[0] != 1 + self.multipliers.shape[1]:
            raise ValueError(
                f"the rule needs predictions of {1 + self.multipliers.shape[1]} metrics, not of"
                f" {by_metric.shape[0]}"
            )
        if by_metric.shape[0] == 1:
            return np.stack(choose_each(by_metric[0], cost, self.lam.tolist()))
        quality = [
            by_metric[0] + np.tensordot(values, by_metric[1:], 1) for values in self.multipliers
        ]
        return np.stack([choose(q, cost, lam) for q, lam in zip(quality, self.lam, strict=True)])

    def assign_parts(self, draws: Floats) -> Ints:
        """Assign each prompt to a part, with probabilities equal to the shares of the parts.

        Args:
            draws: uniform random numbers in [0, 1), (n_prompts,).

        Returns:
            The positions of the parts, (n_prompts,).
        """
        return np.searchsorted(np.cumsum(self.share)[:-1], draws, side="right")

    def select(self, chosen_by_part: Ints, draws: Floats) -> Ints:
        """Return the position of each prompt's candidate: that selected by its assigned part.

        Args:
            chosen_by_part: the output of :meth:`choose_by_part`, (n_parts, n_prompts).
            draws: uniform random numbers in [0, 1), (n_prompts,).

        Returns:
            The positions of the candidates, (n_prompts,).
        """
        return chosen_by_part[self.assign_parts(draws), np.arange(len(draws))]

    def expected(self, chosen_by_part: Ints, values: Floats) -> Floats:
        """Return the mean value of each prompt over the random assignment of prompts to parts.

        Args:
            chosen_by_part: the output of :meth:`choose_by_part`, (n_parts, n_prompts).
            values: costs or labels, (n_prompts, n_candidates) or (n_candidates,).

        Returns:
            The expected values, (n_prompts,).
        """
        table = np.broadcast_to(values, (chosen_by_part.shape[1], values.shape[-1]))
        expected: Floats = self.share @ table[np.arange(chosen_by_part.shape[1]), chosen_by_part]
        return expected


def rule_within(
    curve: DeferralCurve, budget: float, costs: Floats, mix: bool = True
) -> tuple[RoutingRule, float]:
    """Find the rule with the best quality among those whose mean cost is within a budget.

    The last point of a curve costs as much as the cheapest candidate, so it is within every valid
    budget. It is used if rounding errors put every point above the budget. If the budget leaves
    nothing above the cost of the cheapest candidate, the rule has a lambda that selects this
    candidate for new prompts too, whose predictions may differ more than those of the curve.

    Args:
        curve: deferral curve of the predicted quality.
        budget: mean cost per image.
        costs: cost of one image of each candidate, (n_candidates,).
        mix: if True, combine the two points of the curve whose costs enclose the budget; otherwise
            use the smallest lambda whose mean cost is within the budget.

    Returns:
        The rule and its mean cost.

    Raises:
        InputError: the budget is not finite, or is below the cost of the cheapest candidate.
    """
    cheapest = float(costs.min())
    limit = max(check_budget(budget, cheapest), cheapest) * (1 + BUDGET_TOLERANCE)
    within = np.flatnonzero(curve.cost <= limit)
    i = int(within[0]) if len(within) else len(curve) - 1
    left = budget - float(curve.cost[i])
    if i == len(curve) - 1 and (lam := _always_cheapest(curve, left, costs)) > 0:
        return RoutingRule.from_parts((1.0, lam)), float(curve.cost[i])
    return mixed_rule(curve, i, left if mix else 0.0, curve.cost)


def _always_cheapest(curve: DeferralCurve, left: float, costs: Floats) -> float:
    """Return a lambda that gives new prompts the cheapest candidate; 0 if none is needed."""
    if len(curve) > 1:
        step = float(curve.cost[-2] - curve.cost[-1])
        lam = lambda_of_point(curve, len(curve) - 1)
    elif (dearer := costs[costs > costs.min()]).size:
        step = float(dearer.min() - costs.min())
        lam = max(abs(float(curve.quality[0])), 1.0) / step
    else:
        return 0.0
    largest = float(np.finfo(float).max)  # JSON has no infinity
    return min(CHEAPEST_FACTOR * lam, largest) if left <= _MIN_SHARE * step else 0.0


def check_number(value: Any, name: str) -> float:
    """Return a finite number that a user gave.

    Args:
        value: a number.
        name: the name of the number, for the message.

    Raises:
        InputError: the value is not a number, or is infinite or NaN.
    """
    if isinstance(value, Real) and not isinstance(value, bool) and np.isfinite(float(value)):
        return float(value) + 0.0  # without the sign of -0.0
    shown = repr(value) if isinstance(value, str) else value
    raise InputError(f"{name}: must be a finite number, not {shown}. Correct it.")


def check_budget(budget: float, cheapest: float) -> float:
    """Return a budget after checking it.

    Args:
        budget: mean cost per image.
        cheapest: cost of the cheapest candidate.

    Raises:
        InputError: the budget is not a finite number, or is below the cost of the cheapest
            candidate.
    """
    number = check_number(budget, "budget")
    if number < cheapest * (1 - BUDGET_TOLERANCE):
        raise InputError(
            f"budget: {number:g} is below the cost of the cheapest candidate, {cheapest:g}. Raise"
            " the budget to at least that cost."
        )
    return number


def mixed_rule(
    curve: DeferralCurve, i: int, increase: float, values: Floats
) -> tuple[RoutingRule, float]:
    """Combine point ``i`` of a curve with the point before it, so that a mean increases.

    Args:
        curve: a deferral curve.
        i: position of the point.
        increase: difference between the mean of ``values`` under the rule and ``values[i]``;
            limited to the difference between the two points.
        values: ``curve.cost`` or ``curve.quality``, (n_points,).

    Returns:
        The rule and its mean cost.
    """
    step = float(values[i - 1] - values[i]) if i else 0.0
    share = min(max(increase / step, 0.0), 1.0) if step > 0 else 0.0
    share = share if share > _MIN_SHARE else 0.0
    parts = [(share, lambda_of_point(curve, i - 1))] if share else []
    cost = (1 - share) * float(curve.cost[i]) + (share * float(curve.cost[i - 1]) if share else 0.0)
    return RoutingRule.from_parts(*parts, (1 - share, lambda_of_point(curve, i))), cost
