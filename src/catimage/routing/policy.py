"""The routing policy (CATImage paper, equation 3): quality minus lambda times cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats, Ints


def check_shapes(quality: NDArray[np.floating], cost: NDArray[np.floating]) -> None:
    """Check the shapes and the values of quality and cost.

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
    """Select the candidate of each prompt (CATImage paper, equation 3).

    The selected candidate m maximises ``quality[:, m] - lam * cost[m]``. If several candidates are
    tied, the cheapest of them is selected; if their costs are equal, the first one.

    Qualities are compared relative to the highest quality of the prompt and costs relative to the
    lowest cost, so that large common values do not hide small differences.

    Args:
        quality: predicted quality, (n_prompts, n_candidates), higher is better.
        cost: cost of one image, (n_candidates,), in any unit.
        lam: lambda, in quality units per cost unit, not negative. Infinity selects the cheapest
            candidate.

    Returns:
        The positions of the selected candidates, (n_prompts,).

    Raises:
        ValueError: an array is invalid, or ``lam`` is negative or NaN.
    """
    check_shapes(quality, cost)
    if not lam >= 0:
        raise ValueError(f"lambda must be 0 or more, not {lam}")
    order = np.argsort(cost, kind="stable")
    if np.isinf(lam):
        cheapest = order[cost[order] == cost[order[0]]]
        return np.asarray(cheapest[np.argmax(quality[:, cheapest], axis=1)])
    loss = quality[:, order] - quality.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # an infinite price of a huge cost is correct
        price = lam * (cost[order] - cost[order[0]])
    return np.asarray(order[np.argmax(loss - price, axis=1)])
