"""Stage train: fit the estimators of each metric on the train split.

If an estimator has a grid of parameters, they are selected on the validation split.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.dataset import Dataset
from catimage.data.provenance import ESTIMATORS, VALIDATION, Provenance, write_inputs
from catimage.estimators import store
from catimage.estimators.build import build_estimator, in_dependency_order
from catimage.estimators.context import workspace_context
from catimage.estimators.fitting import (
    check_finite,
    check_labels,
    difference_error,
    fit,
    out_of_fold_predictions,
    selected_parameters,
    settings_named_in_errors,
)
from catimage.estimators.load_estimators import OUT_OF_FOLD
from catimage.estimators.spread import save_spreads
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params, TrainParams
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Write ``models/estimators/<metric>/<name>/`` for each trained metric and estimator.

    Unless ``train.folds`` is 0, the folder also has the out-of-fold predictions of the prompts of
    the train split (:data:`~catimage.estimators.load_estimators.OUT_OF_FOLD`) and an estimator of
    the predictive standard deviations (:mod:`catimage.estimators.spread`).

    Raises:
        InputError: the data have not passed validation since they changed, a table is missing, an
            estimator or a metric is unknown, an estimator cannot be fitted with its settings, or a
            candidate has no label.
    """
    provenance = Provenance(workspace)
    provenance.check(VALIDATION)
    inputs = provenance.inputs(ESTIMATORS)
    metrics = params.trained_metrics
    data = Dataset.read(
        workspace,
        params.cost_unit,
        lower_is_better_metrics(metrics, params.label, params.imported),
        params.validation.complete_labels,
    )
    train, val = data.split("train"), data.split("val")
    with replacing(workspace.estimators) as folder:
        for metric in metrics:
            check_labels(train.labels(metric), data.candidates.names, metric)
            _train_metric(metric, train, val, workspace, params, folder / metric)
            save_spreads(
                sorted((folder / metric).glob(f"*/{OUT_OF_FOLD}")),
                (train.texts, train.labels(metric)),
                train.score_rows(metric).label_noise(),
            )
        write_inputs(folder, inputs)


def _train_metric(
    metric: str, train: Dataset, val: Dataset, workspace: Workspace, params: Params, folder: Path
) -> None:
    """Fit and save all estimators of one metric, the members of a stack before the stack."""
    data = (train.texts, train.labels(metric)), (val.texts, val.labels(metric))
    fitted: dict[str, Pipeline] = {}
    tried: dict[str, int] = {}
    pool = None if params.imported else params.pool
    context = workspace_context(workspace, params.encoder, params.train, train.candidates, pool)
    for spec in in_dependency_order(params.train.estimators):
        pipeline, grid = build_estimator(spec, replace(context, members=fitted))
        with settings_named_in_errors(spec):
            estimator = fitted[spec.name] = fit(pipeline, grid, *data)
        predicted = estimator.predict(val.texts)
        check_finite(predicted, spec)
        tried[spec.name] = len(ParameterGrid(grid)) * prod(tried[name] for name in spec.members)
        meta = {
            "name": spec.name,
            "metric": metric,
            "candidates": train.candidates.names,
            "encoder": params.encoder.model_dump(),
            "chosen": selected_parameters(estimator, grid),
            "val_error": float(np.sqrt(difference_error(predicted, data[1][1]))),
            "tried": tried[spec.name],
        }
        _print_result(meta)
        store.save(estimator, folder / spec.name, meta)
        _save_out_of_fold(estimator, train, data[0][1], params.train, folder / spec.name)


def _print_result(meta: dict[str, Any]) -> None:
    """Print the selected parameters and the validation error of an estimator."""
    settings = f" {meta['chosen']}" if meta["chosen"] else ""
    print(
        f"train: {meta['metric']} {meta['name']}{settings} error of differences on validation"
        f" {meta['val_error']:.4f}",
        flush=True,
    )


def _save_out_of_fold(
    estimator: Pipeline, train: Dataset, labels: Floats, params: TrainParams, folder: Path
) -> None:
    """Write the out-of-fold predictions of the train split, unless ``train.folds`` is 0."""
    if not params.folds:
        return
    predicted = out_of_fold_predictions(estimator, (train.texts, labels), params.folds, params.seed)
    frame = pd.DataFrame(predicted, columns=train.candidates.names)
    frame.insert(0, "prompt_id", train.ids)
    frame.to_parquet(folder / OUT_OF_FOLD, index=False)
