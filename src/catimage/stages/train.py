"""Stage train: one estimator a name and metric, fitted on the train split, its parameters chosen on
the validation split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.dataset import Candidates, Dataset
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext
from catimage.estimators.fitting import difference_error, fit, out_of_fold, settings_of
from catimage.estimators.spread import save_spreads
from catimage.metrics import lower_is_better_metrics
from catimage.params import EstimatorParams, Params, Train
from catimage.pool.step_groups import kinds_of, pool_of
from catimage.workspace import Workspace, replacing

OUT_OF_FOLD = "out_of_fold.parquet"
EQUAL = 1e-6
"""Labels that differ by less, relative to the larger one, are equal but for rounding; the gate's
``SPREAD`` is the same.
"""


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``models/estimators/<metric>/<name>/`` for each trained metric and each of
    ``train.estimators``.

    Beside an estimator lies what it says of the training prompts when it has learned from the other
    folds alone (:data:`OUT_OF_FOLD`: ``prompt_id`` and a column a candidate), unless
    ``train.folds`` is 0.

    Raises:
        InputError: the gate has not passed, a table is missing, an estimator or metric is unknown,
            or a candidate has no label.
    """
    check_gate(workspace)
    metrics = params.trained_metrics
    data = Dataset.read(
        workspace,
        params.cost_unit,
        lower_is_better_metrics(metrics, params),
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
                train.seed_scores(metric),
            )


def _train_metric(
    metric: str, train: Dataset, val: Dataset, workspace: Workspace, params: Params, folder: Path
) -> None:
    """Fit and save all estimators of one metric; members of a stack come before the stack."""
    data = (train.texts, train.labels(metric)), (val.texts, val.labels(metric))
    fitted: dict[str, Pipeline] = {}
    tried: dict[str, int] = {}
    for spec in in_order(params.train.estimators):
        members = {name: fitted[name] for name in spec.members}
        pipeline, grid = build_estimator(making(spec, train.candidates, workspace, params, members))
        with as_set(spec):
            estimator = fitted[spec.name] = fit(pipeline, grid, *data)
        predicted = estimator.predict(val.texts)
        check_finite(spec, predicted)
        tried[spec.name] = len(ParameterGrid(grid)) * prod(tried[name] for name in members)
        meta = {
            "name": spec.name,
            "metric": metric,
            "candidates": train.candidates.names,
            "encoder": params.encoder.model_dump(),
            "chosen": settings_of(estimator, grid),
            "val_error": float(np.sqrt(difference_error(predicted, data[1][1]))),
            "tried": tried[spec.name],
        }
        _report(meta)
        store.save(estimator, folder / spec.name, meta)
        _save_out_of_fold(estimator, train, data[0][1], params.train, folder / spec.name)


def _report(meta: dict[str, Any]) -> None:
    settings = f" {meta['chosen']}" if meta["chosen"] else ""
    print(
        f"train: {meta['metric']} {meta['name']}{settings} error of differences on validation"
        f" {meta['val_error']:.4f}",
        flush=True,
    )


def _save_out_of_fold(
    estimator: Pipeline, train: Dataset, labels: Floats, params: Train, folder: Path
) -> None:
    """Write out-of-fold predictions of the training prompts, unless ``train.folds`` is 0."""
    if not params.folds:
        return
    predicted = out_of_fold(estimator, (train.texts, labels), params.folds, params.seed)
    frame = pd.DataFrame(predicted, columns=train.candidates.names)
    frame.insert(0, "prompt_id", train.ids)
    frame.to_parquet(folder / OUT_OF_FOLD, index=False)


@contextmanager
def as_set(spec: EstimatorParams) -> Iterator[None]:
    """Fitting an estimator as the user has set it: what fails for that reason is told, a fault of
    ours is not put down to the user.

    Raises:
        InputError: naming the settings and features.
    """
    said = _said(spec)
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, RuntimeError) as error:
        if not said:
            raise  # nothing that the user said
        why = " ".join(str(error).split())
        raise InputError(
            f"train.estimators: {spec.name} cannot be fitted with the settings {said} ({why}):"
            " correct them."
        ) from error


def check_finite(spec: EstimatorParams, predicted: Floats) -> None:
    """Raises InputError where an estimator predicts what is no number."""
    if not np.isfinite(predicted).all():
        said = _said(spec)
        mend = f"correct its settings ({said})" if said else "leave it out"
        raise InputError(
            f"train.estimators: {spec.name} predicts values that are no finite numbers: {mend}."
        )


def _said(spec: EstimatorParams) -> str:
    """The settings and features that the user has given."""
    features = (
        {"features": " and ".join(feature.kind for feature in spec.features)}
        if spec.features
        else {}
    )
    return ", ".join(f"{key}: {value}" for key, value in {**spec.settings, **features}.items())


def in_order(estimators: tuple[EstimatorParams, ...]) -> list[EstimatorParams]:
    """The estimators so that each comes after those that it is made of.

    Raises:
        InputError: some are made of each other, or one that is no stack has members.
    """
    if odd := [e for e in estimators if e.members and e.made_as != "stack"]:
        raise InputError(
            f"train.estimators: {odd[0].name} is a {odd[0].made_as}, and only a stack has members:"
            " leave its 'members' out."
        )
    done: list[EstimatorParams] = []
    left = list(estimators)
    while left:
        ready = [e for e in left if set(e.members) <= {d.name for d in done}]
        if not ready:
            raise InputError(
                f"train.estimators: {' and '.join(e.name for e in left)} are made of each other:"
                " take one out of 'members'."
            )
        done += ready
        left = [e for e in left if e not in ready]
    return done


def making(
    spec: EstimatorParams,
    candidates: Candidates,
    workspace: Workspace,
    params: Params,
    members: dict[str, Pipeline] | None = None,
) -> EstimatorContext:
    """What an estimator of this workspace is made from."""
    encoders = {params.encoder.name, *(f.encoder.name for f in spec.features if f.encoder)}
    stored = {
        name: str(workspace.embeddings(name))
        for name in encoders
        if workspace.embeddings(name).exists()
    }
    generators = candidates.generators
    if spec.made_as == "lstm":  # a series is of one setting, which the pool's file alone knows
        kinds = kinds_of(
            pool_of(workspace, params), dict(zip(candidates.names, generators, strict=True))
        )
        generators = tuple(kinds[name] for name in candidates.names)
    return EstimatorContext(
        spec, params.encoder, stored, candidates.steps, generators, members or {}, params.train.seed
    )


def candidates_of(table: pd.DataFrame, unit: str) -> Candidates:
    """The candidates that have a cost in ``unit``, cheapest first."""
    return Candidates.from_table(table, unit)


def check_gate(workspace: Workspace) -> None:
    """Raises InputError unless the validate stage has passed on this workspace."""
    report = workspace.reports / "validation.json"
    if not report.exists() or not json.loads(report.read_text()).get("success"):
        raise InputError(
            f"{report} does not say that the data are valid: run 'catimage validate' first."
        )


def check_labels(labels: Floats, candidates: list[str], metric: str) -> None:
    """There is something to learn from ``labels`` (n, n_candidates).

    Raises:
        InputError: there is one candidate, one has no label at all, or all labels are equal.
    """
    if len(candidates) == 1:
        raise InputError(
            f"candidates: {candidates[0]!r} is the only one, so that routing has nothing to choose"
            " from: add another."
        )
    for name, column in zip(candidates, labels.T, strict=True):
        if np.isnan(column).all():
            mend = "score it, or remove it from the pool or the files"
            raise InputError(
                f"scores: candidate {name!r} has no score by {metric} for any prompt of the train"
                f" split: {mend}."
            )
    low, high = float(np.nanmin(labels)), float(np.nanmax(labels))
    if high - low <= EQUAL * max(abs(low), abs(high)):
        mend = "route on another metric, or mend the scores"
        raise InputError(
            f"scores: every label of {metric} in the train split is {high:g}, so that there is"
            f" nothing to learn: {mend}."
        )


def split_labels(
    prompts: pd.DataFrame,
    scores: pd.DataFrame,
    split: str,
    metric: str,
    candidates: list[str],
    params: Params,
) -> tuple[np.ndarray, Floats]:
    """The prompts (n,) of a split and their labels (n, n_candidates), higher is better.

    With ``validate.complete_labels: false`` a label that is missing is NaN.

    Raises:
        InputError: the split is empty, or a label is missing that must not be.
    """
    rows = prompts[prompts["split"] == split]
    if rows.empty:
        raise InputError(
            f"prompts: the {split} split is empty; more prompts are needed (about 100 at least)."
        )
    data = Dataset(
        rows,
        scores,
        Candidates(candidates, np.zeros(len(candidates)), ""),
        lower_is_better_metrics([metric], params),
        params.validation.complete_labels,
    )
    return data.texts, data.labels(metric)
