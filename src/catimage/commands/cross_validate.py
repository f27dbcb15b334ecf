"""``catimage compare``: k-fold cross-validation of the estimators.

The command is meant for workspaces with few prompts. It uses all prompts but those of the split
``gate``, which only promotion reads. Each prompt is a test prompt in one fold. The
estimators, their parameters, lambda and the best single candidate of a fold are fitted or selected
on the prompts of the other folds.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from sklearn.model_selection import KFold

from catimage.commands.cross_validate_fold import AUTO, FoldEvaluator, FoldResult
from catimage.common.formatting import format_table
from catimage.data.dataset import Dataset
from catimage.data.missing_labels import complete_rows
from catimage.data.provenance import SCORES_FILE, Provenance
from catimage.errors import InputError
from catimage.estimators.context import workspace_context
from catimage.estimators.fitting import check_labels
from catimage.evaluation.comparison import (
    BASELINES,
    comparison_rows,
    concatenate_folds,
)
from catimage.evaluation.comparison_text import comparison_lines, comparison_table
from catimage.evaluation.intervals import PairedBootstrap
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params
from catimage.workspace import Workspace, replacing

PROMPTS_PER_FOLD = 10
"""The smallest number of prompts with all labels per fold."""


def run(workspace: Workspace, params: Params, folds: int = 5) -> dict[str, Any]:
    """Evaluate the estimators of ``train.estimators`` and write ``reports/comparison.json``.

    Returns:
        The content of the file.

    Raises:
        InputError: a table is missing, the scores are of other prompts or images, there are too few
            prompts with all labels for ``folds``, or an estimator is invalid.
    """
    Provenance(workspace).check(SCORES_FILE)
    directions = lower_is_better_metrics([params.metric], params.label, params.imported)
    complete = params.validation.complete_labels
    data = Dataset.read(workspace, params.cost_unit, directions, complete)
    data = data.split("train", "val", "test")
    labels = data.labels(params.metric)
    labelled = ~np.isnan(labels).all(axis=1)
    texts, labels = data.texts[labelled], labels[labelled]
    check_labels(labels, data.candidates.names, params.metric)
    _check_folds(folds, len(complete_rows(labels)))
    pool = None if params.imported else params.pool
    context = workspace_context(workspace, params.encoder, params.train, data.candidates, pool)
    evaluator = FoldEvaluator((texts, labels), data.candidates.costs, context, params.train)
    results = []
    splitter = KFold(folds, shuffle=True, random_state=params.train.seed)
    for number, (train, test) in enumerate(splitter.split(texts), 1):
        results.append(evaluator.evaluate(train, test))
        _print_progress(number, folds, results[-1])
    document = _document(results, params, lower_is_better=params.metric in directions)
    with replacing(workspace.reports / "comparison.json") as new:
        new.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return document


def _check_folds(folds: int, n_prompts: int) -> None:
    """Check that there are enough prompts with all labels for the folds."""
    max_folds = n_prompts // PROMPTS_PER_FOLD
    if max_folds < 2:
        raise InputError(
            f"{SCORES_FILE}: {n_prompts} prompts have all labels, and at least"
            f" {2 * PROMPTS_PER_FOLD} are needed. Score more prompts."
        )
    if not 2 <= folds <= max_folds:
        raise InputError(
            f"--folds {folds}: must be between 2 and {max_folds}, because each fold needs"
            f" {PROMPTS_PER_FOLD} prompts with all labels. Give another number."
        )


def _print_progress(number: int, folds: int, result: FoldResult) -> None:
    parts = [
        f"{name} {fitted.parameters or ''}".strip()
        for name, fitted in result.estimator_results.items()
    ]
    message = f"compare: fold {number} of {folds}: {', '.join(parts)}"
    print(message, file=sys.stderr, flush=True)


def _document(results: list[FoldResult], params: Params, lower_is_better: bool) -> dict[str, Any]:
    """Return the content of ``reports/comparison.json``."""
    best_quality = np.concatenate([result.best_single_quality for result in results])
    best_cost = np.concatenate([result.best_single_cost for result in results])
    bootstrap = PairedBootstrap(len(best_quality), params.evaluate.bootstrap, params.evaluate.seed)
    methods = concatenate_folds([result.outcomes for result in results])
    rows = comparison_rows(methods, best_quality, best_cost, bootstrap)
    return {
        "metric": params.metric,
        "lower_is_better": lower_is_better,
        "cost_unit": params.cost_unit,
        "n_prompts": len(best_quality),
        "folds": len(results),
        "best_single": {"quality": float(best_quality.mean()), "cost": float(best_cost.mean())},
        "auto": [result.auto_estimator for result in results],
        "estimators": [row | _fit_statistics(row["estimator"], results) for row in rows],
    }


def _fit_statistics(name: str, results: list[FoldResult]) -> dict[str, Any]:
    """Return the times of an estimator, and its parameters and in-sample cost ratio per fold.

    The result is empty for the baselines and for ``auto``.
    """
    if name in (*BASELINES, AUTO):
        return {}
    fits = [result.estimator_results[name] for result in results]
    return {
        "fit_seconds": float(np.mean([fitted.fit_seconds for fitted in fits])),
        "decision_ms": float(np.median([fitted.decision_ms for fitted in fits])),
        "chosen": [fitted.parameters for fitted in fits],
        "cost_ratio_to_match_best_single": [result.cost_ratios[name] for result in results],
    }


def to_text(document: dict[str, Any]) -> str:
    """Return the content of ``reports/comparison.json`` as a table and sentences."""
    header, cells = comparison_table(document["estimators"])
    auto_names = document["auto"]
    counts = ", ".join(f"{name} in {auto_names.count(name)}" for name in dict.fromkeys(auto_names))
    negated = " (values are negated: lower is better)" if document["lower_is_better"] else ""
    title = (
        f"{document['metric']}, {document['n_prompts']:,} prompts in {document['folds']} folds;"
        f" gains are over the best single candidate{negated}"
    )
    lines = [
        title,
        "",
        *format_table(header, cells),
        "",
        f"auto selected {counts} folds.",
        *comparison_lines(document["estimators"], AUTO),
    ]
    return "\n".join(lines)
