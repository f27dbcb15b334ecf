"""Time of an exact calibration, compared with a grid of lambdas.

The calibration has 100,000 prompts and 20 candidates; the grid has 1,000 lambdas.
"""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.policy import choose

TIMED_POINTS = 50
"""Number of lambdas whose time is measured; the time of a grid is proportional to their number."""


def grid_search(predicted: np.ndarray, cost: np.ndarray, budget: float, points: int) -> float:
    """Return the first lambda of a grid that has a mean cost within the budget."""
    grid = np.geomspace(1e-4, 1e2, points)
    mean_costs = [cost[choose(predicted, cost, float(lam))].mean() for lam in grid]
    return float(grid[int(np.argmax(np.array(mean_costs) <= budget))])


def rows() -> list[Row]:
    """Measure the time and the peak memory of an exact calibration, and the time of the grid."""
    rng = np.random.default_rng(0)
    cost = np.sort(rng.random(20) * 10)
    predicted = rng.normal(size=(100_000, 20)) + np.log1p(cost) / 4
    budget = 0.4 * float(cost.max())
    exact = seconds(lambda: calibrate_to_budget(predicted, cost, budget))
    memory = peak_gigabytes()
    grid = seconds(lambda: grid_search(predicted, cost, budget, TIMED_POINTS), repeats=1)
    grid *= 1000 / TIMED_POINTS
    return [
        Row(
            "exact calibration, 100,000 x 20",
            f"{exact:.3f} s, {memory:.2f} GB",
            f"{grid:.1f} s (1,000-point grid)",
            f"{grid / exact:.0f}x",
            "0.3 s, 1 GB",
        )
    ]
