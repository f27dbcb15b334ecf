"""The command ``catimage``. Modules that are slow to import are imported when a command runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from catimage.cli import experiments, installation, keys, stages
from catimage.cli.intake import intake
from catimage.cli.lineage import lineage
from catimage.cli.monitor import monitor
from catimage.cli.options import (
    CostsOption,
    JsonOption,
    ReplaceOption,
    SetOption,
    WorkspaceOption,
    decoded,
    load_workspace,
    open_workspace,
    print_rows,
)
from catimage.cli.os_errors import os_error_message
from catimage.cli.rollout import promote, rollback
from catimage.cli.route import route
from catimage.cli.usage_errors import UsageError, usage_message
from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError

app = typer.Typer(
    help=(
        "Cost-aware routing for text-to-image models: choose, for each prompt, the candidate with"
        " the highest expected quality minus lambda times cost."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
pool_app = typer.Typer(help="Pools of generators.", no_args_is_help=True)
app.add_typer(pool_app, name="pool")
app.add_typer(keys.app, name="keys")


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(f"catimage {version('catimage')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


for stage_command in stages.COMMANDS:
    app.command()(stage_command)
for command_name, installation_command in installation.COMMANDS.items():
    app.command(command_name)(installation_command)
app.command()(experiments.compare)
app.command()(experiments.run)
app.command("add-candidate")(experiments.add_candidate)
app.command()(route)
app.command()(intake)
app.command()(monitor)
app.command()(lineage)
app.command()(promote)
app.command()(rollback)


@app.command("import-scores")
def import_scores(
    scores: Annotated[
        Path,
        typer.Argument(
            help="A csv, tsv, jsonl, json or parquet file with the columns"
            " prompt,candidate,seed,metric,value, or a prompt and one column per candidate."
        ),
    ],
    workspace: WorkspaceOption = Path(),
    costs: CostsOption = None,
    replace: ReplaceOption = False,
    set_: SetOption = None,
) -> None:
    """Create a workspace from existing scores."""
    from catimage.commands.import_scores import run

    run(open_workspace(workspace), scores, costs, set_ or [], replace)


@app.command("import-images")
def import_images(
    images_csv: Annotated[
        Path,
        typer.Argument(
            metavar="IMAGES",
            help="A csv, tsv, jsonl, json or parquet file with the columns"
            " prompt,candidate,seed,path.",
        ),
    ],
    workspace: WorkspaceOption = Path(),
    costs: CostsOption = None,
    replace: ReplaceOption = False,
    set_: SetOption = None,
) -> None:
    """Create a workspace from existing images; the next stage is label."""
    from catimage.commands.import_images import run

    run(open_workspace(workspace), images_csv, costs, set_ or [], replace)


@app.command()
def costs(
    pool: Annotated[
        str | None, typer.Option(help="Name or file of a pool; default: the pool in params.yaml.")
    ] = None,
    convention: Annotated[
        str,
        typer.Option(
            help="The counted operations: full for all of them, paper for the linear layers and"
            " convolutions of the denoiser only."
        ),
    ] = "full",
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Generate images and add seconds and watt-hours per image."),
    ] = False,
    repeats: Annotated[
        int, typer.Option(min=1, help="The number of measurements per candidate.")
    ] = 5,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Count the cost of one image of every candidate; only --measure needs model weights."""
    from catimage.commands.costs import cost_rows

    paths, params = load_workspace(workspace, None)
    rows = cost_rows(
        pool or params.pool,
        paths.pools,
        convention,
        repeats if measure else None,
        params.generate.device,
    )
    print_rows(rows, as_json)


@pool_app.command()
def check(
    pool: Annotated[str, typer.Argument(metavar="NAME_OR_FILE", help="Name or file of a pool.")],
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Check a pool without network access. Exit with status 1 if there is a problem."""
    from catimage.commands.pool_check import check_rows, summary, verification_lines
    from catimage.workspace import Workspace

    rows = check_rows(pool, Workspace(workspace).pools)
    print_rows(rows, as_json)
    if not as_json:
        typer.echo("\n".join([*verification_lines(rows), summary(rows)]))
    if any(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command()
def score(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...")],
    prompt: Annotated[str, typer.Option(help="The prompt of the images.")],
    metrics: Annotated[
        str, typer.Option(help="The names of the metrics, separated by commas.")
    ] = "clip_score,sharpness",
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Score image files in the same way as the label stage."""
    from catimage.commands.score import score_rows

    _, params = load_workspace(workspace, None)
    names = [name.strip() for name in metrics.split(",")]
    print_rows(score_rows(images, decoded("--prompt", prompt), names, params), as_json)


@app.command()
def register(workspace: WorkspaceOption = Path()) -> None:
    """Register the router in MLflow, as champion if the section promote allows it."""
    from catimage.tracking.registry import register as register_router

    result = register_router(*load_workspace(workspace, None))
    alias = "champion" if result.champion else "challenger"
    typer.echo(f"router version {result.version} ({alias}): {result.reason}")
    if result.promotable:
        typer.echo(f"to approve it, run 'catimage promote {result.version}'")


def main() -> None:
    """Run the command line.

    An ``InputError``, a wrong argument, or an error of the operating system that the user can fix
    is printed on standard error as one sentence, and the exit status is 2.
    """
    bypass_proxies_for_local_addresses()
    try:
        sys.exit(app(prog_name="catimage", standalone_mode=False) or 0)
    except InputError as error:
        _fail(str(error))
    except UsageError as error:
        if not str(error):  # a command without arguments, whose help has been printed
            sys.exit(2)
        _fail(usage_message(error))
    except OSError as error:
        message = os_error_message(error)
        if message is None:
            raise
        _fail(message)
    except typer.Abort:
        sys.exit(130)


def _fail(message: str) -> NoReturn:
    print(f"catimage: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
