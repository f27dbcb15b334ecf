"""The command ``intake``."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from catimage.cli.options import JsonOption, SetOption, WorkspaceOption, load_workspace


def intake(
    workspace: WorkspaceOption = Path(), set_: SetOption = None, as_json: JsonOption = False
) -> None:
    """Take new prompts and scored decisions from the decision log of the service."""
    from catimage.commands.intake import run

    paths, params = load_workspace(workspace, set_)
    summary = run(paths, params)
    if as_json:
        typer.echo(json.dumps(summary.to_document(), indent=2))
        return
    s = summary
    typer.echo(
        f"intake: {s.folder}: {s.requests:,} requests since {s.since}, {s.prompts:,} prompts:"
        f" {s.known:,} known, {s.too_long:,} too long, {s.similar:,} too similar, {s.taken:,} taken"
    )
    typer.echo(f"intake: {s.total:,} prompts and {s.outcomes:,} scored decisions in data/traffic")
    for reason, count in s.outcomes_left_out.items():
        typer.echo(f"intake: {count:,} scored decisions left out: {reason}")
    if params.sample.decisions is None:
        typer.echo("intake: sample.sources has no source of kind decisions: no prompts were taken")
