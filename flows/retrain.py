"""Retraining as a Prefect flow: the eight stages, then registration in MLflow.

Each task runs ``dvc repro <stage>``. DVC decides which stages are out of date, so the cache of
Prefect is not used; an up-to-date stage takes about a second. To run the flow once, use
``python -m flows.retrain``; ``prefect.yaml`` defines a weekly schedule.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

try:
    from prefect import flow, get_run_logger, task
    from prefect.artifacts import (
        create_link_artifact,
        create_markdown_artifact,
        create_table_artifact,
    )
    from prefect.cache_policies import NO_CACHE
    from prefect.client.schemas import State
    from prefect.settings import (
        PREFECT_SERVER_ANALYTICS_ENABLED,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )
    from prefect.states import Failed
except ModuleNotFoundError as error:
    sys.exit(
        f"catimage: {error.name} is not installed. Run pip install 'catimage[flows]', or run 'dvc"
        " repro', which needs no Prefect."
    )

from catimage.commands.recovery import recover
from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError
from catimage.evaluation.summary import summary
from catimage.params import load_params
from catimage.tracking.registry import RegistrationResult
from catimage.tracking.registry import register as register_router
from catimage.workspace import STAGES, Workspace
from flows.dvc_process import is_dvc_busy, reproduce

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
DVC_NOTICES = re.compile(
    r"To track|To enable|Use `dvc push`|\t|Updating lock|Generating lock|Data and pipelines"
    r"|Running stage 'sources'|> .*catimage sources$"
)
"""Lines that DVC prints on every call, which are not logged."""
USAGE = """make serve, then: curl localhost:3000/v1/route -d '{"prompt": "two small red rings"}'"""
"""The next step, for the summary of the run."""


def is_transient(task: object, run: object, state: State[object]) -> bool:
    """Return whether a failed task is retried."""
    return state.name == TRANSIENT


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def repro(stage: str, workspace: Path, timeout_hours: float = 24.0) -> State[None] | None:
    """Run ``dvc repro`` for one stage and log its output.

    Args:
        stage: the name of the stage.
        workspace: the folder of ``dvc.yaml``.
        timeout_hours: the longest time of the stage; its processes are then ended.

    Returns:
        None if the stage succeeds, otherwise a Failed state with the reason.
    """
    logger = get_run_logger()

    def log(line: str) -> None:
        if _is_relevant(line, stage):
            logger.info(line)

    outcome = reproduce(stage, workspace, timeout_hours * 3600, log)
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


@task(cache_policy=NO_CACHE)
def register(workspace: Path) -> RegistrationResult | State[None]:
    """Log the run to MLflow and register the router.

    The promotion gate decides whether the router becomes the champion
    (:mod:`catimage.tracking.gate`).

    Returns:
        The result of the registration, or a Failed state with the reason.
    """
    try:
        return register_router(Workspace(workspace), load_params(workspace / "params.yaml"))
    except InputError as error:
        return Failed(message=f"register: {error}")


@flow(name="retrain", description=__doc__)
def retrain(
    workspace: Path = Path(), timeout_hours: dict[str, float] | None = None
) -> str | State[None]:
    """Run all stages, register the router and create artifacts.

    Args:
        workspace: the folder of ``dvc.yaml`` and ``params.yaml``.
        timeout_hours: the longest time of tasks, by stage; default: :data:`TIMEOUT_HOURS`.

    Returns:
        The summary of the run, or a Failed state with the reason of the first failed task.
    """
    bypass_proxies_for_local_addresses()
    hours = TIMEOUT_HOURS | (timeout_hours or {})
    if unknown := sorted(hours.keys() - TIMEOUT_HOURS.keys()):
        return Failed(message=f"timeout_hours: unknown stage {unknown[0]!r}. Correct its name.")
    if find_spec("dvc") is None:
        return Failed(message="retrain: DVC is not installed. Run pip install 'catimage[dvc]'.")
    try:
        recover(Workspace(workspace))
    except InputError as error:
        return Failed(message=str(error))
    for stage in STAGES:
        run = repro.with_options(
            name=stage,
            task_run_name=stage,
            retries=RETRIES.get(stage, 0),
            retry_delay_seconds=RETRY_DELAY,
        )
        state = run(stage, workspace, hours[stage], return_state=True)
        if not state.is_completed():
            return Failed(message=state.message)
    limit = hours["register"] * 3600
    registering = register.with_options(task_run_name="register", timeout_seconds=limit)
    registration = registering(workspace, return_state=True)
    if not registration.is_completed():
        return Failed(message=registration.message)
    registered = registration.result()
    assert isinstance(registered, RegistrationResult)
    return _create_artifacts(Workspace(workspace), registered)


def _create_artifacts(workspace: Workspace, registered: RegistrationResult) -> str:
    """Create the artifacts of the run in Prefect, and return its summary."""
    metrics = json.loads((workspace.reports / "metrics.json").read_text())
    tag = json.loads((workspace.dist / "bento.json").read_text())["tag"]
    create_table_artifact(
        metrics["methods"][metrics["budget"]["estimator"]]["by_candidate"],
        key="results",
        description="The router compared with each fixed candidate, on the test split",
    )
    for name in ("report.html", "validation.json"):
        link = (workspace.reports / name).resolve().as_uri()
        create_link_artifact(link, link_text=f"reports/{name}", key=name.replace(".", "-"))
    alias = "champion" if registered.champion else "challenger; the champion is unchanged"
    lines = [
        summary(metrics),
        "",
        f"MLflow   router version {registered.version} ({alias}): {registered.reason}",
        f"Bento    {tag}",
        f"Report   {workspace.reports / 'report.html'}",
        f"Next     {USAGE}",
    ]
    text = "\n".join(lines)
    create_markdown_artifact(
        f"```\n{text}\n```", key="summary", description="The summary of the run"
    )
    return text


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    parser = argparse.ArgumentParser(
        description="Retrain: run all stages, then register the router in MLflow."
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
    bypass_proxies_for_local_addresses()
    with temporary_settings(
        {
            PREFECT_SERVER_ANALYTICS_ENABLED: False,
            PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        }
    ):
        state = retrain(arguments.workspace, arguments.timeout_hours, return_state=True)
    if not state.is_completed():
        sys.exit(f"catimage: {state.message}")
    print(f"\n{state.result()}", flush=True)


if __name__ == "__main__":
    main()
