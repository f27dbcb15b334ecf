"""The task before the stages: which of them are out of date."""

from __future__ import annotations

import json
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State

from catimage.workspace import STAGES

from .dvc_process import run_command
from .stages import Hours, failure

PROGRAM = str(Path(__file__).with_name("dvc_status.py"))
"""The program that runs DVC; with the option ``-P``, it does not import the modules beside it."""


@task(name="check-stages", task_run_name="check-stages", cache_policy=NO_CACHE)
def check_stages(workspace: Path, timeout_hours: Hours = 24.0) -> tuple[str, ...] | State[None]:
    """Record the inputs of the stages (stage ``sources``), and find the first outdated stage.

    Args:
        workspace: the folder of ``dvc.yaml``.
        timeout_hours: the longest time of the check; its processes are then ended.

    Returns:
        The stages to start: the first one that is out of date, and all after it, whose inputs it
        may change. A Failed state with the reason if DVC or the stage ``sources`` fails.
    """
    lines: list[str] = []
    outcome = run_command(["-P", PROGRAM, *STAGES], workspace, timeout_hours * 3600, lines.append)
    if failed := failure("sources", outcome, workspace, timeout_hours):
        return failed
    return stages_to_start(set(json.loads(lines[-1])))


def stages_to_start(outdated: set[str]) -> tuple[str, ...]:
    """Return the stages to start, in their order.

    Args:
        outdated: the names of stages that DVC reports. If one of them is a stage that a user has
            added to ``dvc.yaml`` before another one, all stages are started.
    """
    if not outdated <= {"sources", *STAGES}:
        return STAGES
    first = next((i for i, stage in enumerate(STAGES) if stage in outdated), len(STAGES))
    return STAGES[first:]
