"""``catimage monitor`` compares requests with the router that decided; with a real registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from catimage.commands.monitor import monitor
from catimage.commands.monitor_state import MonitorState, read_state
from catimage.common.hashing import folder_digest
from catimage.data.decisions import write_decisions
from catimage.monitoring.report import MonitorReport
from catimage.params import Params, load_params
from catimage.tracking.client import CHAMPION, MODEL, connection
from catimage.workspace import Workspace
from tests.monitoring.decisions import NOON, decision
from tests.registered_routers import register_routers
from tests.serving.rollout.routers import changed_router

from .test_monitor import HOUR, SETTLED

CHECKS = ("decisions", "cost")


@pytest.fixture(scope="module")
def registry(
    calibrated_folder: Path, mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A workspace with two versions in its registry; ``models/router`` is neither of them."""
    root = tmp_path_factory.mktemp("registry") / "workspace"
    shutil.copytree(calibrated_folder, root)
    shutil.copy(mlflow_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        register_routers(Workspace(root), 2)
    set_champion(Workspace(root), "1")
    return root


def set_champion(workspace: Workspace, version: str) -> None:
    with connection(workspace) as client:
        client.set_registered_model_alias(MODEL, CHAMPION, version)


@pytest.fixture
def setting(
    registry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Workspace, Params, Path]:
    """A copy of the workspace, its parameters without audits, and an empty decision log."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    workspace = Workspace(Path(shutil.copytree(registry, tmp_path / "workspace")))
    (tmp_path / "log").mkdir()
    params = load_params(workspace.params, ["monitor.audit.prompts=0"])
    return workspace, params, tmp_path / "log"


def run(
    setting: tuple[Workspace, Params, Path], hour: int, **rows: int
) -> tuple[dict[str, Any], MonitorState]:
    """Write the rows of an hour by version, run the monitor, and return its checks and state."""
    workspace, params, log = setting
    versions = [version for version, n in rows.items() for _ in range(n)]
    decided = [
        decision(60 * hour + i / 10, router_version=version.removeprefix("v"))
        for i, version in enumerate(versions)
    ]
    if decided:
        write_decisions(log, "a", 0, decided)
    report: MonitorReport = monitor(workspace, params, log, NOON + HOUR * (hour + 1) + SETTLED)
    return {check.check: check for check in report.checks}, read_state(workspace.monitor_state)


def digest_of(workspace: Workspace, version: int) -> str:
    return folder_digest(workspace.root / f"models-{version}" / "router")


def test_requests_are_compared_with_the_champion_and_not_with_models_router(setting):
    workspace, _, _ = setting
    checks, state = run(setting, 0, v1=30, v2=7, vfallback=3)
    assert state.served == {"digest": digest_of(workspace, 1), "version": "1"}
    assert digest_of(workspace, 1) != folder_digest(workspace.router)
    for name in CHECKS:
        assert checks[name].observations == 30
        assert checks[name].message.endswith(
            " 10 requests that router 1 did not decide do not count."
        )


def test_a_challenger_that_the_gate_refuses_does_not_change_the_evidence(setting):
    workspace, _, _ = setting
    before = run(setting, 0, v1=30)[1]
    shutil.rmtree(workspace.router)
    changed_router(workspace.root / "models-2" / "router", workspace.router, estimator="refused")
    after = run(setting, 1)[1]
    assert after.expected == before.expected
    assert after.checks["decisions"] == before.checks["decisions"] != {}


def test_a_promotion_starts_the_checks_again(setting):
    workspace, _, _ = setting
    before = run(setting, 0, v1=30)[1]
    set_champion(workspace, "2")
    checks, after = run(setting, 1, v2=20, v1=5)
    assert after.served == {"digest": digest_of(workspace, 2), "version": "2"}
    assert checks["decisions"].observations == 20
    assert after.expected != before.expected
    assert len(before.checks["streams"]["quality"]) == 30
    assert len(after.checks["streams"]["quality"]) == 20
    assert after.checks["cost"]["recent"] == run(setting, 2)[1].checks["cost"]["recent"]


def test_a_service_that_serves_models_router_is_compared_with_it(setting):
    workspace, _, _ = setting
    digest = folder_digest(workspace.router)
    checks, state = run(setting, 0, **{digest[:12]: 8, "v2": 1})
    assert state.served == {"digest": digest, "version": digest[:12]}
    assert checks["decisions"].observations == 8


def test_if_the_registry_is_away_the_last_champion_is_compared(setting, monkeypatch):
    workspace, _, _ = setting
    before = run(setting, 0, v1=30)[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    checks, after = run(setting, 1, v1=10, v2=1)
    assert after.expected == before.expected and checks["decisions"].observations == 10
    text = "Compared with router 1, because the champion is unknown: MLFLOW_TRACKING_URI: no server"
    assert text in checks["cost"].message
    workspace.monitor_state.unlink()
    checks, state = run(setting, 2, v1=10)
    assert state.served == {"digest": folder_digest(workspace.router), "version": ""}
    assert "Compared with models/router, because" in checks["cost"].message


def test_missing_files_of_the_champion_fail_its_checks_only(setting):
    workspace, _, _ = setting
    shutil.rmtree(workspace.root / "mlruns")
    (workspace.root / "mlruns").mkdir()
    checks, state = run(setting, 0, v1=10)
    failed = [name for name, check in checks.items() if check.status == "failed"]
    assert failed == ["streams", *CHECKS]
    assert "files of version 1 of 'router' are not those" in checks["cost"].message
    assert state.expected is None
