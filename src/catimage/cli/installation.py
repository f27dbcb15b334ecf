"""Commands for the life of an installation: ``init`` and others that change no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from catimage.cli.options import (
    JsonOption,
    WorkspaceOption,
    check_folder,
    decoded,
    load_workspace,
    open_workspace,
    print_rows,
)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or an empty folder.")],
    files_only: Annotated[
        bool, typer.Option("--files-only", help="Do not run git init and dvc init.")
    ] = False,
) -> None:
    """Create a workspace: params.yaml, dvc.yaml, prefect.yaml and what git and DVC ignore."""
    from catimage.commands.init import init as create

    todo = create(folder, files_only)
    steps = [f"cd {folder}", *todo, "dvc repro", "python -m catimage.flows.retrain"]
    typer.echo(f"{folder}: created. Next: {', '.join(steps[:-1])}; or {steps[-1]}.")


def upgrade(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the changes; change nothing.")
    ] = False,
    workspace: WorkspaceOption = Path(),
) -> None:
    """Migrate a workspace and the state of its service from an older version of CATImage."""
    check_folder(workspace)
    from catimage.commands.upgrade import upgrade as migrate

    steps = migrate(open_workspace(workspace), apply=not dry_run)
    typer.echo("\n".join(steps) if steps else f"{workspace}: nothing to change")


def forget(
    hashes: Annotated[
        list[str] | None,
        typer.Argument(metavar="USER_HASH...", help="Hashed ids: the column user of the log."),
    ] = None,
    user: Annotated[
        list[str] | None, typer.Option(help="The field user of requests; can be repeated.")
    ] = None,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Delete the rows of users from the decision log and from data/traffic/."""
    paths, params = load_workspace(workspace, None)
    from catimage.commands.forget import forget as delete

    summary = delete(paths, params, hashes or [], [decoded("--user", name) for name in user or []])
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2))
        return
    typer.echo(
        f"deleted: {summary.log_rows:,} rows in {summary.log_files:,} files of the decision log,"
        f" {summary.traffic_rows:,} rows of data/traffic/"
    )


def gc(
    apply: Annotated[
        bool, typer.Option("--apply", help="Remove it. Without this option, it is only listed.")
    ] = False,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """List or remove dead shards, old DVC cache, MLflow runs, Bentos, expired images and jobs."""
    paths, params = load_workspace(workspace, None)
    from catimage.commands.gc import collect, totals

    found = collect(paths, params, apply)
    rows = totals(found)
    if as_json:
        items = [{"kind": f.kind, "name": f.name, "bytes": f.size} for f in found]
        typer.echo(json.dumps({"removed": apply, "totals": rows, "items": items}, indent=2))
        return
    print_rows([{**row, "bytes": f"{row['bytes'] / 1e6:,.1f} MB"} for row in rows], False)
    total = sum(row["bytes"] for row in rows) / 1e6
    hint = "" if apply or not rows else " Run it again with --apply to remove it."
    typer.echo(f"{'freed' if apply else 'can be freed'}: {total:,.1f} MB.{hint}")


def remove_candidate(
    name: Annotated[str, typer.Argument(help="The name of the candidate.")],
    workspace: WorkspaceOption = Path(),
) -> None:
    """Remove a candidate from the pool, the tables and the router; train the estimators again."""
    from catimage.commands.remove_candidate import run

    run(*load_workspace(workspace, None), decoded("NAME", name))


COMMANDS: dict[str, Callable[..., None]] = {
    "init": init,
    "upgrade": upgrade,
    "forget": forget,
    "gc": gc,
    "remove-candidate": remove_candidate,
}
