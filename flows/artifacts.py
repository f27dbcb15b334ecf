"""The artifacts of flow runs, which a person reads in Prefect's user interface."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from catimage.evaluation.plots import deferral_svg
from catimage.evaluation.summary import summary
from catimage.tracking.registry import RegistrationResult
from catimage.workspace import Workspace

REQUEST = """curl localhost:3000/v1/route -d '{"prompt": "two small red rings"}'"""
"""A request to the service, for the summary of a run."""
REPORTS = ("report.html", "validation.json")
"""The files of ``reports/`` that have a link."""


def retrain_artifacts(workspace: Workspace, registered: RegistrationResult, decision: str) -> str:
    """Create the artifacts of a retrain run: tables, links, the curve and the summary.

    Args:
        workspace: the workspace after the eight stages.
        registered: the registered router.
        decision: whether and why it is the champion.

    Returns:
        The summary.
    """
    metrics = json.loads((workspace.reports / "metrics.json").read_text())
    tag = json.loads((workspace.dist / "bento.json").read_text())["tag"]
    create_table_artifact(
        metrics["methods"][metrics["budget"]["estimator"]]["by_candidate"],
        key="results",
        description="The router compared with each fixed candidate, on the test split",
    )
    _curve(metrics)
    for name in REPORTS:
        _link(workspace.reports / name)
    lines = [
        summary(metrics),
        "",
        f"MLflow   router version {registered.version} {decision}",
        f"Bento    {tag}",
        f"Report   {workspace.reports / 'report.html'}",
        f"Next     {serve_command(workspace)}, then: {REQUEST}",
    ]
    text = "\n".join(lines)
    create_markdown_artifact(
        f"```\n{text}\n```", key="summary", description="The summary of the run"
    )
    return text


def serve_command(workspace: Workspace) -> str:
    """Return the command that serves the Bento; ``make serve`` only if the workspace has it."""
    makefile = workspace.root / "Makefile"
    if makefile.exists() and "\nserve:" in makefile.read_text(encoding="utf-8"):
        return "make serve"
    return "python -m catimage.serving.bento"


def _curve(metrics: Mapping[str, Any]) -> None:
    """Create the image of the deferral curve."""
    image = base64.b64encode(deferral_svg(dict(metrics)).encode()).decode()
    create_image_artifact(
        f"data:image/svg+xml;base64,{image}",
        key="deferral-curve",
        description="Quality against mean cost on the test split",
    )


def _link(path: Path) -> None:
    """Create a link to a file, if it exists."""
    if path.exists():
        key = path.name.replace(".", "-").replace("_", "-")
        create_link_artifact(path.resolve().as_uri(), link_text=f"reports/{path.name}", key=key)


def fact_table(key: str, description: str, facts: Mapping[str, object]) -> None:
    """Create a table of two columns, ``name`` and ``value``."""
    rows = [{"name": name, "value": str(value)} for name, value in facts.items()]
    create_table_artifact(rows, key=key, description=description)
