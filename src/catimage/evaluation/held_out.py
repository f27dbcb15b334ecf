"""The honest figures: lambda chosen on the validation split, judged on the test split."""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import best_position, position_at_cost, position_to_match
from catimage.evaluation.intervals import PairedBootstrap, gains_over
from catimage.evaluation.policies import Family, Outcome
from catimage.evaluation.tables import ratio

BUDGETS = 100
NO_MATCH = "no point of the validation curve is as good as the best single candidate there"


def selected(
    honest: Family,
    best: int,
    validation: Floats,
    test: Floats,
    cost: Floats,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """The point of best validation quality, and the cheapest one that matches the best single
    candidate there.

    For ``fixed`` and ``mix`` the same is chosen among their policies (a candidate, a share), so
    that ``lambda`` is None. ``match`` is None where no point reaches that quality on the validation
    split (:data:`NO_MATCH`).

    Args:
        honest: the family found on the validation split.
        best: index of the best single candidate.
        validation: labels (n_val, n_candidates); ``test`` (n_test, n_candidates); ``cost``
            (n_candidates,).
    """
    match = position_to_match(honest.curve, float(validation[:, best].mean()), honest.linear)
    chosen = {"max_quality": best_position(honest.curve)} | (
        {} if match is None else {"match": match}
    )
    outcomes = {key: honest.outcome(position) for key, position in chosen.items()}
    return {"match": None, **judged(outcomes, test[:, best], float(cost[best]), bootstrap)}


def judged(
    outcomes: dict[str, Outcome], rival: Floats, rival_cost: float, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Outcomes against one rival's quality (n_test,): ``lambda, cost, quality, gain, interval,
    cost_ratio`` of each.
    """
    gains = np.stack([gains_over(outcome.quality, rival) for outcome in outcomes.values()], axis=1)
    intervals = bootstrap.intervals(gains)
    return {
        key: {
            "lambda": outcome.lam,
            "cost": float(outcome.cost.mean()),
            "quality": float(outcome.quality.mean()),
            "gain": float(gain),
            "interval": interval.tolist(),
            "cost_ratio": ratio(float(outcome.cost.mean()), rival_cost),
        }
        for (key, outcome), gain, interval in zip(
            outcomes.items(), gains.mean(axis=0), intervals, strict=True
        )
    }


def mean_over_budgets(honest: Family, low: float, high: float) -> Floats:
    """What a family gives each test prompt, on average over budgets evenly spaced from ``low`` to
    ``high``: (n_test,).

    For each budget the policy is the one of the best validation quality within it. The mean over
    prompts is the honest counterpart of ``mean_curve_quality``, which reads the test curve at its
    best.

    Args:
        honest: found on the validation split, reaching down to ``low``.
    """
    budgets = (
        low + (high - low) * (np.arange(BUDGETS) + 0.5) / BUDGETS
        if high > low
        else np.array([high])
    )
    positions = [position_at_cost(honest.curve, float(b), honest.linear) for b in budgets]
    if None in positions:
        raise ValueError(f"the curve ends at {honest.curve.cost.min()}, above the cost {low}")
    places, times = np.unique(np.array(positions, float), return_counts=True)
    total = sum(n * honest.outcome(float(p)).quality for p, n in zip(places, times, strict=True))
    return np.asarray(total / len(budgets))
