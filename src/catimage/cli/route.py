"""The command ``route``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from catimage.commands.ask_service import ServiceDecisions
    from catimage.router import Decision, Router

PromptsArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PROMPT]...",
        help="Prompts; - for one per line of standard input, as without prompts and --file.",
    ),
]
FileOption = Annotated[
    Path | None,
    typer.Option(
        metavar="PROMPTS",
        help="File with one prompt per line, or a csv, tsv, jsonl, json or parquet file with the"
        " column prompt; - for standard input.",
    ),
]
BudgetOption = Annotated[
    str | None,
    typer.Option(
        metavar="COST", help="The largest mean cost per image, in the cost unit of the router."
    ),
]
LambdaOption = Annotated[
    str | None,
    typer.Option(
        "--lambda", metavar="LAMBDA", help="The weight of cost, in quality per unit of cost."
    ),
]
SeedOption = Annotated[
    str | None,
    typer.Option(
        metavar="N", help="Make the decisions repeatable; without it, they may be random."
    ),
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Ask a running service instead, such as http://127.0.0.1:3000. The environment"
        " variable CATIMAGE_API_KEY has the key.",
    ),
]


def route(
    prompts: PromptsArgument = None,
    workspace: WorkspaceOption = Path(),
    file: FileOption = None,
    budget: BudgetOption = None,
    lam: LambdaOption = None,
    seed: SeedOption = None,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the candidate that the router chooses for each prompt."""
    from catimage.commands.ask_service import ask_service
    from catimage.commands.route_prompts import read_prompts
    from catimage.router import Router

    limits = finite_number("--lambda", lam), finite_number("--budget", budget)
    number = whole_number("--seed", seed)
    texts = [decoded(f"prompt {i + 1}", prompt) for i, prompt in enumerate(prompts or [])]
    if url is not None:
        answer = ask_service(url, read_prompts(texts, file), *limits, number)
        _print_decisions(answer.decisions, answer, as_json)
        return
    check_folder(workspace)
    paths = open_workspace(workspace)
    check_router(paths)
    texts = read_prompts(texts, file)
    router = Router.load(paths.router)
    decisions = router.route(texts, *limits, number)
    _print_decisions(decisions, router, as_json)


def _print_decisions(
    decisions: list[Decision], router: Router | ServiceDecisions, as_json: bool
) -> None:
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
