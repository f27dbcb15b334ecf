"""Coverage of ``calibrate.confidence``: 1,000 simulated calibrations per row.

Each calibration samples n prompts from a population and selects a rule. The true mean cost of the
rule is its mean cost over the population. Each row has the share of calibrations with a true mean
cost within the budget (required: 95%), and the mean share of the budget that is spent, with a
confidence and without one.
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

SIMULATIONS, POPULATION, CONFIDENCE = 1000, 4000, 0.95
SIZES = (50, 200, 1000)


def skewed(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Six candidates of cost 1 to 32; few prompts gain much from the expensive ones. Budget 6."""
    cost = np.array([1.0, 2, 4, 8, 16, 32])
    gain = rng.lognormal(-1, 1.2, (POPULATION, 1)) * np.log(cost) * 0.2
    return gain + rng.normal(0, 0.1, (POPULATION, 6)), cost, 6.0


def rare(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Two candidates of cost 1 and 100; within the budget, 2% of the prompts can use the second."""
    scores = np.stack([np.zeros(POPULATION), rng.normal(size=POPULATION)], axis=1)
    return scores, np.array([1.0, 100.0]), 2.98


def even(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Four candidates of cost 1 to 4, each the best for about equally many prompts. Budget 2."""
    cost = np.array([1.0, 2, 3, 4])
    return rng.normal(size=(POPULATION, 4)) + 0.3 * cost, cost, 2.0


def rows() -> list[Row]:
    """Simulate calibrations with and without a confidence for three populations."""
    table = []
    for population in (skewed, rare, even):
        scores, cost, budget = population(np.random.default_rng(0))

        def certified(sample: Floats, cost: Floats = cost, budget: float = budget) -> RoutingRule:
            rule = Certifier(sample, cost, CONFIDENCE).rule(budget)
            return rule or cheapest_rule(sample, cost)

        def plain(sample: Floats, cost: Floats = cost, budget: float = budget) -> RoutingRule:
            return calibrate_to_budget(sample, cost, budget).rule

        for n in SIZES:
            value, alternative = (
                _formatted(*simulate(calibrate, scores, cost, budget, n))
                for calibrate in (certified, plain)
            )
            name = f"budget of {population.__name__} costs, {n} prompts"
            table.append(Row(name, value, alternative, target="95% within"))
    return table


def simulate(
    calibrate: Callable[[Floats], RoutingRule], scores: Floats, cost: Floats, budget: float, n: int
) -> tuple[float, float]:
    """Return how often the true mean cost is within the budget, and its mean share of it."""
    rng = np.random.default_rng(1)
    spent = [
        _true_cost(calibrate(scores[rng.integers(0, len(scores), n)]), scores, cost)
        for _ in range(SIMULATIONS)
    ]
    return float(np.mean(np.array(spent) <= budget)), float(np.mean(spent)) / budget


def _true_cost(rule: RoutingRule, scores: Floats, cost: Floats) -> float:
    return sum(
        float(share * cost[choose(scores, cost, lam)].mean())
        for share, lam in zip(rule.share, rule.lam.tolist(), strict=True)
    )


def _formatted(within: float, used: float) -> str:
    return f"{within:.1%} within, {used:.1%} of the budget used"
