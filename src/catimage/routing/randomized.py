"""Rules that are mixed: a share of the prompts goes by one lambda, the rest by another.

Equation 1 of CATImage asks for the best quality within a budget. One lambda cannot always use the
budget up: where it passes a value at which some prompts switch, the mean cost jumps. Its
relaxation, in which a prompt may be split between candidates, is a linear programme whose optimum
lies on the edge between the two rules on either side of that jump. Mixing these two, each prompt
going by one of them as a draw of its own decides, has the budget as its expected cost, to the last
unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError
from catimage.routing.curve import Curve, safe_lambda
from catimage.routing.policy import choose

FORMAT = 2
"""Of the rows in which a rule is written."""
_TINY = 1e-12
"""A share that is rounding."""


@dataclass(frozen=True)
class Rule:
    """Equation 3 in J parts, each for a share of the prompts.

    Attributes:
        share: (J,), positive, sum 1.
        lam: (J,), the lambda of each part.
        multipliers: (J, K), what a unit of each of K further metrics is worth in units of the
            routed one; K may be 0.
    """

    share: Floats
    lam: Floats
    multipliers: Floats

    @classmethod
    def of(cls, *parts: tuple[float, float]) -> Self:
        """From (share, lambda) pairs, without further metrics; parts of no share are left out."""
        kept = [part for part in parts if part[0] > 0]
        share, lam = np.array(kept, float).T
        return cls(share / share.sum(), lam, np.zeros((len(kept), 0)))

    @classmethod
    def read(cls, rows: Sequence[dict[str, Any]], metrics: Sequence[str]) -> Self:
        """From what :meth:`rows` gave, with further metrics in this order."""
        share, lam = (np.array([row[key] for row in rows], float) for key in ("share", "lambda"))
        more = np.array([[row["multipliers"][m] for m in metrics] for row in rows], float)
        return cls(share, lam, more.reshape(len(rows), len(metrics)))

    def rows(self, metrics: Sequence[str]) -> list[dict[str, Any]]:
        """Ready for JSON: ``share, lambda, multipliers`` of each part, the latter by the names of
        the K further metrics.
        """
        parts = zip(self.share.tolist(), self.lam.tolist(), self.multipliers.tolist(), strict=True)
        return [
            {"share": share, "lambda": lam, "multipliers": dict(zip(metrics, more, strict=True))}
            for share, lam, more in parts
        ]

    def choices(self, scores: Floats, cost: Floats) -> Ints:
        """The candidate of each prompt by each part, (J, n).

        Args:
            scores: (1 + K, n, m), the routed metric's first; or (n, m) where there is no other.
            cost: (m,).
        """
        every = scores[None] if scores.ndim == 2 else scores
        if every.shape[0] != 1 + self.multipliers.shape[1]:
            raise ValueError(
                f"scores of {1 + self.multipliers.shape[1]} metrics are needed, not of"
                f" {every.shape[0]}"
            )
        parts = zip(self.lam, self.multipliers, strict=True)
        return np.stack(
            [
                choose(every[0] + np.tensordot(more, every[1:], 1), cost, float(lam))
                for lam, more in parts
            ]
        )

    def parts_of(self, draws: Floats) -> Ints:
        """The part by which each prompt goes, from ``draws`` (n,) in [0, 1)."""
        return np.searchsorted(np.cumsum(self.share)[:-1], draws, side="right")

    def drawn(self, choices: Ints, draws: Floats) -> Ints:
        """The candidate that each prompt gets, (n,): of :meth:`choices`, by the part that its draw
        says.
        """
        return choices[self.parts_of(draws), np.arange(len(draws))]

    def expected(self, choices: Ints, values: Floats) -> Floats:
        """The expectation over the draws of each prompt's value, (n,), from :meth:`choices` and
        ``values`` (n, m) or (m,).
        """
        table = np.broadcast_to(values, (choices.shape[1], values.shape[-1]))
        found: Floats = self.share @ table[np.arange(choices.shape[1]), choices]
        return found


def rule_within(
    curve: Curve, budget: float, cheapest: float, mix: bool = True
) -> tuple[Rule, float]:
    """The rule of best quality whose mean cost is within ``budget``, and that mean cost.

    Args:
        curve: of the scores that are routed on.
        cheapest: the cost of the cheapest candidate.
        mix: the two neighbours where lambda jumps over the budget; otherwise the smallest lambda
            within it.

    Raises:
        InputError: the budget is below the cheapest candidate.
    """
    slack = check_budget(budget, cheapest)
    i = int(np.argmax(curve.cost <= max(budget, cheapest) * (1 + 1e-12) + slack))
    return mixed(curve, i, (budget - float(curve.cost[i])) if mix else 0.0, curve.cost)


def check_budget(budget: float, cheapest: float) -> float:
    """How much rounding is allowed for.

    Raises:
        InputError: not even the cheapest candidate keeps the budget.
    """
    slack = 1e-9 * max(abs(cheapest), 1e-300)
    if not budget >= cheapest - slack:
        raise InputError(
            f"budget {budget:g} is below the cheapest candidate, which costs {cheapest:g}: raise it"
            " to that at least."
        )
    return slack


def mixed(curve: Curve, i: int, more: float, values: Floats) -> tuple[Rule, float]:
    """Point ``i`` of a curve, mixed with the point before it such that ``values`` (cost or quality,
    by point) gains ``more``.

    Returns the rule and its mean cost.
    """
    step = float(values[i - 1] - values[i]) if i else 0.0
    share = min(max(more / step, 0.0), 1.0) if step > 0 else 0.0
    share = share if share > _TINY else 0.0
    parts = [(share, safe_lambda(curve, i - 1))] if share else []
    cost = (1 - share) * float(curve.cost[i]) + (share * float(curve.cost[i - 1]) if share else 0.0)
    return Rule.of(*parts, (1 - share, safe_lambda(curve, i))), cost
