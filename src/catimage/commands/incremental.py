"""Extension of the trained estimators by a candidate, without training them again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.dataset import Dataset
from catimage.errors import InputError, nearest
from catimage.estimators import store
from catimage.estimators.extended import MIN_LABELS, extend_estimator
from catimage.estimators.fitting import out_of_fold_predictions
from catimage.estimators.load_estimators import OUT_OF_FOLD, load_estimator, read_out_of_fold
from catimage.estimators.spread import save_spreads
from catimage.metrics.registry import lower_is_better_metrics
from catimage.params import Params
from catimage.router import Router
from catimage.workspace import Workspace

DEFAULT_FOLDS = 5
"""The number of folds of the cross-validation if ``train.folds`` is 0."""


@dataclass(frozen=True)
class Extension:
    """A candidate that is added to the estimators of a workspace.

    Attributes:
        workspace: the workspace; its estimators have been trained without the candidate.
        staged: a temporary workspace whose tables contain the candidate; the extended estimators
            are written to it.
        params: the parameters of ``staged``.
        router: the router of ``workspace``.
        name: the name of the new candidate.
    """

    workspace: Workspace
    staged: Workspace
    params: Params
    router: Router
    name: str


def extend_estimators(extension: Extension) -> int:
    """Extend every estimator of every trained metric by the candidate, and write the estimators.

    The predictive spread of each estimator (:mod:`catimage.estimators.spread`) is written too.

    Returns:
        The number of training prompts that have a label of the candidate by the router's metric.

    Raises:
        InputError: the candidate has no scores or too few scores by a trained metric, or an
            estimator was trained on other candidates.
    """
    params, source = extension.params, extension.workspace.estimators
    metrics = [path.name for path in sorted(source.iterdir()) if path.is_dir()]
    metrics.sort(key=lambda metric: metric != extension.router.metric)
    directions = lower_is_better_metrics(metrics, params.label, params.imported)
    complete = params.validation.complete_labels
    train = Dataset.read(extension.staged, params.cost_unit, directions, complete).split("train")
    counts = []
    for metric in metrics:
        _check_metric(extension, train, metric)
        labels = train.labels(metric)
        column = train.candidates.names.index(extension.name)
        counts.append(_check_count(extension, labels[:, column], metric))
        folder = extension.staged.estimators / metric
        for path in sorted(path for path in (source / metric).iterdir() if path.is_dir()):
            _extend(extension, train, labels, path, folder / path.name)
        predictions = sorted(folder.glob(f"*/{OUT_OF_FOLD}"))
        save_spreads(predictions, (train.texts, labels), train.score_rows(metric).label_noise())
    return counts[0]


def _check_metric(extension: Extension, train: Dataset, metric: str) -> None:
    """Check that the candidate has scores by ``metric``."""
    scores, name = train.scores, extension.name
    metrics = list(scores.loc[scores["candidate"] == name, "metric"].unique())
    if metric not in metrics:
        raise InputError(
            f"{_source(extension)}: the candidate {name!r} has no score by the trained metric"
            f" {metric!r}{nearest(metric, metrics)}. Add scores by this metric; the candidate only"
            f" has scores by {', '.join(metrics)}."
        )


def _source(extension: Extension) -> str:
    """Return the option or the file that the scores of the candidate are from, for messages."""
    return "data/scores.parquet" if extension.params.imported is None else "--scores"


def _check_count(extension: Extension, labels: Floats, metric: str) -> int:
    """Return the number of labels of the candidate; raise InputError if there are too few.

    Args:
        extension: the candidate.
        labels: the labels of the candidate, NaN where missing, (n_prompts,).
        metric: the name of the metric, for the message.
    """
    count = int((~np.isnan(labels)).sum())
    if count < MIN_LABELS:
        raise InputError(
            f"{_source(extension)}: {count} prompts of the train split have a {metric} score of"
            f" {extension.name!r}, and at least {MIN_LABELS} are needed. Score more prompts of the"
            " list that add-candidate writes without --scores."
        )
    return count


def _extend(
    extension: Extension, train: Dataset, labels: Floats, source: Path, target: Path
) -> None:
    """Extend one estimator; its predictions for the other candidates do not change.

    Args:
        extension: the candidate and the workspaces.
        train: the train split.
        labels: the labels of the train split, (n_prompts, n_candidates).
        source: the folder of the estimator.
        target: the folder of the extended estimator.
    """
    names, column = train.candidates.names, train.candidates.names.index(extension.name)
    other_labels = np.delete(labels, column, axis=1)
    estimator = load_estimator(extension.workspace, source, extension.router.candidates)
    predicted = read_out_of_fold(source / OUT_OF_FOLD, train.ids, extension.router.candidates)
    if predicted is None:
        settings = extension.params.train
        folds = settings.folds or DEFAULT_FOLDS
        predicted = out_of_fold_predictions(
            estimator, (train.texts, other_labels), folds, settings.seed
        )
    rows = np.flatnonzero(~np.isnan(labels[:, column]))
    extended = extend_estimator(
        estimator,
        column,
        train.texts[rows],
        predicted[rows],
        other_labels[rows],
        labels[rows, column],
    )
    features, regressor = extended.named_steps["features"], extended.named_steps["regressor"]
    all_predicted = regressor.insert_candidate(predicted, features.transform(train.texts))
    all_predicted[rows, column] = regressor.leave_one_out_
    _, meta = store.load(source)
    meta |= {"candidates": names, "added": [*meta.get("added", []), extension.name]}
    store.save(extended, target, meta)
    table = pd.DataFrame(all_predicted, columns=names)
    table.insert(0, "prompt_id", train.ids)
    table.to_parquet(target / OUT_OF_FOLD, index=False)
