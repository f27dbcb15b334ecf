"""The commands ``promote`` and ``rollback``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from catimage.cli.options import JsonOption, WorkspaceOption, decoded, finite_number, load_workspace
from catimage.errors import InputError

if TYPE_CHECKING:
    from catimage.commands.rollout import RolloutSummary

NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Publish, and do not wait for the replicas.")
]
ForceOption = Annotated[
    str | None,
    typer.Option(metavar="REASON", help="Promote even if the promotion gate does not."),
]
CanaryOption = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="Serve a share of the requests (no promotion)."),
]
TimeoutOption = Annotated[
    float, typer.Option(min=0, metavar="SECONDS", help="The time to wait for the replicas.")
]


def promote(
    version: Annotated[
        str | None, typer.Argument(help="The version of the router in the registry.")
    ] = None,
    challenger: Annotated[
        bool, typer.Option("--challenger", help="The version with the alias challenger.")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Only log the choices of the version (no promotion).")
    ] = False,
    canary: CanaryOption = None,
    end_canary: Annotated[
        bool, typer.Option("--end-canary", help="End --shadow or --canary.")
    ] = False,
    force: ForceOption = None,
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 60.0,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a registered router the champion, and verify that the running service uses it."""
    trial = shadow or canary is not None
    _check_arguments(version, challenger, trial, end_canary, force)
    given = finite_number("--canary", canary)
    if given is not None and not 0 < given <= 1:
        raise InputError(f"--canary: {given:g} is not above 0 and at most 1. Correct it.")
    share = given or 0.0
    paths, params = load_workspace(workspace, None)
    from catimage.commands.promote import promote as promote_router
    from catimage.commands.trial import end_trial, try_challenger

    wait = None if no_wait else timeout
    if end_canary:
        _print(end_trial(paths, wait), as_json)
    elif trial:
        _print(try_challenger(paths, version, shadow, share, wait), as_json)
    else:
        reason = decoded("--force", force) if force is not None else None
        _print(promote_router(paths, params, version, reason, wait), as_json)


def rollback(
    no_wait: NoWaitOption = False,
    timeout: TimeoutOption = 60.0,
    workspace: WorkspaceOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Return to the previous champion, and verify that the running service uses it."""
    paths, _ = load_workspace(workspace, None)
    from catimage.commands.rollback import rollback as roll_back

    _print(roll_back(paths, None if no_wait else timeout), as_json)


def _check_arguments(
    version: str | None, challenger: bool, trial: bool, end_canary: bool, force: str | None
) -> None:
    if version is not None and challenger:
        raise InputError("--challenger: cannot be combined with VERSION. Remove one of them.")
    if end_canary and (version is not None or challenger or trial or force is not None):
        raise InputError("--end-canary: has no VERSION and no other option. Remove them.")
    if force is not None and (trial or not force.strip()):
        raise InputError("--force: needs a reason, and no --shadow or --canary. Correct it.")
    if not (version is not None or challenger or trial or end_canary):
        raise InputError("VERSION: missing. Give a version of the registry, or --challenger.")


def _print(summary: RolloutSummary, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(summary), indent=2))
        return
    subject = f"router version {summary.version}" if summary.version else "no router"
    typer.echo(f"{subject} ({summary.role}): {summary.reason}")
    if summary.replicas:
        typer.echo(f"in use by {len(summary.replicas)} replicas: {', '.join(summary.replicas)}")
    elif summary.waited:
        typer.echo("no service is running; a service that starts uses it")
    else:
        typer.echo("published; the replicas were not waited for")
