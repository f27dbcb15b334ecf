"""Calibration of the weights omega of the plateau rule.

BudgetFusion 3.4 chooses them "using the efficiency measurement as detailed in Section 4.2". Of the
two measurements of section 4.2, quality per TFLOP (equation 8) is largest at the fewest steps for
any metric that starts above 0, so it cannot be used. Equation 9 can: the gain over one step count
for all prompts at the same cost. The weights maximise the mean of this gain over the metrics, on
prompts with labels. Free weights are between 0 and 1, as in the paper, so that t* is after the
median; without the lower bound, the cost could decrease without limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau import MARGIN, shift_for, turning_points

GRID = tuple(round(0.1 * i, 1) for i in range(11))
"""Values of a free weight, with one decimal as in the paper."""
_MIN_GAIN = 1e-12


@dataclass(frozen=True)
class PlateauWeights:
    """Weights, and their results on the calibration prompts.

    Attributes:
        omega: (n_metrics,).
        mean_cost: mean cost of t*.
        gain: equation 9, the mean over the metrics.
    """

    omega: Floats
    mean_cost: float
    gain: float


@dataclass(frozen=True)
class PlateauCalibration:
    """The data on which weights are calibrated.

    Attributes:
        predicted: predicted metrics, (n_prompts, n_metrics, n_steps), input of the rule.
        quality: labels in the same shape, with positive means.
        cost: cost of one image, (n_steps,), not descending.
        margin: see :func:`~catimage.routing.plateau.turning_points`.
    """

    predicted: Floats
    quality: Floats
    cost: Floats
    margin: float = MARGIN

    def evaluate(self, omega: Floats) -> PlateauWeights:
        """Return the mean cost and the gain of weights."""
        stops = turning_points(self.predicted, omega, margin=self.margin)
        mean_cost = float(self.cost[stops].mean())
        mean_quality = values_at(self.quality, stops).mean(axis=0)
        left, share = neighbours(self.cost, mean_cost)
        right = min(left + 1, len(self.cost) - 1)
        by_step = self.quality.mean(axis=0)
        uniform = (1 - share) * by_step[:, left] + share * by_step[:, right]
        return PlateauWeights(omega, mean_cost, float(np.mean(mean_quality / uniform - 1)))


def calibrate_weights(
    data: PlateauCalibration, given: Sequence[float | None], budget: float | None = None
) -> PlateauWeights:
    """Find the weights with the largest gain over one step count for all prompts.

    A given weight is kept. Free weights are searched on :data:`GRID`: first one value for all of
    them, then one weight at a time until there is no gain. With a budget, all weights of each
    trial, given ones included, are shifted (:func:`~catimage.routing.plateau.shift_for`), so only
    the differences between given weights are kept.

    Args:
        data: the calibration prompts.
        given: the weight of each metric, or None if it is free.
        budget: upper bound of the mean cost.

    Raises:
        InputError: the budget is below the cost of the fewest steps.
    """
    free = [m for m, weight in enumerate(given) if weight is None]

    def evaluate(values: dict[int, float]) -> PlateauWeights:
        omega = np.array([values.get(m, weight) for m, weight in enumerate(given)], float)
        if budget is not None:
            shift = shift_for(data.predicted, omega, data.cost, budget, data.margin)
            omega = omega + shift.shift
        return data.evaluate(omega)

    values: dict[int, float] = {}
    if free:
        values = max((dict.fromkeys(free, w) for w in GRID), key=lambda v: evaluate(v).gain)
    best = evaluate(values)
    while free:
        trials = [{**values, m: w} for m in free for w in GRID]
        result, trial = max(((evaluate(v), v) for v in trials), key=lambda pair: pair[0].gain)
        if not result.gain > best.gain + _MIN_GAIN:
            break
        best, values = result, trial
    return best


def values_at(values: Floats, stops: Ints) -> Floats:
    """Return the values (n_prompts, n_metrics, n_steps) at each prompt's step, (n_prompts,
    n_metrics).
    """
    return np.take_along_axis(values, stops[:, None, None], axis=2)[:, :, 0]


def neighbours(cost: Floats, mean_cost: float) -> tuple[int, float]:
    """Return the step below a mean cost, and the share of prompts at the next step with which the
    mean is reached.
    """
    last = max(len(cost) - 2, 0)
    below = np.searchsorted(cost, mean_cost * (1 + 1e-12), side="right") - 1
    left = int(np.clip(below, 0, last))
    right = min(left + 1, len(cost) - 1)
    if cost[right] <= cost[left]:
        return left, 0.0
    return left, float(np.clip((mean_cost - cost[left]) / (cost[right] - cost[left]), 0, 1))
