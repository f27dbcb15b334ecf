"""Homogeneous and heterogeneous pools (CATImage paper, section 5.3 and figure 3).

A homogeneous pool consists of the candidates of one generator, which usually differ in their number
of steps. It is compared with the whole pool, to measure the gain from the candidates of other
generators. The router's predictions are restricted to the candidates of the homogeneous pool;
nothing is trained again.
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
"""Minimum number of candidates of a homogeneous pool."""
MAX_ROWS = 200
"""Maximum number of rows of a curve in ``metrics.json``."""

Split = tuple[Floats, Floats]
"""The predictions and the labels of a split, both (n_prompts, n_candidates)."""


def homogeneous_pools(generators: tuple[str, ...]) -> dict[str, list[int]]:
    """Return the indices of the candidates of each homogeneous pool, by generator.

    Generators with fewer than three candidates, or with all candidates, are left out.

    Args:
        generators: the name of the generator of each candidate.
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
    """Return the key ``subsets`` of ``metrics.json``: one row per homogeneous pool.

    ``mean_curve_quality`` and ``whole_mean_curve_quality`` are the qualities of the homogeneous and
    of the whole pool, averaged over budgets from the cost of the homogeneous pool's cheapest
    candidate to that of its most expensive one. They are in-sample: lambda is selected on the test
    split. ``selected`` has the counterparts with lambda selected on the validation split, and the
    ``gain`` of the whole pool over the homogeneous one, paired over prompts.

    Args:
        validation: the router's predictions and the labels of the validation split.
        test: the router's predictions and the labels of the test split.
        candidates: the candidates, in the order of the columns of these arrays.
        bootstrap: resamples of the test prompts.
    """
    costs = candidates.costs
    complete_pool = Method(
        routed_policies(*test, *test, costs), routed_policies(*validation, *test, costs)
    )
    rows = []
    for generator, columns in homogeneous_pools(candidates.generators).items():
        own_validation, own_test = (
            (predicted[:, columns], labels[:, columns]) for predicted, labels in (validation, test)
        )
        names = [candidates.names[m] for m in columns]
        compared = _compare_pools(
            own_validation, own_test, costs[columns], complete_pool, bootstrap
        )
        rows.append({"generator": generator, "candidates": names, **compared})
    return rows


def _compare_pools(
    validation: Split, test: Split, costs: Floats, complete_pool: Method, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Compare a homogeneous pool with the whole pool.

    Args:
        validation: predictions and labels of the validation split for the homogeneous pool.
        test: predictions and labels of the test split for the homogeneous pool.
        costs: the costs of the homogeneous pool's candidates.
        complete_pool: the policies of the whole pool.
        bootstrap: resamples of the test prompts.
    """
    low, high = float(costs.min()), float(costs.max())
    alone = routed_policies(*test, *test, costs).curve
    quality = mean_over_budgets(routed_policies(*validation, *test, costs), low, high)
    whole_quality = mean_over_budgets(complete_pool.held_out, low, high)
    return {
        "costs": [low, high],
        "mean_curve_quality": alone.mean_quality(low, high),
        "whole_mean_curve_quality": complete_pool.in_sample.curve.mean_quality(low, high),
        "selected": _held_out_gain(quality, whole_quality, bootstrap),
        "curve": _curve_rows(alone),
    }


def _held_out_gain(alone: Floats, complete: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Compare two pools by the qualities of the test prompts, averaged over budgets, (n_test,)."""
    gain = complete - alone
    return {
        "quality": float(alone.mean()),
        "whole_quality": float(complete.mean()),
        "gain": float(gain.mean()),
        "interval": bootstrap.interval(gain),
    }


def _curve_rows(curve: DeferralCurve) -> list[list[float]]:
    thin = curve.thinned(MAX_ROWS)
    rows = zip(thin.cost, thin.quality, thin.lam, strict=True)
    return [[float(cost), float(quality), float(lam)] for cost, quality, lam in rows]
