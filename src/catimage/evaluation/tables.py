"""CATImage's Tables 2 and 3: what routing gives at each candidate's cost, and what matching each candidate costs."""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.evaluation.families import Family
from catimage.evaluation.intervals import PairedBootstrap, standard_error
from catimage.evaluation.lookup import cost_at, position_at_cost, position_to_match, quality_at
from catimage.routing.rule import Floats


def ratio(cost: float, of: float) -> float | None:
    """``cost / of``; None where ``of`` is nothing."""
    return cost / of if of > 0 else None


def by_candidate(
    found: Family, honest: Family, names: list[str], cost: Floats, labels: Floats, bootstrap: PairedBootstrap
) -> list[dict[str, Any]]:
    """A row a candidate, in the order of ``names``.

    ``quality_at_cost`` (Table 2) is the best point of the test curve at no more than the candidate's cost, ``se`` its
    standard error over prompts, and ``cost_ratio_to_match`` (Table 3) the cost of the cheapest point at least as good as
    the candidate, over its cost (None if no point is). These read the test curve at its best, as the paper does. The
    honest figures beside them choose the point on the validation split, best quality there at no more than the
    candidate's cost, and judge it on test: ``selected_lambda``, ``selected_cost``, ``selected_quality``, ``gain`` over
    the candidate, and its paired 95% ``interval``.

    Args:
        found, honest: the method's family found on the test split and on the validation split.
        cost: (n_candidates,); ``labels`` (n_test, n_candidates).
    """
    rows, gains = [], []
    for m, name in enumerate(names):
        row = {"candidate": name, "cost": float(cost[m]), **_at_cost(found, float(cost[m]), float(labels[:, m].mean()))}
        outcome = honest.outcome(_affordable(honest, float(cost[m])))
        gains.append(outcome.quality - labels[:, m])
        row |= {
            "selected_lambda": outcome.lam,
            "selected_cost": float(outcome.cost.mean()),
            "selected_quality": float(outcome.quality.mean()),
        }
        rows.append(row | {"gain": float(gains[-1].mean())})
    intervals = bootstrap.intervals(np.stack(gains, axis=1))
    return [row | {"interval": interval.tolist()} for row, interval in zip(rows, intervals, strict=True)]


def _at_cost(found: Family, cost: float, quality: float) -> dict[str, Any]:
    """The paper's figures for one candidate."""
    position = _affordable(found, cost)
    match = position_to_match(found.curve, quality, found.linear)
    return {
        "quality_at_cost": quality_at(found.curve, position),
        "se": standard_error(found.outcome(position).quality),
        "fixed_quality": quality,
        "cost_ratio_to_match": None if match is None else ratio(cost_at(found.curve, match), cost),
    }


def _affordable(family: Family, cost: float) -> float:
    position = position_at_cost(family.curve, cost, family.linear)
    if position is None:
        raise ValueError(f"the curve ends at {family.curve.cost.min()}, above the cost {cost}: it must reach the cheapest candidate")
    return position
