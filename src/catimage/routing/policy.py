"""The routing policy (CATImage paper, equation 3): quality minus lambda times cost."""

from __future__ import annotations

from collections.abc import Sequence

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
    return choose_each(quality, cost, [lam])[0]


def choose_each(quality: Floats, cost: Floats, lambdas: Sequence[float]) -> list[Ints]:
    """Select the candidate of each prompt for each of several lambdas, as :func:`choose`.

    Returns:
        For each lambda, the positions of the selected candidates, (n_prompts,).

    Raises:
        ValueError: an array is invalid, or a lambda is negative or NaN.
    """
    check_shapes(quality, cost)
    for lam in lambdas:
        if not lam >= 0:
            raise ValueError(f"lambda must be 0 or more, not {lam}")
    order = np.argsort(cost, kind="stable")
    loss = quality[:, order] - quality.max(axis=1, keepdims=True)
    above = cost[order] - cost[order[0]]
    return [order[_best(loss, above, lam)] for lam in lambdas]


def _best(loss: Floats, above: Floats, lam: float) -> Ints:
    """Return the positions in ascending order of cost.

    Args:
        loss: quality minus the highest one of the prompt, (n_prompts, n_candidates).
        above: cost minus the lowest cost, (n_candidates,), ascending.
        lam: lambda.
    """
    if np.isinf(lam):
        return np.asarray(np.argmax(loss[:, above == 0], axis=1))
    with np.errstate(over="ignore"):  # an infinite price of a huge cost is correct
        price = lam * above
    return np.asarray(np.argmax(loss - price, axis=1))
