"""Records of inputs in workspaces that tests write or change by hand."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from catimage.data.provenance import (
    ESTIMATORS,
    METRICS,
    ROUTER,
    SCORES_FILE,
    VALIDATION,
    Provenance,
    write_inputs,
)
from catimage.data.schema import read_inputs
from catimage.workspace import Workspace


def mark_validated(workspace: Workspace) -> None:
    """Write a validation report of the current tables without running the stage validate.

    The current inputs of the scores are recorded too.
    """
    record_inputs_of_scores(workspace)
    workspace.reports.mkdir(parents=True, exist_ok=True)
    report = {"success": True, "inputs": Provenance(workspace).inputs(VALIDATION)}
    (workspace.reports / "validation.json").write_text(json.dumps(report))


def record_inputs(workspace: Workspace) -> None:
    """Record the current inputs in all outputs, after a test has changed some of the outputs."""
    mark_validated(workspace)
    if workspace.estimators.exists():
        write_inputs(workspace.estimators, Provenance(workspace).inputs(ESTIMATORS))
    for name, path in (
        (ROUTER, workspace.router / "router.json"),
        (METRICS, workspace.reports / "metrics.json"),
    ):
        if path.exists():
            _set_inputs(path, Provenance(workspace).inputs(name))


def record_inputs_of_scores(workspace: Workspace) -> None:
    """Record the current inputs in the scores table."""
    inputs = Provenance(workspace).inputs(SCORES_FILE)
    if read_inputs(workspace.scores, "test") != inputs:
        table = pq.read_table(workspace.scores, partitioning=None)
        metadata = {"inputs": json.dumps(inputs)}
        pq.write_table(table.replace_schema_metadata(metadata), workspace.scores)


def _set_inputs(path: Path, inputs: dict[str, str]) -> None:
    document = json.loads(path.read_text())
    if document.get("inputs") != inputs:
        path.write_text(json.dumps(document | {"inputs": inputs}))
