"""The command ``route``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from catimage.cli.options import (
    JsonOption,
    WorkspaceOption,
    check_folder,
    check_router,
    decoded,
    finite_number,
    open_workspace,
    whole_number,
)


def route(
    prompts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PROMPT]...",
            help="Prompts; - for one per line of standard input, as without prompts and --file.",
        ),
    ] = None,
    workspace: WorkspaceOption = Path(),
    file: Annotated[
        Path | None,
        typer.Option(
            metavar="PROMPTS",
            help="File with one prompt per line, or a csv, tsv, jsonl, json or parquet file with"
            " the column prompt; - for standard input.",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help="The largest mean cost per image, in the cost unit of the router.",
        ),
    ] = None,
    lam: Annotated[
        str | None,
        typer.Option(
            "--lambda", metavar="LAMBDA", help="The weight of cost, in quality per unit of cost."
        ),
    ] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Make the decisions repeatable; without it, they may be random."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the candidate that the router chooses for each prompt."""
    from catimage.commands.route_prompts import read_prompts
    from catimage.router import Router

    limits = finite_number("--lambda", lam), finite_number("--budget", budget)
    number = whole_number("--seed", seed)
    check_folder(workspace)
    opened = open_workspace(workspace)
    check_router(opened)
    texts = [decoded(f"prompt {i + 1}", prompt) for i, prompt in enumerate(prompts or [])]
    texts = read_prompts(texts, file)
    router = Router.load(open_workspace(workspace).router)
    decisions = router.route(texts, *limits, number)
    if as_json:
        rows = [dataclasses.asdict(decision) for decision in decisions]
        for row in rows:
            row["lambda"] = row.pop("lam")
        typer.echo(json.dumps(rows, indent=2))
        return
    for decision in decisions:
        typer.echo(
            f"{decision.candidate}  cost {decision.cost:.4g} {router.cost_unit}  predicted"
            f" {router.metric} {decision.predicted_quality:.4g}  {decision.prompt}"
        )
