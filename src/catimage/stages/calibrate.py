"""Stage calibrate: select an estimator, and calibrate its routing rule on the validation split."""

from __future__ import annotations

from typing import Any

import numpy as np

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates, Dataset
from catimage.data.provenance import ESTIMATORS, ROUTER, Provenance
from catimage.data.router_files import FORMAT
from catimage.errors import InputError
from catimage.estimators.fast_predict import fast_predict
from catimage.estimators.load_estimators import load_estimator, n_settings_tried, trained_metrics
from catimage.estimators.spread import SPREAD_FOLDER
from catimage.evaluation.estimator_choice import EstimatorComparison, select_estimator
from catimage.evaluation.router_folder import write_router
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params
from catimage.routing.calibration import CalibratedRule, RuleRequirements, calibrate
from catimage.workspace import Workspace


def run(workspace: Workspace, params: Params) -> None:
    """Write ``models/router/``: estimators, costs, rule and validation deferral curve.

    Raises:
        InputError: an estimator that the settings need is not trained, or was trained on other
            tables, settings of ``calibrate`` exclude each other, or no rule meets the budget or a
            floor.
    """
    provenance = Provenance(workspace)
    provenance.check(ESTIMATORS)
    inputs = provenance.inputs(ROUTER)
    params.calibrate.check(params.metric, trained_metrics(workspace, params.metric))
    metrics = [params.metric, *params.calibrate.floors]
    lower = lower_is_better_metrics(metrics, params.label, params.imported)
    data = Dataset.read(workspace, params.cost_unit, lower, params.validation.complete_labels)
    name, comparison = select_estimator(workspace, params.metric, params.calibrate.estimator, data)
    calibrated = _calibrate(workspace, params, data.split("val"), name, comparison)
    document = _document(params, data.candidates, name, comparison, calibrated)
    write_router(workspace, calibrated, document | {"inputs": inputs})
    if comparison is not None:
        print(f"calibrate: {comparison.summary(params.metric)}", flush=True)
    print(f"calibrate: {name}, {calibrated.summary(params.cost_unit)}", flush=True)


def _calibrate(
    workspace: Workspace,
    params: Params,
    val: Dataset,
    name: str,
    comparison: EstimatorComparison | None,
) -> CalibratedRule:
    """Find the rule that meets the settings of ``calibrate`` on the validation split."""
    settings, folder = params.calibrate, workspace.estimators / params.metric
    compared = [name]
    if comparison is not None and not comparison.cross_validated:
        compared = [row.estimator for row in comparison.rows]
    requirements = RuleRequirements(
        metric=params.metric,
        budget=params.budget_as_cost(float(val.candidates.costs.max())),
        mix=settings.mix,
        quality_floor=settings.quality_floor,
        floors=settings.floors,
        confidence=settings.confidence,
        n_compared=sum(n_settings_tried(folder / name) for name in compared),
        lower_is_better=val.lower_is_better,
    )
    labels = np.stack([val.labels(metric) for metric in (params.metric, *settings.floors)])
    predicted = _predict(workspace, params, val, name)
    return calibrate(predicted, labels, val.candidates.costs, requirements)


def _predict(workspace: Workspace, params: Params, val: Dataset, name: str) -> Floats:
    """Predict the routed metric and the metrics of the floors.

    ``calibrate.risk_aversion`` predictive standard deviations are subtracted from the predictions
    of the routed metric.

    Returns:
        Predictions for the validation split, (1 + n_floors, n_val_prompts, n_candidates).
    """
    folders = [
        workspace.estimators / metric / name for metric in (params.metric, *params.calibrate.floors)
    ]
    candidates, aversion = val.candidates.names, params.calibrate.risk_aversion
    loaded = [load_estimator(workspace, folder, candidates) for folder in folders]
    predicted = [fast_predict(estimator, val.texts) for estimator in loaded]  # as the router does
    if aversion:
        if not (folders[0] / SPREAD_FOLDER).is_dir():
            raise InputError(
                f"calibrate.risk_aversion: {folders[0]} has no predictive spread. Set train.folds"
                " to 2 or more, and run 'catimage train' again."
            )
        spread = load_estimator(workspace, folders[0] / SPREAD_FOLDER, candidates)
        predicted[0] = predicted[0] - aversion * fast_predict(spread, val.texts)
    return np.stack(predicted)


def _document(
    params: Params,
    candidates: Candidates,
    name: str,
    comparison: EstimatorComparison | None,
    calibrated: CalibratedRule,
) -> dict[str, Any]:
    """Return the content of ``router.json``; :meth:`~catimage.router.Router.load` reads it."""
    settings = params.calibrate.model_dump(exclude={"estimator"})
    return settings | {
        "format": FORMAT,
        "metric": params.metric,
        "cost_unit": params.cost_unit,
        "pool": params.pool,
        "estimator": name,
        "candidates": candidates.names,
        "costs": candidates.costs.tolist(),
        "budget": calibrated.budget,
        "lambda": calibrated.lam,
        "rule": calibrated.rule.to_rows(list(params.calibrate.floors)),
        "validation_mean_cost": calibrated.mean_cost,
        "validation_quality": calibrated.quality,
        "validation_floors": dict(calibrated.floor_qualities),
        "compared": None if comparison is None else comparison.document(),
    }
