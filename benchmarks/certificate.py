"""Coverage of ``calibrate.confidence``: 1,000 simulated calibrations per row.

Each calibration samples n prompts from a population and selects a rule. The true mean cost of the
rule is its mean cost over the population. Each row is for one population and one n. It has the
share of calibrations with a true mean cost within the budget (required: 95%), and the mean share of
the budget that is spent, with a confidence and without one.
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
"""Numbers of calibration prompts."""


def skewed(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Draw a population of which few prompts gain much from the expensive candidates.

    Returns:
        The quality, (n_prompts, n_candidates), the costs, (n_candidates,), and the budget.
    """
    cost = np.array([1.0, 2, 4, 8, 16, 32])
    gain = rng.lognormal(-1, 1.2, (POPULATION, 1)) * np.log(cost) * 0.2
    return gain + rng.normal(0, 0.1, (POPULATION, 6)), cost, 6.0


def rare(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Draw a population with two candidates whose budget allows the second for 2% of the prompts.

    Returns:
        See :func:`skewed`.
    """
    predicted = np.stack([np.zeros(POPULATION), rng.normal(size=POPULATION)], axis=1)
    return predicted, np.array([1.0, 100.0]), 2.98


def even(rng: np.random.Generator) -> tuple[Floats, Floats, float]:
    """Draw a population with four candidates, each of which is the best one for many prompts.

    Returns:
        See :func:`skewed`.
    """
    cost = np.array([1.0, 2, 3, 4])
    return rng.normal(size=(POPULATION, 4)) + 0.3 * cost, cost, 2.0


def rows() -> list[Row]:
    """Simulate calibrations with and without a confidence for three populations."""
    table = []
    for population in (skewed, rare, even):
        predicted, cost, budget = population(np.random.default_rng(0))

        def certified(sample: Floats, cost: Floats = cost, budget: float = budget) -> RoutingRule:
            rule = Certifier(sample, cost, CONFIDENCE).rule(budget)
            return rule or cheapest_rule(sample, cost)

        def uncertified(sample: Floats, cost: Floats = cost, budget: float = budget) -> RoutingRule:
            return calibrate_to_budget(sample, cost, budget).rule

        for n in SIZES:
            value, alternative = (
                _format_shares(*simulate(calibrate, predicted, cost, budget, n))
                for calibrate in (certified, uncertified)
            )
            name = f"calibration with confidence, population {population.__name__}, {n} prompts"
            alternative += " (without confidence)"
            table.append(Row(name, value, alternative, target="95% within"))
    return table


def simulate(
    calibrate: Callable[[Floats], RoutingRule],
    predicted: Floats,
    cost: Floats,
    budget: float,
    n: int,
) -> tuple[float, float]:
    """Simulate calibrations on samples of a population.

    Args:
        calibrate: finds a rule from the predictions of a sample, (n, n_candidates).
        predicted: predictions of the population, (n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).
        budget: mean cost per image.
        n: number of prompts of a sample.

    Returns:
        The share of the simulations whose true mean cost is within the budget, and the mean share
        of the budget that is spent.
    """
    rng = np.random.default_rng(1)
    mean_costs = [
        _true_cost(calibrate(predicted[rng.integers(0, len(predicted), n)]), predicted, cost)
        for _ in range(SIMULATIONS)
    ]
    return float(np.mean(np.array(mean_costs) <= budget)), float(np.mean(mean_costs)) / budget


def _true_cost(rule: RoutingRule, predicted: Floats, cost: Floats) -> float:
    """Return the mean cost of a rule over the population."""
    return sum(
        float(share * cost[choose(predicted, cost, lam)].mean())
        for share, lam in zip(rule.share, rule.lam.tolist(), strict=True)
    )


def _format_shares(within_budget: float, budget_spent: float) -> str:
    """Format the output of :func:`simulate`."""
    return f"{within_budget:.1%} within, {budget_spent:.1%} of the budget used"
