"""Held-out figures: parameters are selected on the validation split, measured on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import best_position, position_at_cost
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.policies import Outcome, PolicyCurve
from catimage.evaluation.tables import cost_ratio

BUDGETS = 100
"""Evenly spaced budgets that :func:`mean_over_budgets` averages over."""
NO_MATCH = "no point of the validation curve is as good as the best single candidate there"


def held_out_document(
    policies: PolicyCurve,
    best: int,
    validation: Floats,
    test: Floats,
    costs: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return ``selected`` of ``metrics.json`` for one method.

    ``max_quality`` is the policy with the best validation quality, ``match`` the cheapest one whose
    validation quality reaches that of the best single candidate (None if there is none). For
    ``fixed`` and ``mix`` the candidate or the share is selected, and ``lambda`` is None.

    Args:
        policies: parameters are selected on the validation split.
        best: index of the best single candidate.
        validation: labels (n_val, n_candidates).
        test: labels (n_test, n_candidates).
        costs: (n_candidates,).
        bootstrap: of the test prompts.
    """
    match = policies.position_to_match(float(validation[:, best].mean()))
    positions = {"max_quality": best_position(policies.curve)}
    if match is not None:
        positions["match"] = match
    outcomes = {key: policies.outcome(position) for key, position in positions.items()}
    compared = compare_outcomes(outcomes, test[:, best], float(costs[best]), bootstrap)
    return {"match": None, **compared}


def compare_outcomes(
    outcomes: dict[str, Outcome],
    reference: Floats,
    reference_cost: float,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Compare outcomes with one candidate.

    Args:
        outcomes: by key.
        reference: quality of the candidate, (n_test,).
        reference_cost: its cost.
        bootstrap: of the test prompts.

    Returns:
        By key: ``lambda, cost, quality, gain, interval, cost_ratio``.
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
    """Return each test prompt's quality, averaged over budgets: (n_test,).

    The budgets are evenly spaced from ``low`` to ``high``. For each one, the policy of the best
    selection quality within it is used. With policies selected on the validation split, the mean
    over prompts is the held-out counterpart of ``mean_curve_quality``.

    Raises:
        ValueError: every policy costs more than ``low``.
    """
    budgets = (
        low + (high - low) * (np.arange(BUDGETS) + 0.5) / BUDGETS
        if high > low
        else np.array([high])
    )
    positions = [position_at_cost(policies.curve, float(b), policies.linear) for b in budgets]
    if None in positions:
        raise ValueError(f"the curve ends at {policies.curve.cost.min()}, above the cost {low}")
    unique, times = np.unique(np.array(positions, float), return_counts=True)
    total = sum(n * policies.outcome(float(p)).quality for p, n in zip(unique, times, strict=True))
    return np.asarray(total / len(budgets))
