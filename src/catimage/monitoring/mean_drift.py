"""Drift of the means of bounded values: decisions, costs, and errors of predicted quality."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from catimage.common.arrays import Floats
from catimage.monitoring.e_detector import (
    advance,
    initial,
    log_evidence,
    state_from_json,
    state_to_json,
)

SMALLEST_LIMIT = 0.001
"""Limits below this value are replaced by it. A limit of 1 or more cannot be exceeded."""


def bet(
    detectors: list[Any] | None, values: Floats, limits: ArrayLike
) -> tuple[list[Any], list[Any], float]:
    """Test whether one of several means exceeds its limit.

    The evidence is the mean of the evidence of all means, so that the bound on false alarms holds
    for all of them together.

    Args:
        detectors: the state that an earlier call returned; None at the start, or if the number of
            means has changed.
        values: new values between 0 and 1, (n_means, n_values), in order of time.
        limits: the highest mean without a change, (n_means,), or of each value, given the earlier
            ones, (n_means, n_values).

    Returns:
        The new state, the state without evidence, and the logarithm of the evidence.
    """
    fresh = initial(len(values))
    state = fresh if detectors is None else state_from_json(detectors)
    if state.shape != fresh.shape:
        state = fresh
    bounds = np.maximum(limits, SMALLEST_LIMIT)
    bounds = bounds if bounds.ndim == 2 else bounds[:, None]
    state = advance(state, values / bounds, 1.0)
    evidence = float(np.logaddexp.reduce(log_evidence(state)) - np.log(len(values)))
    return state_to_json(state), state_to_json(fresh), evidence


def running_mean(before: list[float] | None, values: Floats, memory: float = 200.0) -> list[float]:
    """Return exponentially weighted means, with which messages describe recent traffic.

    Args:
        before: the means of the earlier values; None at the start.
        values: new values, (n_means, n_values), in order of time.
        memory: number of values after which the weight of a value has decreased to 1/e.
    """
    n = values.shape[1]
    if n == 0:
        return before or []
    weights = np.exp(-np.arange(n)[::-1] / memory)
    old = 0.0 if before is None or len(before) != len(values) else 1.0
    kept = old * np.exp(-n / memory) / (1 - np.exp(-1 / memory))
    means = (values @ weights + kept * np.array(before if old else 0.0)) / (weights.sum() + kept)
    rounded: list[float] = np.round(means, 6).tolist()
    return rounded
