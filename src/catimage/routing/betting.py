"""A test by betting whether the true mean of observed costs is below a budget.

The test has a stated confidence for any number of observations and any distribution of the costs
(Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2024); see
:mod:`~catimage.routing.certificate`.
"""

from __future__ import annotations

import numpy as np

from catimage.common.arrays import Floats, Ints

STAKES = (1.0, 0.5, 0.25)
"""Standard deviations of costs for which the stakes are optimal, as shares of the largest one that
costs with a mean equal to the budget can have.
"""


def is_certified(
    spent: Floats, count: Ints, budget: float, cost_range: tuple[float, float], confidence: float
) -> bool:
    """Test whether the true mean of observed costs is below a budget.

    Args:
        spent: distinct values of the observed costs, (n_values,).
        count: number of observations of each value, (n_values,).
        budget: mean cost per image.
        cost_range: the lowest and the highest possible cost.
        confidence: minimum probability that the test fails if the true mean is at least the budget,
            between 0 and 1, exclusive.

    Returns:
        Whether the test passes. A test that passes for one budget passes for every larger budget.
    """
    low, high = cost_range
    if budget >= high:
        return True
    mean, level = (budget - low) / (high - low), -np.log1p(-confidence)
    if not 0 < mean < 1:  # rounding errors can give 0 or 1 for a budget inside the range
        return bool(mean >= 1)
    spread = np.sqrt(mean * (1 - mean)) * np.array(STAKES)
    stakes = np.minimum(np.sqrt(2 * level / count.sum()) / spread, 0.999 / (1 - mean))
    gains = np.log1p(-stakes[:, None] * ((spent - low) / (high - low) - mean)) @ count
    return bool(np.logaddexp.reduce(gains) - np.log(len(stakes)) >= level)
