"""Options that several commands share, and functions that load parameters and print rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catimage.errors import InputError

if TYPE_CHECKING:
    from catimage.params import Params
    from catimage.workspace import Workspace

WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", help="The folder with params.yaml, data/, models/ and reports/."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Set a parameter in params.yaml before the command runs."
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]
CostsOption = Annotated[
    Path | None,
    typer.Option(
        help="A file with the columns candidate,cost,unit. Without it, every candidate costs 1."
    ),
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace", help="Replace the data of a workspace in which estimators have been trained."
    ),
]


def load_workspace(workspace: Path, settings: list[str] | None) -> tuple[Workspace, Params]:
    """Return a workspace and its parameters, after writing ``settings`` to ``params.yaml``.

    Raises:
        InputError: the folder does not exist, or a parameter is invalid.
    """
    from catimage.params import load_params
    from catimage.workspace import Workspace

    if not workspace.is_dir():
        raise InputError(f"--workspace {workspace}: folder not found. Create it, or give another.")
    return Workspace(workspace), load_params(workspace / "params.yaml", settings)


def print_rows(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows that have the same keys, as a table or as one JSON document."""
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif rows:
        from catimage.common.formatting import format_table

        cells = [
            [f"{v:.6g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows
        ]
        header = list(rows[0])
        typer.echo("\n".join(format_table(header, cells, align="l" * len(header), rule=False)))
