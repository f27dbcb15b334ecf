"""The routing rule (CATImage, equation 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


def check_shapes(quality: NDArray[np.floating], cost: NDArray[np.floating]) -> None:
    """Raises ValueError unless ``quality`` is (n, m) and finite and ``cost`` (m,), finite and not
    negative.
    """
    if quality.ndim != 2 or cost.shape != quality.shape[1:]:
        raise ValueError(
            f"quality must be (prompts, candidates) and cost (candidates,), not {quality.shape} and"
            f" {cost.shape}"
        )
    if not np.isfinite(quality).all() or not np.isfinite(cost).all() or (cost < 0).any():
        raise ValueError("quality and cost must be finite, and cost not negative")


def choose(quality: Floats, cost: Floats, lam: float) -> Ints:
    """The candidate of each prompt: argmax over m of ``quality[:, m] - lam * cost[m]`` (equation
    3).

    Args:
        quality: expected quality, (n_prompts, n_candidates), higher is better.
        cost: (n_candidates,), in any unit.
        lam: quality units per cost unit, not negative; infinity means the cheapest candidate.

    Returns:
        Indices of candidates, (n_prompts,). A tie goes to the cheaper candidate, then to the
        earlier one.
    """
    check_shapes(quality, cost)
    if not lam >= 0:
        raise ValueError(f"lambda must not be negative, not {lam}")
    order = np.argsort(cost, kind="stable")
    if np.isinf(lam):
        cheapest = order[cost[order] == cost[order[0]]]
        return np.asarray(cheapest[np.argmax(quality[:, cheapest], axis=1)])
    return np.asarray(order[np.argmax(quality[:, order] - lam * cost[order], axis=1)])
