"""Conditions of off-policy estimates: every candidate has a propensity, and the scored decisions
are a random sample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from catimage.common.arrays import Floats
from catimage.evaluation.off_policy.estimators import LoggedTraffic

MAX_DEVIATIONS = 5.0
"""Number of standard deviations by which a count may differ from the sum of the propensities."""


def has_support(propensities: Floats) -> NDArray[np.bool_]:
    """Return whether all candidates could have been selected, for each decision.

    A decision with a candidate whose propensity is 0 has no information about this candidate. Such
    decisions are left out, even if the target policy selects another candidate for them: which
    decisions are used must depend on the request only, and not on the policy that is evaluated.

    Args:
        propensities: the propensities, (n, n_candidates), 0 for a candidate that the log does not
            list.

    Returns:
        A boolean per decision, (n,).
    """
    return np.asarray((propensities > 0).all(axis=1))


def selection_problem(decisions: LoggedTraffic, names: list[str]) -> str | None:
    """Compare how often each candidate was selected with the sum of its propensities.

    They agree if every logged decision is equally likely to have a score. They differ if decisions
    were scored because of the candidate that was selected, or if the propensities are wrong.

    Args:
        decisions: the decisions.
        names: names of the candidates.

    Returns:
        A sentence about the first candidate for which they differ; None if there is none.
    """
    counts = np.bincount(decisions.actions, minlength=len(names))
    expected = decisions.propensities.sum(axis=0)
    deviation = np.sqrt((decisions.propensities * (1 - decisions.propensities)).sum(axis=0))
    for name, count, mean, spread in zip(names, counts, expected, deviation, strict=True):
        if abs(count - mean) > MAX_DEVIATIONS * (spread + 1):
            return (
                f"The scored decisions are not a random sample of the logged ones: {name} was"
                f" selected in {count:,} of {len(decisions):,}, but its propensities add up to"
                f" {mean:,.0f}. Score decisions at random, whatever candidate was selected."
            )
    return None
