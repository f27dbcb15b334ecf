"""Randomized routing rules: a share of the prompts uses one lambda, the others a second one.

Equation 1 of CATImage maximises quality within a budget. A single lambda cannot always spend the
whole budget: at a lambda where prompts switch candidates, the mean cost jumps. The linear
relaxation of equation 1, in which a prompt may be split between candidates, has an optimum between
the two rules on either side of the jump. If each prompt is assigned to one of these two rules at
random, the expected cost equals the budget exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError
from catimage.routing.curve import DeferralCurve, safe_lambda
from catimage.routing.policy import choose

_MIN_SHARE = 1e-12
"""Smaller shares are rounding errors."""


@dataclass(frozen=True)
class RoutingRule:
    """Equation 3 with one or more lambdas ("parts"), each for a share of the prompts.

    Further metrics may contribute to the quality: part j routes by the routed metric plus
    ``multipliers[j, k]`` times the k-th further metric.

    Attributes:
        share: share of the prompts of each part, (n_parts,), positive, with sum 1.
        lam: lambda of each part, (n_parts,).
        multipliers: value of one unit of each further metric in units of the routed metric,
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
        """Build a rule from the output of :meth:`to_rows`, with the further ``metrics`` in this
        order.
        """
        share, lam = (np.array([row[key] for row in rows], float) for key in ("share", "lambda"))
        values = [[row["multipliers"][metric] for metric in metrics] for row in rows]
        return cls(share, lam, np.array(values, float).reshape(len(rows), len(metrics)))

    def to_rows(self, metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Return the parts as JSON: ``share``, ``lambda`` and ``multipliers`` by metric name."""
        parts = zip(self.share.tolist(), self.lam.tolist(), self.multipliers.tolist(), strict=True)
        return [
            {"share": share, "lambda": lam, "multipliers": dict(zip(metrics, values, strict=True))}
            for share, lam, values in parts
        ]

    def choices(self, scores: Floats, cost: Floats) -> Ints:
        """Select the candidate of each prompt for each part.

        Args:
            scores: predicted quality, (1 + n_further_metrics, n_prompts, n_candidates), the routed
                metric first; or (n_prompts, n_candidates) without further metrics.
            cost: (n_candidates,).

        Returns:
            Positions of candidates, (n_parts, n_prompts).

        Raises:
            ValueError: the number of metrics differs from the rule's.
        """
        by_metric = scores[None] if scores.ndim == 2 else scores
        if by_metric.shape[0] != 1 + self.multipliers.shape[1]:
            raise ValueError(
                f"the rule needs scores of {1 + self.multipliers.shape[1]} metrics, not of"
                f" {by_metric.shape[0]}"
            )
        quality = [
            by_metric[0] + np.tensordot(values, by_metric[1:], 1) for values in self.multipliers
        ]
        return np.stack(
            [choose(q, cost, lam) for q, lam in zip(quality, self.lam.tolist(), strict=True)]
        )

    def assign_parts(self, draws: Floats) -> Ints:
        """Return the part of each prompt, from uniform ``draws`` (n_prompts,) in [0, 1)."""
        return np.searchsorted(np.cumsum(self.share)[:-1], draws, side="right")

    def select(self, choices: Ints, draws: Floats) -> Ints:
        """Return the candidate of each prompt, (n_prompts,): the choice of its assigned part.

        Args:
            choices: the output of :meth:`choices`.
            draws: uniform numbers in [0, 1), (n_prompts,).
        """
        return choices[self.assign_parts(draws), np.arange(len(draws))]

    def expected(self, choices: Ints, values: Floats) -> Floats:
        """Return the expected value of each prompt over the assignment to parts, (n_prompts,).

        Args:
            choices: the output of :meth:`choices`.
            values: (n_prompts, n_candidates) or (n_candidates,).
        """
        table = np.broadcast_to(values, (choices.shape[1], values.shape[-1]))
        expected: Floats = self.share @ table[np.arange(choices.shape[1]), choices]
        return expected


def rule_within(
    curve: DeferralCurve, budget: float, cheapest: float, mix: bool = True
) -> tuple[RoutingRule, float]:
    """Find the rule with the best quality whose mean cost is within a budget.

    Args:
        curve: deferral curve of the predicted quality.
        budget: mean cost per image.
        cheapest: cost of the cheapest candidate.
        mix: if True, combine the two points of the curve on either side of the budget; otherwise
            use the smallest lambda within the budget.

    Returns:
        The rule and its mean cost.

    Raises:
        InputError: the budget is below the cost of the cheapest candidate.
    """
    slack = check_budget(budget, cheapest)
    i = int(np.argmax(curve.cost <= max(budget, cheapest) * (1 + 1e-12) + slack))
    return mixed_rule(curve, i, (budget - float(curve.cost[i])) if mix else 0.0, curve.cost)


def check_budget(budget: float, cheapest: float) -> float:
    """Check that a budget is not below the cost of the cheapest candidate.

    Returns:
        The rounding error that is allowed.

    Raises:
        InputError: it is below.
    """
    slack = 1e-9 * max(abs(cheapest), 1e-300)
    if not budget >= cheapest - slack:
        raise InputError(
            f"budget: {budget:g} is below the cheapest candidate, which costs {cheapest:g}. Raise"
            " it to at least that cost."
        )
    return slack


def mixed_rule(
    curve: DeferralCurve, i: int, increase: float, values: Floats
) -> tuple[RoutingRule, float]:
    """Combine point ``i`` of a curve with the point before it.

    Args:
        curve: a deferral curve.
        i: position of the point.
        increase: increase of the mean of ``values`` over point ``i`` that the rule has to reach.
        values: the curve's cost or quality, (n_points,).

    Returns:
        The rule and its mean cost.
    """
    step = float(values[i - 1] - values[i]) if i else 0.0
    share = min(max(increase / step, 0.0), 1.0) if step > 0 else 0.0
    share = share if share > _MIN_SHARE else 0.0
    parts = [(share, safe_lambda(curve, i - 1))] if share else []
    cost = (1 - share) * float(curve.cost[i]) + (share * float(curve.cost[i - 1]) if share else 0.0)
    return RoutingRule.from_parts(*parts, (1 - share, safe_lambda(curve, i))), cost
