"""Stage validate: the gate before training. Data that fail it stop the run, in words and in Data
Docs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_table
from catimage.encoders.embeddings import Embeddings
from catimage.errors import InputError
from catimage.metrics.registry import declaration
from catimage.params import Params
from catimage.pool.candidate_images import candidate_images
from catimage.validation import runner as validation_run
from catimage.validation import suites as validation
from catimage.validation.frames import frames
from catimage.workspace import Workspace, replacing

ROUNDING = 1e-5
"""By how much a similarity may be above the threshold that the sample stage kept: other blocks
round otherwise.
"""
MADE_BY: dict[validation.Kind, tuple[str, str, str]] = {
    "generated": ("sample", "generate", "label"),
    "images": ("import-images", "import-images", "label"),
    "imported": ("import-scores", "import-scores", "import-scores"),
}
"""The commands that make the tables of prompts, candidates and scores."""
MOST = 5
"""Failed expectations that the message names; the Data Docs have all."""


def run(workspace: Workspace, params: Params) -> None:
    """Writes ``reports/validation.json`` if every expectation holds, and Data Docs in any case.

    The suites are those in the workspace's ``expectations/`` where that is a context of Great
    Expectations, and else the package's.

    Raises:
        InputError: a table is missing, or an expectation fails; the earlier ``validation.json``
            stays as it was.
    """
    kind = _kind(params)
    made_by = MADE_BY[kind]
    prompts = read_table(workspace.prompts, PROMPTS, made_by[0])
    candidates = read_table(workspace.candidates, CANDIDATES, made_by[1])
    scores = read_table(workspace.scores, SCORES, made_by[2])
    embeddings = (
        Embeddings.load(workspace.embeddings(params.encoder.name)) if kind == "generated" else None
    )
    compared = kind != "imported" and any(
        declaration(name, params.label).needs_reference for name in params.label.metrics
    )
    references = candidate_images(workspace, params.pool, params.imported).references if compared else {}
    context = workspace.root / "expectations"
    ours = (context / "great_expectations.yml").exists()
    suites = validation.load(context / "suites", kind) if ours else validation.suites(kind)
    docs = (
        context / "uncommitted" / "data_docs"
        if ours
        else workspace.root / ".catimage" / "data_docs"
    )
    made = frames(prompts, candidates, scores, params, embeddings, references)
    outcome = validation_run.run(suites, made, _parameters(candidates, params), docs)
    print(f"validate: Data Docs in {docs / 'index.html'}", flush=True)
    if outcome.failures:
        raise InputError(_message(outcome, docs))
    tables = {"prompts": len(prompts), "candidates": len(candidates), "scores": len(scores)}
    _write(
        workspace.reports / "validation.json",
        kind,
        outcome,
        tables,
        sorted(scores["metric"].unique()),
    )
    print(
        f"validate: {sum(outcome.evaluated.values())} expectations hold on {kind} data", flush=True
    )


def _kind(params: Params) -> validation.Kind:
    if params.imported is None:
        return "generated"
    return "images" if params.imported.kind == "images" else "imported"


def _parameters(candidates: pd.DataFrame, params: Params) -> dict[str, Any]:
    return {
        "candidates": list(candidates["candidate"].unique()),
        "metrics": params.label.metrics,
        "seeds": params.generate.seeds,
        "max_similarity": params.sample.max_similarity + ROUNDING,
    }


def _message(outcome: validation_run.Outcome, docs: Path) -> str:
    first, more = outcome.failures[:MOST], len(outcome.failures) - MOST
    rest = f"; and {more} more" if more > 0 else ""
    failed = f"{len(outcome.failures)} of {sum(outcome.evaluated.values())} expectations"
    return (
        f"the data fail {failed}: {'; '.join(first)}{rest}; see {docs / 'index.html'}, and mend the"
        " data."
    )


def _write(
    path: Path,
    kind: str,
    outcome: validation_run.Outcome,
    tables: dict[str, int],
    metrics: list[str],
) -> None:
    """Without times, so that valid data give the same file again and DVC sees no change."""
    counts = {
        name: {"evaluated": n, "successful": outcome.successful[name]}
        for name, n in outcome.evaluated.items()
    }
    tree = {"success": True, "kind": kind, "suites": counts, "tables": tables, "metrics": metrics}
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(tree, indent=2) + "\n")
