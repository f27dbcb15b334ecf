"""Routing rules that keep a budget with a stated confidence, for any number of prompts.

A lambda whose mean cost on the calibration prompts equals the budget exceeds the budget on new
prompts about half of the time. The rules of this module have a certificate: the true mean cost,
over new prompts of the same distribution, exceeds the budget with probability at most
``1 - confidence``, for any distribution of the costs. The assumptions are: the calibration prompts
are independent draws; the estimator was not trained on these prompts (if it was selected on them
among several estimators, ``confidence`` must be corrected for this selection); a cost is between
the costs of the cheapest and the most expensive candidate.

A rule is selected in two steps:

1. A test by betting decides whether one rule keeps the budget (Waudby-Smith and Ramdas, "Estimating
   means of bounded random variables by betting", 2024). A bettor starts with a capital of 1 and
   bets a fixed share of the capital (the stake) that the next cost is below the budget. If the true
   mean cost is at least the budget, the expected capital is at most 1, so by Markov's inequality
   the capital reaches ``1 / (1 - confidence)`` with probability at most ``1 - confidence``. The
   rule passes the test if the capital reaches this value. The capital is divided equally among a
   few stakes, which suit costs of high and of low variance. The stakes do not depend on the
   observed costs, so the result is the same for any order of the prompts and monotone in each cost.
2. The rules are ordered such that the cost of every prompt increases or stays equal. The most
   expensive rule that passes the test is selected (risk-controlling prediction sets: Bates et al.
   2021, theorem 1). The selected rule exceeds the budget only if the test passes for the rule whose
   true mean cost equals the budget, so no correction for multiple tests is needed. The rules must
   not depend on the calibration prompts, so the breakpoints of their deferral curve are not used:
   the rules are the lambdas ``2 ** (k / 256)`` for integers k, and mixtures of successive lambdas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.betting import is_certified
from catimage.routing.curve import BUDGET_TOLERANCE, deferral_curve
from catimage.routing.policy import choose
from catimage.routing.randomized import CHEAPEST_FACTOR, RoutingRule, check_budget

LAMBDAS_PER_OCTAVE = 256
"""Number of lambdas per factor of 2."""


class Certifier:
    """Finds the most expensive rule that is certified to keep a budget.

    Args:
        predicted: predicted quality of the calibration prompts, (n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).
        confidence: minimum probability that the true mean cost is within the budget, between 0 and
            1, exclusive.

    Raises:
        ValueError: ``confidence`` is out of range.
    """

    def __init__(self, predicted: Floats, cost: Floats, confidence: float) -> None:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be between 0 and 1, not {confidence}")
        self.predicted, self.cost, self.confidence = predicted, cost, confidence
        self.low, self.high = float(cost.min()), float(cost.max())
        switches = deferral_curve(predicted, cost).lam[1:]
        usable = (switches > 0) & np.isfinite(switches)
        switches = switches[usable] if usable.any() else np.ones(1)
        self.first = int(np.floor(LAMBDAS_PER_OCTAVE * np.log2(switches[0]))) - 1
        self.last = int(np.ceil(LAMBDAS_PER_OCTAVE * np.log2(switches[-1]))) + 1
        self._chosen_by_lambda: dict[int, Ints] = {}

    def rule(self, budget: float, mix: bool = True) -> RoutingRule | None:
        """Return the most expensive rule that is certified to keep a budget.

        Args:
            budget: mean cost per image.
            mix: whether the rule may be a mixture of two successive lambdas.

        Returns:
            The rule, or None if no rule passes the test; then use :func:`cheapest_rule`.

        Raises:
            InputError: the budget is below the cost of the cheapest candidate.
        """
        check_budget(budget, self.low)
        if budget >= self.high or self.passes(budget, self.first, 0.0):
            return RoutingRule.from_parts((1.0, 0.0))
        if not self.passes(budget, self.last, 0.0):
            return None
        k = _first_true(lambda k: self.passes(budget, k, 0.0), self.first, self.last)
        share = _largest_true(lambda share: self.passes(budget, k, share)) if mix else 0.0
        return RoutingRule.from_parts((share, _lambda(k - 1)), (1 - share, _lambda(k)))

    def passes(self, budget: float, k: int, share: float) -> bool:
        """Test whether a mixture of two successive lambdas is certified to keep a budget.

        Args:
            budget: mean cost per image.
            k: number of the larger lambda, ``2 ** (k / 256)``.
            share: share of the prompts that use the smaller lambda, ``2 ** ((k - 1) / 256)``.
        """
        m = len(self.cost)
        pairs, count = np.unique(self._chosen(k - 1) * m + self._chosen(k), return_counts=True)
        spent = share * self.cost[pairs // m] + (1 - share) * self.cost[pairs % m]
        return is_certified(spent, count, budget, (self.low, self.high), self.confidence)

    def smallest_budget(self) -> float:
        """Return the smallest budget with a certified rule, on a grid of 1000 steps in cost."""
        if self.high <= self.low:
            return self.low
        steps = 1000
        step = _first_true(
            lambda i: self.passes(self.low + (self.high - self.low) * i / steps, self.last, 0.0),
            0,
            steps,
        )
        return self.low + (self.high - self.low) * step / steps

    def _chosen(self, k: int) -> Ints:
        if k not in self._chosen_by_lambda:
            self._chosen_by_lambda[k] = choose(self.predicted, self.cost, _lambda(k))
        return self._chosen_by_lambda[k]


@dataclass(frozen=True)
class CertifiedRules:
    """Certified rules of several budgets.

    Attributes:
        budgets: mean costs per image, (n_rules,), ascending from the cost of the cheapest
            candidate.
        rules: one certified rule per budget, without multipliers.
    """

    budgets: Floats
    rules: tuple[RoutingRule, ...]

    @classmethod
    def compute(
        cls, certifier: Certifier, steps: int, mix: bool = True, calibrated: float | None = None
    ) -> Self:
        """Find the certified rules of evenly spaced budgets; see :meth:`Certifier.rule`.

        The first rule, for the cost of the cheapest candidate, always selects this candidate.
        Budgets without a certified rule, and budgets above that of the first rule with lambda 0,
        are omitted. The rule of a larger budget is never cheaper, because the test of
        :func:`~catimage.routing.betting.is_certified` is monotone in the budget.

        Args:
            certifier: finds the rule of one budget.
            steps: number of evenly spaced budgets.
            mix: whether a rule may be a mixture of two successive lambdas.
            calibrated: the calibrated budget, which is included, so that a budget slightly above it
                has its rule and not that of the next lower evenly spaced budget.
        """
        budgets = [certifier.low]
        rules = [cheapest_rule(certifier.predicted, certifier.cost)]
        grid = np.linspace(certifier.low, certifier.high, steps + 1)[1:]
        if calibrated is not None and calibrated > certifier.low:
            grid = np.union1d(grid, calibrated)
        for budget in grid.tolist():
            rule = certifier.rule(budget, mix)
            if rule is None:
                continue
            budgets.append(budget)
            rules.append(rule)
            if not rule.lam.any():
                break
        return cls(np.array(budgets), tuple(rules))

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[float]]) -> Self:
        """Build the rules from the output of :meth:`to_columns`."""
        parts = (columns[key] for key in ("share", "lower_lambda", "lambda"))
        rules = tuple(
            RoutingRule.from_parts((share, lower), (1 - share, lam))
            for share, lower, lam in zip(*parts, strict=True)
        )
        return cls(np.array(columns["budget"], float), rules)

    def to_columns(self) -> dict[str, list[float]]:
        """Return the columns of a table: ``budget``, ``share``, ``lower_lambda`` and ``lambda``.

        ``share`` is the share of the prompts that use ``lower_lambda``. For a rule with one lambda,
        it is 0 and the two lambdas are equal.
        """
        return {
            "budget": self.budgets.tolist(),
            "share": [float(r.share[0]) if len(r.share) > 1 else 0.0 for r in self.rules],
            "lower_lambda": [float(r.lam[0]) for r in self.rules],
            "lambda": [float(r.lam[-1]) for r in self.rules],
        }

    def within(self, budget: float) -> RoutingRule:
        """Return the rule of the largest certified budget that is at most ``budget``."""
        limit = budget * (1 + BUDGET_TOLERANCE)
        i = int(np.searchsorted(self.budgets, limit, side="right")) - 1
        return self.rules[max(i, 0)]


def cheapest_rule(predicted: Floats, cost: Floats) -> RoutingRule:
    """Return a rule with a lambda so large that it selects the cheapest candidate of each prompt.

    The lambda is large enough for predictions whose range is up to :data:`CHEAPEST_FACTOR
    <catimage.routing.randomized.CHEAPEST_FACTOR>` times the range of ``predicted``, (n_prompts,
    n_candidates).
    """
    above = cost[cost > cost.min()]
    gap = float(above.min() - cost.min()) if len(above) else 1.0
    return RoutingRule.from_parts(
        (1.0, CHEAPEST_FACTOR * max(float(np.ptp(predicted)), 1e-9) / gap)
    )


def _lambda(k: int) -> float:
    with np.errstate(over="ignore"):  # infinity selects the cheapest candidate
        return float(np.exp2(k / LAMBDAS_PER_OCTAVE))


def _first_true(test: Callable[[int], bool], low: int, high: int) -> int:
    """Return the first integer for which a monotone test is true.

    The test must be false for ``low`` and true for ``high``.
    """
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return high


def _largest_true(test: Callable[[float], bool], iterations: int = 30) -> float:
    """Return the largest share for which a monotone test is true; it must be true for share 0."""
    low, high = 0.0, 1.0
    for _ in range(iterations):
        middle = (low + high) / 2
        low, high = (middle, high) if test(middle) else (low, middle)
    return low
