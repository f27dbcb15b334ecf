"""The policies that are compared. Each kind has one parameter that trades quality for cost.

======== ============================================================= =====================
kind     policy                                                        parameter
======== ============================================================= =====================
routed   equation 3 on predicted qualities                             lambda
oracle   equation 3 on the labels: an upper bound                      lambda
fixed    one candidate for every prompt                                the candidate
mix      two candidates, each for a random share of the prompts        the share
======== ============================================================= =====================

The parameter is selected on one split, and the policy is measured on the test split. Selected on
the test split itself (*in-sample*), a figure is the best that any parameter would have given, as in
the papers' tables. Selected on the validation split (*held-out*), it is what a user can expect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import position_at_cost, position_to_match
from catimage.routing.curve import DeferralCurve, deferral_curve, safe_lambda
from catimage.routing.policy import choose


@dataclass(frozen=True)
class Outcome:
    """Cost and quality of one policy on the test split.

    Attributes:
        cost: per prompt, (n_test,).
        quality: per prompt, (n_test,).
        lam: lambda, or None if the policy has none.
    """

    cost: Floats
    quality: Floats
    lam: float | None = None


@dataclass(frozen=True)
class PolicyCurve:
    """All policies of one kind.

    Attributes:
        curve: mean cost and quality on the split that parameters are selected on, by descending
            cost; lambda is NaN where a policy has none.
        outcome: maps a position on ``curve`` to the policy's outcome on the test split.
        linear: whether the policies between two points of the curve exist.
    """

    curve: DeferralCurve
    outcome: Callable[[float], Outcome]
    linear: bool = False

    def position_at_cost(self, cost: float) -> float:
        """Return the position of the best quality at a mean cost of at most ``cost``.

        Raises:
            ValueError: every policy costs more.
        """
        position = position_at_cost(self.curve, cost, self.linear)
        if position is None:
            raise ValueError(
                f"the curve ends at {self.curve.cost.min()}, above the cost {cost}; it must reach"
                " the cheapest candidate"
            )
        return position

    def position_to_match(self, quality: float) -> float | None:
        """Return the position of the cheapest policy with at least ``quality``, or None."""
        return position_to_match(self.curve, quality, self.linear)


@dataclass(frozen=True)
class Method:
    """The policies of one method with parameters selected on two different splits.

    Attributes:
        in_sample: parameters are selected on the test split itself.
        held_out: parameters are selected on the validation split.
    """

    in_sample: PolicyCurve
    held_out: PolicyCurve


def routed_policies(
    predicted: Floats, labels: Floats, test_predicted: Floats, test_labels: Floats, costs: Floats
) -> PolicyCurve:
    """Return equation 3 for every lambda.

    Args:
        predicted: predicted qualities of the selection split, (n, n_candidates).
        labels: labels of the selection split, (n, n_candidates).
        test_predicted: predicted qualities of the test split, (n_test, n_candidates).
        test_labels: labels of the test split, (n_test, n_candidates).
        costs: (n_candidates,).
    """
    curve = deferral_curve(predicted, costs, labels)

    def outcome(position: float) -> Outcome:
        lam = safe_lambda(curve, int(position))
        return routed_outcome(test_predicted, test_labels, costs, lam)

    return PolicyCurve(curve, outcome)


def routed_outcome(predicted: Floats, labels: Floats, costs: Floats, lam: float) -> Outcome:
    """Apply equation 3 at one lambda: predictions and labels (n, m), costs (m,)."""
    picked = choose(predicted, costs, lam)
    return Outcome(costs[picked], labels[np.arange(len(picked)), picked], lam)


def fixed_policies(labels: Floats, test_labels: Floats, costs: Floats) -> PolicyCurve:
    """Return one policy per candidate: that candidate for every prompt, the most expensive first.

    Arguments as :func:`routed_policies`.
    """
    mean = labels.mean(axis=0)
    order = np.lexsort((-mean, costs))[::-1]
    curve = DeferralCurve(np.full(len(costs), np.nan), costs[order], mean[order])

    def outcome(position: float) -> Outcome:
        m = order[int(position)]
        return Outcome(np.full(len(test_labels), costs[m]), test_labels[:, m])

    return PolicyCurve(curve, outcome)


def mixed_policies(labels: Floats, test_labels: Floats, costs: Floats) -> PolicyCurve:
    """Return the best mixes of two fixed candidates: the upper concave hull of the fixed points.

    The hull is the deferral curve of a single prompt whose qualities are the candidates' means: its
    points are the vertices from the best candidate down to the cheapest, each with the lambda from
    which it is chosen. On an edge, cost and quality of a prompt are expectations over the random
    draw. Arguments as :func:`routed_policies`.
    """
    mean = labels.mean(axis=0, keepdims=True)
    curve = deferral_curve(mean, costs)
    vertices = np.array([choose(mean, costs, safe_lambda(curve, i))[0] for i in range(len(curve))])

    def outcome(position: float) -> Outcome:
        i = int(position)
        a, b, share = vertices[i], vertices[min(i + 1, len(vertices) - 1)], position - i
        return Outcome(
            np.full(len(test_labels), (1 - share) * costs[a] + share * costs[b]),
            (1 - share) * test_labels[:, a] + share * test_labels[:, b],
        )

    return PolicyCurve(curve, outcome, linear=True)
