"""The flow that watches the traffic: drift, cost and audited quality, every hour.

The checks of :mod:`catimage.commands.monitor` that raise an alarm cause an event
``catimage.drift``, which Prefect's automations send to a webhook, and one run of the flow
``retrain``. The run is created by a request to the server, and not by an automation: if the
request fails, this flow fails and is reported, while a server that restarts loses the events that
it has not processed. The key of the request is the time of the alarm, and the request is repeated
during the cooldown of the check: no alarm is lost, and none starts two runs.

The flow also compares what the replicas of the service serve with what is registered.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas import State
from prefect.events import emit_event
from prefect.states import Failed

from catimage.common.proxies import bypass_proxies_for_local_addresses
from catimage.errors import InputError
from catimage.params import load_params
from catimage.workspace import Workspace

from .registration import failed, run_task
from .retrain_requests import request_retrain
from .run_once import run_once, workspace_parser
from .stages import is_transient

if TYPE_CHECKING:
    from catimage.monitoring.outcome import CheckResult
    from catimage.monitoring.report import MonitorReport

DRIFT_EVENT = "catimage.drift"
"""Name of the event of an alarm."""
RETRAIN = "retrain/nightly"
"""The deployment that an alarm starts."""
LIMIT = 3000.0
"""Longest time of a run in seconds; the next one starts after an hour."""


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient)
def observe(workspace: Path) -> MonitorReport | State[None]:
    """Run the checks of the monitor.

    Returns:
        The report, or a Failed state with the reason.
    """
    from catimage.commands.monitor import monitor as run_monitor

    try:
        return run_monitor(Workspace(workspace), load_params(workspace / "params.yaml"))
    except InputError as error:
        return failed("monitor", error)


@task(cache_policy=NO_CACHE, retry_condition_fn=is_transient, name="compare-served")
def compare_served(workspace: Path) -> list[str] | State[None]:
    """Compare what every replica serves with the champion of the registry.

    Returns:
        One sentence per replica that serves something else, or a Failed state.
    """
    from catimage.commands.lineage import check_served
    from catimage.serving.messages import ServingError

    try:
        return check_served(Workspace(workspace))
    except (InputError, ServingError) as error:
        return failed("monitor", error)


@flow(name="monitor", description=__doc__, timeout_seconds=LIMIT)
def monitor(workspace: Path = Path(), retrain: str | None = RETRAIN) -> str | State[None]:
    """Run the checks, create artifacts, and start ``retrain`` if a check raises an alarm.

    Args:
        workspace: the folder of ``params.yaml`` and of the decision log.
        retrain: the deployment that an alarm starts; None to start nothing.

    Returns:
        A summary, or a Failed state with the reason.
    """
    bypass_proxies_for_local_addresses()
    state = run_task(observe, workspace, limit=LIMIT)
    if not state.is_completed():
        return Failed(message=state.message)
    report: MonitorReport = state.result()
    lines = _artifacts(report)
    if report.alarms:
        _emit(workspace, report)
    if retrain is not None and (times := [c.last_alarm for c in _alarming(report) if c.last_alarm]):
        reason = f"alarm of the monitor: {_reason(report)}"
        lines.append(request_retrain(retrain, reason, f"{workspace.resolve()} {max(times)}"))
    if problem := _problem(report, run_task(compare_served, workspace, limit=LIMIT)):
        return Failed(message=f"monitor: {problem}")
    return "\n".join(lines)


def _problem(report: MonitorReport, served: State[list[str]]) -> str:
    """Return the checks that could not be run, and the replicas that serve another router."""
    if not served.is_completed():
        return served.message or "the served routers could not be compared"
    broken = [check.check for check in report.checks if check.status == "failed"]
    found = [f"checks that could not be run: {', '.join(broken)}"] if broken else []
    return "; ".join([*found, *served.result()])


def _artifacts(report: MonitorReport) -> list[str]:
    """Create the table of the checks and the text; return its lines."""
    rows = [
        {key: value for key, value in check.to_document().items() if key != "details"}
        for check in report.checks
    ]
    period = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    create_table_artifact(rows, key="monitor-checks", description=f"The checks from {period}")
    text = "\n".join(f"- {sentence}" for sentence in report.sentences)
    create_markdown_artifact(text, key="monitor", description=f"The monitor from {period}")
    return list(report.sentences)


def _alarming(report: MonitorReport) -> list[CheckResult]:
    """Return the checks that raise an alarm, and those in the cooldown after one."""
    return [check for check in report.checks if check.status in ("alarm", "paused")]


def _reason(report: MonitorReport) -> str:
    return "; ".join(f"{check.check}: {check.message}" for check in _alarming(report))


def _emit(workspace: Path, report: MonitorReport) -> None:
    """Emit the event of the alarms."""
    root = str(workspace.resolve())
    emit_event(
        event=DRIFT_EVENT,
        resource={
            "prefect.resource.id": f"catimage.workspace.{root}",
            "prefect.resource.name": root,
        },
        payload={"alarms": report.alarms, "reason": _reason(report)},
    )


def main() -> None:
    """Run the flow once; start a temporary Prefect server if none is configured."""
    parser = workspace_parser("Monitor: check the traffic of the service.")
    parser.add_argument("--retrain", help=f"the deployment that an alarm starts, such as {RETRAIN}")
    arguments = parser.parse_args()
    run_once(lambda: monitor(arguments.workspace, arguments.retrain, return_state=True))


if __name__ == "__main__":
    main()
