"""Loading of the results of stage train: estimators, their predictive spreads (the standard
deviations of labels around predictions), and out-of-fold predictions of the train split.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyarrow import ArrowException
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.common.files import damage_reported
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import set_embeddings_folder
from catimage.estimators.reordered import reordered
from catimage.workspace import Workspace

OUT_OF_FOLD = "out_of_fold.parquet"
"""The file in an estimator's folder that contains the out-of-fold predictions of the training
prompts. Its columns are ``prompt_id`` and one column per candidate.
"""


def load_estimator(workspace: Workspace, folder: Path, candidates: list[str]) -> Pipeline:
    """Return a trained estimator, or the predictive spread of one, that reads the stored embeddings
    of the workspace. Its candidates are in the order of ``candidates``.

    Raises:
        InputError: the folder contains no estimator, or the estimator was trained on other
            candidates.
    """
    estimator, meta = store.load(folder)
    if sorted(meta["candidates"]) != sorted(candidates):
        raise InputError(
            f"{folder}: the estimator was trained on other candidates. Run 'catimage train' and"
            " 'catimage calibrate' again."
        )
    set_embeddings_folder(estimator, workspace.embeddings)
    return reordered(estimator, meta["candidates"], candidates)


def trained_metrics(workspace: Workspace, routing_metric: str) -> list[str]:
    """Return the metrics that have trained estimators, beginning with the routing metric."""
    names = sorted(path.name for path in workspace.estimators.glob("*") if path.is_dir())
    return [routing_metric, *(name for name in names if name != routing_metric)]


def load_estimators(
    workspace: Workspace, metric: str, candidates: list[str], first: str = ""
) -> Iterator[tuple[str, Pipeline]]:
    """Load the trained estimators of one metric, one at a time.

    Args:
        workspace: a workspace with trained estimators.
        metric: the name of the metric.
        candidates: the names of the candidates that the estimators must have been trained on.
        first: the name of an estimator to load before the others, if there is one of that name.

    Yields:
        The name of an estimator and the estimator, in the order of the names.

    Raises:
        InputError: there is no estimator, or an estimator was trained on other candidates.
    """
    folder = workspace.estimators / metric
    paths = [path for path in folder.glob("*") if path.is_dir()]
    if not paths:
        raise InputError(f"{folder}: no estimator found. Run 'catimage train' first.")
    for path in sorted(paths, key=lambda path: (path.name != first, path.name)):
        yield path.name, load_estimator(workspace, path, candidates)


def load_spread(workspace: Workspace, folder: Path) -> tuple[Pipeline, dict[str, Any]] | None:
    """Return a trained predictive spread and its metadata; None if ``folder`` does not exist."""
    if not folder.exists():
        return None
    spread, meta = store.load(folder)
    set_embeddings_folder(spread, workspace.embeddings)
    return spread, meta


def read_out_of_fold(path: Path, prompt_ids: list[str], candidates: list[str]) -> Floats | None:
    """Return the out-of-fold predictions (n_prompts, n_candidates) of an estimator, or None if the
    file does not exist (``train.folds: 0``).

    Raises:
        InputError: the file is damaged, or its prompts or candidates differ from the arguments.
    """
    if not path.exists():
        return None
    with damage_reported(path, "train", ArrowException):
        frame = pd.read_parquet(path, partitioning=None).set_index("prompt_id")
    same_candidates = set(frame.columns) == set(candidates)
    same_prompts = len(frame) == len(prompt_ids) and frame.index.isin(prompt_ids).all()
    if not (same_candidates and same_prompts):
        raise InputError(
            f"{path}: the prompts or candidates differ from those of the label tables. Run"
            " 'catimage train' again."
        )
    return frame.loc[prompt_ids, candidates].to_numpy(np.float64)


def n_settings_tried(folder: Path) -> int:
    """Return the number of combinations of settings that were compared on the validation split to
    select the settings of an estimator and of its members, if it is a stack.
    """
    return int(store.read_meta(folder).get("tried", 1))
