"""A part of ``add-candidate``: the trained estimators, each with the new candidate among the
others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.schema import CANDIDATES, SCORES, costs_of, read_table, scores_array
from catimage.errors import InputError, nearest
from catimage.estimators import store
from catimage.estimators.extended import FEWEST, extended
from catimage.estimators.fitting import Split, out_of_fold
from catimage.estimators.load_estimators import OUT_OF_FOLD, trained
from catimage.estimators.spread import save_spreads
from catimage.evaluation.test_data import trained_metrics
from catimage.params import Params
from catimage.router import Router
from catimage.stages.train import split_labels
from catimage.workspace import Workspace

FOLDS = 5
"""Of the cross-validation that an estimator without out-of-fold predictions gets."""


@dataclass(frozen=True)
class Growth:
    """A workspace, and the ``stage`` that has its tables with the candidate ``name`` and ``params``
    as they will be.
    """

    workspace: Workspace
    stage: Workspace
    params: Params
    router: Router
    prompts: pd.DataFrame
    name: str

    @cached_property
    def candidates(self) -> list[str]:
        """All names, cheapest first."""
        return costs_of(
            read_table(self.stage.candidates, CANDIDATES, "generate"), self.params.cost_unit
        )[0]

    @cached_property
    def place(self) -> int:
        """The column of the new one."""
        return self.candidates.index(self.name)

    @cached_property
    def train_ids(self) -> list[str]:
        """The prompts of the train split."""
        return self.prompts.loc[self.prompts["split"] == "train", "prompt_id"].tolist()


def extend_all(growth: Growth) -> int:
    """Writes every estimator of every trained metric, extended, and its predictive spread; returns
    how many prompts it learned from.

    Raises:
        InputError: the new candidate has no scores by a trained metric, or too few; or an estimator
            is of other candidates.
    """
    scores = read_table(growth.stage.scores, SCORES, "label")
    labelled = []
    for metric in trained_metrics(growth.workspace, growth.router.metric):
        _check_metric(scores, metric, growth.name)
        data = split_labels(
            growth.prompts, scores, "train", metric, growth.candidates, growth.params
        )
        labelled.append(int((~np.isnan(data[1][:, growth.place])).sum()))
        if labelled[-1] < FEWEST:
            what = (
                f"{labelled[-1]} prompts of the train split have a {metric} score of"
                f" {growth.name!r}"
            )
            raise InputError(
                f"{what}, and {FEWEST} are needed at least: score more of those that the call"
                " without --scores lists."
            )
        for source in sorted(
            p for p in (growth.workspace.estimators / metric).iterdir() if p.is_dir()
        ):
            _extend_one(growth, data, source, growth.stage.estimators / metric / source.name)
        by_seed = scores_array(scores, metric, growth.train_ids, growth.candidates)
        save_spreads(
            sorted((growth.stage.estimators / metric).glob(f"*/{OUT_OF_FOLD}")), data, by_seed
        )
    return labelled[0]


def _check_metric(scores: pd.DataFrame, metric: str, name: str) -> None:
    there = list(scores.loc[scores["candidate"] == name, "metric"].unique())
    if metric not in there:
        known = f"{nearest(metric, there)}; it has {', '.join(there)}"
        raise InputError(
            f"{name!r} has no score by {metric}, which estimators are trained on{known}: score that"
            " too."
        )


def _extend_one(growth: Growth, data: Split, source: Path, out: Path) -> None:
    texts, labels = data
    place, known = growth.place, np.delete(labels, growth.place, axis=1)
    estimator = trained(growth.workspace, source, growth.router.candidates)
    held = _held_out(source, growth)
    if held is None:
        held = out_of_fold(
            estimator, (texts, known), growth.params.train.folds or FOLDS, growth.params.train.seed
        )
    rows = np.flatnonzero(~np.isnan(labels[:, place]))
    grown = extended(estimator, place, texts[rows], held[rows], known[rows], labels[rows, place])
    features, regressor = grown.named_steps["features"], grown.named_steps["regressor"]
    predicted = regressor.added_to(held, features.transform(texts))
    predicted[rows, place] = regressor.held_out_
    frame = pd.DataFrame(predicted, columns=growth.candidates)
    frame.insert(0, "prompt_id", growth.train_ids)
    _, meta = store.load(source)
    store.save(
        grown,
        out,
        meta | {"candidates": growth.candidates, "added": [*meta.get("added", []), growth.name]},
    )
    frame.to_parquet(out / OUT_OF_FOLD, index=False)


def _held_out(source: Path, growth: Growth) -> Floats | None:
    """What the estimator said of the training prompts (n, m) when it had not learned from them;
    None where train kept none.
    """
    path = source / OUT_OF_FOLD
    if not path.exists():
        return None
    frame = pd.read_parquet(path).set_index("prompt_id")
    if not set(growth.train_ids) <= set(frame.index):
        raise InputError(
            f"{path} is of other prompts than {growth.workspace.prompts}: train and calibrate"
            " first."
        )
    return frame.loc[growth.train_ids, growth.router.candidates].to_numpy(np.float64)
