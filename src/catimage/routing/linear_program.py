"""The linear programme behind routing with floors, solved exactly.

    maximise  mean quality   subject to  mean cost <= budget  and  mean of metric k >= floor k

over all ways to send prompts to candidates, a prompt being split where need be: equation 1's
relaxation (CATImage 3.1) with more constraints. A revised simplex keeps a basis of rules and
slacks, one more than there are constraints; the shares of the rules meet these. Given the basis'
dual prices, the best rule to take in is equation 3 with these multipliers (Dantzig and Wolfe 1960).
At the optimum all rules of the basis are best at one set of prices, so that they differ in ties
alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.randomized import Rule

_PENALTIES = (1e1, 1e3, 1e5)
"""Of missing a constraint, in ranges of quality for a range of the constraint, one after the other
until none is missed.
"""
_PIVOTS = 2000
_TINY = 1e-9
_NUDGE = 1e-9
"""Prices are moved by about this, relatively: at a tie the choice would otherwise hang on rounding.
"""


@dataclass(frozen=True)
class Optimum:
    """The optimal rule, and by how much it misses the budget, in the cost unit, and each floor, in
    the metric's: (1 + K,).
    """

    rule: Rule
    missed: Floats

    @property
    def met(self) -> bool:
        """Whether every constraint is met."""
        return not self.missed.any()


def optimum(scores: Floats, cost: Floats, budget: float, floors: Floats) -> Optimum:
    """Solves the programme; where nothing meets the constraints, the rule that misses them by
    little in all.

    Args:
        scores: (1 + K, n, m), of the routed metric first; ``cost`` (m,).
        budget: mean cost; ``floors`` (K,), of the means of the other metrics.
    """
    simplex = _Simplex(scores, cost, np.concatenate([[-budget], floors]))
    for penalty in _PENALTIES:
        simplex.solve(penalty)
        if simplex.missed().max(initial=0.0) <= _TINY:
            break
    missed = simplex.missed()
    return Optimum(simplex.rule(), np.where(missed > _TINY, missed, 0.0) * simplex.unit)


@dataclass
class _Column:
    """Of a basis: what a unit of it adds to the constraints and to the sum of shares, and its
    worth; lambda and multipliers of a rule.
    """

    adds: Floats
    worth: float = 0.0
    prices: Floats | None = None
    artificial: bool = False


@dataclass
class _Simplex:
    """The state: a column a row, and how much of each."""

    scores: Floats
    cost: Floats
    least: Floats
    basis: list[_Column] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.scale = float(np.ptp(self.scores[0])) or 1.0
        ranges = np.array([np.ptp(self.cost), *(np.ptp(s) for s in self.scores[1:])])
        self.unit = np.where(ranges > 0, ranges, 1.0)
        self.right = np.append(self.least / self.unit, 1.0)
        first = self._rule(np.zeros(len(self.least)))
        enough = first.adds[:-1] >= self.right[:-1]
        signs = np.where(enough, -1.0, 1.0)
        sides = [
            _Column(np.append(row, 0.0), artificial=bool(s > 0))
            for s, row in zip(signs, np.diag(signs), strict=True)
        ]
        self.basis = [first, *sides]

    def _rule(self, prices: Floats) -> _Column:
        """Equation 3 with these prices (1 + K,), per range of each constraint."""
        nudged = (
            prices
            * self.scale
            / self.unit
            * (1 + _NUDGE * np.sqrt(np.arange(2.0, 2 + len(prices))))
        )
        choice = Rule(np.ones(1), nudged[:1], nudged[None, 1:]).choices(self.scores, self.cost)[0]
        every = np.arange(len(choice))
        means = np.array(
            [-self.cost[choice].mean(), *(s[every, choice].mean() for s in self.scores[1:])]
        )
        return _Column(
            np.append(means / self.unit, 1.0),
            float(self.scores[0][every, choice].mean()) / self.scale,
            nudged,
        )

    def solve(self, penalty: float) -> None:
        """Pivots until no rule and no slack improves the basis."""
        for _ in range(_PIVOTS):
            matrix = np.stack([c.adds for c in self.basis], axis=1)
            worth = np.array([-penalty if c.artificial else c.worth for c in self.basis])
            dual = np.linalg.solve(matrix.T, worth)
            entering = self._entering(dual)
            if entering is None or not self._pivot(matrix, entering):
                return

    def _entering(self, dual: Floats) -> _Column | None:
        """A column that improves the basis with these dual values (K + 2,)."""
        slack = int(np.argmax(dual[:-1]))
        if dual[slack] > _TINY:
            return _Column(-np.eye(len(dual))[slack])
        rule = self._rule(np.maximum(-dual[:-1], 0.0))
        return (
            rule
            if rule.worth - dual @ rule.adds > _TINY * (1 + float(np.abs(dual).max()))
            else None
        )

    def _pivot(self, matrix: Floats, entering: _Column) -> bool:
        """Takes a column in for the one that it first drives to zero; whether there is one."""
        amounts, falls = np.linalg.solve(matrix, np.stack([self.right, entering.adds], axis=1)).T
        ratio = np.where(
            falls > 1e-11, np.maximum(amounts, 0.0) / np.where(falls > 1e-11, falls, 1.0), np.inf
        )
        if not np.isfinite(ratio).any():
            return False
        near = np.flatnonzero(ratio <= ratio.min() + 1e-12)
        leaving = max(near.tolist(), key=lambda i: (self.basis[i].artificial, falls[i]))
        self.basis[leaving] = entering
        return True

    def _amounts(self) -> Floats:
        return np.maximum(
            np.linalg.solve(np.stack([c.adds for c in self.basis], axis=1), self.right), 0.0
        )

    def missed(self) -> Floats:
        """How much is missing of each constraint (1 + K,), in its ranges."""
        artificial = [
            (c.adds[:-1], a)
            for c, a in zip(self.basis, self._amounts(), strict=True)
            if c.artificial
        ]
        return (
            np.sum([adds * a for adds, a in artificial], axis=0)
            if artificial
            else np.zeros(len(self.least))
        )

    def rule(self) -> Rule:
        """The mix of the basis' rules, those of small lambda first."""
        parts = [
            (a, c.prices)
            for c, a in zip(self.basis, self._amounts(), strict=True)
            if c.prices is not None and a > _TINY
        ]
        parts.sort(key=lambda part: float(part[1][0]))
        share, prices = np.array([a for a, _ in parts]), np.stack([p for _, p in parts])
        return Rule(share / share.sum(), prices[:, 0], prices[:, 1:])
