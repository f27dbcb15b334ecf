"""The commands ``run``, ``compare`` and ``add-candidate``, and the output of a dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catimage.cli.options import (
    JsonOption,
    SetOption,
    WorkspaceOption,
    load_workspace,
    open_workspace,
)

if TYPE_CHECKING:
    from catimage.params import Params
    from catimage.workspace import Workspace

SpeedOption = Annotated[
    float,
    typer.Option(
        "--tflops-per-second",
        min=1e-6,
        help="The speed of the machine that will run the stages, for the estimate of hours.",
    ),
]


def run(
    experiment: Annotated[
        Path,
        typer.Argument(
            metavar="EXPERIMENT.yaml", help="A complete parameters file, as in experiments/."
        ),
    ],
    workspace: WorkspaceOption = Path(),
    until: Annotated[
        str, typer.Option(metavar="STAGE", help="The last stage to run.")
    ] = "evaluate",
    check: Annotated[
        bool,
        typer.Option("--check", help="Report the problems and the cost of a run; run nothing."),
    ] = False,
    tflops_per_second: SpeedOption = 100.0,
    set_: SetOption = None,
) -> None:
    """Copy EXPERIMENT.yaml to the workspace and run the stages; an interrupted run continues."""
    from catimage.commands.experiment import check_stage, prepare, read_params, run_stages

    paths = open_workspace(workspace)
    check_stage(until)  # before the workspace is created
    if check:
        print_dry_run(paths, read_params(experiment, set_ or []), tflops_per_second)
    else:
        run_stages(paths, prepare(experiment, paths, set_ or []), until)


def print_dry_run(workspace: Workspace, params: Params, tflops_per_second: float = 100.0) -> None:
    """Print the findings of a dry run; exit with status 1 if there is a problem."""
    from catimage.commands.dry_run import dry_run, summary

    findings = dry_run(workspace, params, tflops_per_second)
    for finding in findings:
        typer.echo(f"{finding.level:8}{finding.section:10}{finding.message}")
    typer.echo(summary(findings))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


def compare(
    workspace: WorkspaceOption = Path(),
    folds: Annotated[int, typer.Option(help="The number of folds of the cross-validation.")] = 5,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate every estimator by cross-validation over all prompts, for small data sets."""
    from catimage.commands import cross_validate

    document = cross_validate.run(*load_workspace(workspace, set_), folds)
    typer.echo(json.dumps(document, indent=2) if as_json else cross_validate.to_text(document))


def add_candidate(
    name: Annotated[
        str, typer.Argument(help="The name of the new candidate in the pool or in --scores.")
    ],
    prompt_count: Annotated[
        int,
        typer.Option("--prompts", help="The number of representative training prompts to score."),
    ] = 200,
    workspace: WorkspaceOption = Path(),
    scores: Annotated[
        Path | None,
        typer.Option(help="For imported scores: a file with prompt,candidate,seed,metric,value."),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="For imported scores: a file with candidate,cost,unit.")
    ] = None,
    score_all_splits: Annotated[
        bool,
        typer.Option(
            "--score-all-splits",
            help="Also score the prompts of the other splits; the evaluate stage needs those of the"
            " test split.",
        ),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Add a candidate to the router from scores of a few prompts, without training again."""
    from catimage.commands.add_candidate import run
    from catimage.commands.candidate_request import CandidateRequest

    paths, params = load_workspace(workspace, set_)
    request = CandidateRequest(name, prompt_count, scores, costs, score_all_splits)
    run(paths, params, request)
