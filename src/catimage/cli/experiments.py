"""Commands that do more than a stage: a whole experiment, and a candidate that is added to a
router.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from catimage.cli.options import SetOption, WorkspaceOption, params_of

RateOption = Annotated[
    float,
    typer.Option(
        "--tflops-per-second",
        min=1e-6,
        help="Of the machine of the run, for the estimate of hours.",
    ),
]


def run(
    experiment: Annotated[
        Path,
        typer.Argument(
            metavar="EXPERIMENT.yaml", help="A whole file of parameters, as in experiments/."
        ),
    ],
    workspace: WorkspaceOption = Path(),
    until: Annotated[
        str, typer.Option(metavar="STAGE", help="The last stage to run.")
    ] = "evaluate",
    check: Annotated[
        bool,
        typer.Option("--check", help="Only say what would stop the run, and what it would cost."),
    ] = False,
    rate: RateOption = 100.0,
    set_: SetOption = None,
) -> None:
    """Copy EXPERIMENT.yaml to the workspace and run the stages; continues where it was stopped."""
    from catimage.commands import experiment as experiments
    from catimage.workspace import Workspace

    place = Workspace(workspace)
    experiments.check_stage(until)  # before the workspace is made
    if check:
        checked(place, experiments.rehearsed(experiment, set_ or []), rate)
    else:
        experiments.run(place, experiments.prepare(experiment, place, set_ or []), until)


def checked(workspace: Any, params: Any, rate: float = 100.0) -> None:
    """Prints the findings of a dry run; exits with 1 where there is a problem."""
    from catimage.commands.dry_run import rehearse, sentence

    findings = rehearse(workspace, params, rate)
    for finding in findings:
        typer.echo(f"{finding.level:8}{finding.part:10}{finding.text}")
    typer.echo(sentence(findings))
    if any(f.level == "problem" for f in findings):
        raise typer.Exit(1)


def add_candidate(
    name: Annotated[
        str, typer.Argument(help="The new candidate's name, in the pool or in --scores.")
    ],
    prompts: Annotated[
        int, typer.Option(help="Representative prompts of the train split that it is profiled on.")
    ] = 200,
    workspace: WorkspaceOption = Path(),
    scores: Annotated[
        Path | None,
        typer.Option(help="Of imported scores: CSV with prompt,candidate,seed,metric,value."),
    ] = None,
    costs: Annotated[
        Path | None, typer.Option(help="Of imported scores: CSV with candidate,cost,unit.")
    ] = None,
    judge: Annotated[
        bool,
        typer.Option("--judge", help="Score the validation and test prompts too, for evaluate."),
    ] = False,
    set_: SetOption = None,
) -> None:
    """Route to a new candidate at once: profile it on a few prompts and train nothing again."""
    from catimage.commands import add_candidate as adding

    place, params = params_of(workspace, set_)
    adding.run(place, params, adding.Asked(name, prompts, scores, costs, judge))
