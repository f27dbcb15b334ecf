"""The key ``plateau`` of ``metrics.json``: the evaluation of the plateau rule.

The plateau rule chooses the number of denoising steps t* of each prompt by equation 7, from
predicted qualities and one weight per metric. OURS is the condition in which each prompt has the
number of steps of the rule. Equations, tables and figures are those of the BudgetFusion paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from catimage.common.arrays import Floats
from catimage.errors import InputError, nearest
from catimage.evaluation.evaluate import Evaluation
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.plateau.conditions import StepData, baseline_condition, conditions
from catimage.evaluation.plateau.data import SeriesData, series_estimators
from catimage.evaluation.plateau.statistics import (
    condition_document,
    condition_gain,
    error_by_step,
    prediction_errors,
    step_distribution,
)
from catimage.evaluation.plateau.steps import parse_budget, step_series
from catimage.evaluation.test_data import LabelledPredictions
from catimage.params import PlateauParams
from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import (
    PlateauCalibration,
    PlateauWeights,
    calibrate_weights,
)

COMPARED_CONDITIONS = ("uniform", "uniform_step", "shuffled", "reference")
"""Conditions that OURS is compared with."""


@dataclass(frozen=True)
class PlateauInputs:
    """Inputs of the plateau rule in addition to an :class:`Evaluation`.

    Attributes:
        step_groups: by candidate, the name of its step group. Candidates of one step group differ
            only in their number of steps.
        reference: the name of the pool's reference condition, or None.
        upper_ends: the upper end of the range of each lower-is-better metric; infinite if unknown.
        out_of_fold: by metric, the out-of-fold predictions of the metric's estimator for the
            training prompts, (n_train, n_candidates). Metrics without such predictions are left
            out.
        images: the folder of the image shards of the test prompts, or None.
    """

    step_groups: Mapping[str, str]
    reference: str | None = None
    upper_ends: Mapping[str, float] = field(default_factory=dict)
    out_of_fold: Mapping[str, Floats] = field(default_factory=dict)
    images: Path | None = None


@dataclass(frozen=True)
class CalibratedWeights:
    """The weights of equation 7.

    Attributes:
        weights: the weights in the order of the metrics, with their mean cost and gain.
        found_by: ``given`` if all weights are settings, ``gain`` if they maximize the gain over the
            same number of steps for all prompts, or ``budget`` if they keep a budget.
        prompts: the number of prompts that the weights were calibrated on.
    """

    weights: PlateauWeights
    found_by: str
    prompts: int


def plateau_document(evaluation: Evaluation, inputs: PlateauInputs) -> dict[str, Any] | None:
    """Return the key ``plateau`` of ``metrics.json``.

    Args:
        evaluation: the labels and predictions of all trained metrics.
        inputs: the further inputs of the plateau rule.

    Returns:
        The document; None if ``evaluate.plateau.metrics`` is empty, or if the test prompts come
        from a scores file that lacks one of these metrics.

    Raises:
        InputError: a metric or the estimator is not trained, the candidates have no steps, or the
            budget is invalid or too low.
    """
    settings = evaluation.settings.plateau
    data_by_metric = {data.metric: data for data in evaluation.metrics}
    if not settings.metrics or (
        evaluation.external and not set(settings.metrics) <= set(data_by_metric)
    ):
        return None
    _check_settings(settings, data_by_metric)
    data = SeriesData(
        {metric: data_by_metric[metric] for metric in settings.metrics},
        evaluation.candidates,
        step_series(evaluation.candidates, inputs.step_groups, inputs.reference),
        settings,
        inputs.upper_ends,
        inputs.out_of_fold,
        inputs.images,
    )
    calibrated = _calibrate(data)
    steps = data.step_data(calibrated.weights.omega)
    bootstrap = evaluation.bootstrap.for_prompts(len(steps.quality))
    statistics = rule_document(steps, settings, calibrated, bootstrap)
    return {"estimators": series_estimators(settings), **statistics}


def _check_settings(
    settings: PlateauParams, data_by_metric: Mapping[str, LabelledPredictions]
) -> None:
    if settings.literal and settings.budget:
        raise InputError(
            "evaluate.plateau: with 'literal', the rule always chooses the last step, so that no"
            " 'budget' can be met. Remove one of the two settings."
        )
    for metric, estimator in series_estimators(settings).items():
        if metric not in data_by_metric:
            raise InputError(
                f"evaluate.plateau.metrics: {metric!r} is not trained"
                f"{nearest(metric, list(data_by_metric))}. Add it to train.metrics, or use one"
                f" of the trained metrics {', '.join(data_by_metric)}."
            )
        names = list(data_by_metric[metric].predictions)
        if estimator not in names:
            raise InputError(
                f"evaluate.plateau.estimator: {estimator!r} is not trained on"
                f" {metric}{nearest(estimator, names)}. Set it to one of {', '.join(names)}."
            )


def _calibrate(data: SeriesData) -> CalibratedWeights:
    """Determine the weights by the section ``evaluate.plateau`` of ``params.yaml``."""
    settings = data.settings
    predicted, labels = data.calibration_set()
    given = [metric.weight for metric in settings.metrics.values()]
    calibration = PlateauCalibration(predicted, labels + data.offsets, data.costs, settings.margin)
    budget = parse_budget(settings.budget, data.costs)
    weights = calibrate_weights(calibration, given, budget)
    found_by = "budget" if settings.budget else "gain" if None in given else "given"
    return CalibratedWeights(weights, found_by, len(labels))


def rule_document(
    data: StepData,
    settings: PlateauParams,
    calibrated: CalibratedWeights,
    bootstrap: PairedBootstrap,
) -> dict[str, Any]:
    """Return the settings and results of the plateau rule (Tables 1 and 2, figures 8 and 12).

    Args:
        data: the step series of the test prompts.
        settings: the section ``evaluate.plateau`` of ``params.yaml``.
        calibrated: the weights of equation 7.
        bootstrap: resamples of the test prompts in ``data``.
    """
    estimator, weights, metrics = settings.estimator, calibrated.weights, data.metrics
    step_values = data.predicted[estimator]
    t_star = turning_points(step_values, weights.omega, settings.literal, settings.margin)
    by_condition = conditions(data, t_star)
    baselines = {b.candidate: baseline_condition(b) for b in data.baselines}
    return {
        **_rule_settings(data, settings, calibrated),
        "inverted": data.inversion_constants,
        "errors": {
            m: prediction_errors(data, i, estimator, bootstrap) for i, m in enumerate(metrics)
        },
        "error_by_step": {m: error_by_step(data, i, estimator) for i, m in enumerate(metrics)},
        "conditions": {
            n: condition_document(c, metrics, bootstrap) for n, c in by_condition.items()
        },
        "baselines": {n: condition_document(c, metrics, bootstrap) for n, c in baselines.items()},
        "gains": {
            m: {
                n: condition_gain(by_condition["ours"], by_condition[n], i, bootstrap)
                for n in COMPARED_CONDITIONS
            }
            for i, m in enumerate(metrics)
        },
        "chosen": step_distribution(data, t_star, weights.omega, settings, bootstrap),
    }


def _rule_settings(
    data: StepData, settings: PlateauParams, calibrated: CalibratedWeights
) -> dict[str, Any]:
    """Return the settings of the rule, the step series and the calibrated weights."""
    weights = calibrated.weights
    return {
        "estimator": settings.estimator,
        "literal": settings.literal,
        "margin": settings.margin,
        "unit": data.unit,
        "n_test": len(data.quality),
        "steps": [int(s) for s in data.steps],
        "costs": [float(c) for c in data.cost],
        "reference": data.candidates[data.reference],
        "weights": {
            "omega": dict(zip(data.metrics, weights.omega.tolist(), strict=True)),
            "found_by": calibrated.found_by,
            "calibrated_on": calibrated.prompts,
            "mean_cost": weights.mean_cost,
            "gain": weights.gain,
        },
    }
