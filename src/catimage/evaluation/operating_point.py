"""A part of stage evaluate: what the calibrated router does with the test prompts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from catimage.common.arrays import Floats
from catimage.data.schema import labels_of, scores_array
from catimage.evaluation.budget import Floor, Operating
from catimage.router import Router, draws_of
from catimage.routing.randomized import Rule


def operating_point(
    router: Router, test: pd.DataFrame, predicted: Floats, scores: pd.DataFrame
) -> Operating:
    """The router on test prompts, rows of the prompts table, with its predictions (n_test,
    n_candidates) of them.

    Args:
        scores: the scores table, for the labels of the metrics that have floors.
    """
    texts = test["prompt"].tolist()
    return Operating(
        router.estimator_name,
        router.budget,
        router.rule,
        predicted,
        router.scores(texts, predicted),
        draws_of(texts),
        router.confidence,
        router.quality_floor,
        router.risk_aversion,
        tuple(
            Floor(metric, floor, _labels(router, test, scores, metric))
            for metric, floor in router.floors.items()
        ),
    )


def rule_at(router: Router, budget: float) -> Rule:
    """The rule by which the router serves at a budget; where it keeps floors, which it does at its
    own budget alone, the calibrated one.
    """
    return router.rule if router.floors else router.rule_for(budget=budget)


def _labels(router: Router, test: pd.DataFrame, scores: pd.DataFrame, metric: str) -> Floats:
    """Labels (n_test, n_candidates) in the metric's own direction; NaN where one is missing, as all
    are in a file without the metric.
    """
    if not ((scores["metric"] == metric) & scores["prompt_id"].isin(test["prompt_id"])).any():
        return np.full((len(test), len(router.candidates)), np.nan)
    by_seed = scores_array(scores, metric, test["prompt_id"].tolist(), router.candidates)
    return np.asarray(labels_of(by_seed, whole=False), np.float64)
