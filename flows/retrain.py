"""Retraining as a Prefect flow: the eight stages, registration in MLflow, and promotion.

Before the stages, new prompts are taken from the decision log, if ``sample.sources`` has a source
of kind ``decisions``. If ``CATIMAGE_DVC_REMOTE`` names a DVC remote, missing data are downloaded
first, and the outputs of the stages are uploaded before the registration.

DVC decides which stages are out of date, so the cache of Prefect is not used: one process of DVC
compares the inputs of all stages with those of the last run (:mod:`flows.stage_check`). The task of
a stage runs ``dvc repro <stage>``, unless it and all stages before it are up to date. The promotion
gate decides whether the new router becomes the champion, in the registry and in the running
service. To run the flow once, use ``python -m flows.retrain``; ``prefect.yaml`` defines a nightly
schedule, and the flow ``monitor`` starts a run if traffic drifts.
"""

from __future__ import annotations

import argparse
import json
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from filelock import FileLock, Timeout
from prefect import flow
from prefect.client.schemas import State
from prefect.states import Cancelled, Failed

from catimage.commands.recovery import recover
from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError
from catimage.params import load_params
from catimage.tracking.registry import RegistrationResult
from catimage.workspace import STAGES, Workspace

from .artifacts import retrain_artifacts
from .intake import intake
from .preflight import check_parameters
from .registration import approved, promote, register, run_task
from .run_once import run_once
from .stage_check import check_stages
from .stages import TIMEOUT_HOURS, Hours, run_stage
from .storage import pull_data, push_data

LOCK = Path(".catimage") / "retrain.lock"
"""The file of a workspace that a running flow locks."""


@flow(name="retrain", description=__doc__)
def retrain(
    workspace: Path = Path(),
    timeout_hours: dict[str, Hours] | None = None,
    approval: bool | None = None,
    reason: str = "",
) -> str | State[None]:
    """Run all stages, register the router, promote it if the gate does, and create artifacts.

    Args:
        workspace: the folder of ``dvc.yaml`` and ``params.yaml``.
        timeout_hours: the longest time of tasks, by stage; default:
            :data:`~flows.stages.TIMEOUT_HOURS`.
        approval: whether a person has to approve a promotion; by default ``promote.approval`` of
            ``params.yaml``.
        reason: why the flow was started, such as the alarm of a monitor; for the summary.

    Returns:
        The summary of the run, a Failed state with the reason of the first failed task, or a
        Cancelled state if another run is working in the workspace.
    """
    bypass_proxies_for_local_addresses()
    if unknown := sorted((timeout_hours or {}).keys() - TIMEOUT_HOURS.keys()):
        return Failed(message=f"timeout_hours: unknown stage {unknown[0]!r}. Correct its name.")
    if find_spec("dvc") is None:
        return Failed(message="retrain: DVC is not installed. Run pip install 'catimage[dvc]'.")
    lock = workspace / LOCK
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=0):
            return _retrain(workspace, TIMEOUT_HOURS | (timeout_hours or {}), approval, reason)
    except Timeout:
        message = f"{workspace.resolve()}: another retrain is running. This run has done nothing."
        return Cancelled(message=message, name="Skipped")


def _retrain(
    workspace: Path, hours: dict[str, float], approval: bool | None, reason: str
) -> str | State[None]:
    """Run the flow while the lock is held."""
    try:
        recover(Workspace(workspace))
        check_parameters(Workspace(workspace))
    except InputError as error:
        return Failed(message=f"retrain: {error}")
    pulled = run_task(pull_data, workspace, limit=hours["generate"] * 3600)
    if not pulled.is_completed():
        return Failed(message=pulled.message)
    if load_params(workspace / "params.yaml").sample.decisions:
        taken = run_task(intake, workspace, limit=hours["sample"] * 3600, retries=0)
        if not taken.is_completed():
            return Failed(message=taken.message)
    if failed := _run_stages(workspace, hours):
        return failed
    pushed = run_task(push_data, workspace, limit=hours["generate"] * 3600)
    if not pushed.is_completed():
        return Failed(message=pushed.message)
    registration = run_task(register, workspace, limit=hours["register"] * 3600)
    if not registration.is_completed():
        return Failed(message=registration.message)
    registered = registration.result()
    assert isinstance(registered, RegistrationResult)
    decision = _promoted(workspace, registered, approval)
    if isinstance(decision, State):
        return decision
    text = retrain_artifacts(Workspace(workspace), registered, decision)
    return f"{text}\nStarted  {reason}" if reason else text


def _run_stages(workspace: Path, hours: dict[str, float]) -> State[None] | None:
    """Run the tasks of the stages; return a Failed state with the reason of the first failure."""
    checked = check_stages(workspace, hours["sample"], return_state=True)
    if not checked.is_completed():
        return Failed(message=checked.message)
    outdated = cast("tuple[str, ...]", checked.result())
    for stage in STAGES:
        state = run_stage(stage, workspace, hours[stage], stage in outdated)
        if not state.is_completed():
            return Failed(message=state.message)
    return None


def _promoted(
    workspace: Path, registered: RegistrationResult, approval: bool | None
) -> str | State[None]:
    """Promote a router that the gate promotes, after the approval of a person if it is needed.

    Returns:
        Whether and why the router is the champion, or a Failed state.
    """
    reason = registered.reason
    if registered.champion:
        return f"(champion): {reason}"
    if registered.blocked:  # a person has to decide, and is notified of failed runs
        return Failed(message=f"version {registered.version} is not promoted: {reason}")
    if not registered.promotable:
        return f"(challenger; the champion is unchanged): {reason}"
    settings = load_params(workspace / "params.yaml").promote
    if settings.approval if approval is None else approval:
        answer, why = approved(registered, settings.approval_hours)
        if not answer:
            return f"(challenger; the champion is unchanged): {why}; the gate: {reason}"
    state = run_task(promote, workspace, registered.version, limit=3600)
    if not state.is_completed():
        return Failed(message=state.message)
    return f"(champion): {reason}"


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    parser = argparse.ArgumentParser(
        description="Retrain: run all stages, register the router in MLflow, and promote it."
    )
    parser.add_argument(
        "--workspace", type=Path, default=Path(), help="the folder with dvc.yaml and params.yaml"
    )
    parser.add_argument(
        "--timeout-hours",
        type=json.loads,
        help="the longest time of tasks by stage, such as '{\"generate\": 48}'",
    )
    arguments = parser.parse_args()
    run_once(lambda: retrain(arguments.workspace, arguments.timeout_hours, return_state=True))


if __name__ == "__main__":
    main()
