"""The plateau rule (BudgetFusion 3.4, equation 7): the fewest steps beyond which a prompt's image
hardly gains.

Equation 7 reads: the largest t at which a metric is at least its median plus omega times its
standard deviation, both over the sampled steps. Metrics rise with steps, so that the largest such t
is the last step there is, whatever omega. What the text wants is the "turning" point, after which
steps gain marginally: the first such t. That is the rule here, and ``literal=True`` is the
equation's.

A series is given at the pool's steps. Between two of them the paper's are linear, so that the first
crossing lies between the last step below the threshold and the first one that reaches it, and the
latter is that crossing rounded up to a step of the pool.

The threshold has a fault of its own. A series that is on its plateau at its median already, as that
of an easy prompt is, lies less than omega sigma above it for good, and would be given the most
steps that there are. So the threshold lies below the series' highest value by :data:`MARGIN` of its
range at least: what is left beyond is the marginal gain that the text means. A margin of 0 leaves
equation 7 as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints
from catimage.errors import InputError

MARGIN = 0.05
"""The share of a series' range that counts as marginal."""
_ROUNDING = 1e-12
"""Relative to a series' largest value: a spread below this is none."""

_INSIDE = 1e-9
"""How far inside its interval a shift lies, so that rounding cannot carry it over the end."""


def turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """t* of each prompt (equation 7), as an index of a step: (n_prompts,).

    Args:
        series: predicted metrics by step, (n_prompts, n_metrics, n_steps), higher is better, steps
            ascending.
        weights: omega of each metric, (n_metrics,).
        literal: the last t that reaches the median plus omega sigma, not the first; the best place
            where none does.
        margin: how far below its highest value, as a share of its range, a series' threshold lies
            at least.

    Returns:
        The largest over the metrics. With a margin of 0, a metric that does not reach its threshold
        (a large omega) plateaus where it is highest, at the first place of several. One that is
        flat plateaus at the first step.
    """
    return np.asarray(metric_turning_points(series, weights, literal, margin).max(axis=1))


def metric_turning_points(
    series: Floats, weights: Floats, literal: bool = False, margin: float = MARGIN
) -> Ints:
    """t*_m of each prompt and metric: (n_prompts, n_metrics); see :func:`turning_points`."""
    _check(series, weights)
    if literal:
        reached, best = standardised(series) >= weights[:, None], series.argmax(axis=2)
        last = series.shape[2] - 1 - reached[:, :, ::-1].argmax(axis=2)
        return np.asarray(np.where(reached.any(axis=2), last, best))
    return np.asarray((heights(series, margin) >= weights[:, None]).argmax(axis=2))


def standardised(series: Floats) -> Floats:
    """How many standard deviations each value lies above its series' median; that of a flat series
    is infinite.
    """
    middle = np.median(series, axis=-1, keepdims=True)
    spread = series.std(axis=-1, keepdims=True)
    flat = spread <= _ROUNDING * np.abs(series).max(axis=-1, keepdims=True)
    return np.where(flat, np.inf, (series - middle) / np.where(flat, 1.0, spread))


def heights(series: Floats, margin: float = MARGIN) -> Floats:
    """The largest omega that a series has reached by each step: ascending, and infinite once it is
    within the margin of its best.
    """
    highest = np.maximum.accumulate(standardised(series), axis=-1)
    top, bottom = series.max(axis=-1, keepdims=True), series.min(axis=-1, keepdims=True)
    within = np.maximum.accumulate(series, axis=-1) >= top - margin * (top - bottom)
    return np.where(within, np.inf, highest)


@dataclass(frozen=True)
class Shift:
    """What is added to every omega, and the mean cost that this gives where it was found."""

    shift: float
    mean_cost: float


def shift_for(
    series: Floats, weights: Floats, cost: Floats, budget: float, margin: float = MARGIN
) -> Shift:
    """The largest number, added to all weights, with which the mean cost of t* is no more than
    ``budget``.

    One number for all metrics, added and not multiplied: from minus to plus infinity it takes every
    prompt from the first step to its best one, where a factor could not go below the medians, nor
    move a weight of 0. The weights' differences stay what they are. Exact: a prompt's t* is the
    first step whose least reserve (over the metrics, of what is reached above omega) is at least
    the shift, so that only reserves are places where the mean cost changes.

    Args:
        series: (n_prompts, n_metrics, n_steps); ``weights`` (n_metrics,).
        cost: (n_steps,) of one image, not descending; ``budget`` in the same unit.
        margin: see :func:`turning_points`.

    Raises:
        InputError: the budget is below the cost of the fewest steps.
    """
    _check(series, weights)
    if cost.shape != series.shape[2:] or (np.diff(cost) < 0).any():
        raise ValueError(
            f"cost must be ({series.shape[2]},) and not descend with the steps, not {cost}"
        )
    slack = _ROUNDING * max(abs(budget), float(np.abs(cost).max()))
    if budget < cost[0] - slack:
        raise InputError(
            f"budget {budget:g} is below the fewest steps, which cost {cost[0]:g}: raise it to that"
            " at least."
        )
    return _largest(reserves(series, weights, margin), cost, budget + slack)


def reserves(series: Floats, weights: Floats, margin: float = MARGIN) -> Floats:
    """By how much every metric's omega could still rise before a step is no longer enough:
    (n_prompts, n_steps), ascending in steps.
    """
    return np.asarray((heights(series, margin) - weights[:, None]).min(axis=1))


def _largest(reserve: Floats, cost: Floats, budget: float) -> Shift:
    """Every step that is passed at a reserve adds the cost of the next; going through them in order
    finds the last affordable.
    """
    passed = (
        np.isfinite(reserve[:, :-1]) if reserve.shape[1] > 1 else np.zeros((len(reserve), 0), bool)
    )
    added = np.broadcast_to(np.diff(cost), passed.shape)[passed]
    at = reserve[:, :-1][passed]
    order = np.argsort(at, kind="stable")
    at, mean = at[order], cost[0] + np.concatenate([[0.0], np.cumsum(added[order])]) / len(reserve)
    if mean[-1] <= budget:
        return Shift(float(at[-1] + 1) if len(at) else 0.0, float(mean[-1]))
    first = int(np.searchsorted(mean, budget, side="right")) - 1  # steps passed that are affordable
    first = int(
        np.searchsorted(at, at[first], side="left")
    )  # those at one reserve are passed together
    below = at[first] - at[first - 1] if first else np.inf
    return Shift(float(at[first] - min(_INSIDE, below / 2)), float(mean[first]))


def _check(series: Floats, weights: NDArray[np.floating]) -> None:
    if series.ndim != 3 or not series.size or weights.shape != series.shape[1:2]:
        raise ValueError(
            f"series must be (prompts, metrics, steps) and weights (metrics,), not {series.shape}"
            f" and {weights.shape}"
        )
    if not np.isfinite(series).all() or not np.isfinite(weights).all():
        raise ValueError("series and weights must be finite")
