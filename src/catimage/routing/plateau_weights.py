"""The weights of the plateau rule (BudgetFusion 3.4: omega "using the efficiency measurement as
detailed in Section 4.2").

Of the two measurements of section 4.2, quality a TFLOP (equation 8) is highest at the fewest steps
for any metric that starts above 0, so that it cannot choose weights. Equation 9 can: how much
better images get than with one step number for all at the same compute. The weights are those with
which the mean over the metrics of that gain is greatest on prompts whose labels are known. Those
that are left to it lie between 0 and 1 as the paper's do, so that t* is where a metric has passed
its median: without a floor, compute would be free to shrink to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau import MARGIN, shift_for, turning_points

GRID = tuple(round(0.1 * i, 1) for i in range(11))
"""The weights that are tried, to one digit, as the paper gives them."""


@dataclass(frozen=True)
class PlateauWeights:
    """Omegas (n_metrics,), and on the prompts that they were found on the mean cost of t* and the
    mean of equation 9 over the metrics.
    """

    omega: Floats
    mean_cost: float
    gain: float


def calibrate_weights(
    predicted: Floats,
    quality: Floats,
    cost: Floats,
    given: list[float | None],
    budget: float | None = None,
    margin: float = MARGIN,
) -> PlateauWeights:
    """Omegas of greatest gain over one step number for all, with ``budget`` at a mean cost of no
    more than that.

    A weight that is given stays; those that are not are tried on :data:`GRID`, first one value for
    all of them and then each in turn until none gains. With a budget, each trial is shifted
    (:func:`~catimage.routing.plateau.shift_for`), given weights too, so that it is their
    differences that are given.

    Args:
        predicted: series (n_prompts, n_metrics, n_steps), which the rule reads; ``quality``, the
            labels, likewise, positive in the mean.
        cost: (n_steps,), not descending.
        margin: of the rule, see :func:`~catimage.routing.plateau.turning_points`.

    Raises:
        InputError: the budget is below the cost of the fewest steps.
    """
    free = [m for m, weight in enumerate(given) if weight is None]

    def tried(values: dict[int, float]) -> PlateauWeights:
        omega = np.array([values.get(m, weight) for m, weight in enumerate(given)], float)
        if budget is not None:
            omega = omega + shift_for(predicted, omega, cost, budget, margin).shift
        return judged(omega, predicted, quality, cost, margin)

    values = (
        max((dict.fromkeys(free, w) for w in GRID), key=lambda v: tried(v).gain) if free else {}
    )
    best = tried(values)
    while free:
        around = [{**values, m: w} for m in free for w in GRID]
        found, better = max(((tried(v), v) for v in around), key=lambda pair: pair[0].gain)
        if not found.gain > best.gain + 1e-12:
            break
        best, values = found, better
    return best


def judged(
    omega: Floats, predicted: Floats, quality: Floats, cost: Floats, margin: float = MARGIN
) -> PlateauWeights:
    """The mean cost and the mean relative gain of some weights; arguments as
    :func:`calibrate_weights`.
    """
    stops = turning_points(predicted, omega, margin=margin)
    mean_cost = float(cost[stops].mean())
    ours = at_stops(quality, stops).mean(axis=0)
    left, share = neighbours(cost, mean_cost)
    uniform = quality.mean(axis=0)
    uniform = (1 - share) * uniform[:, left] + share * uniform[:, min(left + 1, len(cost) - 1)]
    return PlateauWeights(omega, mean_cost, float(np.mean(ours / uniform - 1)))


def at_stops(values: Floats, stops: Ints) -> Floats:
    """The values (n_prompts, n_metrics, n_steps) at each prompt's step: (n_prompts, n_metrics)."""
    return np.take_along_axis(values, stops[:, None, None], axis=2)[:, :, 0]


def neighbours(cost: Floats, mean_cost: float) -> tuple[int, float]:
    """The step below a mean cost, and the share of prompts that must go to the next one so that the
    mean is reached.
    """
    left = int(
        np.clip(
            np.searchsorted(cost, mean_cost * (1 + 1e-12), side="right") - 1,
            0,
            max(len(cost) - 2, 0),
        )
    )
    right = min(left + 1, len(cost) - 1)
    if cost[right] <= cost[left]:
        return left, 0.0
    return left, float(np.clip((mean_cost - cost[left]) / (cost[right] - cost[left]), 0, 1))
