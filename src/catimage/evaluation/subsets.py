"""Homogeneous against heterogeneous pools (CATImage 5.3, figure 3): what candidates of other
generators add to one generator's.

A homogeneous pool is the candidates of one generator: its numbers of steps, mostly. The router's
predictions are used as they are, for those candidates alone; nothing is trained again.
"""

from __future__ import annotations

from typing import Any

from catimage.common.arrays import Floats
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import Pool
from catimage.evaluation.policies import routed
from catimage.routing.curve import Curve

FEWEST = 3
"""Candidates that make a pool of their own worth a curve."""
ROWS = 200

Judged = tuple[Floats, Floats]
"""Predictions and labels of a split, (n_prompts, n_candidates) each."""


def homogeneous(generators: tuple[str, ...]) -> dict[str, list[int]]:
    """By generator, the indices of its candidates, where it has three or more and is not the whole
    pool.
    """
    found = {
        g: [m for m, of in enumerate(generators) if of == g] for g in dict.fromkeys(generators)
    }
    return {g: members for g, members in found.items() if FEWEST <= len(members) < len(generators)}


def subsets_document(
    validation: Judged, test: Judged, pool: Pool, bootstrap: PairedBootstrap
) -> list[dict[str, Any]]:
    """``subsets`` of ``metrics.json``: a row a homogeneous pool, with the whole pool beside it over
    the same costs.

    ``mean_curve_quality`` and ``whole_mean_curve_quality`` read the test curves at their best, from
    the cost of the homogeneous pool's cheapest candidate to that of its dearest. ``selected`` has
    the honest counterparts (setting chosen on validation for each budget) and the ``gain`` of the
    whole pool over the homogeneous one, paired over prompts.

    Args:
        validation: the router's predictions and the labels; ``test`` likewise.
    """
    curve, honest = routed(*test, *test, pool.cost).curve, routed(*validation, *test, pool.cost)
    rows = []
    for generator, members in homogeneous(pool.generators).items():
        cost = pool.cost[members]
        low, high = float(cost.min()), float(cost.max())
        val, own = (_restricted(split, members) for split in (validation, test))
        alone = routed(*own, *own, cost).curve
        one, every = (
            mean_over_budgets(family, low, high) for family in (routed(*val, *own, cost), honest)
        )
        row = {
            "generator": generator,
            "candidates": [pool.candidates[m] for m in members],
            "costs": [low, high],
            "mean_curve_quality": alone.mean_quality(low, high),
            "whole_mean_curve_quality": curve.mean_quality(low, high),
        }
        rows.append(row | {"selected": _compared(one, every, bootstrap), "curve": _rows(alone)})
    return rows


def _restricted(split: Judged, members: list[int]) -> Judged:
    return split[0][:, members], split[1][:, members]


def _compared(alone: Floats, whole: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Both (n_test,), mean over budgets."""
    gain = whole - alone
    means = {
        "quality": float(alone.mean()),
        "whole_quality": float(whole.mean()),
        "gain": float(gain.mean()),
    }
    return means | {"interval": bootstrap.interval(gain)}


def _rows(curve: Curve) -> list[list[float]]:
    thin = curve.thinned(ROWS)
    return [
        [float(c), float(q), float(lam)]
        for c, q, lam in zip(thin.cost, thin.quality, thin.lam, strict=True)
    ]
