"""Held-out statistics of a method, such as an estimator or the mix of two fixed candidates.

The method's parameter (lambda, or the share of the mix) is selected on the validation split, and
the resulting policy is measured on the test split.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import best_position, position_at_cost
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.policies import Outcome, PolicyCurve
from catimage.evaluation.tables import cost_ratio

N_BUDGETS = 100
"""Number of evenly spaced budgets that :func:`mean_over_budgets` averages over."""


def held_out_document(
    policies: PolicyCurve,
    best: int,
    match_confidence: float,
    test: Floats,
    costs: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return the key ``selected`` of one method in ``metrics.json``.

    ``max_quality`` is the policy with the best quality on the validation split. ``match`` is the
    cheapest policy that is certified on the validation split to be as good as the best single
    candidate, or None. The probability that its true quality, over all prompts of the same
    distribution, is below that of the best single candidate is at most ``1 - match_confidence``.
    The methods ``fixed`` and ``mix`` have no lambda, so their ``lambda`` is None.

    Args:
        policies: the policies of the method, with parameters selected on the validation split.
        best: the index of the best single candidate.
        match_confidence: the confidence of ``match``.
        test: labels of the test split, (n_test, n_candidates).
        costs: the candidates' costs, (n_candidates,).
        bootstrap: resamples of the test prompts.
    """
    match = policies.certified_match(best, match_confidence)
    positions = {"max_quality": best_position(policies.curve)}
    if match is not None:
        positions["match"] = match
    outcomes = {key: policies.outcome(position) for key, position in positions.items()}
    compared = compare_outcomes(outcomes, test[:, best], float(costs[best]), bootstrap)
    return {"match": None, **compared}


def no_match(match_confidence: float) -> str:
    """Return the reason why a method has no ``match``."""
    return (
        "no lambda is certified on the validation split to be as good as the best single candidate"
        f" with a confidence of {match_confidence:g}"
    )


def compare_outcomes(
    outcomes: dict[str, Outcome],
    reference: Floats,
    reference_cost: float,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Compare outcomes of policies with a candidate that is used for every prompt.

    Args:
        outcomes: the outcomes on the test prompts, by key.
        reference: the quality of the candidate, (n_test,).
        reference_cost: the cost of the candidate.
        bootstrap: resamples of the test prompts.

    Returns:
        By key, a dictionary with ``lambda, cost, quality, gain, interval, cost_ratio``.
    """
    gains = np.stack([gains_over(o.quality, reference) for o in outcomes.values()], axis=1)
    intervals = bootstrap.intervals(gains)
    return {
        key: {
            "lambda": outcome.lam,
            "cost": float(outcome.cost.mean()),
            "quality": float(outcome.quality.mean()),
            "gain": float(gain),
            "interval": interval.tolist(),
            "cost_ratio": cost_ratio(float(outcome.cost.mean()), reference_cost),
        }
        for (key, outcome), gain, interval in zip(
            outcomes.items(), gains.mean(axis=0), intervals, strict=True
        )
    }


def mean_over_budgets(policies: PolicyCurve, low: float, high: float) -> Floats:
    """Return the quality of each test prompt, averaged over evenly spaced budgets.

    For each budget, the policy is used that has the best quality at no more than this mean cost on
    the split that policies are selected on. If that is the validation split, the mean of the result
    over prompts is the held-out counterpart of ``mean_curve_quality`` in ``metrics.json``.

    Args:
        policies: the policies of one method.
        low: the lower end of the budgets, a mean cost.
        high: the upper end of the budgets, a mean cost.

    Returns:
        The mean qualities, (n_test,).

    Raises:
        ValueError: every policy costs more than the lowest budget.
    """
    budgets = (
        low + (high - low) * (np.arange(N_BUDGETS) + 0.5) / N_BUDGETS
        if high > low
        else np.array([high])
    )
    positions = [position_at_cost(policies.curve, float(b), policies.linear) for b in budgets]
    if None in positions:
        lowest = policies.curve.cost.min()
        raise ValueError(f"low: {low} is below the lowest cost of the curve. Use {lowest} or more.")
    unique, times = np.unique(np.array(positions, float), return_counts=True)
    total = sum(n * policies.outcome(float(p)).quality for p, n in zip(unique, times, strict=True))
    return np.asarray(total / len(budgets))
