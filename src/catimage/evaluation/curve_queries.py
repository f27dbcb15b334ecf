"""Queries on a deferral curve (CATImage 3.3): the quality within a cost, the cost of a quality.

A *position* on a curve is the index of a point, or a fraction between two indices on the line
between two points. The curves of routed policies and of fixed candidates are step functions:
nothing exists between their points. The mix of two fixed candidates is piecewise linear, since any
share of the prompts may go to either candidate.

Costs and qualities are means that were summed in different orders, so comparisons allow for
rounding.
"""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.curve import DeferralCurve

ROUNDING = 1e-10
"""Tolerance relative to the largest absolute value that is compared."""


def _tolerance(values: Floats, other: float) -> float:
    return ROUNDING * max(float(np.abs(values).max()), abs(other))


def best_position(curve: DeferralCurve) -> float:
    """Return the position of the highest quality; among ties, the cheapest."""
    best = curve.quality >= curve.quality.max() - _tolerance(curve.quality, 0.0)
    return float(np.flatnonzero(best)[-1])


def position_at_cost(curve: DeferralCurve, budget: float, linear: bool = False) -> float | None:
    """Return the position of the highest quality at a mean cost of at most ``budget``.

    Args:
        curve: points by descending cost.
        budget: a mean cost.
        linear: whether the policies between two points exist.

    Returns:
        The cheapest such position; None if every point costs more.
    """
    within = np.flatnonzero(curve.cost <= budget + _tolerance(curve.cost, budget))
    if not len(within):
        return None
    first = int(within[0])
    if linear and first > 0:
        return first - _fraction(curve.cost, first, budget)
    quality = curve.quality[within]
    best = quality >= quality.max() - _tolerance(curve.quality, 0.0)
    return float(within[best][-1])


def position_to_match(curve: DeferralCurve, quality: float, linear: bool = False) -> float | None:
    """Return the cheapest position with a quality of at least ``quality``, or None."""
    reached = np.flatnonzero(curve.quality >= quality - _tolerance(curve.quality, quality))
    if not len(reached):
        return None
    last = int(reached[-1])
    if linear and last + 1 < len(curve):
        return last + 1 - _fraction(curve.quality, last + 1, quality)
    return float(last)


def _fraction(values: Floats, right: int, value: float) -> float:
    """Return the fraction (0 to 1) of the way from point ``right`` to the point before it at which
    the interpolated value is ``value``.
    """
    low, high = float(values[right]), float(values[right - 1])
    return min(max((value - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def cost_at(curve: DeferralCurve, position: float) -> float:
    """Return the mean cost at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.cost))


def quality_at(curve: DeferralCurve, position: float) -> float:
    """Return the mean quality at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.quality))
