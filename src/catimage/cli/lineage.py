"""The command ``lineage``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from catimage.cli.options import JsonOption, WorkspaceOption, decoded, load_workspace
from catimage.errors import InputError


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A request id, a Bento, a version, an alias, a run, a commit or a digest; default:"
            " all routers."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Exit with status 1 if a replica does not serve the champion, or the files of the"
            " champion are not those that were registered.",
        ),
    ] = False,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Show what routers were made from, what contains them and how often they have decided."""
    if check and name is not None:
        raise InputError("--check: has no NAME. Remove one of them.")
    paths, params = load_workspace(workspace, None)
    from catimage.commands import lineage as command

    if check:
        _print_problems([*command.check_served(paths), *command.check_champion(paths)], as_json)
        return
    found = command.lineage(paths, params, None if name is None else decoded("NAME", name))
    typer.echo(json.dumps(found, indent=2) if as_json else "\n\n".join(map(_text, found)))


def _print_problems(problems: list[str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"problems": problems}, indent=2))
    else:
        typer.echo(
            "\n".join(problems)
            or "every replica serves the champion of the registry, whose files are intact"
        )
    if problems:
        raise typer.Exit(1)


def _text(origin: dict[str, Any]) -> str:
    """Return a router as lines of text."""
    created = datetime.fromtimestamp(origin["created"] / 1000, UTC)
    aliases = f" ({', '.join(origin['aliases'])})" if origin["aliases"] else ""
    served = origin["served"]
    rows = {
        "registered": f"{created:%Y-%m-%d %H:%M} UTC",
        "gate": origin["reason"],
        "MLflow run": origin["run"],
        "router": origin["digest"],
        "Bento": origin["bento"],
        "git commit": origin["git_commit"],
        "pool": " ".join(filter(None, (origin["pool"], origin["pool_revision"]))),
        **{f"md5 of {path}": digest for path, digest in origin["files"].items()},
        "requests": f"{served['requests']} in the decision log"
        + (f", {served['first']} to {served['last']}" if served["requests"] else ""),
    }
    lines = [f"  {key}: {value}" for key, value in rows.items() if value]
    return "\n".join([f"router version {origin['version']}{aliases}", *lines])
