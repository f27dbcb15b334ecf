"""Routers whose predictions are tables, and samples of gate prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from catimage.router import Router
from catimage.routing.calibration import CalibratedRule
from catimage.routing.curve import DeferralCurve
from catimage.routing.randomized import RoutingRule
from catimage.tracking.objective import GateSample

Table = NDArray[np.float64]


class TableEstimator(Pipeline):
    """An estimator that predicts row ``i`` of a table for the prompt ``prompt i``."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def predict(self, prompts: NDArray[np.object_]) -> Table:
        return self.table[[int(prompt.split()[1]) for prompt in prompts]]


def router(table: Table, lam: float = 0.1, **changes: object) -> Router:
    """Return a router with the predictions of a table, and with changed attributes."""
    built = Router(
        TableEstimator(table),
        "table",
        "clip_score",
        "tflops",
        "made up",
        ["cheap", "expensive"],
        np.array([1.0, 2.0]),
        1.5,
        RoutingRule.from_parts((1, lam)),
        DeferralCurve(np.zeros(1), np.ones(1), np.ones(1)),
    )
    return replace(built, **changes)


def calibrated_router(
    predicted: Table, costs: Table, calibrated: CalibratedRule, **settings: object
) -> Router:
    """Return a router with a calibrated rule.

    Args:
        predicted: predictions of the routed metric and of the metrics of the floors,
            (1 + n_floors, n_prompts, n_candidates).
        costs: cost of one image of each candidate.
        calibrated: the rule.
        settings: the settings of ``calibrate``.
    """
    floors = settings.get("floors", {})
    assert isinstance(floors, Mapping)
    estimators = {m: TableEstimator(t) for m, t in zip(floors, predicted[1:], strict=True)}
    return router(
        predicted[0],
        candidates=[f"m{i}" for i in range(len(costs))],
        costs=costs,
        budget=calibrated.budget,
        rule=calibrated.rule,
        floor_estimators=estimators,
        **settings,
    )


def gate_sample(*labels: Table, rows: NDArray[np.int64] | None = None) -> GateSample:
    """Return a sample of the prompts ``rows`` (all by default) with labels of several metrics."""
    rows = np.arange(len(labels[0])) if rows is None else rows
    prompts = [f"prompt {i}" for i in rows.tolist()]
    return GateSample(prompts, np.stack([table[rows] for table in labels]))
