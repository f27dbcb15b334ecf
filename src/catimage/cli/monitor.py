"""The command ``monitor``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from catimage.cli.options import JsonOption, SetOption, WorkspaceOption, load_workspace


def monitor(
    workspace: WorkspaceOption = Path(),
    decisions: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The folder of the decision log; default: that of the service."
        ),
    ] = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the requests since the last run for drift, cost and quality; report alarms."""
    paths, params = load_workspace(workspace, set_)
    from catimage.commands.monitor import monitor as run

    report = run(paths, params, decisions)
    if as_json:
        typer.echo(json.dumps(report.to_document(), indent=2))
    else:
        typer.echo("\n".join(report.sentences))
