"""The kinds of policies that are compared. A policy selects a candidate for each prompt.

The policies of a kind differ in one parameter, which trades quality for cost. *Equation 3* is that
of the CATImage paper: the candidate with the highest quality minus lambda times cost.

======== ============================================================= =====================
kind     policy                                                        parameter
======== ============================================================= =====================
routed   equation 3 on predicted qualities                             lambda
oracle   equation 3 on the labels: an upper bound                      lambda
fixed    one candidate for every prompt                                the candidate
mix      two candidates, each for a random share of the prompts        the share
======== ============================================================= =====================

The parameter is selected on one split, and the policy is measured on the test split. If the
parameter is selected on the test split itself (*in-sample*), a statistic is the best that any
parameter gives, as in the papers' tables. If it is selected on the validation split (*held-out*), a
statistic estimates the performance on new prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import position_at_cost, position_to_match
from catimage.routing.curve import DeferralCurve, deferral_curve, lambda_of_point
from catimage.routing.match import MatchSearch, certified_candidate
from catimage.routing.policy import choose


@dataclass(frozen=True)
class Outcome:
    """Cost and quality of one policy on the test split.

    Attributes:
        cost: the cost of each prompt, (n_test,).
        quality: the quality of each prompt, (n_test,).
        lam: the policy's lambda; None if it has none.
    """

    cost: Floats
    quality: Floats
    lam: float | None = None


@dataclass(frozen=True)
class PolicyCurve:
    """All policies of one kind.

    Attributes:
        curve: mean cost and quality of each policy on the split that parameters are selected on, in
            order of descending cost; lambda is NaN where a policy has none.
        outcome: a function that returns, for a position on ``curve`` (see
            :mod:`catimage.evaluation.curve_queries`), the policy's outcome on the test split.
        certified_match: a function that returns, for the index of a candidate and a confidence, the
            position of the cheapest policy that is certified to be as good as this candidate
            (:mod:`catimage.routing.match`); None if there is none. The true quality of that policy
            is below the candidate's with a probability of at most 1 minus the confidence.
        linear: whether there are policies between two points of the curve.
    """

    curve: DeferralCurve
    outcome: Callable[[float], Outcome]
    certified_match: Callable[[int, float], float | None]
    linear: bool = False

    def position_at_cost(self, cost: float) -> float:
        """Return the position of the best quality at a mean cost of at most ``cost``.

        Raises:
            ValueError: every policy costs more.
        """
        position = position_at_cost(self.curve, cost, self.linear)
        if position is None:
            raise ValueError(
                f"cost: {cost} is below the lowest cost of the curve. Use {self.curve.cost.min()}"
                " or more."
            )
        return position

    def position_to_match(self, quality: float) -> float | None:
        """Return the position of the cheapest policy with a quality of at least ``quality``.

        The result is None if every policy has a lower quality.
        """
        return position_to_match(self.curve, quality, self.linear)


@dataclass(frozen=True)
class Method:
    """The policies of one method, with parameters selected on two different splits.

    Attributes:
        in_sample: parameters are selected on the test split itself.
        held_out: parameters are selected on the validation split.
    """

    in_sample: PolicyCurve
    held_out: PolicyCurve


def routed_policies(
    predicted: Floats, labels: Floats, test_predicted: Floats, test_labels: Floats, costs: Floats
) -> PolicyCurve:
    """Return the policies of equation 3, one for each range of lambda with the same choices.

    Args:
        predicted: predicted qualities on the split that lambda is selected on, (n, n_candidates).
        labels: labels of the split that lambda is selected on, (n, n_candidates).
        test_predicted: predicted qualities on the test split, (n_test, n_candidates).
        test_labels: labels of the test split, (n_test, n_candidates).
        costs: the candidates' costs, (n_candidates,).
    """
    curve = deferral_curve(predicted, costs, labels)

    def outcome(position: float) -> Outcome:
        lam = lambda_of_point(curve, int(position))
        return routed_outcome(test_predicted, test_labels, costs, lam)

    search = MatchSearch(predicted, costs, labels)
    return PolicyCurve(curve, outcome, search.certified)


def routed_outcome(predicted: Floats, labels: Floats, costs: Floats, lam: float) -> Outcome:
    """Return the outcome of equation 3 at one lambda.

    Args:
        predicted: predicted qualities, (n_test, n_candidates).
        labels: measured qualities, (n_test, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        lam: the lambda of equation 3.
    """
    picked = choose(predicted, costs, lam)
    return Outcome(costs[picked], labels[np.arange(len(picked)), picked], lam)


def fixed_policies(labels: Floats, test_labels: Floats, costs: Floats) -> PolicyCurve:
    """Return one policy per candidate, which selects this candidate for every prompt.

    The policies are in order of descending cost. The arguments are those of
    :func:`routed_policies`.
    """
    mean = labels.mean(axis=0)
    order = np.lexsort((-mean, costs))[::-1]
    curve = DeferralCurve(np.full(len(costs), np.nan), costs[order], mean[order])

    def outcome(position: float) -> Outcome:
        m = order[int(position)]
        return Outcome(np.full(len(test_labels), costs[m]), test_labels[:, m])

    def match(reference: int, confidence: float) -> float | None:
        matched = certified_candidate(costs, labels, reference, confidence)
        return float(np.flatnonzero(order == matched)[0])

    return PolicyCurve(curve, outcome, match)


def randomized_policies(labels: Floats, test_labels: Floats, costs: Floats) -> PolicyCurve:
    """Return the best mixes of two fixed candidates.

    They form the upper concave hull of the fixed candidates' points (mean cost, mean quality). The
    hull is computed as the deferral curve of a single prompt whose qualities are the candidates'
    means. Its points are the vertices of the hull, from the best candidate down to the cheapest,
    each with the smallest lambda at which it is selected. On an edge, the cost and the quality of a
    prompt are expectations over the random draw. Only a vertex can be a certified match, because a
    mix whose mean label equals that of a candidate is worse on other prompts half of the time. The
    arguments are those of :func:`routed_policies`.
    """
    mean = labels.mean(axis=0, keepdims=True)
    curve = deferral_curve(mean, costs)
    vertices = np.array(
        [choose(mean, costs, lambda_of_point(curve, i))[0] for i in range(len(curve))]
    )

    def outcome(position: float) -> Outcome:
        i = int(position)
        a, b, share = vertices[i], vertices[min(i + 1, len(vertices) - 1)], position - i
        return Outcome(
            np.full(len(test_labels), (1 - share) * costs[a] + share * costs[b]),
            (1 - share) * test_labels[:, a] + share * test_labels[:, b],
        )

    def match(reference: int, confidence: float) -> float | None:
        matched = certified_candidate(costs, labels, reference, confidence)
        positions = np.flatnonzero(vertices == matched)
        return float(positions[0]) if len(positions) else None

    return PolicyCurve(curve, outcome, match, linear=True)
