"""Calibration of the weights omega of the plateau rule (:mod:`catimage.routing.plateau`).

The BudgetFusion paper (section 3.4) chooses the weights "using the efficiency measurement as
detailed in Section 4.2". That section has two measurements. Quality per TFLOP (equation 8) is not
suitable: it is largest at the smallest step count if a metric increases by a smaller factor than
the cost. This module uses equation 9: the relative gain in quality over the use of one step count
for all prompts at the same mean cost. The weights maximise the mean of this gain over the metrics,
on prompts with labels. The search for a weight that is not set is limited to values between 0 and
1, as in the paper, so that the threshold of equation 7 is at least the median; with a low negative
weight, t* is the first step count for all prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.routing.plateau import MARGIN, shift_for, turning_points

GRID = tuple(round(0.1 * i, 1) for i in range(11))
"""Values of a weight that is not set, with one decimal as in the paper."""
_MIN_IMPROVEMENT = 1e-12
"""Smaller improvements of the gain are rounding errors."""


@dataclass(frozen=True)
class PlateauWeights:
    """Weights, and their results on the calibration prompts.

    Attributes:
        omega: the weights, (n_metrics,).
        mean_cost: mean cost of t* per image.
        gain: gain of equation 9 as a fraction, averaged over the metrics.
    """

    omega: Floats
    mean_cost: float
    gain: float


@dataclass(frozen=True)
class PlateauCalibration:
    """The data on which weights are calibrated.

    Attributes:
        predicted: predicted metrics, (n_prompts, n_metrics, n_steps), from which the rule computes
            t*.
        quality: labels, (n_prompts, n_metrics, n_steps), with positive means.
        cost: cost of one image for each step count, (n_steps,), ascending.
        margin: see :func:`~catimage.routing.plateau.turning_points`.
    """

    predicted: Floats
    quality: Floats
    cost: Floats
    margin: float = MARGIN

    def evaluate(self, omega: Floats) -> PlateauWeights:
        """Compute the mean cost and the gain of weights ``omega``, (n_metrics,)."""
        t_star = turning_points(self.predicted, omega, margin=self.margin)
        mean_cost = float(self.cost[t_star].mean())
        mean_quality = _values_at(self.quality, t_star).mean(axis=0)
        left, share = neighbouring_steps(self.cost, mean_cost)
        right = min(left + 1, len(self.cost) - 1)
        by_step = self.quality.mean(axis=0)
        uniform = (1 - share) * by_step[:, left] + share * by_step[:, right]
        return PlateauWeights(omega, mean_cost, float(np.mean(mean_quality / uniform - 1)))


def calibrate_weights(
    data: PlateauCalibration, given: Sequence[float | None], budget: float | None = None
) -> PlateauWeights:
    """Find the weights with the largest gain over one step count for all prompts.

    Weights that are not given are searched on :data:`GRID`: first one value for all of them, then
    one weight at a time until the gain does not improve. Given weights are not changed without a
    budget. With a budget, a number is added to all weights, including the given ones, so that the
    mean cost is within the budget (:func:`~catimage.routing.plateau.shift_for`); only the
    differences between given weights are then unchanged.

    Args:
        data: the calibration data.
        given: the weight of each metric, or None to search for the weight.
        budget: upper bound of the mean cost per image.

    Raises:
        InputError: the budget is below the cost of the smallest step count.
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
        if not result.gain > best.gain + _MIN_IMPROVEMENT:
            break
        best, values = result, trial
    return best


def _values_at(values: Floats, t_star: Ints) -> Floats:
    """Return the value of each prompt and metric at the step count of the prompt.

    Args:
        values: (n_prompts, n_metrics, n_steps).
        t_star: positions of the step counts, (n_prompts,).

    Returns:
        The values, (n_prompts, n_metrics).
    """
    return np.take_along_axis(values, t_star[:, None, None], axis=2)[:, :, 0]


def neighbouring_steps(cost: Floats, mean_cost: float) -> tuple[int, float]:
    """Find the two successive step counts whose mixture has a mean cost.

    Args:
        cost: cost of one image for each step count, (n_steps,), ascending.
        mean_cost: mean cost per image.

    Returns:
        The position of the smaller step count, and the share of the prompts with the larger one.
    """
    last = max(len(cost) - 2, 0)
    below = np.searchsorted(cost, mean_cost * (1 + 1e-12), side="right") - 1
    left = int(np.clip(below, 0, last))
    right = min(left + 1, len(cost) - 1)
    if cost[right] <= cost[left]:
        return left, 0.0
    return left, float(np.clip((mean_cost - cost[left]) / (cost[right] - cost[left]), 0, 1))
