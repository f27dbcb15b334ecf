"""Stage calibrate: the estimator that routes, and the smallest lambda that keeps the budget on the validation split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.errors import InputError, nearest
from catimage.estimators import store
from catimage.estimators.build import Floats
from catimage.params import Params
from catimage.routing.calibration import Calibration, calibrate
from catimage.routing.curve import safe_lambda
from catimage.stages.train import split_labels
from catimage.tables import CANDIDATES, PROMPTS, SCORES, costs_of, read_table
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``models/router/``: the estimator, the costs, lambda, and the whole validation curve.

    Raises:
        InputError: no estimator is trained, the one named is not among them, or the budget is below the cheapest candidate.
    """
    prompts = read_table(workspace.prompts, PROMPTS, "sample")
    scores = read_table(workspace.scores, SCORES, "label")
    names, costs = costs_of(read_table(workspace.candidates, CANDIDATES, "generate"), params.cost_unit)
    texts, labels = split_labels(prompts, scores, "val", params.metric, names, params)
    budget = params.budget_in(float(costs.max()))
    found: dict[str, Calibration] = {}
    for name in wanted(workspace.estimators / params.metric, params.calibrate.estimator):
        estimator, meta = store.load(workspace.estimators / params.metric / name)
        if meta["candidates"] != names:
            raise InputError(f"models/estimators/{params.metric}/{name} was trained on other candidates: run 'catimage train' again.")
        found[name] = calibrate(estimator.predict(texts), costs, budget, labels)
    best = max(found, key=lambda n: found[n].curve.mean_quality(float(costs.min()), float(costs.max())))
    chosen = found[best]
    source = workspace.estimators / params.metric / best
    _write(workspace.router, source, chosen, _document(params, best, names, costs, budget, chosen))
    print(f"calibrate: {best}, lambda {chosen.lam:.6g}, mean cost {chosen.mean_cost:.4g} of {budget:.4g} {params.cost_unit}", flush=True)


def wanted(folder: Path, estimator: str) -> list[str]:
    """The trained estimators among which to calibrate: all for ``auto``, or the one named."""
    trained = sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []
    if not trained:
        raise InputError(f"{folder} holds no estimator: run 'catimage train' first.")
    if estimator != "auto" and estimator not in trained:
        raise InputError(
            f"calibrate.estimator: {estimator!r} is not trained{nearest(estimator, trained)}; there are {', '.join(trained)}, or 'auto'."
        )
    return trained if estimator == "auto" else [estimator]


def _document(params: Params, estimator: str, names: list[str], costs: Floats, budget: float, chosen: Calibration) -> dict[str, Any]:
    return {
        "metric": params.metric,
        "cost_unit": params.cost_unit,
        "pool": params.pool,
        "estimator": estimator,
        "candidates": names,
        "costs": [float(c) for c in costs],
        "budget": budget,
        "lambda": chosen.lam,
        "validation_mean_cost": chosen.mean_cost,
    }


def _write(out: Path, source: Path, chosen: Calibration, document: dict[str, Any]) -> None:
    curve = chosen.curve
    rows = {"lambda": [safe_lambda(curve, i) for i in range(len(curve))], "cost": curve.cost, "quality": curve.quality}
    with replacing(out) as folder:
        shutil.copytree(source, folder / "estimator")
        pd.DataFrame(rows).to_parquet(folder / "curve.parquet", index=False)
        (folder / "router.json").write_text(json.dumps(document, indent=2) + "\n")
