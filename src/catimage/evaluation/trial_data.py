"""A part of stage evaluate: what the trials of CATImage's Table 1 learn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.data.missing_labels import complete_rows
from catimage.data.schema import scores_array
from catimage.estimators.knn import CosineKNNRegressor
from catimage.estimators.load_estimators import trained
from catimage.evaluation.methods import MetricData, Pool
from catimage.evaluation.test_data import Known
from catimage.evaluation.trials import Lesson, possible_sizes, trials_document, whole_seeds
from catimage.params import Params
from catimage.stages.train import split_labels
from catimage.workspace import Workspace


def trials_of(
    workspace: Workspace,
    params: Params,
    known: Known,
    data: MetricData,
    test: pd.DataFrame,
    pool: Pool,
) -> tuple[dict[str, Any] | None, str | None]:
    """``trials`` of ``metrics.json`` for the routed metric, or None and why there are none.

    Args:
        test: rows of the prompts table that ``data.test`` has the labels of.
    """
    if not params.evaluate.trials:
        return None, "evaluate.trials is 0"
    rows = known.prompts[known.prompts["split"] == "train"]
    by_seed = scores_array(known.scores, data.metric, rows["prompt_id"].tolist(), pool.candidates)
    seeds = int(whole_seeds(by_seed).sum(axis=1).max())
    sizes = possible_sizes(params.evaluate.trial_seeds, seeds)
    if not sizes:
        wanted = ", ".join(map(str, params.evaluate.trial_seeds)) or "none"
        return (
            None,
            (
                f"the training prompts have {seeds} seed{'s' * (seeds != 1)}, and S ({wanted}) must"
                " be fewer than there are"
            ),
        )
    name, estimator = _nearest_neighbours(workspace, data, pool)
    if estimator is None:
        return (
            None,
            (
                f"no k-nearest-neighbours estimator is trained on {data.metric}: add knn to"
                " train.estimators"
            ),
        )
    about = {
        "estimator": name,
        "n_neighbors": int(estimator[-1].n_neighbors),
        "left_out": [size for size in params.evaluate.trial_seeds if size not in sizes],
    }
    texts, labels = split_labels(
        known.prompts, known.scores, "val", data.metric, pool.candidates, params
    )
    splits = (
        rows["prompt"].to_numpy(object),
        texts[complete_rows(labels)],
        test["prompt"].to_numpy(object),
    )
    lesson = _lesson(estimator, splits, by_seed, data, pool)
    return (
        about
        | trials_document(
            lesson, pool.candidates, sizes, params.evaluate.trials, params.evaluate.seed
        ),
        None,
    )


def _lesson(
    estimator: Pipeline,
    splits: tuple[np.ndarray, np.ndarray, np.ndarray],
    by_seed: Floats,
    data: MetricData,
    pool: Pool,
) -> Lesson:
    """From the prompts of the three splits, and the scores of the training prompts in the metric's
    own direction.
    """
    learned, chosen, judged = (np.asarray(estimator[:-1].transform(prompts)) for prompts in splits)
    scores = -by_seed if data.lower_is_better else by_seed
    return Lesson(
        estimator[-1], (learned, chosen, judged), scores, data.validation, data.test, pool.cost
    )


def _nearest_neighbours(
    workspace: Workspace, data: MetricData, pool: Pool
) -> tuple[str, Pipeline | None]:
    """The first trained estimator that is of nearest neighbours, ``knn`` before others."""
    for name in sorted(data.predictions, key=lambda name: (name != "knn", name)):
        estimator = trained(workspace, workspace.estimators / data.metric / name, pool.candidates)
        if isinstance(estimator[-1], CosineKNNRegressor):
            return name, estimator
    return "", None
