"""``reports/metrics.json``: every method's deferral curve on the test split, and the honest figures
(CATImage 5).

All qualities are higher-is-better; those of a metric that is lower-is-better come negated, and the
document says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.missing_labels import best_single_candidate, mean_labels
from catimage.evaluation.budget import Operating, budget_document
from catimage.evaluation.curve_queries import (
    best_position,
    cost_at,
    position_at_cost,
    position_to_match,
    quality_at,
)
from catimage.evaluation.held_out import NO_MATCH, mean_over_budgets, selected
from catimage.evaluation.intervals import PairedBootstrap, standard_error
from catimage.evaluation.noise import noise_document, oracle_on_other_seeds
from catimage.evaluation.policies import Family, fixed, mix, routed
from catimage.evaluation.tables import by_candidate, ratio
from catimage.routing.curve import Curve

MOST_ROWS = 500


@dataclass(frozen=True)
class MetricData:
    """Labels of one metric on the three splits, and what each estimator predicts; higher is better.

    Attributes:
        metric: its name.
        train, validation, test: labels (n, n_candidates); those of the training prompts are NaN
            where one is missing, the others are whole.
        predictions: by estimator, the predictions (n_val, n_candidates) and (n_test, n_candidates).
        test_by_seed: scores (n_test, n_candidates, n_seeds), NaN where a seed is missing; None
            where seeds are not known.
        lower_is_better: whether the values were negated on the way in.
        left_out: by split (``validation``, ``test``), the number of prompts that were left out
            because a label of theirs is missing.
    """

    metric: str
    train: Floats
    validation: Floats
    test: Floats
    predictions: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    test_by_seed: Floats | None = None
    lower_is_better: bool = False
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Pool:
    """The candidates: their names, their costs (n_candidates,), the unit of these, and their
    generators where those are known.
    """

    candidates: list[str]
    cost: Floats
    unit: str
    generators: tuple[str, ...] = ()


def metrics_document(
    data: MetricData, others: list[MetricData], pool: Pool, router: Operating, draws: int, seed: int
) -> dict[str, Any]:
    """All of ``metrics.json``, ready for JSON (no NaN, no numpy).

    Args:
        data: the routed metric; ``others`` the other trained ones.
        router: what the calibrated router does.
        draws, seed: of the paired bootstrap; each metric draws the same resamples.
    """
    bootstrap = PairedBootstrap(len(data.test), draws, seed)
    best = best_single(data, pool.cost)
    top = metric_document(data, pool, bootstrap)
    by_metric = {data.metric: top}
    for other in others:
        same = len(other.test) == len(data.test)
        by_metric[other.metric] = metric_document(
            other, pool, bootstrap if same else PairedBootstrap(len(other.test), draws, seed)
        )
    return {
        "metric": data.metric,
        "cost_unit": pool.unit,
        "candidates": candidates_document(data.test, pool),
        "budget": budget_document(
            router,
            mean_labels(known_labels(data))[None],
            data.test,
            best,
            pool.candidates,
            pool.cost,
            bootstrap,
        ),
        **top,
        "by_metric": by_metric,
    }


def metric_document(data: MetricData, pool: Pool, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """One metric: its best single candidate, its oracle, and all methods."""
    best = best_single(data, pool.cost)
    val, test, cost = data.validation, data.test, pool.cost
    families = {
        "fixed": (fixed(test, test, cost), fixed(val, test, cost)),
        "mix": (mix(test, test, cost), mix(val, test, cost)),
        "oracle": (routed(test, test, test, test, cost), routed(val, val, test, test, cost)),
    }
    for name, (_, on_test) in data.predictions.items():
        families[name] = routed(on_test, test, on_test, test, cost), honest_family(data, name, cost)
    chosen = {name: _chosen(families[name][1]) for name in data.predictions}
    rival = mean_over_budgets(families["mix"][1], float(cost.min()), float(cost.max()))
    return {
        "lower_is_better": data.lower_is_better,
        "n_test": len(test),
        "left_out": data.left_out,
        "best_single": {
            "candidate": pool.candidates[best],
            "cost": float(cost[best]),
            "quality": float(test[:, best].mean()),
        },
        "oracle_quality": float(test.max(axis=1).mean()),
        "oracle_other_seeds_quality": (
            None if data.test_by_seed is None else oracle_on_other_seeds(data.test_by_seed)
        ),
        "noise": (
            None
            if data.test_by_seed is None
            else noise_document(data.test_by_seed, best, chosen, bootstrap)
        ),
        "methods": {
            name: method_document(*pair, best, rival, data, pool, bootstrap)
            for name, pair in families.items()
        },
    }


def _chosen(honest: Family) -> Floats:
    """What the policy of the best validation quality gives each test prompt: (n_test,)."""
    return honest.outcome(best_position(honest.curve)).quality


def honest_family(data: MetricData, estimator: str, cost: Floats) -> Family:
    """An estimator's policies, found on the validation split and judged on the test split."""
    on_val, on_test = data.predictions[estimator]
    return routed(on_val, data.validation, on_test, data.test, cost)


def best_single(data: MetricData, cost: Floats) -> int:
    """The candidate with the best mean label over the train and validation splits; a tie goes to
    the cheaper, then the first.
    """
    return best_single_candidate(known_labels(data), cost)


def known_labels(data: MetricData) -> Floats:
    """Labels of the train and validation splits, (n, n_candidates): what may be known before the
    test split is looked at.

    NaN where one is missing; every figure that is drawn from them goes through
    :func:`catimage.data.missing_labels.mean_labels`.
    """
    return np.concatenate([data.train, data.validation])


def candidates_document(test: Floats, pool: Pool) -> list[dict[str, Any]]:
    """Each candidate's cost, and its mean label on test (n_test, n_candidates) with the standard
    error over prompts.
    """
    columns = zip(pool.candidates, pool.cost, test.T, strict=True)
    return [
        {"candidate": name, "cost": float(c), "quality": float(y.mean()), "se": standard_error(y)}
        for name, c, y in columns
    ]


def method_document(
    found: Family,
    honest: Family,
    best: int,
    rival: Floats,
    data: MetricData,
    pool: Pool,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """One method; every figure is computed from the whole curve, which is thinned for the document
    alone.

    ``fixed`` has the candidates as its curve, the dearest first, with no lambda. ``mix`` has the
    vertices of its hull; between them its figures follow the straight edges, and
    ``mean_curve_quality`` integrates these.

    Args:
        found, honest: the method's family found on the test split and on the validation split.
        best: index of the best single candidate.
        rival: what the best mix of two fixed candidates gives each test prompt on average over
            budgets, (n_test,).
    """
    curve, linear, cost = found.curve, found.linear, pool.cost
    top = best_position(curve)
    afforded = position_at_cost(curve, float(cost[best]), linear)
    match = position_to_match(curve, float(data.test[:, best].mean()), linear)
    chosen = selected(honest, best, data.validation, data.test, cost, bootstrap)
    return {
        "max_quality": quality_at(curve, top),
        "max_quality_cost": cost_at(curve, top),
        "quality_at_best_single_cost": None if afforded is None else quality_at(curve, afforded),
        "cost_ratio_to_match_best_single": (
            None if match is None else ratio(cost_at(curve, match), float(cost[best]))
        ),
        "mean_curve_quality": curve.mean_quality(float(cost.min()), float(cost.max()), linear),
        "selected_mean_curve": _mean_curve(honest, rival, cost, bootstrap),
        "selected": chosen,
        "no_match": NO_MATCH if chosen["match"] is None else None,
        "by_candidate": by_candidate(
            found, honest, pool.candidates, cost, data.validation, data.test, bootstrap
        ),
        "curve": curve_rows(curve, _answers(found, data.test, cost)),
    }


def _mean_curve(
    honest: Family, rival: Floats, cost: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """The honest counterpart of ``mean_curve_quality``, and its ``gain`` over ``rival`` (n_test,),
    with their intervals.
    """
    quality = mean_over_budgets(honest, float(cost.min()), float(cost.max()))
    interval, gain = bootstrap.intervals(np.stack([quality, quality - rival], axis=1)).tolist()
    return {
        "quality": float(quality.mean()),
        "interval": interval,
        "gain_over_mix": float((quality - rival).mean()),
        "gain_interval": gain,
    }


def _answers(found: Family, test: Floats, cost: Floats) -> list[int]:
    """The points of the curve that answer ``by_candidate``."""
    asked = [position_at_cost(found.curve, float(c), found.linear) for c in cost]
    asked += [position_to_match(found.curve, float(y.mean()), found.linear) for y in test.T]
    ends = {int(end) for p in asked if p is not None for end in (np.floor(p), np.ceil(p))}
    return sorted(ends)


def curve_rows(curve: Curve, keep: list[int]) -> list[list[float | None]]:
    """Rows ``[cost, quality, lambda]`` (lambda None where there is none), thinned to 500; the ends,
    the best and ``keep`` stay.
    """
    thin = curve.thinned(MOST_ROWS, np.array(keep[: MOST_ROWS - 3], int))
    lam = [None if np.isnan(x) else float(x) for x in thin.lam]
    return [[float(c), float(q), x] for c, q, x in zip(thin.cost, thin.quality, lam, strict=True)]
