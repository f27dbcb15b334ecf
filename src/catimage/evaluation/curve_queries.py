"""Queries on a deferral curve, the mean quality of routing against its mean cost.

They return the best quality within a cost, or the lowest cost with a given quality (CATImage paper,
section 3.3). A *position* on a curve is the index of a point, or a number between the indices of
two neighbouring points for a point on the line between them. The curves of routers and of fixed
candidates are step functions: there is no policy between two of their points. The curve of mixes of
two fixed candidates is piecewise linear, since any share of the prompts may go to either candidate.

Costs and qualities are means that are summed in different orders, so comparisons tolerate rounding
errors. A cost may exceed a budget by a share of the budget, not of the highest cost, so that a tiny
budget admits no expensive candidate.
"""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.curve import BUDGET_TOLERANCE, DeferralCurve

ROUNDING = 1e-10
"""Tolerance of a comparison, relative to the largest absolute value."""


def _tolerance(values: Floats, other: float) -> float:
    return ROUNDING * max(float(np.abs(values).max()), abs(other))


def best_position(curve: DeferralCurve) -> float:
    """Return the position of the highest quality; among equal qualities, the cheapest."""
    best = curve.quality >= curve.quality.max() - _tolerance(curve.quality, 0.0)
    return float(np.flatnonzero(best)[-1])


def position_at_cost(curve: DeferralCurve, budget: float, linear: bool = False) -> float | None:
    """Return the position of the highest quality at a mean cost of at most ``budget``.

    Args:
        curve: the curve, with points in order of descending cost.
        budget: a mean cost.
        linear: whether there are policies between two points.

    Returns:
        The position; the cheapest one among equal qualities, None if every point costs more.
    """
    within = np.flatnonzero(curve.cost <= budget * (1 + BUDGET_TOLERANCE))
    if not len(within):
        return None
    first = int(within[0])
    if linear and first > 0:
        return first - _fraction(curve.cost, first, budget)
    quality = curve.quality[within]
    best = quality >= quality.max() - _tolerance(curve.quality, 0.0)
    return float(within[best][-1])


def position_to_match(curve: DeferralCurve, quality: float, linear: bool = False) -> float | None:
    """Return the cheapest position with a quality of at least ``quality``.

    Args:
        curve: the curve, with points in order of descending cost.
        quality: a mean quality.
        linear: whether there are policies between two points.

    Returns:
        The position; None if every point has a lower quality.
    """
    reached = np.flatnonzero(curve.quality >= quality - _tolerance(curve.quality, quality))
    if not len(reached):
        return None
    last = int(reached[-1])
    if linear and last + 1 < len(curve):
        return last + 1 - _fraction(curve.quality, last + 1, quality)
    return float(last)


def _fraction(values: Floats, right: int, value: float) -> float:
    """Return where ``value`` lies between the points ``right`` and ``right - 1`` of a curve.

    The result is 0 at the point ``right`` and 1 at the point ``right - 1``.
    """
    low, high = float(values[right]), float(values[right - 1])
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def cost_at(curve: DeferralCurve, position: float) -> float:
    """Return the mean cost at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.cost))


def quality_at(curve: DeferralCurve, position: float) -> float:
    """Return the mean quality at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.quality))
