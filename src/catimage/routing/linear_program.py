"""Optimal routing within a budget and with lower bounds on other metrics.

The linear program is equation 1 of CATImage (3.1), relaxed and with more constraints::

    maximise  mean quality   subject to   mean cost <= budget,   mean of metric k >= floor k

over all assignments of prompts to candidates, where a prompt may be split between candidates.

It is solved by column generation (Dantzig and Wolfe, "Decomposition Principle for Linear Programs",
1960). The variables of the master program are the shares of routing rules; ``scipy`` (HiGHS) solves
it. Given its dual prices, the rule with the best reduced cost is equation 3 with these multipliers.
At the optimum all rules with a positive share are optimal at the same prices, so they differ only
for tied prompts.

The whole program in one call of ``scipy.optimize.linprog`` has n_prompts * n_candidates variables
and is too slow: with two floors and 20 candidates it takes 95 s for 10,000 prompts, column
generation 0.3 s (100,000 prompts: 3.8 s; one core).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import OptimizeResult, linprog

from catimage.common.arrays import Floats
from catimage.routing.randomized import RoutingRule

_PENALTIES = (1e1, 1e3, 1e5)
"""Prices of violating a constraint, tried in this order until no constraint is violated. The unit
is the range of the quality per range of the constraint.
"""
_MAX_ITERATIONS = 2000
_TOLERANCE = 1e-9
_PERTURBATION = 1e-9
"""Relative perturbation of the prices, so that ties are not broken by rounding errors."""
_SOLVER_TOLERANCE = 1e-10


@dataclass(frozen=True)
class OptimalRule:
    """The optimal rule, and the violation of each constraint.

    Attributes:
        rule: the rule.
        violations: (1 + n_floors,): of the budget, in the cost unit, and of each floor, in the
            metric's unit; 0 where the constraint is satisfied.
    """

    rule: RoutingRule
    violations: Floats

    @property
    def feasible(self) -> bool:
        """Whether every constraint is satisfied."""
        return not self.violations.any()


def optimal_rule(scores: Floats, cost: Floats, budget: float, floors: Floats) -> OptimalRule:
    """Solve the linear program; if it is infeasible, minimise the violations.

    Args:
        scores: predicted quality, (1 + n_floors, n_prompts, n_candidates), the routed metric first.
        cost: (n_candidates,).
        budget: upper bound of the mean cost.
        floors: lower bounds of the means of the other metrics, (n_floors,).
    """
    program = _MasterProgram(scores, cost, np.concatenate([[-budget], floors]))
    for penalty in _PENALTIES:
        share, violations = program.solve(penalty)
        if violations.max(initial=0.0) <= _TOLERANCE:
            break
    violations = np.where(violations > _TOLERANCE, violations, 0.0)
    return OptimalRule(program.mixture(share), violations * program.unit)


@dataclass
class _MasterProgram:
    """The rules generated so far, and the linear program over their shares.

    Constraints are in the form ``mean >= bound`` (the mean cost is negated), in units of their
    range over all prompts and candidates.

    Attributes:
        bounds: (1 + n_floors,).
        prices: lambda and multipliers of each rule, (1 + n_floors,) each.
        means: constrained means of each rule, (1 + n_floors,) each.
        quality: mean quality of each rule.
    """

    scores: Floats
    cost: Floats
    bounds: Floats
    prices: list[Floats] = field(default_factory=list)
    means: list[Floats] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scale = float(np.ptp(self.scores[0])) or 1.0
        ranges = np.array([np.ptp(self.cost), *(np.ptp(s) for s in self.scores[1:])])
        self.unit = np.where(ranges > 0, ranges, 1.0)
        self._add_rule(np.zeros(len(self.bounds)))

    def _add_rule(self, prices: Floats) -> float:
        """Add the rule that is optimal at ``prices``, and return its priced value."""
        perturbed = 1 + _PERTURBATION * np.sqrt(np.arange(2.0, 2 + len(prices)))
        unscaled = prices * self.scale / self.unit * perturbed
        rule = RoutingRule(np.ones(1), unscaled[:1], unscaled[None, 1:])
        choice = rule.choices(self.scores, self.cost)[0]
        rows = np.arange(len(choice))
        means = [-self.cost[choice].mean(), *(s[rows, choice].mean() for s in self.scores[1:])]
        self.prices.append(unscaled)
        self.means.append(np.array(means) / self.unit)
        self.quality.append(float(self.scores[0][rows, choice].mean()) / self.scale)
        return self.quality[-1] + float(prices @ self.means[-1])

    def solve(self, penalty: float) -> tuple[Floats, Floats]:
        """Add rules until none improves the optimum.

        Args:
            penalty: price of violating a constraint by its range.

        Returns:
            The shares of the rules, and the violations (1 + n_floors,) in ranges.
        """
        for _ in range(_MAX_ITERATIONS):
            n_rules = len(self.quality)
            optimum = self._solve_master(penalty)
            prices, level = -optimum.ineqlin.marginals, -float(optimum.eqlin.marginals[0])
            value = self._add_rule(np.maximum(prices, 0.0))
            if value - level <= _TOLERANCE * (1 + float(prices.max(initial=0.0)) + abs(level)):
                break
        return optimum.x[:n_rules], optimum.x[n_rules:]

    def _solve_master(self, penalty: float) -> OptimizeResult:
        """Find the best shares of the rules generated so far; constraints may be violated."""
        n_rules, n_bounds = len(self.quality), len(self.bounds)
        return linprog(
            np.concatenate([-np.array(self.quality), np.full(n_bounds, penalty)]),
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

    def mixture(self, share: Floats) -> RoutingRule:
        """Combine the rules with a positive share into one, in ascending order of lambda."""
        kept = np.flatnonzero(share > _TOLERANCE)
        kept = kept[np.argsort([self.prices[i][0] for i in kept], kind="stable")]
        prices = np.stack([self.prices[i] for i in kept])
        return RoutingRule(share[kept] / share[kept].sum(), prices[:, 0], prices[:, 1:])
