"""Stage calibrate: the estimator that routes, and the rule that keeps the budget on the validation
split.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, costs_of, read_table
from catimage.errors import InputError, nearest
from catimage.estimators.load_estimators import trained, tried
from catimage.estimators.spread import FOLDER as SPREAD
from catimage.evaluation.estimator_choice import Comparison, compare, held_out
from catimage.evaluation.operating_rule import Found, Validation, find_rule
from catimage.params import Params
from catimage.routing.curve import safe_lambda
from catimage.routing.randomized import FORMAT, Rule
from catimage.stages.train import OUT_OF_FOLD, split_labels
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``models/router/``: the estimators, the costs, the rule, and the whole validation
    curve.

    Raises:
        InputError: no estimator is trained, the one named is not among them, what ``calibrate``
            asks for needs a model that is not trained, or nothing meets the budget or a floor (it
            says what does).
    """
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    scores = read_table(workspace.scores, SCORES, "label")
    names, costs = costs_of(
        read_table(workspace.candidates, CANDIDATES, "generate"), params.cost_unit
    )
    _check(workspace, params)
    best, compared = _choose(workspace, params, prompts, scores, names, costs)
    validation = _validation(workspace, params, best, (prompts, scores), names)
    found = find_rule(
        validation, costs, params, _looked(workspace.estimators / params.metric, best, compared)
    )
    _write(workspace, best, found, _document(params, best, compared, names, costs, found))
    if compared is not None:
        print(f"calibrate: {compared.sentence(params.metric)}", flush=True)
    print(f"calibrate: {best}, {found.sentence(params.cost_unit)}", flush=True)


def wanted(folder: Path, estimator: str) -> list[str]:
    """The trained estimators among which to calibrate: all for ``auto``, or the one named."""
    there = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not there:
        raise InputError(f"{folder} holds no estimator: run 'catimage train' first.")
    if estimator != "auto" and estimator not in there:
        raise InputError(
            f"calibrate.estimator: {estimator!r} is not trained{nearest(estimator, there)}; there"
            f" are {', '.join(there)}, or 'auto'."
        )
    return there if estimator == "auto" else [estimator]


def _check(workspace: Workspace, params: Params) -> None:
    """Settings that exclude each other, or need a metric's estimators."""
    asked = params.calibrate
    for metric in asked.floors:
        if metric == params.metric:
            raise InputError(
                f"calibrate.floors: {metric} is the metric that is routed on: set"
                " calibrate.quality_floor instead."
            )
        if not (workspace.estimators / metric).is_dir():
            raise InputError(
                f"calibrate.floors: {metric!r} has no estimator: add it to train.metrics, and train"
                " again."
            )
    if asked.floors and not asked.mix:
        raise InputError(
            "calibrate.floors: they are kept by mixing rules: leave calibrate.mix true, or the"
            " floors out."
        )
    given = [
        key
        for key in ("quality_floor", "floors", "confidence")
        if getattr(asked, key) not in (None, {})
    ]
    if len(given) > 1:
        raise InputError(
            f"calibrate.{given[0]} and calibrate.{given[1]} cannot both be kept:"
            f" {_WHY[given[0], given[1]]}; leave one out."
        )


_WHY = {
    (
        "quality_floor",
        "floors",
    ): "the one looks for the least cost, the other for the most quality within a budget",
    (
        "quality_floor",
        "confidence",
    ): "what is certain is that a budget holds, and with a quality floor there is none",
    (
        "floors",
        "confidence",
    ): "the certificate does not cover multipliers that are fitted to the same prompts",
}


def _choose(
    workspace: Workspace,
    params: Params,
    prompts: pd.DataFrame,
    scores: pd.DataFrame,
    names: list[str],
    costs: Floats,
) -> tuple[str, Comparison | None]:
    """The estimator that routes, and for ``auto`` how all compare: out of fold on the training
    prompts, or else on the validation split.
    """
    folder = workspace.estimators / params.metric
    among = wanted(folder, params.calibrate.estimator)
    if params.calibrate.estimator != "auto":
        return among[0], None
    held = held_out(
        folder, among, prompts.loc[prompts["split"] == "train", "prompt_id"].tolist(), names
    )
    texts, labels = split_labels(
        prompts, scores, "val" if held is None else "train", params.metric, names, params
    )
    predictions = (
        {name: trained(workspace, folder / name, names).predict(texts) for name in among}
        if held is None
        else held
    )
    found = compare(predictions, labels, costs, independent=held is not None)
    return found.best, found


def _looked(folder: Path, best: str, compared: Comparison | None) -> int:
    """Among how many estimators this one was chosen by a look at the validation split."""
    among = (
        [row.estimator for row in compared.rows]
        if compared and not compared.independent
        else [best]
    )
    return sum(tried(folder / name) for name in among)


def _validation(
    workspace: Workspace,
    params: Params,
    best: str,
    tables: tuple[pd.DataFrame, pd.DataFrame],
    names: list[str],
) -> Validation:
    """What the rule is calibrated on."""
    labels = {}
    for metric in (params.metric, *params.calibrate.floors):
        texts, labels[metric] = split_labels(*tables, "val", metric, names, params)
    source = workspace.estimators / params.metric / best
    predicted = [
        trained(workspace, workspace.estimators / metric / best, names).predict(texts)
        for metric in labels
    ]
    if params.calibrate.risk_aversion:
        if not (source / SPREAD).is_dir():
            raise InputError(
                f"calibrate.risk_aversion: {source} has no predictive spread: set train.folds to 2"
                " or more, and train again."
            )
        predicted[0] = predicted[0] - params.calibrate.risk_aversion * trained(
            workspace, source / SPREAD, names
        ).predict(texts)
    return Validation(np.stack(predicted), np.stack(list(labels.values())))


def _document(
    params: Params,
    best: str,
    compared: Comparison | None,
    names: list[str],
    costs: Floats,
    found: Found,
) -> dict[str, Any]:
    asked = params.calibrate
    return {
        "format": FORMAT,
        "metric": params.metric,
        "cost_unit": params.cost_unit,
        "pool": params.pool,
        "estimator": best,
        "candidates": names,
        "costs": [float(c) for c in costs],
        "budget": found.budget,
        "lambda": float(found.rule.lam.max()),
        "rule": found.rule.rows(list(asked.floors)),
        "mix": asked.mix,
        "confidence": asked.confidence,
        "quality_floor": asked.quality_floor,
        "floors": asked.floors,
        "risk_aversion": asked.risk_aversion,
        "validation_mean_cost": found.mean_cost,
        "validation_quality": found.quality,
        "validation_floors": found.kept,
        "compared": None if compared is None else compared.document(),
    }


def _write(workspace: Workspace, best: str, found: Found, document: dict[str, Any]) -> None:
    curve, source = found.curve, workspace.estimators / document["metric"] / best
    rows = {
        "lambda": [safe_lambda(curve, i) for i in range(len(curve))],
        "cost": curve.cost,
        "quality": curve.quality,
    }
    with replacing(workspace.router) as folder:
        shutil.copytree(
            source, folder / "estimator", ignore=shutil.ignore_patterns(SPREAD, OUT_OF_FOLD)
        )
        for metric in document["floors"]:
            shutil.copytree(
                workspace.estimators / metric / best,
                folder / "others" / metric,
                ignore=shutil.ignore_patterns(SPREAD, OUT_OF_FOLD),
            )
        if document["risk_aversion"]:
            shutil.copytree(source / SPREAD, folder / SPREAD)
        pd.DataFrame(rows).to_parquet(folder / "curve.parquet", index=False)
        if found.certified:
            _certified_frame(found.certified).to_parquet(folder / "certified.parquet", index=False)
        (folder / "router.json").write_text(json.dumps(document, indent=2) + "\n")


def _certified_frame(found: list[tuple[float, Rule]]) -> pd.DataFrame:
    """Columns ``budget, share, dearer_lambda, lambda``: what goes by the dearer rule; the two
    lambdas are one where nothing is mixed.
    """
    rows = [
        (budget, rule.share[0] if len(rule.share) > 1 else 0.0, rule.lam[0], rule.lam[-1])
        for budget, rule in found
    ]
    return pd.DataFrame(rows, columns=["budget", "share", "dearer_lambda", "lambda"])
