"""``catimage import-scores``: create a workspace from existing scores, without images."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.commands.import_common import (
    candidates_table,
    check_cost_unit,
    costs_for,
    import_params,
    prompts_table,
)
from catimage.data.importers.scores import ScoresFile, parse_scores
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.params import Params, parse_params, save_params
from catimage.workspace import Workspace, replacing


def run(workspace: Workspace, scores: Path, costs: Path | None, settings: list[str]) -> None:
    """Write ``params.yaml`` and the tables of prompts, candidates and scores.

    All input is checked before a file is written, and either all files are written or none.

    Args:
        workspace: the workspace, which need not exist.
        scores: a CSV file with the columns ``prompt,candidate,seed,metric,value``.
        costs: a CSV file with the columns ``candidate,cost,unit``. Without one, every candidate
            costs 1.
        settings: settings ``key=value`` for ``params.yaml``.

    Raises:
        InputError: a file is invalid (:mod:`catimage.data.importers.scores`), the files have
            different candidates, a metric or unit must be chosen or is unknown, a required score
            is missing, or a setting is invalid.
    """
    file = parse_scores(scores)
    cost_rows = costs_for(file, costs)
    possible_values = {
        "metric": (file.metrics, scores),
        "cost_unit": (sorted(cost_rows["unit"].unique()), costs or scores),
    }
    tree = import_params(workspace.params, "scores", possible_values, costs is not None, settings)
    params = parse_params(tree, workspace.params)
    check_cost_unit(params, file, cost_rows, costs)
    _check_metrics(params, file)
    _write(workspace, file, prompts_table(file, params.gate_share), cost_rows, tree)
    print(
        f"imported into {workspace.root}: {len(file.prompts):,} prompts, {len(file.candidates)}"
        f" candidates, {len(file.scores):,} scores ({', '.join(file.metrics)})",
        flush=True,
    )


def _check_metrics(params: Params, file: ScoresFile) -> None:
    """Check that the file has scores by every metric in the parameters, and no missing scores."""
    lower_is_better = params.imported.lower_is_better if params.imported else ()
    for metric in (*params.trained_metrics, *lower_is_better):
        file.check_metric(metric)
    if params.validation.complete_labels:
        file.check_complete(file.metrics, file.candidates)


def _write(
    workspace: Workspace,
    file: ScoresFile,
    prompts: pd.DataFrame,
    costs: pd.DataFrame,
    tree: dict[str, Any],
) -> None:
    """Write all four files, or none if one cannot be written."""
    with ExitStack() as stack:
        for table, path, schema in (
            (prompts, workspace.prompts, PROMPTS),
            (candidates_table(costs), workspace.candidates, CANDIDATES),
            (file.scores, workspace.scores, SCORES),
        ):
            write_table(table, stack.enter_context(replacing(path)), schema)
        save_params(tree, stack.enter_context(replacing(workspace.params)))
    outdated_report = workspace.reports / "validation.json"
    outdated_report.unlink(missing_ok=True)
