"""CATImage's Tables 2 and 3: what routing gives at each candidate's cost, and what matching each
candidate costs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.curve_queries import (
    cost_at,
    position_at_cost,
    position_to_match,
    quality_at,
)
from catimage.evaluation.intervals import PairedBootstrap, gains_over, standard_error
from catimage.evaluation.policies import Family, Outcome


def ratio(cost: float, of: float) -> float | None:
    """``cost / of``; None where ``of`` is nothing."""
    return cost / of if of > 0 else None


def by_candidate(
    found: Family,
    honest: Family,
    names: list[str],
    cost: Floats,
    validation: Floats,
    labels: Floats,
    bootstrap: PairedBootstrap,
) -> list[dict[str, Any]]:
    """A row a candidate, in the order of ``names``.

    ``quality_at_cost`` (Table 2) is the best point of the test curve at no more than the
    candidate's cost, ``se`` its standard error over prompts, and ``cost_ratio_to_match`` (Table 3)
    the cost of the cheapest point at least as good as the candidate, over its cost (None if no
    point is). These read the test curve at its best, as the paper does. The honest figures beside
    them choose the point on the validation split, best quality there at no more than the
    candidate's cost, and judge it on test: ``selected_lambda``, ``selected_cost``,
    ``selected_quality``, ``gain`` over the candidate, and its paired 95% ``interval``.
    ``selected_match`` is the cheapest point that is as good as the candidate on validation, judged
    on test (None if no point is).

    Args:
        found, honest: the method's family found on the test split and on the validation split.
        cost: (n_candidates,).
        validation: labels (n_val, n_candidates); ``labels`` (n_test, n_candidates).
    """
    within = [honest.outcome(_affordable(honest, float(c))) for c in cost]
    matches = [
        None if p is None else honest.outcome(p)
        for p in (_to_match(honest, v) for v in validation.T)
    ]
    gains = gains_over(np.stack([outcome.quality for outcome in within], axis=1), labels)
    intervals = bootstrap.intervals(gains).tolist()
    return [
        {
            "candidate": name,
            "cost": float(cost[m]),
            **_at_cost(found, float(cost[m]), labels[:, m]),
            "selected_lambda": within[m].lam,
            "selected_cost": float(within[m].cost.mean()),
            "selected_quality": float(within[m].quality.mean()),
            "gain": float(gains[:, m].mean()),
            "interval": intervals[m],
            "selected_match": match,
        }
        for m, (name, match) in enumerate(
            zip(names, _matches(matches, cost, labels, bootstrap), strict=True)
        )
    ]


def _to_match(honest: Family, labels: Floats) -> float | None:
    """Where a family is as good as a candidate with the validation ``labels`` (n_val,)."""
    return position_to_match(honest.curve, float(labels.mean()), honest.linear)


def _matches(
    outcomes: list[Outcome | None], cost: Floats, labels: Floats, bootstrap: PairedBootstrap
) -> list[dict[str, Any] | None]:
    """Of each candidate, what was chosen to match it; the intervals of all come from one pass over
    the resamples.
    """
    shown = [(m, outcome) for m, outcome in enumerate(outcomes) if outcome]
    found: list[dict[str, Any] | None] = [None] * len(outcomes)
    if not shown:
        return found
    spent = np.stack([outcome.cost for _, outcome in shown], axis=1)
    gains = np.stack([gains_over(outcome.quality, labels[:, m]) for m, outcome in shown], axis=1)
    of_cost, of_gain = np.split(bootstrap.intervals(np.concatenate([spent, gains], axis=1)), 2)
    for i, (m, outcome) in enumerate(shown):
        found[m] = {
            "lambda": outcome.lam,
            "cost_ratio": ratio(float(spent[:, i].mean()), float(cost[m])),
            "cost_ratio_interval": (of_cost[i] / cost[m]).tolist() if cost[m] > 0 else None,
            "gain": float(gains[:, i].mean()),
            "interval": of_gain[i].tolist(),
        }
    return found


def _at_cost(found: Family, cost: float, labels: Floats) -> dict[str, Any]:
    """The paper's figures for one candidate with ``labels`` (n_test,)."""
    position, quality = _affordable(found, cost), float(labels.mean())
    match = position_to_match(found.curve, quality, found.linear)
    return {
        "quality_at_cost": quality_at(found.curve, position),
        "se": standard_error(found.outcome(position).quality),
        "fixed_quality": quality,
        "fixed_se": standard_error(labels),
        "cost_ratio_to_match": None if match is None else ratio(cost_at(found.curve, match), cost),
    }


def _affordable(family: Family, cost: float) -> float:
    position = position_at_cost(family.curve, cost, family.linear)
    if position is None:
        raise ValueError(
            f"the curve ends at {family.curve.cost.min()}, above the cost {cost}: it must reach the"
            " cheapest candidate"
        )
    return position
