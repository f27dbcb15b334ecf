"""Requests to run the flow ``retrain``: one at a time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import FlowRun
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from catimage.errors import InputError

ACTIVE = [
    StateType.SCHEDULED,
    StateType.PENDING,
    StateType.RUNNING,
    StateType.PAUSED,
    StateType.CANCELLING,
]
"""The states of runs that have not ended."""
TAG = "drift"
"""The tag of the runs that an alarm has started."""


def request_retrain(deployment: str, reason: str, key: str) -> str:
    """Start a run of a deployment, unless one is running, or was started for the same reason.

    The server stores the run, so that it is not lost if the server or the worker restarts. If two
    processes request runs at the same time, the concurrency limit of the deployment cancels one.

    Args:
        deployment: ``flow/deployment``.
        reason: why, for the summary of the run.
        key: an identifier of the alarm; several requests with the same key start one run.

    Returns:
        What was done, in one sentence.

    Raises:
        InputError: the deployment does not exist.
    """
    with get_client(sync_client=True) as client:
        try:
            identifier = client.read_deployment_by_name(deployment).id
        except ObjectNotFound as error:
            raise InputError(
                f"{deployment}: the Prefect server has no such deployment, so that the alarm starts"
                " no run. Run 'python -m flows.setup' in the workspace."
            ) from error
        if running := _active_run(client, identifier):
            return f"alarm: {deployment} is already running as {running.name!r}"
    run = cast(
        "FlowRun",
        run_deployment(
            identifier,
            parameters={"reason": reason},
            timeout=0,
            as_subflow=False,
            idempotency_key=key,
            tags=[TAG],
        ),
    )
    state = run.state.name if run.state else "unknown"
    return f"alarm: {deployment} was started as {run.name!r}, which is {state}"


def _active_run(client: SyncPrefectClient, deployment: UUID) -> FlowRun | None:
    """Return a run that has begun or whose time has come; None without one."""
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=ACTIVE))
    runs = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        flow_run_filter=FlowRunFilter(state=state),
    )
    now = datetime.now(UTC)
    for run in runs:
        scheduled = run.state is not None and run.state.is_scheduled()
        if not scheduled or (run.next_scheduled_start_time or now) <= now:
            return run
    return None
