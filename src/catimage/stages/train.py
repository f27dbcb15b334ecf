"""Stage train: one estimator a name and metric, fitted on the train split, its parameters chosen on the validation split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.build import Floats, build, fit
from catimage.metrics import lower_is_better
from catimage.params import Params
from catimage.tables import CANDIDATES, PROMPTS, SCORES, costs_of, labels_of, read_table, scores_array
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``models/estimators/<metric>/<name>/`` for each trained metric and each of ``train.estimators``.

    Raises:
        InputError: the gate has not passed, a table is missing, or an estimator or metric is unknown.
    """
    check_gate(workspace)
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    scores = read_table(workspace.scores, SCORES, "label")
    names, _ = costs_of(read_table(workspace.candidates, CANDIDATES, "generate"), params.cost_unit)
    with replacing(workspace.estimators) as folder:
        for metric in params.trained_metrics:
            data = {s: split_labels(prompts, scores, s, metric, names, params) for s in ("train", "val")}
            for name in dict.fromkeys(params.train.estimators):
                _train_one(name, metric, names, data, workspace, params, folder / metric / name)


def _train_one(
    name: str,
    metric: str,
    candidates: list[str],
    data: dict[str, tuple[np.ndarray, Floats]],
    workspace: Workspace,
    params: Params,
    out: Path,
) -> None:
    stored = workspace.embeddings(params.encoder.name)
    pipeline, grid = build(name, params.encoder, str(stored) if stored.exists() else None, params.train.seed)
    fitted = fit(pipeline, grid, data["train"], data["val"])
    error = float(np.sqrt(np.mean((fitted.predict(data["val"][0]) - data["val"][1]) ** 2)))
    chosen = {k.removeprefix("regressor__"): fitted.get_params()[k] for k in grid}
    print(f"train: {metric} {name} {chosen or ''} root mean squared error on validation {error:.4f}", flush=True)
    meta = {
        "name": name,
        "metric": metric,
        "candidates": candidates,
        "encoder": params.encoder.model_dump(),
        "chosen": chosen,
        "val_rmse": error,
    }
    store.save(fitted, out, meta)


def check_gate(workspace: Workspace) -> None:
    """Raises InputError unless the validate stage has passed on this workspace."""
    report = workspace.reports / "validation.json"
    if not report.exists() or not json.loads(report.read_text()).get("success"):
        raise InputError(f"{report} does not say that the data are valid: run 'catimage validate' first.")


def split_labels(
    prompts: pd.DataFrame, scores: pd.DataFrame, split: str, metric: str, candidates: list[str], params: Params
) -> tuple[np.ndarray, Floats]:
    """The prompts (n,) of a split and their labels (n, n_candidates), higher is better.

    Raises:
        InputError: the split is empty, or a label is missing.
    """
    rows = prompts[prompts["split"] == split]
    if rows.empty:
        raise InputError(f"prompts: the {split} split is empty; more prompts are needed (about 100 at least).")
    by_seed = scores_array(scores, metric, rows["prompt_id"].tolist(), candidates)
    return rows["prompt"].to_numpy(object), labels_of(by_seed, lower_is_better(metric, params))
