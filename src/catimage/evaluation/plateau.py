"""BudgetFusion's evaluation (section 4) as a document: Table 1, Table 2, equations 8 and 9, and
figures 8 and 12.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.evaluation.intervals import PairedBootstrap, gains_over, standard_error, verdict
from catimage.evaluation.plateau_conditions import Condition, StepData, conditions, of_baseline
from catimage.params import Plateau
from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import Weights

RIVALS = ("uniform", "uniform_step", "shuffled", "reference")
MEAN = "mean of the training labels"


def plateau_document(
    data: StepData,
    asked: Plateau,
    weights: Weights,
    how: str,
    calibrated_on: int,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """The key ``plateau`` of ``metrics.json``.

    Args:
        asked: whose series the rule reads, and how it reads equation 7.
        weights: omegas in the order of ``data.metrics``.
        how: they were found (``given``, ``gain`` or ``budget``), on ``calibrated_on`` prompts.
    """
    estimator = asked.estimator
    stops = turning_points(data.predicted[estimator], weights.omega, asked.literal, asked.margin)
    found = conditions(data, stops)
    return {
        "estimator": estimator,
        "literal": asked.literal,
        "margin": asked.margin,
        "unit": data.unit,
        "n_test": len(stops),
        "steps": [int(s) for s in data.steps],
        "costs": [float(c) for c in data.cost],
        "reference": data.candidates[data.reference],
        "weights": {
            "omega": dict(zip(data.metrics, weights.omega.tolist(), strict=True)),
            "found_by": how,
            "calibrated_on": calibrated_on,
            "mean_cost": weights.mean_cost,
            "gain": weights.gain,
        },
        "inverted": data.inverted,
        "errors": {m: errors(data, i, estimator, bootstrap) for i, m in enumerate(data.metrics)},
        "error_by_step": {m: error_by_step(data, i, estimator) for i, m in enumerate(data.metrics)},
        "conditions": {name: _condition(c, data.metrics, bootstrap) for name, c in found.items()},
        "baselines": {
            b.candidate: _condition(of_baseline(b), data.metrics, bootstrap) for b in data.baselines
        },
        "gains": {
            m: {r: gain(found["ours"], found[r], i, bootstrap) for r in RIVALS}
            for i, m in enumerate(data.metrics)
        },
        "chosen": chosen(data, stops, weights.omega, asked, bootstrap),
    }


def errors(
    data: StepData, metric: int, estimator: str, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Table 1: the mean absolute error over prompts and steps in the metric's unit, of every
    estimator and of no estimator at all.

    ``difference`` is how much more than ``estimator`` each errs, with its paired interval.
    """
    known = {
        name: p[:, metric] for name, p in data.predicted.items() if not np.isnan(p[:, metric]).any()
    }
    known[MEAN] = np.broadcast_to(data.mean[metric], data.quality[:, metric].shape)
    each = {name: np.abs(p - data.quality[:, metric]).mean(axis=1) for name, p in known.items()}
    return {
        name: {
            "mae": float(error.mean()),
            "se": standard_error(error),
            "interval": bootstrap.interval(error),
            "difference": float((error - each[estimator]).mean()),
            "difference_interval": bootstrap.interval(error - each[estimator]),
        }
        for name, error in each.items()
    }


def error_by_step(data: StepData, metric: int, estimator: str) -> list[dict[str, Any]]:
    """Figure 12: the mean absolute error at each step with its standard error over prompts, and
    that of the training labels' mean.
    """
    error = np.abs(data.predicted[estimator][:, metric] - data.quality[:, metric])
    of_mean = np.abs(data.mean[metric] - data.quality[:, metric])
    rows = zip(data.steps.tolist(), error.T, of_mean.T, strict=True)
    return [
        {
            "steps": int(s),
            "mae": float(e.mean()),
            "se": standard_error(e),
            "mae_of_mean": float(b.mean()),
        }
        for s, e, b in rows
    ]


def _condition(found: Condition, metrics: list[str], bootstrap: PairedBootstrap) -> dict[str, Any]:
    spent = found.spent
    return {
        "cost": float(spent.mean()),
        "cost_interval": bootstrap.interval(spent),
        "steps": None if found.steps is None else float(found.steps.mean()),
        "seconds": None if found.seconds is None else _with_deviation(found.seconds, bootstrap),
        "metrics": {m: _quality(found, i, spent, bootstrap) for i, m in enumerate(metrics)},
    }


def _with_deviation(values: Floats, bootstrap: PairedBootstrap) -> dict[str, Any]:
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "interval": bootstrap.interval(values),
    }


def _quality(
    found: Condition, metric: int, spent: Floats, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """``efficiency`` is equation 8 (a mean of quotients), ``per_cost`` the quotient of the means."""
    quality, efficiency = found.quality[:, metric], found.efficiency[:, metric]
    return {
        "quality": float(quality.mean()),
        "interval": bootstrap.interval(quality),
        "efficiency": float(efficiency.mean()),
        "efficiency_se": standard_error(efficiency),
        "efficiency_interval": bootstrap.interval(efficiency),
        "per_cost": float(quality.mean() / spent.mean()),
        "per_cost_interval": bootstrap.ratio_interval(quality, spent),
    }


def gain(
    ours: Condition, rival: Condition, metric: int, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """What OURS has over a rival: in quality, in equation 9 (the mean over prompts of the quotient,
    less 1), in the quotient of the means, and in equation 8.

    ``relative`` is None where a prompt's rival has no quality above 0, which a quotient needs.
    """
    a, b = ours.quality[:, metric], rival.quality[:, metric]
    relative = a / b - 1 if (b > 0).all() else None
    better, more = (
        gains_over(ours.efficiency[:, metric], rival.efficiency[:, metric]),
        gains_over(a, b),
    )
    interval = bootstrap.interval(more)
    ratio = bootstrap.ratio_interval(a, b)
    return {
        "gain": float(more.mean()),
        "interval": interval,
        "verdict": verdict(interval),
        "relative": None if relative is None else float(relative.mean()),
        "relative_se": None if relative is None else standard_error(relative),
        "relative_interval": None if relative is None else bootstrap.interval(relative),
        "of_means": float(a.mean() / b.mean() - 1) if ratio else None,
        "of_means_interval": [r - 1 for r in ratio] if ratio else None,
        "efficiency": float(better.mean()),
        "efficiency_interval": bootstrap.interval(better),
    }


def chosen(
    data: StepData, stops: np.ndarray, omega: Floats, asked: Plateau, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """How t* is distributed, and what it would be if the labels were known beforehand (``known``).

    ``known`` also has what that t* gains over its own UNIFORM: the most that the rule can, by any
    estimator. ``correlation`` is Pearson's of the logarithms of both step numbers, None where
    either does not vary: whether a prompt's own plateau is predicted at all.
    """
    ideal = turning_points(data.quality, omega, asked.literal, asked.margin)
    counts = np.bincount(stops, minlength=len(data.steps))
    ideal_counts = np.bincount(ideal, minlength=len(data.steps))
    best = conditions(data, ideal)
    gains = {
        m: gain(best["ours"], best["uniform"], i, bootstrap) for i, m in enumerate(data.metrics)
    }
    x, y = np.log(data.steps[stops]), np.log(data.steps[ideal])
    return {
        "share": (counts / len(stops)).tolist(),
        "mean": float(data.steps[stops].mean()),
        "deviation": float(data.steps[stops].std()),
        "known": {
            "share": (ideal_counts / len(stops)).tolist(),
            "mean": float(data.steps[ideal].mean()),
            "gains": gains,
        },
        "correlation": float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else None,
    }
