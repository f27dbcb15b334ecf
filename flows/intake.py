"""The task before the stages: new prompts and scored decisions of the decision log."""

from __future__ import annotations

from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Failed

from catimage.commands.check_log import check_log
from catimage.commands.intake import IntakeSummary
from catimage.commands.intake import run as take
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace


@task(cache_policy=NO_CACHE)
def intake(workspace: Path) -> IntakeSummary | State[None]:
    """Check the decision log, and take new prompts and scored decisions from it.

    Args:
        workspace: the folder of ``params.yaml``, whose ``sample.sources`` has a source of kind
            ``decisions``.

    Returns:
        The numbers of prompts and decisions, or a Failed state with the reason.
    """
    params = load_params(workspace / "params.yaml")
    try:
        check_log(Workspace(workspace), params)
        summary = take(Workspace(workspace), params)
    except InputError as error:
        return Failed(message=f"intake: {error}")
    get_run_logger().info(
        "intake: %d prompts taken from %d requests, %d in all; %d scored decisions",
        summary.taken,
        summary.requests,
        summary.total,
        summary.outcomes,
    )
    return summary
