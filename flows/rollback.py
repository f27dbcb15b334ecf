"""The flow that returns to the previous champion, in the registry and in the service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Failed

from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError
from catimage.workspace import Workspace

from .promote import LIMIT, WaitSeconds, rollout_summary
from .registration import failed, run_task
from .run_once import run_once, workspace_parser
from .stages import is_transient

if TYPE_CHECKING:
    from catimage.commands.rollback import RollbackPlan
    from catimage.commands.rollout import RolloutSummary


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient, name="plan-rollback")
def plan(workspace: Path) -> RollbackPlan | State[None]:
    """Read the present and the previous champion, so that a retry does not go back by two.

    Returns:
        The plan, or a Failed state with the reason.
    """
    from catimage.commands.rollback import plan_rollback

    try:
        return plan_rollback(Workspace(workspace))
    except InputError as error:
        return failed("rollback", error)


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient, name="rollback")
def roll_back(
    workspace: Path, timeout: float, planned: RollbackPlan
) -> RolloutSummary | State[None]:
    """Make the previous champion the champion again, and read it back.

    Returns:
        The result, or a Failed state with the reason.
    """
    from catimage.commands.rollback import rollback as return_to_previous
    from catimage.serving.messages import ServingError

    try:
        return return_to_previous(Workspace(workspace), timeout, planned)
    except (InputError, ServingError) as error:
        return failed("rollback", error)


@flow(name="rollback", description=__doc__, timeout_seconds=LIMIT)
def rollback(workspace: Path = Path(), wait_seconds: WaitSeconds = 60.0) -> str | State[None]:
    """Return to the previous champion; the present champion stays if anything fails.

    Args:
        workspace: the folder of ``params.yaml``.
        wait_seconds: the time to wait until every replica serves the version.

    Returns:
        A summary, or a Failed state with the reason.
    """
    bypass_proxies_for_local_addresses()
    planned = run_task(plan, workspace, limit=LIMIT)
    if not planned.is_completed():
        return Failed(message=planned.message)
    state = run_task(roll_back, workspace, wait_seconds, planned.result(), limit=LIMIT)
    return rollout_summary(state)


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    arguments = workspace_parser("Return to the previous champion.").parse_args()
    run_once(lambda: rollback(arguments.workspace, return_state=True))


if __name__ == "__main__":
    main()
