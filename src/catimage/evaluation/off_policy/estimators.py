"""Estimators of the mean outcome of a policy from the decisions of another, randomized policy.

A logged decision has the probability (propensity) with which each candidate was selected, the
candidate that was selected, and the outcome: the score or the cost of its image. The target policy
selects candidates with other probabilities. Each estimate is a ratio of two sums over decisions;
:mod:`catimage.evaluation.off_policy.intervals` computes its interval.

See Horvitz and Thompson, "A generalization of sampling without replacement from a finite universe",
1952 (inverse propensity); Swaminathan and Joachims, "The self-normalized estimator for
counterfactual learning", 2015; Dudik, Langford and Li, "Doubly robust policy evaluation and
learning", 2011.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats, Ints


@dataclass(frozen=True)
class LoggedTraffic:
    """Logged decisions, and the probabilities of the target policy for the same requests.

    Attributes:
        propensities: probability with which each candidate was selected, (n, n_candidates). Those
            of the candidates that the target policy can select are positive; otherwise no estimate
            is unbiased.
        actions: position of the candidate that was selected, (n,).
        target: probability with which the target policy selects each candidate,
            (n, n_candidates).
    """

    propensities: Floats
    actions: Ints
    target: Floats

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def weights(self) -> Floats:
        """Probability of the selected candidate by the target policy over its propensity, (n,)."""
        rows = np.arange(len(self))
        ratio: Floats = self.target[rows, self.actions] / self.propensities[rows, self.actions]
        return ratio


@dataclass(frozen=True)
class RatioTerms:
    """An estimate as a ratio of sums.

    Attributes:
        numerator: the terms of the numerator, (n,).
        denominator: the terms of the denominator, (n,).
    """

    numerator: Floats
    denominator: Floats

    @property
    def value(self) -> float:
        """The estimate; NaN if the denominator is 0."""
        total = float(self.denominator.sum())
        return float(self.numerator.sum()) / total if total else float("nan")


def mean_terms(values: Floats) -> RatioTerms:
    """Return the mean of ``values`` (n,) as a ratio."""
    return RatioTerms(values, np.ones(len(values)))


def ips(decisions: LoggedTraffic, outcomes: Floats) -> RatioTerms:
    """Inverse propensity: the mean of weighted outcomes. It is unbiased.

    Args:
        decisions: the logged decisions.
        outcomes: the outcome of each decision, (n,).
    """
    return mean_terms(decisions.weights * outcomes)


def self_normalized_ips(decisions: LoggedTraffic, outcomes: Floats) -> RatioTerms:
    """Inverse propensity over the sum of the weights instead of ``n``.

    It is biased by a term of order 1/n, does not depend on the origin of the outcomes, and usually
    varies less. It is undefined if all weights are 0.
    """
    return RatioTerms(decisions.weights * outcomes, decisions.weights)


def doubly_robust(decisions: LoggedTraffic, outcomes: Floats, predicted: Floats) -> RatioTerms:
    """The predicted outcome of the target policy, plus the weighted errors of the predictions.

    It is unbiased if the propensities are correct, whatever the predictions are, as long as they do
    not depend on the outcomes. The better they are, the less it varies.

    Args:
        decisions: the logged decisions.
        outcomes: the outcome of each decision, (n,).
        predicted: the predicted outcome of each candidate, (n, n_candidates).
    """
    errors = outcomes - predicted[np.arange(len(decisions)), decisions.actions]
    expected = (decisions.target * predicted).sum(axis=1)
    return mean_terms(expected + decisions.weights * errors)


def effective_sample_size(weights: Floats) -> float:
    """Return the number of equally weighted decisions whose mean varies as much (Kish, 1965).

    Args:
        weights: the weights, (n,).

    Returns:
        A number from 0 (all weights are 0) to n (all are equal).
    """
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0
