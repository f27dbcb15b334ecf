"""The check of changed parameters before the first stage."""

from __future__ import annotations

from catimage.commands.sources import sources_text
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace

SPEED = 1.0
"""TFLOPs per second; the estimated time of the dry run is not used."""


def check_parameters(workspace: Workspace) -> None:
    """Check the parameters with a dry run, unless they are those of the last run.

    A stage that reads a wrong parameter would otherwise stop the flow hours later.

    Raises:
        InputError: a parameter is invalid, or a file that it names is missing.
    """
    params = load_params(workspace.params)
    recorded = workspace.root / "data" / "sources.json"
    text = sources_text(workspace, params)
    if recorded.exists() and recorded.read_text(encoding="utf-8") == text:
        return
    from catimage.commands.dry_run import dry_run

    problems = [f for f in dry_run(workspace, params, SPEED) if f.level == "problem"]
    if problems:
        more = f" {len(problems)} problems: catimage evaluate --check" if problems[1:] else ""
        raise InputError(f"params.yaml, {problems[0].section}: {problems[0].message}{more}")
