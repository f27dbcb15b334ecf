"""The tasks after the stages: registration, a person's approval, and promotion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Failed

from catimage.errors import InputError
from catimage.params import load_params
from catimage.tracking.lock import ConflictError
from catimage.tracking.outages import is_outage
from catimage.tracking.registry import RegistrationResult
from catimage.tracking.registry import register as register_router
from catimage.workspace import Workspace

from .stages import TRANSIENT, is_transient

if TYPE_CHECKING:
    from catimage.commands.rollout import RolloutSummary

OUTAGE_DELAYS = [2.0, 5.0, 15.0, 30.0, 60.0]
"""Seconds before each retry of a task whose server or database does not respond: an outage of
almost two minutes is bridged.
"""
APPROVAL_POLL = 10
"""Seconds between two requests for the answer of a person."""


class Approval(RunInput):
    """The answer of a person to the question whether a challenger becomes champion."""

    approve: bool
    reason: str = ""


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def register(workspace: Path) -> RegistrationResult | State[None]:
    """Log the run to MLflow, register the router as challenger, and apply the promotion gate.

    The champion is not changed (:mod:`catimage.tracking.gate` has the decision).

    Returns:
        The result of the registration, or a Failed state with the reason.
    """
    params = load_params(workspace / "params.yaml")
    try:
        return register_router(Workspace(workspace), params, hold=True)
    except InputError as error:
        return failed("register", error)


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def promote(
    workspace: Path, version: str | None, force: str | None = None, timeout: float | None = 60.0
) -> RolloutSummary | State[None]:
    """Make a version champion, in the registry and in the service, and read it back.

    If anything fails, the previous champion stays, in the registry and in the service.

    Args:
        workspace: the folder of ``params.yaml``.
        version: the version; None for that with the alias ``challenger``.
        force: the reason to promote a version that the gate does not promote.
        timeout: seconds to wait for the replicas of the service; None not to wait.

    Returns:
        The result, or a Failed state with the reason.
    """
    from catimage.commands.promote import promote as promote_router
    from catimage.serving.messages import ServingError

    params = load_params(workspace / "params.yaml")
    try:
        return promote_router(Workspace(workspace), params, version, force, timeout)
    except (InputError, ServingError) as error:
        return failed("promote", error)


def failed(task_name: str, error: Exception) -> State[None]:
    """Return a failed state.

    It is retried if a server or a database did not respond, or if other processes have changed the
    champion at the same time.
    """
    name = TRANSIENT if is_outage(error) or isinstance(error, ConflictError) else "Failed"
    return Failed(message=f"{task_name}: {error}", name=name)


def approved(registered: RegistrationResult, hours: float) -> tuple[bool, str]:
    """Pause the flow run until a person answers; without an answer in time, the answer is no.

    Args:
        registered: the challenger.
        hours: the longest time to wait for the answer.

    Returns:
        The answer, and its reason.
    """
    question = Approval.with_initial_data(
        description=f"Shall router version {registered.version} become the champion? The gate:"
        f" {registered.reason}",
        approve=False,
    )
    get_run_logger().info("waiting for the approval of router version %s", registered.version)
    try:
        answer = pause_flow_run(
            wait_for_input=question, timeout=int(hours * 3600), poll_interval=APPROVAL_POLL
        )
    except FlowPauseTimeout:
        return False, f"no person has answered within {hours:g} hours"
    return answer.approve, answer.reason or ("approved" if answer.approve else "not approved")


def run_task(
    run: Task[..., Any], *arguments: object, limit: float, retries: int | None = None
) -> State[Any]:
    """Run a task and return its final state.

    Args:
        run: the task.
        arguments: its arguments.
        limit: its longest time in seconds.
        retries: number of retries during outages; default: one per :data:`OUTAGE_DELAYS`.
    """
    configured = run.with_options(
        task_run_name=run.name,
        retries=len(OUTAGE_DELAYS) if retries is None else retries,
        retry_delay_seconds=OUTAGE_DELAYS,
        timeout_seconds=limit,
    )
    return cast("State[Any]", configured(*arguments, return_state=True))
