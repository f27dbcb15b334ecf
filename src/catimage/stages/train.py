"""Stage train: one estimator a name and metric, fitted on the train split, its parameters chosen on
the validation split.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.schema import (
    CANDIDATES,
    PROMPTS,
    SCORES,
    costs_of,
    labels_of,
    read_table,
    scores_array,
)
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import build_estimator
from catimage.estimators.context import EstimatorContext, Grid
from catimage.estimators.fitting import Split, difference_error, fit, out_of_fold, settings_of
from catimage.estimators.spread import save_spreads
from catimage.metrics import lower_is_better
from catimage.params import EstimatorParams, Params
from catimage.pool.step_groups import kinds_of, pool_of
from catimage.workspace import Workspace, replacing

OUT_OF_FOLD = "out_of_fold.parquet"
EQUAL = 1e-6
"""Labels that differ by less, relative to the larger one, are equal but for rounding; the gate's
``SPREAD`` is the same.
"""


@dataclass(frozen=True)
class Candidates:
    """What an estimator may know of the candidates, cheapest first."""

    names: list[str]
    steps: tuple[int, ...]
    generators: tuple[str, ...]


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
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    scores = read_table(workspace.scores, SCORES, "label")
    candidates = candidates_of(
        read_table(workspace.candidates, CANDIDATES, "generate"), params.cost_unit
    )
    with replacing(workspace.estimators) as folder:
        for metric in params.trained_metrics:
            data = {
                s: split_labels(prompts, scores, s, metric, candidates.names, params)
                for s in ("train", "val")
            }
            check_labels(data["train"][1], candidates.names, metric)
            ids = prompts.loc[prompts["split"] == "train", "prompt_id"]
            _train_metric(metric, candidates, data, ids, workspace, params, folder / metric)
            by_seed = scores_array(scores, metric, ids.tolist(), candidates.names)
            save_spreads(sorted((folder / metric).glob(f"*/{OUT_OF_FOLD}")), data["train"], by_seed)


def _train_metric(
    metric: str,
    candidates: Candidates,
    data: dict[str, Split],
    ids: pd.Series,
    workspace: Workspace,
    params: Params,
    out: Path,
) -> None:
    """All estimators of one metric, those that others are made of first."""
    fitted: dict[str, Pipeline] = {}
    tried: dict[str, int] = {}
    for spec in in_order(params.train.estimators):
        pipeline, grid = build_estimator(
            making(
                spec, candidates, workspace, params, {name: fitted[name] for name in spec.members}
            )
        )
        estimator = fitted[spec.name] = _fit(spec, pipeline, grid, data)
        tried[spec.name] = len(ParameterGrid(grid)) * prod(tried[name] for name in spec.members)
        error = float(np.sqrt(difference_error(estimator.predict(data["val"][0]), data["val"][1])))
        chosen = settings_of(estimator, grid)
        print(
            f"train: {metric} {spec.name} {chosen or ''} error of differences on validation"
            f" {error:.4f}",
            flush=True,
        )
        meta = {
            "name": spec.name,
            "metric": metric,
            "candidates": candidates.names,
            "encoder": params.encoder.model_dump(),
            "chosen": chosen,
            "val_error": error,
            "tried": tried[spec.name],
        }
        held = (
            out_of_fold(estimator, data["train"], params.train.folds, params.train.seed)
            if params.train.folds
            else None
        )
        _save(estimator, meta, held, ids, out / spec.name)


def _fit(spec: EstimatorParams, pipeline: Pipeline, grid: Grid, data: dict[str, Split]) -> Pipeline:
    with as_set(spec):
        fitted = fit(pipeline, grid, data["train"], data["val"])
    check_finite(spec, fitted.predict(data["val"][0]))
    return fitted


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


def _save(
    estimator: Pipeline, meta: dict[str, Any], held: Floats | None, ids: pd.Series, out: Path
) -> None:
    store.save(estimator, out, meta)
    if held is not None:
        frame = pd.DataFrame(held, columns=meta["candidates"])
        frame.insert(0, "prompt_id", ids.to_numpy())
        frame.to_parquet(out / OUT_OF_FOLD, index=False)


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
    names, _ = costs_of(table, unit)
    rows = table[table["unit"] == unit].set_index("candidate").loc[names]
    return Candidates(
        names, tuple(int(s) for s in rows["steps"]), tuple(rows["generator"].astype(str))
    )


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
    by_seed = scores_array(scores, metric, rows["prompt_id"].tolist(), candidates)
    labels = labels_of(
        by_seed, lower_is_better(metric, params), whole=params.validation.complete_labels
    )
    return rows["prompt"].to_numpy(object), labels
