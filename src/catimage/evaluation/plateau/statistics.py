"""Results of the plateau rule as dictionaries.

They are Tables 1 and 2, equations 8 and 9, and figures 8 and 12 of the BudgetFusion paper. OURS,
UNIFORM and the other conditions are defined in :mod:`catimage.evaluation.plateau.conditions`. The
number of steps that the plateau rule chooses for a prompt is t*.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats, Ints
from catimage.evaluation.intervals import PairedBootstrap, gains_over, standard_error, verdict
from catimage.evaluation.plateau.conditions import Condition, StepData, conditions
from catimage.params import PlateauParams
from catimage.routing.plateau import turning_points

TRAINING_MEAN = "mean of the training labels"
"""Name of the constant prediction in Table 1."""


def prediction_errors(
    data: StepData, metric: int, estimator: str, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return Table 1 for one metric: mean absolute errors over prompts and steps.

    There is one row per estimator that is trained on the metric, and one for the mean of the
    training labels. ``difference`` is the row's error minus that of ``estimator``, and
    ``difference_interval`` its paired interval.

    Args:
        data: the step series.
        metric: the position of the metric.
        estimator: the name of the estimator of the plateau rule.
        bootstrap: resamples of the test prompts.
    """
    predicted = {
        name: p[:, metric] for name, p in data.predicted.items() if not np.isnan(p[:, metric]).any()
    }
    predicted[TRAINING_MEAN] = np.broadcast_to(data.mean[metric], data.quality[:, metric].shape)
    errors = {
        name: np.abs(p - data.quality[:, metric]).mean(axis=1) for name, p in predicted.items()
    }
    return {
        name: {
            "mae": float(error.mean()),
            "se": standard_error(error),
            "interval": bootstrap.interval(error),
            "difference": float((error - errors[estimator]).mean()),
            "difference_interval": bootstrap.interval(error - errors[estimator]),
        }
        for name, error in errors.items()
    }


def error_by_step(data: StepData, metric: int, estimator: str) -> list[dict[str, Any]]:
    """Return figure 12 for one metric: the mean absolute error at each number of steps.

    ``mae_of_mean`` is the error if every prediction were the mean of the training labels.

    Args:
        data: the step series.
        metric: the position of the metric.
        estimator: the name of the estimator of the plateau rule.
    """
    error = np.abs(data.predicted[estimator][:, metric] - data.quality[:, metric])
    error_of_mean = np.abs(data.mean[metric] - data.quality[:, metric])
    return [
        {
            "steps": int(steps),
            "mae": float(errors.mean()),
            "se": standard_error(errors),
            "mae_of_mean": float(errors_of_mean.mean()),
        }
        for steps, errors, errors_of_mean in zip(
            data.steps.tolist(), error.T, error_of_mean.T, strict=True
        )
    ]


def condition_document(
    condition: Condition, metrics: list[str], bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return a row of Table 2: cost, number of steps, seconds per image, and quality by metric."""
    cost, seconds = condition.expected_cost, condition.seconds
    return {
        "cost": float(cost.mean()),
        "cost_interval": bootstrap.interval(cost),
        "steps": None if condition.steps is None else float(condition.steps.mean()),
        "seconds": (
            None
            if seconds is None
            else {
                "mean": float(seconds.mean()),
                "deviation": float(seconds.std()),
                "interval": bootstrap.interval(seconds),
            }
        ),
        "metrics": {m: _quality(condition, i, bootstrap) for i, m in enumerate(metrics)},
    }


def _quality(condition: Condition, metric: int, bootstrap: PairedBootstrap) -> dict[str, Any]:
    """Return the mean quality and two measures of quality per cost.

    ``efficiency`` is equation 8, the mean of the quotients quality / cost, and ``per_cost`` is the
    quotient of the means.
    """
    cost = condition.expected_cost
    quality, efficiency = condition.quality[:, metric], condition.efficiency[:, metric]
    return {
        "quality": float(quality.mean()),
        "interval": bootstrap.interval(quality),
        "efficiency": float(efficiency.mean()),
        "efficiency_se": standard_error(efficiency),
        "efficiency_interval": bootstrap.interval(efficiency),
        "per_cost": float(quality.mean() / cost.mean()),
        "per_cost_interval": bootstrap.ratio_interval(quality, cost),
    }


def condition_gain(
    ours: Condition, other: Condition, metric: int, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return the gain of OURS over another condition.

    ``gain`` is the difference of the mean qualities. ``relative`` is equation 9: the mean over
    prompts of the quotient of the qualities, minus 1. It is None unless every quality of the other
    condition is positive. ``of_means`` is the quotient of the mean qualities, minus 1.
    ``efficiency`` is the difference of equation 8.

    Args:
        ours: the outcome of OURS.
        other: the outcome of the other condition.
        metric: the position of the metric.
        bootstrap: resamples of the test prompts.
    """
    own_quality, other_quality = ours.quality[:, metric], other.quality[:, metric]
    relative = own_quality / other_quality - 1 if (other_quality > 0).all() else None
    gains = gains_over(own_quality, other_quality)
    efficiency = gains_over(ours.efficiency[:, metric], other.efficiency[:, metric])
    interval = bootstrap.interval(gains)
    ratio = bootstrap.ratio_interval(own_quality, other_quality)
    return {
        "gain": float(gains.mean()),
        "interval": interval,
        "verdict": verdict(interval),
        "relative": None if relative is None else float(relative.mean()),
        "relative_se": None if relative is None else standard_error(relative),
        "relative_interval": None if relative is None else bootstrap.interval(relative),
        "of_means": float(own_quality.mean() / other_quality.mean() - 1) if ratio else None,
        "of_means_interval": [end - 1 for end in ratio] if ratio else None,
        "efficiency": float(efficiency.mean()),
        "efficiency_interval": bootstrap.interval(efficiency),
    }


def step_distribution(
    data: StepData, t_star: Ints, omega: Floats, settings: PlateauParams, bootstrap: PairedBootstrap
) -> dict[str, Any]:
    """Return the distribution of t* over the test prompts.

    ``known`` has the distribution of the ideal t*, which is computed from the labels instead of
    predictions. It also has the gains of the ideal t* over UNIFORM at the same cost, an upper bound
    for any estimator. ``correlation`` is Pearson's correlation of the logarithms of t* and of the
    ideal t*, None if either is constant. It shows how well the plateaus of single prompts are
    predicted.

    Args:
        data: the step series.
        t_star: the position of t* in the series for each prompt, (n_test,).
        omega: the weights of equation 7, (n_metrics,).
        settings: the section ``evaluate.plateau`` of ``params.yaml``, with the settings ``literal``
            and ``margin`` of the rule.
        bootstrap: resamples of the test prompts.
    """
    ideal = turning_points(data.quality, omega, settings.literal, settings.margin)
    shares = [np.bincount(s, minlength=len(data.steps)) / len(t_star) for s in (t_star, ideal)]
    best = conditions(data, ideal)
    gains = {
        metric: condition_gain(best["ours"], best["uniform"], i, bootstrap)
        for i, metric in enumerate(data.metrics)
    }
    x, y = np.log(data.steps[t_star]), np.log(data.steps[ideal])
    return {
        "share": shares[0].tolist(),
        "mean": float(data.steps[t_star].mean()),
        "deviation": float(data.steps[t_star].std()),
        "known": {
            "share": shares[1].tolist(),
            "mean": float(data.steps[ideal].mean()),
            "gains": gains,
        },
        "correlation": float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else None,
    }
