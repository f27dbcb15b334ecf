"""Stage validate: check the tables before training, and stop the run if they are invalid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from catimage.data.provenance import SCORES_FILE, VALIDATION, Provenance
from catimage.data.schema import CANDIDATES, PROMPTS, SCORES, read_refused, read_table
from catimage.encoders.embeddings import Embeddings
from catimage.errors import InputError
from catimage.metrics.registry import declaration
from catimage.params import Params
from catimage.pool.candidate_images import candidate_images
from catimage.validation.failures import COMMANDS, DataProblem, describe
from catimage.validation.frames import Requirements, ValidationTables, frames
from catimage.validation.history import read_labels
from catimage.validation.images import NO_IMAGES, image_frame
from catimage.validation.runner import ValidationOutcome
from catimage.validation.runner import run as run_suites
from catimage.validation.suites import Kind, load, suites
from catimage.workspace import Workspace, replacing

ROUNDING = 1e-5
"""A tolerance that is added to the similarity threshold. Stage sample computes similarities in
other blocks, with other rounding errors.
"""
MAX_FAILURES = 5
"""The number of problems that the error message lists. The Data Docs list all."""


def run(workspace: Workspace, params: Params) -> None:
    """Write ``reports/validation.json`` if the data meet every expectation.

    Data Docs, the HTML pages of Great Expectations, are written in any case. The suites are those
    of the workspace's folder ``expectations/`` if this folder is a context of Great Expectations,
    and otherwise those of the package.

    Raises:
        InputError: a table is missing, the scores were computed from other prompts or images, or
            the data do not meet an expectation. An earlier ``validation.json`` is then kept.
    """
    kind = _kind(params)
    provenance = Provenance(workspace)
    inputs = provenance.inputs(VALIDATION)
    tables = _read_tables(workspace, params, kind)
    provenance.check(SCORES_FILE)
    context = workspace.root / "expectations"
    if (context / "great_expectations.yml").exists():
        active_suites, docs = load(context / "suites", kind), context / "uncommitted" / "data_docs"
    else:
        active_suites, docs = suites(kind), workspace.root / ".catimage" / "data_docs"
    required = Requirements.of(params, _references(workspace, params, kind))
    parameters = _parameters(tables, params)
    outcome = run_suites(active_suites, frames(tables, required), parameters, docs)
    print(f"validate: Data Docs in {docs / 'index.html'}", flush=True)
    if outcome.failures:
        problems = [describe(f, kind, params.gate_share) for f in outcome.failures]
        raise InputError(_message(workspace, problems, docs))
    _write(workspace.reports / "validation.json", kind, outcome, tables, inputs)
    print(f"validate: {sum(outcome.evaluated.values())} checks passed on {kind} data", flush=True)


def _kind(params: Params) -> Kind:
    if params.imported is None:
        return "generated"
    return "images" if params.imported.kind == "images" else "imported"


def _read_tables(workspace: Workspace, params: Params, kind: Kind) -> ValidationTables:
    sample, generate, label = COMMANDS[kind]
    return ValidationTables(
        read_table(workspace.prompts, PROMPTS, sample),
        read_table(workspace.candidates, CANDIDATES, generate),
        read_table(workspace.scores, SCORES, label),
        Embeddings.load(workspace.embeddings(params.encoder.name)) if kind == "generated" else None,
        read_refused(workspace.scores, label),
        image_frame(workspace.images) if kind != "imported" else NO_IMAGES,
        read_labels(workspace.champion_labels),
    )


def _references(workspace: Workspace, params: Params, kind: Kind) -> dict[str, str]:
    """Return the reference candidate of each candidate; empty if no metric needs references."""
    declared = (declaration(name, params.label) for name in params.label.metrics)
    if kind == "imported" or not any(metric.needs_reference for metric in declared):
        return {}
    return dict(candidate_images(workspace, params.pool, params.imported).references)


def _parameters(tables: ValidationTables, params: Params) -> dict[str, Any]:
    return {
        "candidates": list(tables.candidates["candidate"].unique()),
        "metrics": params.label.metrics,
        "seeds": params.generate.seeds,
        "max_similarity": params.sample.max_similarity + ROUNDING,
        "max_blank_share": params.validation.max_blank_share,
        "max_shift": params.validation.max_shift,
        "max_decline": params.validation.max_decline,
    }


def _message(workspace: Workspace, problems: list[DataProblem], docs: Path) -> str:
    """Return the first problem with its fix, and the next problems."""
    first, *others = problems
    more = f"; and {len(problems) - MAX_FAILURES} more" if len(problems) > MAX_FAILURES else ""
    listed = "; ".join(f"{p.file}: {p.problem}" for p in others[: MAX_FAILURES - 1])
    also = f" Other problems: {listed}{more}." if others else ""
    return (
        f"{workspace.root / first.file}: {first.problem}. {first.fix}.{also}"
        f" {docs / 'index.html'} lists all rows."
    )


def _write(
    path: Path,
    kind: Kind,
    outcome: ValidationOutcome,
    tables: ValidationTables,
    inputs: dict[str, str],
) -> None:
    """Write the report. It contains no times, so that equal data give equal files."""
    suite_counts = {
        name: {"evaluated": n, "successful": outcome.successful[name]}
        for name, n in outcome.evaluated.items()
    }
    report = {
        "success": True,
        "kind": kind,
        "suites": suite_counts,
        "tables": {
            "prompts": len(tables.prompts),
            "candidates": len(tables.candidates),
            "scores": len(tables.scores),
        },
        "metrics": sorted(tables.scores["metric"].unique()),
        "inputs": inputs,
    }
    with replacing(path) as fresh:
        fresh.write_text(json.dumps(report, indent=2) + "\n")
