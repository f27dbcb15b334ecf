"""The folder ``models/router/`` of a workspace: writing a calibrated router, and loading it after
checking that it belongs to the workspace.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.data.provenance import ROUTER, Provenance
from catimage.errors import InputError
from catimage.estimators import store
from catimage.estimators.load_estimators import OUT_OF_FOLD
from catimage.estimators.reordered import reordered
from catimage.estimators.spread import SPREAD_FOLDER
from catimage.router import Router
from catimage.routing.calibration import CalibratedRule
from catimage.routing.curve import lambda_of_point
from catimage.workspace import Workspace, replacing


def load_calibrated_router(
    workspace: Workspace, provenance: Provenance, metric: str, cost_unit: str
) -> Router:
    """Load the router of a workspace for its current parameters, tables and estimators.

    Args:
        workspace: the workspace.
        provenance: the digests of the workspace.
        metric: the parameter ``metric``.
        cost_unit: the parameter ``cost_unit``.

    Raises:
        InputError: there is no router or it is damaged, or it was calibrated for another metric or
            unit, or for other tables or estimators.
    """
    router = Router.load(workspace.router)
    for key, calibrated, configured in (
        ("metric", router.metric, metric),
        ("cost_unit", router.cost_unit, cost_unit),
    ):
        if calibrated != configured:
            raise InputError(
                f"params.yaml: {key} is {configured!r}, but models/router was calibrated for"
                f" {calibrated!r}. Run 'catimage train' and 'catimage calibrate'."
            )
    provenance.check(ROUTER)
    return router


def write_router(
    workspace: Workspace, calibrated: CalibratedRule, document: dict[str, Any]
) -> None:
    """Write a router to ``models/router/``.

    Args:
        workspace: the workspace, whose estimators are copied.
        calibrated: the calibrated rule.
        document: the content of ``router.json``.
    """
    curve, name, names = calibrated.curve, document["estimator"], document["candidates"]
    rows = {
        "lambda": [lambda_of_point(curve, i) for i in range(len(curve))],
        "cost": curve.cost,
        "quality": curve.quality,
    }
    with replacing(workspace.router) as folder:
        source = workspace.estimators / document["metric"] / name
        _copy_estimator(source, folder / "estimator", names)
        for metric in document["floors"]:
            _copy_estimator(workspace.estimators / metric / name, folder / "floors" / metric, names)
        if document["risk_aversion"]:
            _copy_estimator(source / SPREAD_FOLDER, folder / SPREAD_FOLDER, names)
        pd.DataFrame(rows).to_parquet(folder / "curve.parquet", index=False)
        if calibrated.certified is not None:
            certified = pd.DataFrame(calibrated.certified.to_columns())
            certified.to_parquet(folder / "certified.parquet", index=False)
        (folder / "router.json").write_text(json.dumps(document, indent=2) + "\n")


def _copy_estimator(source: Path, folder: Path, candidates: list[str]) -> None:
    """Copy an estimator without its spread and its out-of-fold predictions.

    If the candidates have another order than in the training, the copy has the new order.
    """
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(SPREAD_FOLDER, OUT_OF_FOLD))
    names = store.read_meta(source)["candidates"]
    if names != candidates:
        estimator, meta = store.load(source)
        new = reordered(estimator, names, candidates)
        store.save(new, folder, meta | {"candidates": candidates})
