"""Exact calibration of 100,000 prompts x 20 candidates against a grid of 1,000 lambdas."""

from __future__ import annotations

import numpy as np

from benchmarks.measure import Row, peak_gigabytes, seconds
from catimage.routing.calibration import calibrate_to_budget
from catimage.routing.policy import choose


def grid_search(predicted: np.ndarray, cost: np.ndarray, budget: float, points: int) -> float:
    """What one would write without the exact curve: the first lambda of a grid that keeps the
    budget.
    """
    grid = np.geomspace(1e-4, 1e2, points)
    means = [cost[choose(predicted, cost, float(lam))].mean() for lam in grid]
    return float(grid[int(np.argmax(np.array(means) <= budget))])


def rows() -> list[Row]:
    rng = np.random.default_rng(0)
    cost = np.sort(rng.random(20) * 10)
    predicted = rng.normal(size=(100_000, 20)) + np.log1p(cost) / 4
    budget = 0.4 * float(cost.max())
    ours = seconds(lambda: calibrate_to_budget(predicted, cost, budget))
    memory = peak_gigabytes()
    few = 50  # the grid's time is proportional to its points: fifty are timed
    grid = seconds(lambda: grid_search(predicted, cost, budget, few), repeats=1) * 1000 / few
    what = "exact calibration, 100,000 x 20"
    return [
        Row(
            what,
            f"{ours:.3f} s, {memory:.2f} GB",
            f"{grid:.1f} s (1,000-point grid)",
            f"{grid / ours:.0f}x",
            "0.3 s, 1 GB",
        )
    ]
