"""The plateau rule (BudgetFusion 3.4, equation 7): the fewest steps after which an image gains
little.

Equation 7 defines t* as the largest step t at which a metric is at least its median plus omega
times its standard deviation, both over the sampled steps. Metrics increase with the number of
steps, so the largest such t is the last step for any omega. The text describes a turning point
after which further steps gain marginally: the *first* such t. This module implements the first;
with ``literal=True`` it implements the equation as printed.

The steps are those of the pool. The paper interpolates linearly between sampled steps; then the
first crossing lies between the last step below the threshold and the first step that reaches it,
and the latter is the crossing rounded up to a step of the pool.

The threshold has a further problem. The series of an easy prompt is on its plateau at its median;
it never exceeds the median by omega standard deviations and would get the most steps. The threshold
is therefore at most the highest value minus :data:`MARGIN` of the range of the series: what remains
is the marginal gain of the text. A margin of 0 gives equation 7 unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError

MARGIN = 0.05
"""Share of the range of a series that is a marginal gain."""
_ROUNDING = 1e-12
"""A standard deviation below this share of the largest value is 0."""
_INSIDE = 1e-9
"""Distance of a shift from the end of its interval, to be safe from rounding errors."""


def turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """Return t* of each prompt (equation 7): the largest over the metrics.

    Args:
        series: predicted metrics, (n_prompts, n_metrics, n_steps), higher is better, steps
            ascending.
        weights: omega of each metric, (n_metrics,).
        literal: if True, use the last step that reaches the threshold instead of the first, and the
            best step if none does.
        margin: minimum distance of the threshold from the highest value, as a share of the range of
            the series.

    Returns:
        Positions of steps, (n_prompts,). With a margin of 0, a metric that does not reach its
        threshold (a large omega) stops at its highest value, the first of several. A constant
        series stops at the first step.

    Raises:
        ValueError: a shape differs, or a value is not finite.
    """
    return np.asarray(metric_turning_points(series, weights, literal, margin).max(axis=1))


def metric_turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """Return t* of each prompt and metric, (n_prompts, n_metrics); see :func:`turning_points`."""
    _check(series, weights)
    if literal:
        reached, best = standardised(series) >= weights[:, None], series.argmax(axis=2)
        last = series.shape[2] - 1 - reached[:, :, ::-1].argmax(axis=2)
        return np.asarray(np.where(reached.any(axis=2), last, best))
    return np.asarray((reached_weights(series, margin) >= weights[:, None]).argmax(axis=2))


def standardised(series: Floats) -> Floats:
    """Return the distance of each value from the median of its series, in standard deviations.

    The distance in a constant series is infinite.
    """
    median = np.median(series, axis=-1, keepdims=True)
    deviation = series.std(axis=-1, keepdims=True)
    constant = deviation <= _ROUNDING * np.abs(series).max(axis=-1, keepdims=True)
    return np.where(constant, np.inf, (series - median) / np.where(constant, 1.0, deviation))


def reached_weights(series: Floats, margin: float = MARGIN) -> Floats:
    """Return the largest omega whose threshold is reached by each step, in the shape of ``series``.

    It ascends with the steps, and is infinite from the first value within the margin of the best.
    """
    highest = np.maximum.accumulate(standardised(series), axis=-1)
    top, bottom = series.max(axis=-1, keepdims=True), series.min(axis=-1, keepdims=True)
    within = np.maximum.accumulate(series, axis=-1) >= top - margin * (top - bottom)
    return np.where(within, np.inf, highest)


@dataclass(frozen=True)
class WeightShift:
    """A number added to every omega, and the resulting mean cost on the calibration prompts."""

    shift: float
    mean_cost: float


def shift_for(
    series: Floats, weights: Floats, cost: Floats, budget: float, margin: float = MARGIN
) -> WeightShift:
    """Find the largest shift of all weights with which the mean cost of t* is within a budget.

    The shift is added, not multiplied: as it goes from minus to plus infinity, every prompt goes
    from the first step to its best one. A factor could not go below the medians, and would not
    change a weight of 0. The differences between the weights are unchanged. The search is exact:
    t* of a prompt is the first step whose slack (:func:`slacks`) is at least the shift, so the mean
    cost changes only at slacks.

    Args:
        series: predicted metrics, (n_prompts, n_metrics, n_steps).
        weights: omega of each metric, (n_metrics,).
        cost: cost of one image, (n_steps,), not descending.
        budget: mean cost per image.
        margin: see :func:`turning_points`.

    Raises:
        InputError: the budget is below the cost of the fewest steps.
        ValueError: a shape differs, a value is not finite, or costs descend.
    """
    _check(series, weights)
    if cost.shape != series.shape[2:] or (np.diff(cost) < 0).any():
        raise ValueError(
            f"cost must be ({series.shape[2]},) and must not descend with the steps, not {cost}"
        )
    slack = _ROUNDING * max(abs(budget), float(np.abs(cost).max()))
    if budget < cost[0] - slack:
        raise InputError(
            f"budget: {budget:g} is below the cost of the fewest steps, {cost[0]:g}. Raise it to at"
            " least that cost."
        )
    return _largest_shift(slacks(series, weights, margin), cost, budget + slack)


def slacks(series: Floats, weights: Floats, margin: float = MARGIN) -> Floats:
    """Return the largest shift of all weights at which each step still reaches all thresholds.

    Returns:
        (n_prompts, n_steps), ascending with the steps.
    """
    return np.asarray((reached_weights(series, margin) - weights[:, None]).min(axis=1))


def _largest_shift(slack: Floats, cost: Floats, budget: float) -> WeightShift:
    """Find the largest shift within a budget.

    Each slack that the shift exceeds moves one prompt to the next step and adds the difference of
    their costs.
    """
    finite = np.isfinite(slack[:, :-1]) if slack.shape[1] > 1 else np.zeros((len(slack), 0), bool)
    added = np.broadcast_to(np.diff(cost), finite.shape)[finite]
    at = slack[:, :-1][finite]
    order = np.argsort(at, kind="stable")
    at, mean = at[order], cost[0] + np.concatenate([[0.0], np.cumsum(added[order])]) / len(slack)
    if mean[-1] <= budget:
        return WeightShift(float(at[-1] + 1) if len(at) else 0.0, float(mean[-1]))
    first = int(np.searchsorted(mean, budget, side="right")) - 1  # number of affordable moves
    first = int(np.searchsorted(at, at[first], side="left"))  # equal slacks are exceeded together
    below = at[first] - at[first - 1] if first else np.inf
    return WeightShift(float(at[first] - min(_INSIDE, below / 2)), float(mean[first]))


def _check(series: Floats, weights: NDArray[np.floating]) -> None:
    if series.ndim != 3 or not series.size or weights.shape != series.shape[1:2]:
        raise ValueError(
            "series must be (n_prompts, n_metrics, n_steps) and weights (n_metrics,), not"
            f" {series.shape} and {weights.shape}"
        )
    if not np.isfinite(series).all() or not np.isfinite(weights).all():
        raise ValueError("series and weights must be finite")
