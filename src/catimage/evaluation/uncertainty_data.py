"""A part of stage evaluate: the predictive spread of the router's estimator, which stage train has
saved beside it.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.missing_labels import complete_rows
from catimage.estimators import store
from catimage.estimators.features.steps import look_up
from catimage.estimators.spread import FOLDER
from catimage.evaluation.intervals import PairedBootstrap
from catimage.evaluation.methods import MetricData, Pool
from catimage.evaluation.test_data import Known
from catimage.evaluation.uncertainty import Beliefs, uncertainty_document
from catimage.params import Params
from catimage.router import Router
from catimage.stages.train import split_labels
from catimage.workspace import Workspace


def uncertainty_of(
    workspace: Workspace,
    params: Params,
    router: Router,
    known: Known,
    data: MetricData,
    test: pd.DataFrame,
    predicted: tuple[Floats, Floats],
    pool: Pool,
    bootstrap: PairedBootstrap,
) -> dict[str, Any] | None:
    """``uncertainty`` of ``metrics.json``, or None where the router's estimator has no spread of
    these candidates (``train.folds`` was 0).

    Args:
        data: of the routed metric; ``test`` are the rows of the prompts table that ``data.test``
            has the labels of.
        predicted: by the router's estimator, of the validation and of the test prompts that
            ``data`` has the labels of.
        bootstrap: of the test prompts.
    """
    folder = workspace.estimators / data.metric / router.estimator_name / FOLDER
    if not folder.exists() or data.test_by_seed is None:
        return None
    spread, meta = store.load(folder)
    if meta["candidates"] != pool.candidates:
        return None  # a candidate was added since, and nobody knows how far off it is
    look_up(spread, workspace.embeddings)
    texts, labels = split_labels(
        known.prompts, known.scores, "val", data.metric, pool.candidates, params
    )
    prompts = texts[complete_rows(labels)], test["prompt"].to_numpy(object)
    validation, judged = (
        Beliefs(p, spread.predict(t)) for p, t in zip(predicted, prompts, strict=True)
    )
    about = {
        "by_prompt": meta["penalty"] is not None,
        "log_likelihood_gain": meta["log_likelihood_gain"],
    }
    share, own = spread.named_steps["regressor"].seed_share_, router.risk_aversion
    return about | uncertainty_document(
        validation, judged, data.test_by_seed, pool, router.budget, bootstrap, share, own
    )
