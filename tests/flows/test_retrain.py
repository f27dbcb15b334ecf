"""The flow with a Prefect server, DVC and MLflow; the stages copy prepared outputs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import zc.lockfile
from flows.dvc_process import is_dvc_busy
from flows.stage_check import check_stages
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from catimage.workspace import STAGES
from flows import registration, retrain, stages
from tests.flows.prepared_workspace import prepare_workspace

ROOT = Path(__file__).parents[2]
FAKE_STAGE = Path(__file__).with_name("fake_stage.py")


pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def without_dry_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the check of the parameters, which tests/flows/test_preflight.py tests."""
    monkeypatch.setattr(retrain, "check_parameters", lambda workspace: None)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every output of the eight stages."""
    return prepare_workspace(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Path:
    """A git repository with this project's ``dvc.yaml``.

    The commands of the stages are replaced by :mod:`tests.flows.fake_stage`.
    """
    folder = tmp_path_factory.mktemp("project")
    pipeline = (ROOT / "dvc.yaml").read_text()
    command = f"cmd: {sys.executable} {FAKE_STAGE} {prepared}"
    (folder / "dvc.yaml").write_text(pipeline.replace("cmd: PYTHONPATH=src catimage", command))
    shutil.copytree(ROOT / ".dvc" / "plots", folder / ".dvc" / "plots")
    for name in (".dvc/config", ".dvc/.gitignore", ".gitignore", ".dvcignore", "params.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def stages_that_ran(project: Path) -> list[str]:
    return (project / "ran.txt").read_text().split()


def test_stages_run_in_order_and_generate_is_retried(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stages, "RETRY_DELAY", 0.1)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (project / "fail-generate").write_text("1")
    summary = retrain.retrain(project)
    expected = list(STAGES)
    expected.insert(2, "generate")
    assert stages_that_ran(project) == expected
    assert (
        "router version 1 (champion)" in summary
        and "catimage:0123" in summary
        and "python -m catimage.serving.bento, then" in summary
    )
    assert "lambda" in summary and "mini-4" in summary
    assert "generate: requested failure" in capfd.readouterr().err


def test_a_second_flow_starts_no_stage_that_is_up_to_date(project: Path) -> None:
    (project / "ran.txt").write_text("")
    retrain.retrain(project)
    assert stages_that_ran(project) == []
    assert states_of_stages() == dict.fromkeys(STAGES, stages.UP_TO_DATE)
    (project / "models" / "router" / "router.json").write_text("{}")
    retrain.retrain(project)
    assert stages_that_ran(project) == ["calibrate"], "its output is restored"
    started = {"calibrate": "Completed", "evaluate": "Completed", "package": "Completed"}
    assert states_of_stages() == dict.fromkeys(STAGES[:5], stages.UP_TO_DATE) | started


def states_of_stages() -> dict[str, str]:
    """Return the names of the states of the last task run of each stage."""
    with get_client(sync_client=True) as client:
        runs = sorted(client.read_task_runs(), key=lambda run: run.created)
    return {run.name: run.state.name for run in runs if run.name in STAGES}


def test_artifacts_have_the_results_and_the_report(project: Path) -> None:
    with get_client(sync_client=True) as client:
        artifacts = {a.key: a for a in client.read_artifacts()}
    rows = json.loads(artifacts["results"].data)
    assert [r["candidate"] for r in rows] == ["mini-1", "mini-2", "mini-4"] and {
        "gain",
        "interval",
    } <= set(rows[0])
    assert (project / "reports" / "report.html").as_uri() in artifacts["report-html"].data


def test_dvc_reads_the_metrics_and_plots(project: Path) -> None:
    def dvc(*arguments: str) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments],
            cwd=project,
            capture_output=True,
            text=True,
            check=True,
        )
        return process.stdout

    assert "best_single" in dvc("metrics", "show")
    dvc("plots", "show")
    page = (project / "dvc_plots" / "index.html").read_text()
    assert '"field": "method"' in page and '"field": "candidate"' in page


def test_failed_validation_stops_the_flow_and_keeps_outputs(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "RETRY_DELAY", 0.1)
    before = (project / "reports" / "validation.json").read_bytes()
    (project / "params.yaml").write_text(
        (project / "params.yaml")
        .read_text()
        .replace("complete_labels: true", "complete_labels: false")
    )
    (project / "fail-validate").write_text("9")
    (project / "ran.txt").write_text("")
    state = retrain.retrain(project, return_state=True)
    assert state.is_failed() and state.message.startswith("validate: exited with status 1")
    assert stages_that_ran(project) == ["validate"]
    assert (project / "reports" / "validation.json").read_bytes() == before


def test_running_dvc_process_is_reported(project: Path) -> None:
    file_locks = project / ".dvc" / "tmp" / "rwlock"
    file_locks.write_text("{}")
    lock = zc.lockfile.LockFile(str(project / ".dvc" / "tmp" / "lock"))
    states = [
        stages.repro("sample", project, return_state=True),
        check_stages(project, return_state=True),
    ]
    lock.close()
    for state in states:
        assert state.is_failed() and "another DVC process is running" in state.message
    assert not is_dvc_busy(project)


def test_invalid_input_is_not_retried(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "RETRY_DELAY", 0.1)
    (project / "ran.txt").write_text("")
    (project / "fail-label").write_text("1")
    (project / "status-label").write_text("2")
    (project / "data" / "scores.parquet").unlink()
    state = retrain.retrain(project, return_state=True)
    assert state.is_failed() and state.message.startswith("label: exited with status 2")
    assert stages_that_ran(project) == ["label"]


def test_a_stage_that_takes_too_long_is_ended(project: Path) -> None:
    (project / "sleep-label").write_text("60")
    state = retrain.retrain(project, {"label": 8 / 3600}, return_state=True)
    (project / "sleep-label").unlink()
    assert state.message.startswith("label: not finished after 0.00222222 hours")
    state = retrain.retrain(project, {"labels": 1}, return_state=True)
    assert state.message == "timeout_hours: unknown stage 'labels'. Correct its name."


def test_an_interrupted_replacement_is_completed_first(project: Path) -> None:
    (project / ".catimage").mkdir(exist_ok=True)
    (project / ".catimage" / "transaction.json").write_text('{"replace": [], "dvc_stages": []}')
    (project / "fail-label").write_text("9")
    retrain.retrain(project, return_state=True)
    (project / "fail-label").unlink()
    assert not (project / ".catimage" / "transaction.json").exists()


def test_tasks_do_not_use_the_cache_of_prefect() -> None:
    assert stages.repro.cache_policy == registration.register.cache_policy == NO_CACHE
    assert set(stages.RETRIES) == {"generate", "label"}
    assert set(stages.TIMEOUT_HOURS) == {*STAGES, "register"}


@pytest.mark.system
def test_the_temporary_server_is_not_reached_through_a_proxy(tmp_path: Path) -> None:
    """``HTTP_PROXY`` names a port that is closed; the flow fails only because DVC has no stage."""
    environment = {name: v for name, v in os.environ.items() if "PREFECT_API" not in name}
    proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    environment |= {**proxy, "PREFECT_HOME": str(tmp_path / "prefect"), "NO_PROXY": ""}
    environment |= {"no_proxy": "", "PREFECT_PROFILES_PATH": str(tmp_path / "profiles.toml")}
    process = subprocess.run(
        [sys.executable, "-m", "flows.retrain", "--workspace", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert process.returncode == 1
    assert "\ncatimage: sources: exited with status" in process.stderr
