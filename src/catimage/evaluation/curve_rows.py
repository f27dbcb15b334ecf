"""The rows of a curve in ``metrics.json``: the points of a deferral curve, thinned."""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import position_at_cost
from catimage.evaluation.policies import PolicyCurve
from catimage.routing.curve import DeferralCurve

MAX_ROWS = 500
"""Maximum number of rows of a curve in ``metrics.json``."""


def referenced_points(policies: PolicyCurve, test: Floats, costs: Floats) -> list[int]:
    """Return the indices of the points from which ``by_candidate`` is computed."""
    curve, linear = policies.curve, policies.linear
    positions = [position_at_cost(curve, float(c), linear) for c in costs]
    positions += [policies.position_to_match(float(y.mean())) for y in test.T]
    return sorted(
        {int(end) for p in positions if p is not None for end in (np.floor(p), np.ceil(p))}
    )


def curve_rows(curve: DeferralCurve, keep: list[int]) -> list[list[float | None]]:
    """Return at most 500 points of a curve as rows ``[cost, quality, lambda]``.

    The ends, the best point and the points with the indices ``keep`` are always among them. The
    lambda of a policy without lambda is None.
    """
    thin = curve.thinned(MAX_ROWS, np.array(keep[: MAX_ROWS - 3], int))
    lam = [None if np.isnan(x) else float(x) for x in thin.lam]
    return [[float(c), float(q), x] for c, q, x in zip(thin.cost, thin.quality, lam, strict=True)]
