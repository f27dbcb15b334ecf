"""Budgets that hold with a stated confidence, in finite samples.

A lambda that keeps the budget on the calibration prompts overspends on new ones about every other
time. Here the rule is chosen such that its true mean cost, over new prompts of the same kind,
exceeds the budget with probability at most ``1 - confidence``, whatever the distribution of the
costs is: all that is used is that calibration prompts are drawn independently, that the estimator
has not learned from them (if it was chosen on them among several, ``confidence`` must allow for
each), and that a cost lies between those of the cheapest and of the dearest candidate.

Two steps. (1) Whether one given rule keeps the budget is tested by betting (Waudby-Smith and Ramdas
2024, "Estimating means of bounded random variables by betting"): a gambler who stakes a fixed share
of his capital on every cost being below the budget has, if the true mean is the budget or more, an
expected capital of at most 1, so that it reaches ``1 / (1 - confidence)`` with probability ``1 -
confidence`` at most (Markov). The capital is split over a few stakes, fit for costs that vary much
or little, and none depends on the data: so it does not depend on the order of the prompts, and
falls if any cost rises. (2) Rules are ordered from the cheapest to the dearest, each prompt's cost
never falls along that order, and the dearest rule is taken at which the test still passes
(risk-controlling prediction sets; Bates et al. 2021, theorem 1): to fail, the test would have to
pass for the one rule whose true mean cost equals the budget, so that choosing on the same data
costs nothing. That asks for an order fixed in advance. Lambdas at which calibration prompts happen
to switch are not; the rules here are ``2 ** (k / 256)`` for whole k, and the mixes of neighbours
among these.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.curve import deferral_curve
from catimage.routing.policy import choose
from catimage.routing.randomized import Rule, check_budget

OCTAVE = 256
"""Lambdas between one and its double."""
STAKES = (1.0, 0.5, 0.25)
"""Standard deviations for which the stakes are best, in units of the largest that a mean of the
budget allows.
"""


class Certifier:
    """Finds the dearest rule that is certain enough to keep a budget.

    Args:
        scores: (n_prompts, n_candidates), what is routed on, of the calibration prompts; ``cost``
            (n_candidates,).
        confidence: between 0 and 1.
    """

    def __init__(self, scores: Floats, cost: Floats, confidence: float) -> None:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {confidence}")
        self.scores, self.cost, self.confidence = scores, cost, confidence
        self.low, self.high = float(cost.min()), float(cost.max())
        switches = deferral_curve(scores, cost).lam[1:]
        switches = switches[switches > 0] if (switches > 0).any() else np.ones(1)
        self.first, self.last = (
            int(np.floor(OCTAVE * np.log2(switches[0]))) - 1,
            int(np.ceil(OCTAVE * np.log2(switches[-1]))) + 1,
        )
        self._chosen: dict[int, Ints] = {}

    def rule(self, budget: float, mix: bool = True) -> Rule | None:
        """The dearest rule that is certified; None where none is, so that only the cheapest
        candidate for every prompt is safe.

        Raises:
            InputError: the budget is below the cheapest candidate.
        """
        check_budget(budget, self.low)
        if budget >= self.high or self.passes(budget, self.first, 0.0):
            return Rule.of((1.0, 0.0))
        if not self.passes(budget, self.last, 0.0):
            return None
        k = _first_true(lambda k: self.passes(budget, k, 0.0), self.first, self.last)
        share = _largest(lambda share: self.passes(budget, k, share)) if mix else 0.0
        return Rule.of((share, lambda_at(k - 1)), (1 - share, lambda_at(k)))

    def passes(self, budget: float, k: int, share: float) -> bool:
        """Whether it is certified that ``share`` of the prompts by lambda ``k - 1``, and the rest
        by lambda ``k``, keep the budget.
        """
        m = len(self.cost)
        pairs, count = np.unique(self._choices(k - 1) * m + self._choices(k), return_counts=True)
        spent = share * self.cost[pairs // m] + (1 - share) * self.cost[pairs % m]
        return certified(spent, count, budget, self.low, self.high, self.confidence)

    def smallest_budget(self) -> float:
        """The least budget for which a rule is certified, to a thousandth of the range of costs."""
        if self.high <= self.low:
            return self.low
        steps = 1000
        found = _first_true(
            lambda i: self.passes(self.low + (self.high - self.low) * i / steps, self.last, 0.0),
            0,
            steps,
        )
        return self.low + (self.high - self.low) * found / steps

    def _choices(self, k: int) -> Ints:
        if k not in self._chosen:
            self._chosen[k] = choose(self.scores, self.cost, lambda_at(k))
        return self._chosen[k]


def budgets_and_rules(
    certifier: Certifier, steps: int, mix: bool = True
) -> list[tuple[float, Rule]]:
    """Certified rules for budgets evenly spaced between the cheapest and the dearest candidate,
    ascending, up to lambda 0.

    The first is the cheapest candidate for every prompt, which needs no certificate.
    """
    found = [(certifier.low, always_cheapest(certifier.scores, certifier.cost))]
    for budget in np.linspace(certifier.low, certifier.high, steps + 1)[1:].tolist():
        rule = certifier.rule(budget, mix)
        if rule is not None:
            found.append((budget, rule))
        if rule is not None and not rule.lam.any():
            break  # quality alone decides from here on
    return found


def certified(
    spent: Floats, count: Ints, budget: float, low: float, high: float, confidence: float
) -> bool:
    """Whether costs are evidence enough, at this confidence, that their true mean is below
    ``budget``.

    Args:
        spent: distinct costs (k,), each between ``low`` and ``high``; ``count`` (k,) says how often
            each was seen.
    """
    if budget >= high:
        return True
    if budget <= low:
        return False
    mean, level = (budget - low) / (high - low), -np.log1p(-confidence)
    spread = np.sqrt(mean * (1 - mean)) * np.array(STAKES)
    stakes = np.minimum(np.sqrt(2 * level / count.sum()) / spread, 0.999 / (1 - mean))
    gains = np.log1p(-stakes[:, None] * ((spent - low) / (high - low) - mean)) @ count
    return bool(np.logaddexp.reduce(gains) - np.log(len(stakes)) >= level)


def always_cheapest(scores: Floats, cost: Floats) -> Rule:
    """A lambda so large that no prompt goes to any but the cheapest candidate, unless predictions
    grow a billion times.
    """
    dearer = cost[cost > cost.min()]
    gap = float(dearer.min() - cost.min()) if len(dearer) else 1.0
    return Rule.of((1.0, 1e9 * max(float(np.ptp(scores)), 1e-9) / gap))


def lambda_at(k: int) -> float:
    """The lambda of a place in the order."""
    return float(2.0 ** (k / OCTAVE))


def _first_true(test: Callable[[int], bool], low: int, high: int) -> int:
    """The first integer for which a monotone test is true; it is at ``high``, and not at ``low``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if test(middle) else (middle, high)
    return high


def _largest(test: Callable[[float], bool], rounds: int = 30) -> float:
    """The largest share, from 0 (where the test is true) up, to a billionth."""
    low, high = 0.0, 1.0
    for _ in range(rounds):
        middle = (low + high) / 2
        low, high = (middle, high) if test(middle) else (low, middle)
    return low
