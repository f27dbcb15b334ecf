"""A part of stage evaluate: what is judged, and on what: the labels of the three splits, and the
predictions of the estimators.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.importers.scores import parse_scores
from catimage.data.missing_labels import complete_rows
from catimage.data.prompts.identity import folded
from catimage.data.schema import labels_of, scores_array
from catimage.errors import InputError
from catimage.estimators.load_estimators import trained
from catimage.evaluation.methods import MetricData
from catimage.metrics import lower_is_better
from catimage.params import Params
from catimage.router import Router
from catimage.stages.train import split_labels
from catimage.workspace import Workspace


@dataclass(frozen=True)
class Judged:
    """What the router is judged on: prompts and scores in the schemas of the tables, all of them
    test prompts.
    """

    prompts: pd.DataFrame
    scores: pd.DataFrame

    def of(self, metric: str) -> Judged:
        """The prompts that have a score by ``metric``."""
        scores = self.scores[self.scores["metric"] == metric]
        return Judged(
            self.prompts[self.prompts["prompt_id"].isin(scores["prompt_id"])].reset_index(
                drop=True
            ),
            scores,
        )


@dataclass(frozen=True)
class Known:
    """What is known before the test split is looked at: the prompts of the train and validation
    splits, and the scores table.
    """

    prompts: pd.DataFrame
    scores: pd.DataFrame


def judged_on(
    prompts: pd.DataFrame, table: pd.DataFrame, router: Router, scores: Path | None, whole: bool
) -> Judged:
    """The workspace's own test split, or all prompts of another scores file.

    Args:
        whole: whether every prompt of the file must have a score of the routed metric for every
            candidate.

    Raises:
        InputError: the test split is empty, or the file is not a scores file of the router's
            candidates and metric.
    """
    if scores is None:
        test = prompts[prompts["split"] == "test"].reset_index(drop=True)
        if test.empty:
            raise InputError(
                "prompts: the test split is empty; more prompts are needed (about 100 at least)."
            )
        return Judged(test, table)
    file = parse_scores(scores)
    file.check_candidates(router.candidates, "the router")
    routed = file.only(router.metric)
    if whole:
        routed.check_complete([router.metric], router.candidates)
    known = prompts.loc[prompts["split"] != "test", "prompt"].map(folded)  # in whatever spelling
    seen = int(file.prompts["prompt"].map(folded).isin(known).sum())
    if seen:
        print(
            f"evaluate: {seen:,} of the {len(file.prompts):,} prompts of {scores} were trained or"
            " calibrated on: its figures flatter.",
            flush=True,
        )
    return Judged(file.prompts, file.scores)


def trained_metrics(workspace: Workspace, routed: str) -> list[str]:
    """The metrics that have estimators, the routed one first."""
    return [
        routed,
        *sorted(p.name for p in workspace.estimators.glob("*") if p.is_dir() and p.name != routed),
    ]


def metric_data(
    workspace: Workspace,
    metric: str,
    known: Known,
    judged: Judged,
    candidates: list[str],
    params: Params,
) -> tuple[MetricData, pd.DataFrame]:
    """Labels of one metric on the three splits and the predictions of its estimators, and the rows
    of the prompts that it is judged on.

    Validation and test prompts that lack a label are left out, and counted.

    Raises:
        InputError: no prompt of the validation or the test split has a label for every candidate,
            or see :func:`predictions`.
    """
    lower = lower_is_better(metric, params)
    _, train = split_labels(known.prompts, known.scores, "train", metric, candidates, params)
    val_prompts, validation = split_labels(
        known.prompts, known.scores, "val", metric, candidates, params
    )
    by_seed = scores_array(judged.scores, metric, judged.prompts["prompt_id"].tolist(), candidates)
    test = labels_of(by_seed, lower, whole=params.validation.complete_labels)
    on_val, on_test = (
        _whole(labels, split, metric)
        for labels, split in ((validation, "validation"), (test, "test"))
    )
    by_seed = -by_seed[on_test] if lower else by_seed[on_test]
    left_out = {"validation": len(validation) - len(on_val), "test": len(test) - len(on_test)}
    data = MetricData(
        metric, train, validation[on_val], test[on_test], {}, by_seed, lower, left_out
    )
    prompts = judged.prompts.iloc[on_test].reset_index(drop=True)
    found = predictions(
        workspace, metric, candidates, val_prompts[on_val], prompts["prompt"].to_numpy(object)
    )
    return replace(data, predictions=found), prompts


def _whole(labels: Floats, split: str, metric: str) -> np.ndarray:
    rows = complete_rows(labels)
    if not len(rows):
        raise InputError(
            f"scores: no prompt of the {split} split has a {metric} score for every candidate, and"
            " only such prompts can be judged: generate and label the missing images of that"
            " split, or route on fewer candidates."
        )
    return rows


def predictions(
    workspace: Workspace,
    metric: str,
    candidates: list[str],
    validation: np.ndarray,
    test: np.ndarray,
) -> dict[str, tuple[Floats, Floats]]:
    """By estimator, what it predicts of the validation and of the test prompts, (n, n_candidates)
    each.

    Raises:
        InputError: no estimator is trained on ``metric``, or one was trained on other candidates.
    """
    folders = sorted(p for p in (workspace.estimators / metric).glob("*") if p.is_dir())
    if not folders:
        raise InputError(
            f"{workspace.estimators / metric} holds no estimator: run 'catimage train' first."
        )
    found = {}
    for folder in folders:
        estimator = trained(workspace, folder, candidates)
        found[folder.name] = (
            np.asarray(estimator.predict(validation), float),
            np.asarray(estimator.predict(test), float),
        )
    return found
