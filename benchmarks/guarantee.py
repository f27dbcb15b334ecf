"""The guarantee of ``calibrate_to_budget.confidence``: 1,000 simulated calibrations a row, beside the plain
rule.

A calibration sees n prompts, picks its rule, and is judged by the rule's true mean cost, over a
population of prompts. ``held`` is how often that is within the budget (promised: 95%), ``used`` the
share of the budget that is spent on average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.measure import Row
from catimage.common.arrays import Floats
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.certificate import Certifier, cheapest_rule
from catimage.routing.policy import choose
from catimage.routing.randomized import RoutingRule

TIMES, POPULATION, CONFIDENCE = 1000, 4000, 0.95
SIZES = (50, 200, 1000)


def skewed(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Six candidates of cost 1 to 32; few prompts gain much by the dear ones. The budget is 6."""
    cost = np.array([1.0, 2, 4, 8, 16, 32])
    gain = rng.lognormal(-1, 1.2, (POPULATION, 1)) * np.log(cost) * 0.2
    return gain + rng.normal(0, 0.1, (POPULATION, 6)), cost, 6.0


def rare(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Two candidates, of cost 1 and 100; the budget lets one prompt of fifty have the dear one."""
    return (
        np.stack([np.zeros(POPULATION), rng.normal(size=POPULATION)], axis=1),
        np.array([1.0, 100.0]),
        2.98,
    )


def even(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Four candidates of cost 1 to 4, liked by about equally many prompts; the budget is 2."""
    cost = np.array([1.0, 2, 3, 4])
    return rng.normal(size=(POPULATION, 4)) + 0.3 * cost, cost, 2.0


def rows() -> list[Row]:
    out = []
    for world in (skewed, rare, even):
        scores, cost, budget = world(np.random.default_rng(0))
        for n in SIZES:
            certain = simulated(_certain(cost, budget), scores, cost, budget, n)
            plain = simulated(
                lambda seen, c=cost, b=budget: calibrate_to_budget(seen, c, b).rule, scores, cost, budget, n
            )
            out.append(
                Row(
                    f"budget of {world.__name__} costs, {n} prompts",
                    _said(certain),
                    _said(plain),
                    target="95% held",
                )
            )
    return out


def _certain(cost: Floats, budget: float) -> Callable[[Floats], RoutingRule]:
    return lambda seen: (
        Certifier(seen, cost, CONFIDENCE).rule(budget) or cheapest_rule(seen, cost)
    )


def simulated(
    rule_of: Callable[[Floats], RoutingRule], scores: Floats, cost: Floats, budget: float, n: int
) -> tuple[float, float]:
    """How often the true mean cost was within the budget, and the mean share of it that was spent."""
    rng = np.random.default_rng(1)
    spent = [
        _true_cost(rule_of(scores[rng.integers(0, len(scores), n)]), scores, cost)
        for _ in range(TIMES)
    ]
    return float(np.mean(np.array(spent) <= budget)), float(np.mean(spent)) / budget


def _true_cost(rule: RoutingRule, scores: Floats, cost: Floats) -> float:
    return sum(
        float(share * cost[choose(scores, cost, lam)].mean())
        for share, lam in zip(rule.share, rule.lam.tolist(), strict=True)
    )


def _said(figures: tuple[float, float]) -> str:
    held, used = figures
    return f"{held:.1%} held, {used:.1%} of the budget used"
