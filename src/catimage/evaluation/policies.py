"""What is compared: families of policies, each with one knob between cost and quality.

========== =============================================================== ====================
family     a policy                                                        knob
========== =============================================================== ====================
routed     equation 3 on predicted qualities                               lambda
oracle     equation 3 on the labels themselves: an upper bound             lambda
fixed      one candidate for every prompt                                  the candidate
mix        two candidates, a share of the prompts drawn at random to each  the share
========== =============================================================== ====================

A family is found on one split (its curve holds there) and judged on the test split. Found on the
test split, it answers what the best setting would have been; found on the validation split, what an
honest choice of the setting gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from catimage.common.arrays import Floats
from catimage.routing.curve import Curve, deferral_curve, safe_lambda
from catimage.routing.policy import choose


@dataclass(frozen=True)
class Outcome:
    """A policy on the test split: ``cost`` and ``quality`` of each prompt, both (n_test,); ``lam``
    where it has one.
    """

    cost: Floats
    quality: Floats
    lam: float | None = None


@dataclass(frozen=True)
class Family:
    """Policies of one kind.

    Attributes:
        curve: on the split where the family was found; by descending cost, lambda NaN where a
            policy has none.
        outcome: what the policy at a position of ``curve`` gives on the test split.
        linear: whether the policies between two points of the curve exist.
    """

    curve: Curve
    outcome: Callable[[float], Outcome]
    linear: bool = False


def routed(
    predicted: Floats, labels: Floats, test_predicted: Floats, test: Floats, cost: Floats
) -> Family:
    """Equation 3 for every lambda, found on ``predicted`` and ``labels`` (n, m), judged on the test
    split's (n_test, m).
    """
    curve = deferral_curve(predicted, cost, labels)

    def outcome(position: float) -> Outcome:
        return outcome_of(test_predicted, test, cost, safe_lambda(curve, int(position)))

    return Family(curve, outcome)


def outcome_of(predicted: Floats, labels: Floats, cost: Floats, lam: float) -> Outcome:
    """Equation 3 at one lambda: predictions and labels (n, m), cost (m,)."""
    picked = choose(predicted, cost, lam)
    return Outcome(cost[picked], labels[np.arange(len(picked)), picked], lam)


def fixed(labels: Floats, test: Floats, cost: Floats) -> Family:
    """Each candidate for every prompt; the curve has one point a candidate, the dearest first."""
    mean = labels.mean(axis=0)
    order = np.lexsort((-mean, cost))[::-1]
    curve = Curve(np.full(len(cost), np.nan), cost[order], mean[order])

    def outcome(position: float) -> Outcome:
        m = order[int(position)]
        return Outcome(np.full(len(test), cost[m]), test[:, m])

    return Family(curve, outcome)


def mix(labels: Floats, test: Floats, cost: Floats) -> Family:
    """The best mixes of two fixed candidates: the upper concave hull of the fixed points, and
    everything on its edges.

    The hull is the deferral curve of one prompt whose qualities are the candidates' means: its
    points are the vertices from the best candidate down to the cheapest, each with the lambda from
    which it wins. On an edge, a prompt's cost and quality are their expectations over the random
    draw.
    """
    mean = labels.mean(axis=0, keepdims=True)
    curve = deferral_curve(mean, cost)
    vertices = np.array([choose(mean, cost, safe_lambda(curve, i))[0] for i in range(len(curve))])

    def outcome(position: float) -> Outcome:
        i = int(position)
        a, b, share = vertices[i], vertices[min(i + 1, len(vertices) - 1)], position - i
        return Outcome(
            np.full(len(test), (1 - share) * cost[a] + share * cost[b]),
            (1 - share) * test[:, a] + share * test[:, b],
        )

    return Family(curve, outcome, linear=True)
