"""``catimage import-scores``: create a workspace from existing scores, without images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from catimage.commands.import_common import (
    candidates_table,
    check_cost_unit,
    check_replaceable,
    costs_for,
    import_params,
    prompts_table,
    requested_value,
)
from catimage.common.hashing import file_digest
from catimage.common.transaction import written_together
from catimage.data.importers.costs import parse_costs
from catimage.data.importers.scores import ScoresFile, parse_scores
from catimage.data.provenance import PROMPTS_FILE, SCORES_FILE, Provenance
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, write_table
from catimage.data.shards.lock import write_lock
from catimage.params import Params, parse_params, save_params
from catimage.workspace import Workspace


def run(
    workspace: Workspace,
    scores: Path,
    costs: Path | None,
    settings: list[str],
    replace: bool = False,
) -> None:
    """Write ``params.yaml`` and the tables of prompts, candidates and scores: all, or none.

    Args:
        workspace: the workspace, which need not exist.
        scores: a csv, tsv, jsonl, json or parquet file of scores
            (:func:`catimage.data.importers.scores.parse_scores`).
        costs: a file of costs. Without one, every candidate costs 1.
        settings: settings ``key=value`` for ``params.yaml``.
        replace: whether data of a trained workspace may be replaced.

    Raises:
        InputError: a file or setting is invalid, the files have different candidates, a metric or
            unit must be chosen or is unknown, a score is missing, or data would be replaced
            (:func:`catimage.commands.import_common.check_replaceable`).
    """
    metric = requested_value(workspace.params, settings, "metric")
    file, cost_rows = _read(scores, costs, metric)
    possible_values = {
        "metric": (file.metrics, scores),
        "cost_unit": (sorted(cost_rows["unit"].unique()), costs or scores),
    }
    tree = import_params(workspace.params, "scores", possible_values, costs is not None, settings)
    params = parse_params(tree, workspace.params)
    check_cost_unit(params, file, cost_rows, costs)
    _check_metrics(params, file)
    prompts, candidates = prompts_table(file, params.gate_share), candidates_table(cost_rows)
    _write(workspace, file, prompts, candidates, tree, replace)
    file.print_notes()
    print(
        f"imported into {workspace.root}: {len(file.prompts):,} prompts, {len(file.candidates)}"
        f" candidates, {len(file.scores):,} scores ({', '.join(file.metrics)})",
        flush=True,
    )


def _read(scores: Path, costs: Path | None, metric: str | None) -> tuple[ScoresFile, pd.DataFrame]:
    """Read the scores and the costs; the file of costs determines the candidates of wide files."""
    parsed = None if costs is None else parse_costs(costs)
    names = None if parsed is None else list(parsed["candidate"].unique())
    file = parse_scores(scores, metric, names)
    return file, costs_for(file, costs, parsed)


def _check_metrics(params: Params, file: ScoresFile) -> None:
    """Check that the file has scores by every metric in the parameters, and no missing scores."""
    lower_is_better = params.imported.lower_is_better if params.imported else ()
    for metric in (*params.trained_metrics, *lower_is_better):
        file.check_metric(metric)
    if params.validation.complete_labels:
        file.check_complete(file.metrics, file.candidates)
    else:
        file.check_comparable(params.trained_metrics)


def _write(
    workspace: Workspace,
    file: ScoresFile,
    prompts: pd.DataFrame,
    candidates: pd.DataFrame,
    tree: dict[str, Any],
    replace: bool,
) -> None:
    """Write all four files, or none if one cannot be written or must not be replaced."""
    tables = {
        workspace.prompts: (prompts, PROMPTS),
        workspace.candidates: (candidates, CANDIDATES),
        workspace.scores: (file.scores, SCORES),
    }
    targets = (*tables, workspace.params)
    outdated_report = workspace.reports / "validation.json"
    with write_lock(workspace.scores):
        check_replaceable(workspace, tables, replace)
        inputs = Provenance(workspace).inputs(SCORES_FILE)
        with written_together(workspace.root, targets, [outdated_report]) as new:
            write_table(prompts, new[workspace.prompts], PROMPTS)
            write_table(candidates, new[workspace.candidates], CANDIDATES)
            inputs[PROMPTS_FILE] = file_digest(new[workspace.prompts])
            write_table(file.scores, new[workspace.scores], SCORES, inputs)
            save_params(tree, new[workspace.params])
