"""The tasks of the stages: each runs ``dvc repro <stage>``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, cast

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.states import Completed, Failed
from pydantic import Field

from .dvc_process import Outcome, is_dvc_busy, reproduce

Hours = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A duration in hours."""
RETRIES = {"generate": 2, "label": 2}
"""The number of retries by stage. Only these stages have transient failures, of a device or a disk;
a retry continues where the stage failed. Invalid input is not retried.
"""
RETRY_DELAY = 10.0
"""Seconds between retries."""
TIMEOUT_HOURS = {
    "sample": 24.0,
    "generate": 14 * 24.0,
    "label": 7 * 24.0,
    "validate": 12.0,
    "train": 4 * 24.0,
    "calibrate": 12.0,
    "evaluate": 24.0,
    "package": 12.0,
    "register": 12.0,
}
"""The longest time of each task; its processes are then ended. The parameter ``timeout_hours`` of
the flow changes single values.
"""
TRANSIENT = "Transient failure"
"""The name of the state of a failed task that is retried."""
UP_TO_DATE = "Up to date"
"""The name of the state of the task of a stage that was not started."""
DVC_NOTICES = re.compile(
    r"To track|To enable|Use `dvc push`|\t|Updating lock|Generating lock|Data and pipelines"
    r"|Running stage 'sources'|> .*catimage sources$"
)
"""Lines that DVC prints on every call, which are not logged."""


def is_transient(task: object, run: object, state: State[object]) -> bool:
    """Return whether a failed task is retried."""
    return state.name == TRANSIENT


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def repro(
    stage: str, workspace: Path, timeout_hours: Hours = 24.0, outdated: bool = True
) -> State[None] | None:
    """Run ``dvc repro`` for one stage and log its output.

    Args:
        stage: the name of the stage.
        workspace: the folder of ``dvc.yaml``.
        timeout_hours: the longest time of the stage; its processes are then ended.
        outdated: whether the stage may be out of date; otherwise DVC is not started.

    Returns:
        None if the stage succeeds, a Completed state if it is up to date, otherwise a Failed state
        with the reason.
    """
    logger = get_run_logger()
    if not outdated:
        logger.info("%s: up to date", stage)
        return Completed(name=UP_TO_DATE)

    def log(line: str) -> None:
        if _is_relevant(line, stage):
            logger.info(line)

    outcome = reproduce(stage, workspace, timeout_hours * 3600, log)
    return failure(stage, outcome, workspace, timeout_hours)


def failure(
    stage: str, outcome: Outcome, workspace: Path, timeout_hours: float
) -> State[None] | None:
    """Return a Failed state with the reason why DVC failed; None if it has succeeded.

    Args:
        stage: the name of the stage.
        outcome: the end of DVC.
        workspace: the folder of ``dvc.yaml``.
        timeout_hours: the longest time of the stage.
    """
    if outcome.timed_out:
        message = (
            f"{stage}: not finished after {timeout_hours:g} hours. Find the reason in its output"
            f" above, or raise timeout_hours for {stage}."
        )
        return Failed(message=message)
    if outcome.status == 0:
        return None
    if outcome.stage_status is None and is_dvc_busy(workspace):
        message = (
            f"{stage}: another DVC process is running in {workspace.resolve()}. Wait until it ends,"
            " then run the flow again."
        )
        return Failed(message=message)
    status = outcome.status if outcome.stage_status is None else outcome.stage_status
    message = f"{stage}: exited with status {status}. See its output above."
    return Failed(message=message, name=TRANSIENT if outcome.is_transient else "Failed")


def _is_relevant(line: str, stage: str) -> bool:
    """Return whether a line of DVC's output is logged; notices and other stages are not."""
    unchanged_other = "didn't change" in line and f"'{stage}'" not in line
    return bool(line.strip()) and not DVC_NOTICES.match(line) and not unchanged_other


def run_stage(
    stage: str, workspace: Path, timeout_hours: float, outdated: bool = True
) -> State[Any]:
    """Run the task of a stage with its retries; return its final state."""
    run = repro.with_options(
        name=stage,
        task_run_name=stage,
        retries=RETRIES.get(stage, 0),
        retry_delay_seconds=RETRY_DELAY,
    )
    return cast("State[Any]", run(stage, workspace, timeout_hours, outdated, return_state=True))
