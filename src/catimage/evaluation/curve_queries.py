"""Questions put to a deferral curve (CATImage 3.3): what a cost buys, and what a quality costs.

A *position* is a place on a curve: an index of a point, or, on a line between two points, a
fraction in between. The curves of deferral and of fixed candidates are steps (nothing lies between
their points); the mix of two fixed candidates is a line, since a share of the prompts may go to
either.

Costs and qualities are means computed in several orders of summation, so that comparisons allow for
rounding.
"""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.curve import Curve

ROUNDING = 1e-10
"""Relative to the largest value in play."""


def _slack(values: Floats, other: float) -> float:
    return ROUNDING * max(float(np.abs(values).max()), abs(other))


def best_position(curve: Curve) -> float:
    """Where the quality is highest; the cheapest place of several."""
    return float(
        np.flatnonzero(curve.quality >= curve.quality.max() - _slack(curve.quality, 0.0))[-1]
    )


def position_at_cost(curve: Curve, budget: float, linear: bool = False) -> float | None:
    """Where the quality is highest at a mean cost of no more than ``budget`` (the cheapest place of
    several), or None.
    """
    within = np.flatnonzero(curve.cost <= budget + _slack(curve.cost, budget))
    if not len(within):
        return None
    first = int(within[0])
    if linear and first > 0:
        return first - _share(curve.cost, first, budget)
    quality = curve.quality[within]
    return float(within[quality >= quality.max() - _slack(curve.quality, 0.0)][-1])


def position_to_match(curve: Curve, quality: float, linear: bool = False) -> float | None:
    """The cheapest place with a quality of at least ``quality``, or None."""
    reached = np.flatnonzero(curve.quality >= quality - _slack(curve.quality, quality))
    if not len(reached):
        return None
    last = int(reached[-1])
    if linear and last + 1 < len(curve):
        return last + 1 - _share(curve.quality, last + 1, quality)
    return float(last)


def _share(values: Floats, right: int, wanted: float) -> float:
    """How far ``wanted`` lies from the point ``right`` towards the one before it, whose value is
    higher: 0 to 1.
    """
    low, high = float(values[right]), float(values[right - 1])
    return min(max((wanted - low) / (high - low), 0.0), 1.0) if high > low else 0.0


def cost_at(curve: Curve, position: float) -> float:
    """The mean cost at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.cost))


def quality_at(curve: Curve, position: float) -> float:
    """The mean quality at a position."""
    return float(np.interp(position, np.arange(len(curve)), curve.quality))
