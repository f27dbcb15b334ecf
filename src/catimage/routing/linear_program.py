"""Optimal routing within a budget and with lower bounds ("floors") on other metrics.

The linear program is the relaxation of equation 1 (CATImage paper, section 3.1) with one further
constraint per floor::

    maximise  mean quality   subject to   mean cost <= budget,   mean of metric k >= floor k

over all assignments of prompts to candidates, where a prompt may be split between candidates.

It is solved by column generation (Dantzig and Wolfe, "Decomposition Principle for Linear Programs",
1960). The variables of the master problem are the shares of routing rules; ``scipy`` (HiGHS) solves
the master problem. Its dual prices are lambda and one multiplier per floor. The rule with the best
reduced cost is equation 3 with these values. At the optimum, all rules with a positive share are
optimal at the same dual prices, so they differ only for prompts with tied candidates.

Without column generation, one call of ``scipy.optimize.linprog`` has n_prompts * n_candidates
variables and is too slow: with two floors, 20 candidates and 10,000 prompts it takes 95 s on one
core, and column generation takes 0.3 s (3.8 s for 100,000 prompts).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import OptimizeResult, linprog

from catimage.common.arrays import Floats
from catimage.routing.randomized import RoutingRule

_VIOLATION_PRICES = (1e1, 1e3, 1e5)
"""Prices of violating a constraint, tried in this order until no constraint is violated. A price
of 1 makes a violation by the whole range of the constrained metric (or cost) as bad as a loss of
the whole range of quality.
"""
_MAX_ITERATIONS = 2000
_TOLERANCE = 1e-9
_PERTURBATION = 1e-9
"""Relative perturbation of the prices, so that ties are not broken by rounding errors."""
_SOLVER_TOLERANCE = 1e-10


@dataclass(frozen=True)
class OptimalRule:
    """The optimal rule, and the amount by which it violates each constraint.

    Attributes:
        rule: the rule.
        violations: violation of the budget, in the cost unit, and of each floor, in the unit of
            its metric, (1 + n_floors,); 0 where the constraint is satisfied.
    """

    rule: RoutingRule
    violations: Floats

    @property
    def feasible(self) -> bool:
        """Whether every constraint is satisfied."""
        return not self.violations.any()


def optimal_rule(predicted: Floats, cost: Floats, budget: float, floors: Floats) -> OptimalRule:
    """Solve the linear program; if it is infeasible, minimise the violations.

    Args:
        predicted: predicted metrics, (1 + n_floors, n_prompts, n_candidates), the routed metric
            first and then the metrics of the floors.
        cost: cost of one image, (n_candidates,).
        budget: upper bound of the mean cost per image.
        floors: lower bounds of the means of the metrics of the floors, (n_floors,).
    """
    master = _MasterProblem(predicted, cost, np.concatenate([[-budget], floors]))
    for violation_price in _VIOLATION_PRICES:
        share, violations = master.solve(violation_price)
        if violations.max(initial=0.0) <= _TOLERANCE:
            break
    violations = np.where(violations > _TOLERANCE, violations, 0.0)
    return OptimalRule(master.combined_rule(share), violations * master.unit)


@dataclass
class _MasterProblem:
    """The rules generated so far, and the linear program over their shares.

    A constraint has the form ``mean >= bound``; the cost and the budget are negated. The costs and
    each metric are divided by their range over all prompts and candidates.

    Attributes:
        predicted: predicted metrics, (1 + n_floors, n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).
        bounds: lower bounds of the negated mean cost and of the metrics of the floors,
            (1 + n_floors,), not divided.
        prices: lambda and multipliers of each rule, (1 + n_floors,) each, not divided.
        means: means of the negated cost and of the metrics of the floors under each rule,
            (1 + n_floors,) each, divided by the ranges.
        quality: mean quality of each rule, divided by the range.
    """

    predicted: Floats
    cost: Floats
    bounds: Floats
    prices: list[Floats] = field(default_factory=list)
    means: list[Floats] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scale = float(np.ptp(self.predicted[0])) or 1.0
        ranges = np.array([np.ptp(self.cost), *(np.ptp(s) for s in self.predicted[1:])])
        self.unit = np.where(ranges > 0, ranges, 1.0)
        self._add_rule(np.zeros(len(self.bounds)))

    def _add_rule(self, prices: Floats) -> float:
        """Add the rule that is optimal at dual prices.

        Args:
            prices: dual prices of the constraints, (1 + n_floors,), of the divided means.

        Returns:
            The divided quality of the rule plus the sum of prices times divided means.
        """
        perturbed = 1 + _PERTURBATION * np.sqrt(np.arange(2.0, 2 + len(prices)))
        unscaled = prices * self.scale / self.unit * perturbed
        rule = RoutingRule(np.ones(1), unscaled[:1], unscaled[None, 1:])
        choice = rule.choose_by_part(self.predicted, self.cost)[0]
        rows = np.arange(len(choice))
        means = [-self.cost[choice].mean(), *(s[rows, choice].mean() for s in self.predicted[1:])]
        self.prices.append(unscaled)
        self.means.append(np.array(means) / self.unit)
        self.quality.append(float(self.predicted[0][rows, choice].mean()) / self.scale)
        return self.quality[-1] + float(prices @ self.means[-1])

    def solve(self, violation_price: float) -> tuple[Floats, Floats]:
        """Add rules until no further rule improves the optimum.

        Args:
            violation_price: see :data:`_VIOLATION_PRICES`.

        Returns:
            The shares of the rules, (n_rules,), and the violations of the constraints,
            (1 + n_floors,), divided by the ranges.
        """
        for _ in range(_MAX_ITERATIONS):
            n_rules = len(self.quality)
            optimum = self._solve_master(violation_price)
            prices, optimal_value = -optimum.ineqlin.marginals, -float(optimum.eqlin.marginals[0])
            value = self._add_rule(np.maximum(prices, 0.0))
            magnitude = 1 + float(prices.max(initial=0.0)) + abs(optimal_value)
            if value - optimal_value <= _TOLERANCE * magnitude:
                break
        return optimum.x[:n_rules], optimum.x[n_rules:]

    def _solve_master(self, violation_price: float) -> OptimizeResult:
        """Find the optimal shares of the rules generated so far, and the violations."""
        n_rules, n_bounds = len(self.quality), len(self.bounds)
        return linprog(
            np.concatenate([-np.array(self.quality), np.full(n_bounds, violation_price)]),
            A_ub=np.hstack([-np.array(self.means).T, -np.eye(n_bounds)]),
            b_ub=-self.bounds / self.unit,
            A_eq=np.concatenate([np.ones(n_rules), np.zeros(n_bounds)])[None],
            b_eq=[1.0],
            method="highs-ds",
            options={
                "presolve": False,
                "primal_feasibility_tolerance": _SOLVER_TOLERANCE,
                "dual_feasibility_tolerance": _SOLVER_TOLERANCE,
            },
        )

    def combined_rule(self, share: Floats) -> RoutingRule:
        """Return one rule whose parts are the rules with a positive share, by ascending lambda."""
        kept = np.flatnonzero(share > _TOLERANCE)
        kept = kept[np.argsort([self.prices[i][0] for i in kept], kind="stable")]
        prices = np.stack([self.prices[i] for i in kept])
        return RoutingRule(share[kept] / share[kept].sum(), prices[:, 0], prices[:, 1:])
