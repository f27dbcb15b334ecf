"""Homogeneous and heterogeneous pools (CATImage 5.3, figure 3): the gain from the candidates of
other generators.

A homogeneous pool consists of the candidates of one generator, usually its numbers of steps. The
router's predictions are restricted to these candidates; nothing is trained again.
"""

from __future__ import annotations

from typing import Any

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates
from catimage.evaluation.held_out import mean_over_budgets
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.policies import Method, routed_policies
from catimage.routing.curve import DeferralCurve

MIN_CANDIDATES = 3
"""Candidates that a homogeneous pool needs."""
MAX_ROWS = 200
"""Rows of a curve in ``metrics.json``."""

Split = tuple[Floats, Floats]
"""Predictions and labels of a split, (n_prompts, n_candidates) each."""


def homogeneous_pools(generators: tuple[str, ...]) -> dict[str, list[int]]:
    """Return, by generator, the indices of its candidates.

    Generators with fewer than three candidates, or with all candidates, are left out.
    """
    pools = {
        generator: [m for m, other in enumerate(generators) if other == generator]
        for generator in dict.fromkeys(generators)
    }
    return {
        generator: columns
        for generator, columns in pools.items()
        if MIN_CANDIDATES <= len(columns) < len(generators)
    }


def subsets_document(
    validation: Split, test: Split, candidates: Candidates, bootstrap: PairedBootstrap
) -> list[dict[str, Any]]:
    """Return ``subsets`` of ``metrics.json``: one row per homogeneous pool.

    ``mean_curve_quality`` and ``whole_mean_curve_quality`` are in-sample figures between the cost
    of the homogeneous pool's cheapest candidate and that of its most expensive one. ``selected``
    has the held-out counterparts and the ``gain`` of the whole pool over the homogeneous one,
    paired over prompts.

    Args:
        validation: the router's predictions and the labels.
        test: the router's predictions and the labels.
        candidates: the columns of these arrays.
        bootstrap: of the test prompts.
    """
    costs = candidates.costs
    whole = Method(routed_policies(*test, *test, costs), routed_policies(*validation, *test, costs))
    rows = []
    for generator, columns in homogeneous_pools(candidates.generators).items():
        own_validation, own_test = (
            (predicted[:, columns], labels[:, columns]) for predicted, labels in (validation, test)
        )
        names = [candidates.names[m] for m in columns]
        figures = _compare_pools(own_validation, own_test, costs[columns], whole, bootstrap)
        rows.append({"generator": generator, "candidates": names, **figures})
    return rows


def _compare_pools(
    validation: Split, test: Split, costs: Floats, whole: Method, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Compare a homogeneous pool with the whole one, between the homogeneous pool's costs."""
    low, high = float(costs.min()), float(costs.max())
    alone = routed_policies(*test, *test, costs).curve
    quality = mean_over_budgets(routed_policies(*validation, *test, costs), low, high)
    whole_quality = mean_over_budgets(whole.held_out, low, high)
    return {
        "costs": [low, high],
        "mean_curve_quality": alone.mean_quality(low, high),
        "whole_mean_curve_quality": whole.in_sample.curve.mean_quality(low, high),
        "selected": _held_out_gain(quality, whole_quality, bootstrap),
        "curve": _curve_rows(alone),
    }


def _held_out_gain(alone: Floats, whole: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Compare both pools by their quality per test prompt, averaged over budgets, (n_test,)."""
    gain = whole - alone
    return {
        "quality": float(alone.mean()),
        "whole_quality": float(whole.mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
    }


def _curve_rows(curve: DeferralCurve) -> list[list[float]]:
    thin = curve.thinned(MAX_ROWS)
    rows = zip(thin.cost, thin.quality, thin.lam, strict=True)
    return [[float(cost), float(quality), float(lam)] for cost, quality, lam in rows]
