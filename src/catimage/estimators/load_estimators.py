"""What stage train has left: estimators, and what they said of the training prompts when they had
not learned from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from catimage.common.arrays import Floats
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.features.steps import look_up
from catimage.workspace import Workspace

OUT_OF_FOLD = "out_of_fold.parquet"
"""File name, in an estimator's folder, of its out-of-fold predictions of the training prompts: the
column ``prompt_id`` and one column per candidate.
"""


def trained(workspace: Workspace, folder: Path, candidates: list[str]) -> Pipeline:
    """A trained estimator or spread, which looks embeddings up that the sample stage has made.

    Raises:
        InputError: nothing is there, or it was trained on other ``candidates`` than those that are
            routed to.
    """
    estimator, meta = store.load(folder)
    if meta["candidates"] != candidates:
        raise InputError(
            f"{folder} was trained on other candidates: run 'catimage train' and 'catimage"
            " calibrate' again."
        )
    look_up(estimator, workspace.embeddings)
    return estimator


def read_out_of_fold(path: Path, prompt_ids: list[str], candidates: list[str]) -> Floats | None:
    """Out-of-fold predictions (n_prompts, n_candidates) of one estimator; None where there are none
    (``train.folds: 0``).

    Raises:
        InputError: they are of other prompts or candidates.
    """
    if not path.exists():
        return None
    frame = pd.read_parquet(path).set_index("prompt_id")
    if (
        set(frame.columns) != set(candidates)
        or not frame.index.isin(prompt_ids).all()
        or len(frame) != len(prompt_ids)
    ):
        raise InputError(
            f"{path} is of other prompts or candidates than the tables: run 'catimage train' again."
        )
    return frame.loc[prompt_ids, candidates].to_numpy(np.float64)


def tried(folder: Path) -> int:
    """Among how many estimators this one was chosen by its errors on the validation split:
    settings, and those of a stack's members.
    """
    return int(store.read_meta(folder).get("tried", 1))
