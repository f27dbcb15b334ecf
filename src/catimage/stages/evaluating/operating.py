"""A part of stage evaluate: what the calibrated router does with the test prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from catimage.evaluation.budget import Floor, Operating
from catimage.metrics import lower_is_better
from catimage.params import Params
from catimage.router import Router
from catimage.routing.rule import Floats
from catimage.tables import labels_of, scores_array


def operating_point(router: Router, test: pd.DataFrame, predicted: Floats, scores: pd.DataFrame, params: Params) -> Operating:
    """The router on test prompts, rows of the prompts table, with its predictions (n_test, n_candidates) of them.

    Args:
        scores: the scores table, for the labels of the metrics that have floors.
    """
    choices = router.rule.choices(router.scores(test["prompt"].tolist(), predicted), router.costs)
    floors = []
    for metric, floor in router.floors.items():
        sign = -1.0 if lower_is_better(metric, params) else 1.0
        floors.append(Floor(metric, floor, sign * _labels(router, test, scores, metric, params)))
    return Operating(
        router.estimator_name,
        router.budget,
        router.lam,
        predicted,
        tuple(router.rule.rows(list(router.floors))),
        choices,
        router.confidence,
        router.quality_floor,
        router.risk_aversion,
        tuple(floors),
    )


def _labels(router: Router, test: pd.DataFrame, scores: pd.DataFrame, metric: str, params: Params) -> Floats:
    """Labels (n_test, n_candidates) of a metric, higher is better; NaN where one is missing, as all are in a file without the metric."""
    if not ((scores["metric"] == metric) & scores["prompt_id"].isin(test["prompt_id"])).any():
        return np.full((len(test), len(router.candidates)), np.nan)
    by_seed = scores_array(scores, metric, test["prompt_id"].tolist(), router.candidates)
    return np.asarray(labels_of(by_seed, lower_is_better(metric, params), whole=False), np.float64)
