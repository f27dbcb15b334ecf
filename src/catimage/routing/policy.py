"""The routing policy (CATImage, equation 3): the candidate with the best quality minus cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


def check_shapes(quality: NDArray[np.floating], cost: NDArray[np.floating]) -> None:
    """Check arrays of quality and cost.

    Args:
        quality: (n_prompts, n_candidates), finite.
        cost: (n_candidates,), finite and not negative.

    Raises:
        ValueError: a shape or a value is invalid.
    """
    if quality.ndim != 2 or cost.shape != quality.shape[1:]:
        raise ValueError(
            f"quality must be (n_prompts, n_candidates) and cost (n_candidates,), not"
            f" {quality.shape} and {cost.shape}"
        )
    if not np.isfinite(quality).all() or not np.isfinite(cost).all() or (cost < 0).any():
        raise ValueError("quality and cost must be finite, and cost must not be negative")


def choose(quality: Floats, cost: Floats, lam: float) -> Ints:
    """Select the candidate of each prompt by equation 3.

    The candidate is the argmax over m of ``quality[:, m] - lam * cost[m]``. The cheapest of tied
    candidates is selected, and the first of those with equal costs.

    Args:
        quality: expected quality, (n_prompts, n_candidates), higher is better.
        cost: cost of one image, (n_candidates,), in any unit.
        lam: lambda, in quality units per cost unit, not negative. Infinity selects the cheapest
            candidate.

    Returns:
        Positions of candidates, (n_prompts,).

    Raises:
        ValueError: an array is invalid, or ``lam`` is negative or NaN.
    """
    check_shapes(quality, cost)
    if not lam >= 0:
        raise ValueError(f"lambda must not be negative, not {lam}")
    order = np.argsort(cost, kind="stable")
    if np.isinf(lam):
        cheapest = order[cost[order] == cost[order[0]]]
        return np.asarray(cheapest[np.argmax(quality[:, cheapest], axis=1)])
    return np.asarray(order[np.argmax(quality[:, order] - lam * cost[order], axis=1)])
