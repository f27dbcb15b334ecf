"""The flow that promotes a registered router to champion, in the registry and in the service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from prefect import flow
from prefect.client.schemas import State
from prefect.states import Failed
from pydantic import Field

from catimage.common.proxies import bypass_proxies_for_local_addresses

from .artifacts import fact_table
from .registration import promote as promote_task
from .registration import run_task
from .run_once import run_once, workspace_parser

LIMIT = 3600.0
"""Longest time of a run in seconds."""
WaitSeconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Seconds to wait for the replicas of the service."""


@flow(name="promote", description=__doc__, timeout_seconds=LIMIT)
def promote(
    workspace: Path = Path(),
    version: str | None = None,
    force: str | None = None,
    wait_seconds: WaitSeconds = 60.0,
) -> str | State[None]:
    """Promote a version; the previous champion stays if anything fails.

    Args:
        workspace: the folder of ``params.yaml``.
        version: the version of the router; by default that with the alias ``challenger``.
        force: the reason to promote a version that the gate does not promote.
        wait_seconds: the time to wait until every replica serves the version.

    Returns:
        A summary, or a Failed state with the reason.
    """
    bypass_proxies_for_local_addresses()
    state = run_task(promote_task, workspace, version, force, wait_seconds, limit=LIMIT)
    return rollout_summary(state)


def rollout_summary(state: State[object]) -> str | State[None]:
    """Create the table of a changed champion; return the summary, or the failed state."""
    from catimage.commands.rollout import RolloutSummary

    if not state.is_completed():
        return Failed(message=state.message)
    summary = state.result()
    assert isinstance(summary, RolloutSummary)
    facts = {
        "champion": f"version {summary.version}",
        "before": f"version {summary.previous}" if summary.previous else "none",
        "reason": summary.reason,
        "replicas that serve it": ", ".join(summary.replicas) or "no service is running",
    }
    fact_table("champion", "The champion, as it was read back", facts)
    return "\n".join(f"{name}: {value}" for name, value in facts.items())


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    parser = workspace_parser("Promote a registered router to champion.")
    parser.add_argument("version", nargs="?", help="the version; by default the challenger")
    parser.add_argument("--force", help="the reason to promote it if the gate does not")
    arguments = parser.parse_args()
    run_once(
        lambda: promote(arguments.workspace, arguments.version, arguments.force, return_state=True)
    )


if __name__ == "__main__":
    main()
