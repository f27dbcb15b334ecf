"""A part of stage evaluate: BudgetFusion's rule and conditions (section 4) on the pool's reference
generator by its number of steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from catimage.common.arrays import Floats
from catimage.data.missing_labels import complete_rows
from catimage.data.shards.manifest import read_manifest
from catimage.data.shards.store import shard_path
from catimage.errors import InputError, nearest
from catimage.estimators.load_estimators import read_out_of_fold
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import MetricData, Pool
from catimage.evaluation.plateau import plateau_document
from catimage.evaluation.plateau_conditions import Baseline, StepData
from catimage.evaluation.step_candidates import StepCandidates, step_candidates
from catimage.evaluation.test_data import Known
from catimage.metrics import declaration
from catimage.params import Params, Plateau
from catimage.routing.plateau import turning_points
from catimage.routing.plateau_weights import Weights, calibrate_weights
from catimage.stages.train import OUT_OF_FOLD, split_labels
from catimage.workspace import Workspace


def plateau(
    workspace: Workspace,
    params: Params,
    found: list[tuple[MetricData, pd.DataFrame]],
    known: Known,
    pool: Pool,
    own: bool,
) -> dict[str, Any] | None:
    """The key ``plateau`` of ``metrics.json``; None unless ``evaluate.plateau.metrics`` names
    metrics that the test prompts have scores of.

    Args:
        found: of each trained metric, what :func:`catimage.evaluation.test_data.metric_data`
            returned.
        own: whether the test prompts are the workspace's own, whose images' seconds are known.

    Raises:
        InputError: a metric or the estimator is not trained, the candidates have no steps, or the
            budget is not one or too low.
    """
    asked = params.evaluate.plateau
    by_name = {data.metric: (data, prompts) for data, prompts in found}
    if not asked.metrics or (not own and not set(asked.metrics) <= set(by_name)):
        return None
    if asked.literal and asked.budget:
        raise InputError(
            "evaluate.plateau: read literally the last step always wins, so that no budget is kept:"
            " leave out literal or budget."
        )
    for metric in asked.metrics:
        _check(metric, asked.metrics[metric].estimator or asked.estimator, by_name)
    chosen = {metric: by_name[metric] for metric in asked.metrics}
    series = step_candidates(workspace, params, pool)
    cost = pool.cost[series.columns]
    metrics, uppers = (
        list(chosen),
        {m: _upper(d, params) for m, (d, _) in chosen.items() if d.lower_is_better},
    )
    predicted, labels = calibration_set(
        workspace, params, known, {m: d for m, (d, _) in chosen.items()}, pool, series.columns
    )
    quality = labels + np.array([uppers.get(m, 0.0) for m in metrics])[None, :, None]
    weights = calibrate_weights(
        predicted,
        quality,
        cost,
        [asked.metrics[m].weight for m in metrics],
        budget_of(asked.budget, cost),
        asked.margin,
    )
    how = (
        "budget"
        if asked.budget
        else "given"
        if all(m.weight is not None for m in asked.metrics.values())
        else "gain"
    )
    data = _step_data(workspace, chosen, uppers, pool, series, weights, asked, own)
    bootstrap = PairedBootstrap(len(data.quality), params.evaluate.bootstrap, params.evaluate.seed)
    document = plateau_document(data, asked, weights, how, len(labels), bootstrap)
    return {"estimators": _estimators(asked), **document}


def _check(
    metric: str, estimator: str, trained: dict[str, tuple[MetricData, pd.DataFrame]]
) -> None:
    if metric not in trained:
        known = list(trained)
        raise InputError(
            f"evaluate.plateau.metrics: {metric!r} is not trained{nearest(metric, known)}, but"
            f" {', '.join(known)}: add it to train.metrics."
        )
    there = list(trained[metric][0].predictions)
    if estimator not in there:
        raise InputError(
            f"evaluate.plateau.estimator: {estimator!r} is not trained on"
            f" {metric}{nearest(estimator, there)}; there are {', '.join(there)}."
        )


def _estimators(asked: Plateau) -> dict[str, str]:
    """By metric, the estimator that predicts its series."""
    return {metric: of.estimator or asked.estimator for metric, of in asked.metrics.items()}


def budget_of(text: str, cost: Floats) -> float | None:
    """A mean cost, or a share of the dearest step number's such as ``40%``; None for an empty text.

    Raises:
        InputError: it is neither.
    """
    if not text.strip():
        return None
    try:
        value = float(text.strip().removesuffix("%"))
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise InputError(
            f"evaluate.plateau.budget: {text!r} is neither a mean cost nor a percentage such as"
            " '40%'."
        )
    return value / 100 * float(cost.max()) if text.strip().endswith("%") else value


def _upper(data: MetricData, params: Params) -> float:
    """What the values of a lower-is-better metric are taken from: the upper end of its range, or
    the largest known label.
    """
    imported = params.imported is not None and params.imported.kind == "scores"
    end = float("inf") if imported else float(declaration(data.metric, params).range[1])
    return (
        end
        if np.isfinite(end)
        else float(-np.nanmin(np.concatenate([data.train, data.validation])))
    )


def calibration_set(
    workspace: Workspace,
    params: Params,
    known: Known,
    metrics: dict[str, MetricData],
    pool: Pool,
    columns: list[int],
) -> tuple[Floats, Floats]:
    """Predicted and measured series of prompts that the estimator has not learned from, (n,
    n_metrics, n_steps) each.

    Those of the validation split, and with ``train.folds`` the out-of-fold ones of the training
    split; only prompts that have all labels.

    Raises:
        InputError: there are none, or the out-of-fold predictions are of other prompts than the
            tables.
    """
    asked, names = _estimators(params.evaluate.plateau), pool.candidates
    labels = {
        m: split_labels(known.prompts, known.scores, "val", m, names, params)[1] for m in metrics
    }
    rows = {m: complete_rows(y) for m, y in labels.items()}
    common = _common(list(rows.values()))
    predicted = [
        data.predictions[asked[m]][0][np.searchsorted(rows[m], common)][:, columns]
        for m, data in metrics.items()
    ]
    measured = [labels[m][common][:, columns] for m in metrics]
    sets = [(np.stack(predicted, axis=1), np.stack(measured, axis=1))]
    ids = known.prompts.loc[known.prompts["split"] == "train", "prompt_id"].tolist()
    read = [
        read_out_of_fold(workspace.estimators / m / asked[m] / OUT_OF_FOLD, ids, names)
        for m in metrics
    ]
    held = [predictions[:, columns] for predictions in read if predictions is not None]
    if len(held) == len(metrics):
        truth = [data.train[:, columns] for data in metrics.values()]
        whole = _common([complete_rows(y) for y in truth])
        sets.append(
            (
                np.stack([h[whole] for h in held], axis=1),
                np.stack([y[whole] for y in truth], axis=1),
            )
        )
    both = np.concatenate([p for p, _ in sets]), np.concatenate([y for _, y in sets])
    if not len(both[0]):
        raise InputError(
            "evaluate.plateau: no validation prompt has a label of every plateau metric for every"
            " candidate."
        )
    return both


def _common(rows: list[np.ndarray]) -> np.ndarray:
    common = rows[0]
    for other in rows[1:]:
        common = np.intersect1d(common, other)
    return common


def _step_data(
    workspace: Workspace,
    chosen: dict[str, tuple[MetricData, pd.DataFrame]],
    uppers: dict[str, float],
    pool: Pool,
    series: StepCandidates,
    weights: Weights,
    asked: Plateau,
    own: bool,
) -> StepData:
    """The test prompts that have all labels of all metrics.

    Raises:
        InputError: there are none.
    """
    ids = _common([prompts["prompt_id"].to_numpy(str) for _, prompts in chosen.values()])
    if not len(ids):
        raise InputError(
            "evaluate.plateau: no test prompt has a label of every plateau metric for every"
            " candidate."
        )
    places = {
        m: pd.Index(prompts["prompt_id"]).get_indexer(pd.Index(ids))
        for m, (_, prompts) in chosen.items()
    }
    upper = np.array([uppers.get(m, 0.0) for m in chosen])[None, :, None]
    whole = np.stack([data.test[places[m]] for m, (data, _) in chosen.items()], axis=1) + upper
    predicted = {}
    for name in dict.fromkeys(
        [asked.estimator, *(n for data, _ in chosen.values() for n in data.predictions)]
    ):
        named = _estimators(asked) if name == asked.estimator else dict.fromkeys(chosen, name)
        of = [
            _predicted(data, named[m], places[m])[:, series.columns]
            for m, (data, _) in chosen.items()
        ]
        predicted[name] = np.stack(of, axis=1) + upper
    mean = (
        np.stack([np.nanmean(data.train[:, series.columns], axis=0) for data, _ in chosen.values()])
        + upper[0]
    )
    cost = pool.cost[series.columns]
    spent = float(
        cost[
            turning_points(predicted[asked.estimator], weights.omega, asked.literal, asked.margin)
        ].mean()
    )
    seconds = (
        seconds_of(workspace, ids.tolist(), pool.candidates)
        if own and workspace.images.exists()
        else None
    )
    return StepData(
        candidates=[pool.candidates[c] for c in series.columns],
        steps=series.steps,
        cost=cost,
        unit=pool.unit,
        metrics=list(chosen),
        inverted=uppers,
        quality=whole[:, :, series.columns],
        predicted=predicted,
        mean=mean,
        reference=series.reference,
        seconds=None if seconds is None else _all(seconds[:, series.columns]),
        baselines=_baselines(series, pool, whole, seconds, spent),
    )


def _predicted(data: MetricData, name: str, rows: np.ndarray) -> Floats:
    return (
        data.predictions[name][1][rows]
        if name in data.predictions
        else np.full((len(rows), data.test.shape[1]), np.nan)
    )


def _baselines(
    series: StepCandidates, pool: Pool, quality: Floats, seconds: Floats | None, spent: float
) -> list[Baseline]:
    """Of each other generator or setting, the candidate nearest in cost to what OURS spends
    (section 4.2: "for fair comparison").
    """
    nearest_of = [
        min(group, key=lambda c: abs(float(pool.cost[c]) - spent)) for group in series.others
    ]
    return [
        Baseline(
            pool.candidates[c],
            float(pool.cost[c]),
            quality[:, :, c],
            None if seconds is None else _all(seconds[:, c]),
        )
        for c in sorted(nearest_of, key=lambda c: float(pool.cost[c]))
    ]


def _all(values: Floats) -> Floats | None:
    return values if np.isfinite(values).all() else None


def seconds_of(workspace: Workspace, prompt_ids: list[str], candidates: list[str]) -> Floats:
    """Seconds of an image as measured when it was made, mean over seeds: (n_prompts, n_candidates),
    NaN where there is none.
    """
    frames = [
        pq.read_table(
            shard_path(workspace.images, entry.shard),
            columns=["prompt_id", "candidate", "seconds"],
            partitioning=None,
        ).to_pandas()
        for entry in read_manifest(workspace.images)
    ]
    mean = pd.concat(frames).groupby(["prompt_id", "candidate"])["seconds"].mean().unstack()
    found: Floats = mean.reindex(index=prompt_ids, columns=candidates).to_numpy(float)
    return found
