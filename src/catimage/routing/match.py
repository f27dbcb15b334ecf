"""The cheapest lambda that is as good as one candidate, with a stated confidence.

The cheapest point of a deferral curve whose mean quality reaches that of a candidate is worse than
that candidate on new prompts more often than not: among many points, those are found whose measured
quality exceeds the true one. :class:`MatchSearch` selects a point by tests instead.

At one lambda, the *gain* of a prompt is the label of its selected candidate minus that of the
*reference* candidate. A one-sided paired t test compares the mean gain with 0. It uses only the
prompts for which the candidates differ, because all other gains are exactly 0: given that the
candidates differ, the mean gain has the same sign, and few differing prompts then count as few
observations.

The lambdas are tested in a fixed sequence, from 0 upwards, until the first test fails. The last
lambda that passed is selected. Let lambda* be the first lambda at which the true mean quality is
below that of the reference. A lambda with a lower true quality can be selected only if the test at
lambda* passes, so the probability of this is at most that of one test, ``1 - confidence``, however
many lambdas are tested (fixed-sequence testing; Angelopoulos et al., "Learn then Test", 2021).
lambda* depends on neither the labels nor the predictions of the prompts, so the breakpoints of
their deferral curve can be used.

The assumptions are: the prompts are independent draws; neither the estimator nor the reference was
selected on their labels; and those of the t test. The test is approximate for skewed gains: rare
large losses that no prompt shows cannot be found. If the reference was selected as the best on the
same labels, its mean label is rather too high than too low, and the test is conservative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from catimage.common.arrays import Floats, Ints
from catimage.routing.curve import last_of_equal
from catimage.routing.envelope import switches

MIN_DIFFERENT = 20
"""Smallest number of prompts with differing candidates for which the t test is made.

A lambda with fewer such prompts is not tested. It cannot be selected, and the sequence continues.
"""
_ROUNDING = 1e-12
"""Share of the largest gain by which rounding errors can lower a mean gain."""


@dataclass(frozen=True)
class MatchSearch:
    """Finds the cheapest point of a deferral curve that is certified to be as good as a candidate.

    Attributes:
        predicted: predicted quality, (n_prompts, n_candidates).
        cost: cost of one image, (n_candidates,).
        labels: labels without missing values, (n_prompts, n_candidates).
    """

    predicted: Floats
    cost: Floats
    labels: Floats

    def certified(self, reference: int, confidence: float) -> int | None:
        """Return the cheapest point that is certified to be as good as a candidate.

        The true mean quality of its lambda is below that of the candidate with a probability of at
        most ``1 - confidence``. "True" means over all prompts of the same distribution.

        Args:
            reference: the position of the candidate.
            confidence: the confidence of the one-sided test, between 0 and 1, exclusive.

        Returns:
            The position of the point on :func:`~catimage.routing.curve.deferral_curve` of the same
            predictions; None if no point is certified.
        """
        gains = self.labels - self.labels[:, [reference]]
        differs = np.broadcast_to(np.arange(len(self.cost)) != reference, gains.shape).astype(int)
        count, total, squares = (self._sums(values) for values in (differs, gains, gains**2))
        tested = count >= MIN_DIFFERENT
        passed = _passes(count, total, squares, confidence, float(np.abs(gains).max()))
        failed = np.flatnonzero(tested & ~passed)
        certified = np.flatnonzero(tested[: failed[0]] if len(failed) else tested)
        return int(certified[-1]) if len(certified) else None

    @cached_property
    def _switches(self) -> tuple[Ints, Floats, Ints, Ints, Ints]:
        return switches(self.predicted, self.cost)

    def _sums(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the sum over the prompts of the selected candidates' values at every point.

        Args:
            values: the value of each candidate, (n_prompts, n_candidates).

        Returns:
            The sums, (n_points,). Each switch of a prompt adds the difference of two values.
        """
        start, lam, row, old, new = self._switches
        first = values[np.arange(len(start)), start].sum()
        sums = np.cumsum(np.concatenate([[first], values[row, new] - values[row, old]]))
        return np.asarray(sums[last_of_equal(np.concatenate([[0.0], lam]))])


def certified_candidate(cost: Floats, labels: Floats, reference: int, confidence: float) -> int:
    """Find the cheapest candidate that is certified to be as good as a candidate.

    Every cheaper candidate is tested. The confidence is corrected for the number of these tests
    (Bonferroni), so that the true mean quality of the returned candidate is below that of the
    reference with a probability of at most ``1 - confidence``.

    Args:
        cost: cost of one image, (n_candidates,).
        labels: labels without missing values, (n_prompts, n_candidates).
        reference: the position of the reference.
        confidence: the confidence of the one-sided test, between 0 and 1, exclusive.

    Returns:
        The position of the candidate: the reference itself if no cheaper candidate is certified.
    """
    cheaper = np.flatnonzero(cost < cost[reference])
    if len(labels) < MIN_DIFFERENT or not len(cheaper):
        return reference
    gains = labels[:, cheaper] - labels[:, [reference]]
    corrected = 1 - (1 - confidence) / len(cheaper)
    count = np.full(len(cheaper), len(labels))
    scale = float(np.abs(gains).max())
    passed = _passes(count, gains.sum(axis=0), (gains**2).sum(axis=0), corrected, scale)
    certified = cheaper[passed]
    return int(certified[np.argmin(cost[certified])]) if len(certified) else reference


def _passes(
    count: Ints, total: Floats, squares: Floats, confidence: float, scale: float
) -> NDArray[np.bool_]:
    """Test whether the lower confidence bound of the mean gain is at least 0.

    Args:
        count: the number of gains of each test, (n_tests,).
        total: the sum of the gains, (n_tests,).
        squares: the sum of the squares of the gains, (n_tests,).
        confidence: the confidence of each test.
        scale: the largest absolute gain.
    """
    n = np.maximum(count, 2)
    mean = total / n
    variance = np.maximum(squares - n * mean**2, 0.0) / (n - 1)
    bound = mean - stdtrit(n - 1, confidence) * np.sqrt(variance / n)
    return np.asarray(bound >= -_ROUNDING * scale)
