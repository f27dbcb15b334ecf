"""What the commands share: options, and how parameters are loaded and rows printed."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from catimage.errors import InputError

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", help="The folder with params.yaml, data/, models/ and reports/."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Write a parameter to params.yaml first."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]


def params_of(workspace: Path, settings: list[str] | None) -> tuple[Any, Any]:
    """The workspace and its parameters, with ``settings`` written to them.

    Raises:
        InputError: there is no such folder, or bad parameters.
    """
    from catimage.params import load_params
    from catimage.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: no such folder; make it, or name another.")
    return Workspace(workspace), load_params(workspace / "params.yaml", settings)


def stage(name: str, workspace: Path, settings: list[str] | None, **more: Any) -> None:
    """Runs a stage."""
    place, params = params_of(workspace, settings)
    import_module(f"catimage.stages.{name}").run(place, params, **more)


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """As a table, or as one JSON document."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    cells = [[f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    header = list(rows[0]) if rows else []
    widths = [max(len(r[i]) for r in [header, *cells]) for i in range(len(header))]
    for line in [header, *cells]:
        typer.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
