"""``import-scores``: a workspace that starts from scores that somebody already has, with no prompts to sample and no images to make."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.errors import InputError, nearest
from catimage.params import Params, apply_setting, parse_params, read_tree, save_params
from catimage.scores_file import ScoresFile, parse_scores, read_costs_csv
from catimage.tables import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.workspace import Workspace, replacing

NO_UNIT = "unit"
"""The unit in which every candidate costs 1 where no costs are given."""


def run(workspace: Workspace, scores: Path, costs: Path | None, settings: list[str]) -> None:
    """Writes the prompts, candidates and scores tables and ``params.yaml``; everything is checked before anything is written.

    Raises:
        InputError: see :mod:`catimage.scores_file`; a candidate without a cost, or a cost without scores; a metric or unit that is to be
            chosen, or is not there; a bad setting.
    """
    file = parse_scores(scores)
    prices = read_costs_csv(costs) if costs else pd.DataFrame({"candidate": file.candidates, "cost": 1.0, "unit": NO_UNIT})
    if costs:
        _check_costs(file, prices, costs)
    tree = _parameters(workspace.params, file, sorted(prices["unit"].unique()), costs, settings)
    params = parse_params(tree, workspace.params)
    _check_parameters(params, file, prices, costs)
    _write(workspace, file, prices, tree)
    what = f"{len(file.prompts):,} prompts, {len(file.candidates)} candidates, {len(file.scores):,} scores ({', '.join(file.metrics)})"
    print(f"imported into {workspace.root}: {what}", flush=True)


def _check_costs(file: ScoresFile, prices: pd.DataFrame, costs: Path) -> None:
    file.check_candidates(list(prices["candidate"].unique()), str(costs))
    for name in prices["candidate"]:
        if name not in file.candidates:
            raise InputError(f"{costs}: candidate {name!r} is not in {file.path}{nearest(name, file.candidates)}: remove or rename it.")


def _parameters(path: Path, file: ScoresFile, units: list[str], costs: Path | None, settings: list[str]) -> dict[str, Any]:
    """What ``params.yaml`` will say: what it says already, then what the files say, then ``settings``."""
    tree = read_tree(path)
    said: dict[str, Any] = {}
    for setting in settings:
        apply_setting(said, setting)
    if "metric" not in said:
        tree["metric"] = _the_one(file.metrics, tree.get("metric"), "metric", file.path)
    if "cost_unit" not in said:
        tree["cost_unit"] = _the_one(units, tree.get("cost_unit"), "cost_unit", costs or file.path)
    if not costs:
        tree["budget"] = "100%"
    if "import" not in tree:
        apply_setting(tree, "train.estimators=[ridge]")
    tree["import"] = tree.get("import") or {}
    for setting in settings:
        apply_setting(tree, setting)
    return tree


def _the_one(names: list[str], before: Any, key: str, where: Path) -> str:
    """The only name there is, or the one that the workspace already said."""
    if len(names) > 1 and before not in names:
        choices = ", ".join(names)
        raise InputError(f"{where} leaves the {key} open ({choices}): say which one to route on, as in --set {key}={names[0]}.")
    return str(before) if before in names else names[0]


def _check_parameters(params: Params, file: ScoresFile, prices: pd.DataFrame, costs: Path | None) -> None:
    for metric in (*params.trained_metrics, *(params.imported.lower_is_better if params.imported else ())):
        file.only(metric)
    priced = list(prices.loc[prices["unit"] == params.cost_unit, "candidate"])
    units = sorted(prices["unit"].unique())
    if not priced:
        mend = f"it has {', '.join(units)}" if costs else "give --costs COSTS.csv"
        raise InputError(f"{costs or file.path} has no cost in the unit {params.cost_unit!r}{nearest(params.cost_unit, units)}: {mend}.")
    file.check_candidates(priced, f"{costs} with a cost in {params.cost_unit!r}")
    metrics = file.metrics if params.validation.complete_labels else params.trained_metrics
    file.check_complete(metrics, file.candidates)


def _write(workspace: Workspace, file: ScoresFile, prices: pd.DataFrame, tree: dict[str, Any]) -> None:
    """All four files, or, where one cannot be written, none."""
    candidates = prices.assign(generator=prices["candidate"], steps=0)
    with ExitStack() as stack:
        write_table(file.prompts, stack.enter_context(replacing(workspace.prompts)), PROMPTS)
        write_table(candidates, stack.enter_context(replacing(workspace.candidates)), CANDIDATES)
        write_table(file.scores, stack.enter_context(replacing(workspace.scores)), SCORES)
        save_params(tree, stack.enter_context(replacing(workspace.params)))
    (workspace.reports / "validation.json").unlink(missing_ok=True)  # it was about other data
