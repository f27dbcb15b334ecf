"""The flows monitor, promote, rollback and backfill, approvals and locks, with a Prefect server."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from filelock import FileLock
from flows.retrain_requests import request_retrain
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.states import Completed, Running

from catimage.commands.rollback import RollbackPlan
from catimage.commands.rollout import RolloutSummary
from catimage.errors import InputError
from catimage.monitoring.outcome import CheckResult
from catimage.monitoring.report import MonitorReport
from catimage.tracking.registry import RegistrationResult
from flows import backfill, monitor, promote, registration, retrain, rollback

pytestmark = pytest.mark.usefixtures("prefect_server")
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def deployment() -> Iterator[UUID]:
    """The deployment ``retrain/nightly`` on the server, without a worker."""
    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(retrain.retrain)
        options = ConcurrencyOptions(collision_strategy="CANCEL_NEW")
        yield client.create_deployment(
            flow_id,
            "nightly",
            concurrency_limit=1,
            concurrency_options=options,
            parameter_openapi_schema=retrain.retrain.parameters.model_dump(),
        )


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("budget: 40%\n")
    return tmp_path


def report(*statuses: str, until: datetime = NOON) -> MonitorReport:
    """Return a report whose checks have statuses; the last alarm was at noon."""
    checks = [
        CheckResult(f"check{i}", s, f"found {i}.", 0.5, last_alarm=NOON.isoformat())
        if s in ("alarm", "paused")
        else CheckResult(f"check{i}", s, f"found {i}.", 0.5)
        for i, s in enumerate(statuses)
    ]
    return MonitorReport(until - timedelta(hours=1), until, 42, 0, tuple(checks))


def observing(monkeypatch: pytest.MonkeyPatch, found: MonitorReport, *problems: str) -> None:
    """Make the tasks of the monitor return a report, and problems of the served routers."""
    compare = task(name="compare-served", persist_result=False)(lambda workspace: [*problems])
    monkeypatch.setattr(monitor, "compare_served", compare)
    observe = task(name="observe", persist_result=False)(lambda workspace: found)
    monkeypatch.setattr(monitor, "observe", observe)


def runs_of(deployment: UUID) -> list[str]:
    identifier = DeploymentFilterId(any_=[deployment])
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(deployment_filter=DeploymentFilter(id=identifier))
    return [str(run.parameters.get("reason", "")) for run in runs]


def artifact(key: str) -> object:
    """Return the data of the newest artifact with a key."""
    with get_client(sync_client=True) as client:
        found = [a for a in client.read_artifacts() if a.key == key]
    return max(found, key=lambda a: a.created).data


def test_quiet_traffic_starts_nothing_and_leaves_artifacts(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, deployment: UUID
) -> None:
    observing(monkeypatch, report("ok", "skipped"))
    before = runs_of(deployment)
    assert "42 requests" in monitor.monitor(workspace)
    assert runs_of(deployment) == before
    rows = json.loads(artifact("monitor-checks"))
    assert [(r["check"], r["status"]) for r in rows] == [("check0", "ok"), ("check1", "skipped")]
    assert "check0: ok: found 0." in artifact("monitor")


def test_an_alarm_starts_one_retrain_with_its_reason_and_no_second_one(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, deployment: UUID
) -> None:
    """The request is repeated an hour later, while the run waits, and after it has ended."""
    observing(monkeypatch, report("alarm", "ok", "alarm"))
    before = len(runs_of(deployment))
    assert "alarm: retrain/nightly was started" in monitor.monitor(workspace)
    (reason,) = runs_of(deployment)[before:]
    assert reason == "alarm of the monitor: check0: found 0.; check2: found 2."
    observing(monkeypatch, report("paused", until=NOON + timedelta(hours=1)))
    assert "retrain/nightly is already running" in monitor.monitor(workspace)
    end_runs(deployment)
    assert "which is Completed" in monitor.monitor(workspace)
    assert len(runs_of(deployment)) == before + 1


def test_an_alarm_whose_request_was_lost_starts_a_retrain_an_hour_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deployment: UUID
) -> None:
    (tmp_path / "params.yaml").write_text("budget: 40%\n")
    observing(monkeypatch, report("paused", until=NOON + timedelta(hours=1)))
    before = len(runs_of(deployment))
    assert "which is Scheduled" in monitor.monitor(tmp_path)
    assert len(runs_of(deployment)) == before + 1
    end_runs(deployment)


def test_without_a_deployment_an_alarm_starts_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, deployment: UUID
) -> None:
    observing(monkeypatch, report("alarm"))
    before = len(runs_of(deployment))
    assert "check0: alarm" in monitor.monitor(workspace, retrain=None)
    assert len(runs_of(deployment)) == before


def end_runs(deployment: UUID) -> None:
    """Complete all runs of the deployment."""
    identifier = DeploymentFilterId(any_=[deployment])
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(deployment_filter=DeploymentFilter(id=identifier)):
            client.set_flow_run_state(run.id, Running(), force=True)
            client.set_flow_run_state(run.id, Completed(), force=True)


def test_a_missing_deployment_and_a_failed_check_fail_the_run(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"no such deployment.*python -m flows\.setup"):
        request_retrain("retrain/none", "reason", "key")
    observing(monkeypatch, report("ok", "failed"), "replica a: serves router 1")
    state = monitor.monitor(workspace, return_state=True)
    expected = "monitor: checks that could not be run: check1; replica a: serves router 1"
    assert state.is_failed() and state.message == expected


def test_the_champion_of_promote_and_rollback_is_in_a_table(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = RolloutSummary("champion", "7", "6", "better", ("replica-a",), True)
    monkeypatch.setattr("catimage.commands.promote.promote", lambda *_: summary)
    assert "champion: version 7" in promote.promote(workspace, "7")
    rows = {row["name"]: row["value"] for row in json.loads(artifact("champion"))}
    assert rows["before"] == "version 6" and rows["replicas that serve it"] == "replica-a"
    plan = RollbackPlan("6", "7")
    monkeypatch.setattr("catimage.commands.rollback.plan_rollback", lambda _: plan)
    monkeypatch.setattr("catimage.commands.rollback.rollback", lambda *_: summary)
    assert "reason: better" in rollback.rollback(workspace)


def test_a_registry_that_is_away_is_tried_again_and_invalid_input_is_not(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outage is real: nothing listens on the port of the MLflow server."""
    monkeypatch.setattr(registration, "OUTAGE_DELAYS", [0.05, 0.05])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    state = promote.promote(workspace, "1", return_state=True)
    assert state.is_failed() and state.message.startswith("promote: ")
    assert attempts("promote") == 3
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[no-address")
    state = promote.promote(workspace, "1", return_state=True)
    assert state.is_failed() and "the value is not a URL" in state.message
    assert attempts("promote") == 1


def attempts(name: str) -> int:
    """Return how often the newest task run with a name was started."""
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_task_runs() if run.name == name]
    return int(max(runs, key=lambda run: run.created).run_count)


@pytest.mark.parametrize(
    ("approve", "expected"), [(True, (True, "looks good")), (False, (False, "looks good"))]
)
def test_a_person_can_approve_and_refuse(
    monkeypatch: pytest.MonkeyPatch, approve: bool, expected: tuple[bool, str]
) -> None:
    monkeypatch.setattr(registration, "APPROVAL_POLL", 0.1)
    answer = threading.Thread(target=resume, args=(approve,))
    answer.start()
    assert ask(0.01) == expected
    answer.join()


def test_without_an_answer_the_champion_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "APPROVAL_POLL", 0.1)
    answer, reason = ask(1 / 3600)
    assert not answer and reason.startswith("no person has answered within")


@flow(name="ask")
def ask(hours: float) -> tuple[bool, str]:
    registered = RegistrationResult("run", "7", False, "better", promotable=True)
    return registration.approved(registered, hours)


def resume(approve: bool) -> None:
    """Answer the question of the flow that is paused."""
    for _ in range(200):
        with get_client(sync_client=True) as client:
            paused = [run for run in client.read_flow_runs() if run.state.is_paused()]
            if paused:
                answer = {"approve": approve, "reason": "looks good"}
                client.resume_flow_run(paused[0].id, run_input=answer)
                return
        time.sleep(0.1)


def test_a_second_flow_in_a_workspace_does_nothing(workspace: Path) -> None:
    lock = workspace / retrain.LOCK
    lock.parent.mkdir()
    with FileLock(lock):
        state = retrain.retrain(workspace, return_state=True)
        assert state.is_cancelled() and "another retrain is running" in state.message
        state = backfill.backfill(workspace, metric="sharpness", return_state=True)
        assert state.is_cancelled() and "another flow is running" in state.message


def test_an_unknown_metric_leaves_the_parameters(workspace: Path) -> None:
    (workspace / "params.yaml").write_text("label: {metrics: [clip_score]}  # mine\n")
    for arguments in ({}, {"metric": "sharpness", "candidate": "a"}):
        state = backfill.backfill(workspace, **arguments, return_state=True)
        assert state.message == "backfill: give a candidate or a metric, and not both."
    state = backfill.backfill(workspace, metric="clip_scor", return_state=True)
    assert state.is_failed() and "unknown metric (did you mean 'clip_score'?)" in state.message
    assert (workspace / "params.yaml").read_text() == "label: {metrics: [clip_score]}  # mine\n"


def test_parameters_of_wrong_types_are_refused(workspace: Path) -> None:
    state = backfill.backfill(workspace, candidate="a", prompts=0, return_state=True)
    assert state.is_failed() and "prompts" in state.message
    state = retrain.retrain(workspace, {"label": -1}, return_state=True)
    assert state.is_failed() and "timeout_hours" in state.message
