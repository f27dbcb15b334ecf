"""The command line. Parameters are loaded once here and passed down; what is heavy is imported
where it is used.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from catimage.cli.experiments import add_candidate, checked, run
from catimage.cli.options import (
    JsonOption,
    SetOption,
    WorkspaceOption,
    params_of,
    print_rows,
    stage,
)
from catimage.errors import InputError

app = typer.Typer(
    help=(
        "Cost-aware routing for text-to-image models: for each prompt the best expected quality"
        " minus lambda times cost."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

pool_app = typer.Typer(help="Pools of generators.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")


@app.command()
def sample(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Draw prompts from their sources, keep those that differ, and split them."""
    stage("sample", workspace, set_)


@app.command()
def generate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Make every candidate's images of every prompt; continues where it was stopped."""
    stage("generate", workspace, set_)


@app.command()
def label(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Score the images with the metrics of label.metrics."""
    stage("label", workspace, set_)


@app.command()
def validate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Check the data; a failed gate stops here and says which rows fail."""
    stage("validate", workspace, set_)


@app.command()
def train(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Fit the estimators of train.estimators."""
    stage("train", workspace, set_)


@app.command()
def calibrate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Choose the estimator and the smallest lambda that keeps the budget on the validation split."""
    stage("calibrate", workspace, set_)


@app.command()
def evaluate(
    workspace: WorkspaceOption = Path(),
    scores: Annotated[
        Path | None,
        typer.Option(
            help="Judge on these scores instead: all of their prompts are the test split."
        ),
    ] = None,
    check_: Annotated[
        bool,
        typer.Option("--check", help="Only say what would stop a run, and what it would cost."),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Judge the router and every estimator on the test split; writes reports/."""
    if check_:
        checked(*params_of(workspace, set_))
    else:
        stage("evaluate", workspace, set_, scores=scores)


@app.command()
def compare(
    workspace: WorkspaceOption = Path(),
    folds: Annotated[
        int,
        typer.Option(
            help="Parts of the prompts, each judged by routers that learned from the others."
        ),
    ] = 5,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Judge every estimator by cross-validation over all prompts, which tells most where these are
    few.
    """
    from catimage.commands import cross_validate as comparing

    document = comparing.run(*params_of(workspace, set_), folds)
    typer.echo(json.dumps(document, indent=2) if as_json else comparing.printed(document))


@app.command()
def package(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Build and export the Bento of router and generators."""
    stage("package", workspace, set_)


app.command("run")(run)
app.command("add-candidate")(add_candidate)


@app.command("import-scores")
def import_scores(
    scores: Annotated[
        Path, typer.Argument(help="CSV with the columns prompt,candidate,seed,metric,value.")
    ],
    workspace: WorkspaceOption = Path(),
    costs: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns candidate,cost,unit; left out, every candidate costs 1."
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Start from scores that you already have."""
    from catimage.commands import import_scores as importing
    from catimage.workspace import Workspace

    importing.run(Workspace(workspace), scores, costs, set_ or [])


@app.command("import-images")
def import_images(
    manifest: Annotated[
        Path,
        typer.Argument(
            metavar="MANIFEST.csv", help="CSV with the columns prompt,candidate,seed,path."
        ),
    ],
    workspace: WorkspaceOption = Path(),
    costs: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns candidate,cost,unit; left out, every candidate costs 1."
        ),
    ] = None,
    set_: SetOption = None,
) -> None:
    """Start from images that you already have: label them next."""
    from catimage.commands import import_images as importing_images
    from catimage.workspace import Workspace

    importing_images.run(Workspace(workspace), manifest, costs, set_ or [])


@app.command()
def route(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...")],
    workspace: WorkspaceOption = Path(),
    budget: Annotated[
        float | None, typer.Option(help="Mean cost a prompt, in the router's cost unit.")
    ] = None,
    lam: Annotated[
        float | None, typer.Option("--lambda", help="Quality units a cost unit.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which candidate each prompt goes to."""
    from catimage.router import Router

    if lam is not None and not math.isfinite(lam):
        raise InputError(f"--lambda must be a finite number of 0 or more, not {lam}.")
    router = Router.load(workspace / "models" / "router")
    rows = [dataclasses.asdict(d) for d in router.route(prompts, lam=lam, budget=budget)]
    for row in rows:
        row["lambda"] = row.pop("lam")
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        predicted = f"predicted {router.metric} {row['predicted_quality']:.4g}"
        typer.echo(
            f"{row['candidate']}  cost {row['cost']:.4g} {router.cost_unit}  {predicted} "
            f" {row['prompt']}"
        )


@app.command()
def costs(
    pool: Annotated[
        str | None, typer.Option(help="A pool's name or file; left out, the workspace's.")
    ] = None,
    convention: Annotated[
        str, typer.Option(help="full, or paper: the denoiser's projections and convolutions alone.")
    ] = "full",
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Make images, and add seconds and watt-hours of one on this device."
        ),
    ] = False,
    repeats: Annotated[int, typer.Option(min=1, help="How often each candidate is measured.")] = 5,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Count what every candidate costs; needs no weights unless it is to be measured."""
    from catimage.commands.costs import cost_rows

    place, params = params_of(workspace, None)
    rows = cost_rows(
        pool or params.pool,
        place.pools,
        convention,
        repeats if measure else None,
        params.generate.device,
    )
    print_rows(rows, as_json)


@pool_app.command()
def check(
    pool: Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="A pool's name or file.")],
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Say all that can be known of a pool before a long run; asks no network. Exits with 1 where
    there is a problem.
    """
    from catimage.commands.pool_check import check_rows, summary
    from catimage.workspace import Workspace

    rows = check_rows(pool, Workspace(workspace).pools)
    print_rows(rows, as_json)
    if not as_json:
        typer.echo(summary(rows))
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    prompt: Annotated[str, typer.Option(help="What the images should show.")],
    metrics: Annotated[
        str, typer.Option(help="Names, separated by commas.")
    ] = "clip_score,sharpness",
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Score image files as the label stage does."""
    from catimage.commands.score import score_rows

    _, params = params_of(workspace, None)
    print_rows(score_rows(images, prompt, [m.strip() for m in metrics.split(",")], params), as_json)


@app.command()
def register(workspace: WorkspaceOption = Path()) -> None:
    """Log what was built to MLflow, and move the alias champion if it is not worse."""
    from catimage.tracking.registry import register as register_router

    place, params = params_of(workspace, None)
    done = register_router(place, params)
    typer.echo(
        f"router version {done.version} ({'champion' if done.champion else 'challenger'}):"
        f" {done.reason}"
    )


def main() -> None:
    """Entry point: bad input is one sentence on standard error and exit status 2."""
    try:
        app()
    except InputError as error:
        print(f"catimage: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
