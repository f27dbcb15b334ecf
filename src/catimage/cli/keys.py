"""The commands ``keys create``, ``keys list`` and ``keys revoke``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from catimage.cli.options import (
    JsonOption,
    WorkspaceOption,
    check_folder,
    decoded,
    finite_number,
    print_rows,
)

app = typer.Typer(
    help="API keys of the service, in the database CATIMAGE_STATE_URL.", no_args_is_help=True
)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="The name of the client, for lists and metrics.")],
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help="The mean cost per image to which the router limits the key's requests; those that"
            " name a candidate are not limited by it.",
        ),
    ] = None,
    ceiling: Annotated[
        str | None,
        typer.Option(metavar="COST", help="The largest total cost per calendar month (UTC)."),
    ] = None,
    rate_limit: Annotated[
        str | None, typer.Option(metavar="RATE", help="The rate limit, such as 60/minute.")
    ] = None,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Create an API key and print its secret, which is not stored."""
    from catimage.commands.keys import create_key

    limits = finite_number("--budget", budget), finite_number("--ceiling", ceiling)
    check_folder(workspace)
    key, secret = create_key(workspace, decoded("NAME", name), *limits, rate_limit)
    if as_json:
        typer.echo(json.dumps({"id": key.key_id, "name": key.name, "secret": secret}, indent=2))
        return
    typer.echo(secret)
    typer.echo(f"key {key.key_id} ({key.name}): this secret is shown only once.", err=True)


@app.command("list")
def list_keys(workspace: WorkspaceOption = Path(), as_json: JsonOption = False) -> None:
    """List the API keys, and what each has spent in this calendar month (UTC)."""
    from catimage.commands.keys import key_rows

    check_folder(workspace)
    rows = key_rows(workspace)
    if not as_json:
        rows = [{k: "-" if v is None else v for k, v in row.items()} for row in rows]
    print_rows(rows, as_json)


@app.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the key.")],
    workspace: WorkspaceOption = Path(),
) -> None:
    """Revoke an API key; the replicas refuse it after serving.refresh_seconds."""
    from catimage.commands.keys import revoke_key

    check_folder(workspace)
    key = revoke_key(workspace, decoded("ID", key_id))
    typer.echo(f"key {key.key_id} ({key.name}): revoked")
