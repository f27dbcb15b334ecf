"""The commands of the eight stages, and the command that DVC runs before them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from catimage.cli.experiments import print_dry_run
from catimage.cli.options import SetOption, WorkspaceOption, load_workspace


def _run(stage: str, workspace: Path, settings: list[str] | None, **arguments: Any) -> None:
    """Run a stage with the parameters of a workspace, changed by ``settings``."""
    from catimage.commands.prerequisites import check_prerequisites

    paths, params = load_workspace(workspace, settings)
    check_prerequisites(paths, params, stage)
    import_module(f"catimage.stages.{stage}").run(paths, params, **arguments)


def sample(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Read prompts from their sources, remove similar ones, and split them."""
    _run("sample", workspace, set_)


def generate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Generate the images of every prompt and candidate; an interrupted run continues."""
    _run("generate", workspace, set_)


def label(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Score the images by the metrics in label.metrics."""
    _run("label", workspace, set_)


def validate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Check the tables; exit with an error that lists the failed checks if there are any."""
    _run("validate", workspace, set_)


def train(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Fit the estimators in train.estimators."""
    _run("train", workspace, set_)


def calibrate(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Choose the estimator, and calibrate its routing rule on the validation split."""
    _run("calibrate", workspace, set_)


def evaluate(
    workspace: WorkspaceOption = Path(),
    scores: Annotated[
        Path | None,
        typer.Option(
            help="A file of scores: evaluate on all of its prompts, and write reports/other/."
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Report the problems and the cost of a run; run nothing."),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Evaluate the router and every estimator on the test split; write reports/."""
    if check:
        print_dry_run(*load_workspace(workspace, set_))
    else:
        _run("evaluate", workspace, set_, scores=scores)


def package(workspace: WorkspaceOption = Path(), set_: SetOption = None) -> None:
    """Build and export the Bento of the router and the generators."""
    _run("package", workspace, set_)


def sources(workspace: WorkspaceOption = Path()) -> None:
    """Write data/sources.json, the inputs of each stage; DVC runs it before the stages."""
    from catimage.commands.sources import run

    run(*load_workspace(workspace, None))


COMMANDS = (sources, sample, generate, label, validate, train, calibrate, evaluate, package)
