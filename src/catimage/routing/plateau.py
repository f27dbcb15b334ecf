"""The plateau rule (BudgetFusion paper, section 3.4): the fewest denoising steps for good quality.

A *series* is the values of one metric for one prompt at every step count of the pool, in ascending
order. Equation 7 of the paper defines t* as the largest step count t at which the metric is at
least a threshold: the median of the series plus omega times its standard deviation. This module
differs from the equation in three points:

- Metrics increase with the number of steps, so the largest such t is the last step count for any
  omega. The text of the paper describes a turning point after which further steps give a marginal
  gain, which is the *smallest* such t. This module returns the smallest; with ``literal=True``, it
  implements the equation as printed.
- The paper interpolates linearly between step counts. This module returns the first step count that
  reaches the threshold, which is the interpolated crossing rounded up to a step count of the pool.
- The series of an easy prompt has reached its plateau at its median. Its values never exceed the
  median by omega standard deviations, so equation 7 would give it the most steps. The threshold is
  therefore limited to the highest value minus a margin, a share (:data:`MARGIN`) of the range of
  the series. With a margin of 0, the threshold is that of equation 7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError

MARGIN = 0.05
"""Default margin: a gain of this share of the range of a series is marginal."""
_ROUNDING = 1e-12
"""A standard deviation below this share of the largest absolute value is treated as 0."""
_INSIDE = 1e-9
"""Distance of a shift from the value at which a step count changes, because of rounding errors."""


def turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """Return t* of each prompt: the largest t* of its metrics.

    Args:
        series: predicted metrics, (n_prompts, n_metrics, n_steps), higher is better, by ascending
            step count.
        weights: omega of each metric, (n_metrics,).
        literal: if True, apply equation 7 as printed: t* is the last step count that reaches the
            threshold, or that of the highest value if none reaches the threshold.
        margin: minimum distance of the threshold from the highest value, as a share of the range of
            the series.

    Returns:
        The positions of the step counts, (n_prompts,). The t* of a constant series is the first
        step count, or the last one if ``literal``. If no value reaches the threshold (a large omega
        and a margin of 0), t* is the first step count with the highest value.

    Raises:
        ValueError: the shapes do not match, or a value is not finite.
    """
    return np.asarray(metric_turning_points(series, weights, literal, margin).max(axis=1))


def metric_turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """Return t* of each prompt and metric; see :func:`turning_points`.

    Returns:
        The positions of the step counts, (n_prompts, n_metrics).
    """
    _check(series, weights)
    if literal:
        reached, best = standardised(series) >= weights[:, None], series.argmax(axis=2)
        last = series.shape[2] - 1 - reached[:, :, ::-1].argmax(axis=2)
        return np.asarray(np.where(reached.any(axis=2), last, best))
    return np.asarray((reached_weights(series, margin) >= weights[:, None]).argmax(axis=2))


def standardised(series: Floats) -> Floats:
    """Return each value minus the median of its series, divided by the standard deviation.

    Args:
        series: (..., n_steps).

    Returns:
        The standardised values, (..., n_steps); infinity for a constant series.
    """
    median = np.median(series, axis=-1, keepdims=True)
    deviation = series.std(axis=-1, keepdims=True)
    constant = deviation <= _ROUNDING * np.abs(series).max(axis=-1, keepdims=True)
    return np.where(constant, np.inf, (series - median) / np.where(constant, 1.0, deviation))


def reached_weights(series: Floats, margin: float = MARGIN) -> Floats:
    """Return the largest omega whose threshold is reached at or before each step count.

    Args:
        series: (..., n_steps).
        margin: see :func:`turning_points`.

    Returns:
        The largest omega, (..., n_steps), ascending with the step count; infinity from the first
        value within the margin of the highest value.
    """
    highest = np.maximum.accumulate(standardised(series), axis=-1)
    top, bottom = series.max(axis=-1, keepdims=True), series.min(axis=-1, keepdims=True)
    within = np.maximum.accumulate(series, axis=-1) >= top - margin * (top - bottom)
    return np.where(within, np.inf, highest)


@dataclass(frozen=True)
class WeightShift:
    """A number to add to every omega, and its result.

    Attributes:
        shift: the number.
        mean_cost: mean cost of t* on the calibration prompts.
    """

    shift: float
    mean_cost: float


def shift_for(
    series: Floats, weights: Floats, cost: Floats, budget: float, margin: float = MARGIN
) -> WeightShift:
    """Find the largest shift of all weights for which the mean cost of t* is within a budget.

    A shift is a number that is added to every weight. As the shift increases, the t* of each prompt
    increases from the first step count to that of its highest value. A factor instead of a shift
    could not move a threshold below the median, and would not change a weight of 0. The search is
    exact: t* of a prompt is the first step count whose largest shift (:func:`largest_shifts`) is at
    least the shift, so the mean cost changes only at these values.

    Args:
        series: predicted metrics, (n_prompts, n_metrics, n_steps).
        weights: omega of each metric, (n_metrics,).
        cost: cost of one image for each step count, (n_steps,), ascending.
        budget: mean cost per image.
        margin: see :func:`turning_points`.

    Raises:
        InputError: the budget is below the cost of the smallest step count.
        ValueError: the shapes do not match, a value is not finite, or the costs are not ascending.
    """
    _check(series, weights)
    if cost.shape != series.shape[2:] or (np.diff(cost) < 0).any():
        raise ValueError(
            f"cost must be ({series.shape[2]},) and must be in ascending order, not {cost}"
        )
    tolerance = _ROUNDING * max(abs(budget), float(np.abs(cost).max()))
    if budget < cost[0] - tolerance:
        raise InputError(
            f"budget: {budget:g} is below the cost of the fewest steps, {cost[0]:g}. Raise the"
            " budget to at least that cost."
        )
    return _shift_within(largest_shifts(series, weights, margin), cost, budget + tolerance)


def largest_shifts(series: Floats, weights: Floats, margin: float = MARGIN) -> Floats:
    """Return the largest shift of all weights for which t* is at most each step count.

    Args:
        series: predicted metrics, (n_prompts, n_metrics, n_steps).
        weights: omega of each metric, (n_metrics,).
        margin: see :func:`turning_points`.

    Returns:
        The shifts, (n_prompts, n_steps), ascending with the step count.
    """
    return np.asarray((reached_weights(series, margin) - weights[:, None]).min(axis=1))


def _shift_within(shifts: Floats, cost: Floats, budget: float) -> WeightShift:
    """Find the largest shift within a budget from the output of :func:`largest_shifts`.

    Each value of ``shifts`` that the shift exceeds moves one prompt to the next step count, and
    adds the difference of the costs of the two step counts.
    """
    shifts, n_prompts = shifts[:, :-1], len(shifts)
    finite = np.isfinite(shifts)
    added = np.broadcast_to(np.diff(cost), finite.shape)[finite]
    moves = shifts[finite]
    order = np.argsort(moves, kind="stable")
    moves = moves[order]
    mean = cost[0] + np.concatenate([[0.0], np.cumsum(added[order])]) / n_prompts
    if mean[-1] <= budget:
        return WeightShift(float(moves[-1] + 1) if len(moves) else 0.0, float(mean[-1]))
    n_moves = max(int(np.searchsorted(mean, budget, side="right")) - 1, 0)  # within the budget
    n_moves = int(np.searchsorted(moves, moves[n_moves], side="left"))  # equal shifts move together
    gap = moves[n_moves] - moves[n_moves - 1] if n_moves else np.inf
    return WeightShift(float(moves[n_moves] - min(_INSIDE, gap / 2)), float(mean[n_moves]))


def _check(series: Floats, weights: NDArray[np.floating]) -> None:
    """Raise ValueError unless the shapes match and all values are finite."""
    if series.ndim != 3 or not series.size or weights.shape != series.shape[1:2]:
        raise ValueError(
            "series must be (n_prompts, n_metrics, n_steps) and weights (n_metrics,), not"
            f" {series.shape} and {weights.shape}"
        )
    if not np.isfinite(series).all() or not np.isfinite(weights).all():
        raise ValueError("series and weights must be finite")
