"""Sequential detection of a change of a mean by betting, with a bound on false alarms.

An e-detector (Shin, Ramdas and Rinaldo, "E-detectors: a nonparametric framework for sequential
change detection", 2023) sums, over all possible times of a change, the wealth of a gambler who
starts at that time with 1 and bets that the next values exceed a limit. While the mean of each
value, given the earlier ones, is at most the limit, the wealth does not grow on average, whatever
the distribution of the values is. The mean number of values until the sum first reaches a
threshold is therefore at least the threshold: no tables, no simulation and no independence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from catimage.common.arrays import Floats

STAKES = np.array([0.1, 0.2, 0.4, 0.8])
"""Stakes, as shares of the largest one that cannot lose more than the wealth. The evidence is the
mean over the stakes, which adapts to the size of the change."""


def initial(*shape: int) -> Floats:
    """Return the state of one or more detectors that have seen no value.

    Args:
        shape: the shape of an array of independent detectors; none for a single detector.

    Returns:
        The logarithm of the evidence at each stake, (\\*shape, n_stakes).
    """
    return np.full((*shape, len(STAKES)), -np.inf)


def advance(state: Floats, values: ArrayLike, limit: ArrayLike) -> Floats:
    """Return the states after further values (Shiryaev-Roberts recursion).

    Args:
        state: the states, (\\*shape, n_stakes).
        values: the next values in order of time, at least 0, (\\*shape, n_values); NaN is ignored.
        limit: the highest mean without a change, above 0, (\\*shape).

    Returns:
        The new states, (\\*shape, n_stakes).
    """
    bound = np.asarray(limit, float)[..., None]
    for value in np.moveaxis(np.asarray(values, float), -1, 0):
        gain = np.log1p(STAKES * (value[..., None] / bound - 1))
        state = np.where(np.isnan(gain), state, np.logaddexp(0.0, state) + gain)
    return state


def log_evidence(state: Floats) -> Floats:
    """Return the logarithm of the evidence of a change, (\\*shape).

    An alarm is raised when it reaches the logarithm of the mean number of values between false
    alarms.
    """
    evidence: Floats = np.logaddexp.reduce(state, axis=-1) - np.log(len(STAKES))
    return evidence


def state_to_json(state: Floats) -> list[Any]:
    """Return states as nested lists for JSON, with None for no evidence."""
    if state.ndim > 1:
        return [state_to_json(part) for part in state]
    return [value if np.isfinite(value) else None for value in state.tolist()]


def state_from_json(state: list[Any]) -> Floats:
    """Return the states that :func:`state_to_json` wrote."""
    array = np.array(state, float)  # None becomes NaN
    return np.where(np.isnan(array), -np.inf, array)
