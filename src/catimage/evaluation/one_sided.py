"""A one-sided lower confidence bound of a mean."""

from __future__ import annotations

import numpy as np
from scipy.stats import t as student

from catimage.common.arrays import Floats


def lower_bound(values: Floats, confidence: float) -> float:
    """Return a lower bound of the expectation of independent values, by Student's t.

    For differences between two routers, many of which are 0, it was compared with percentile,
    bootstrap-t and skewness-corrected bounds in simulations of 50, 70 and 100 prompts with
    ``confidence`` 0.95, of which 5% to 100% differ. If the differences are symmetric, as those of
    two routers of equal quality are, the bound exceeds the expectation in at most 6% of the
    samples, a bootstrap-t or skewness-corrected bound in up to 12% (``tests/evaluation``). If
    losses are rarer than gains, but larger, this share is up to 13% (bootstrap-t: 24%).

    Args:
        values: the values, (n,), at least two.
        confidence: minimum probability that the bound is at most the expectation, between 0 and 1.
    """
    n = len(values)
    quantile = float(student.ppf(confidence, n - 1))
    return float(values.mean() - quantile * values.std(ddof=1) / np.sqrt(n))
