"""Faults of the flows with a real Prefect server and worker: kills, cancellation, two runs at once.

The stages copy prepared outputs; DVC, MLflow, Prefect and the flows are real.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from catimage.workspace import STAGES, Workspace
from tests.flows.prepared_workspace import prepare_workspace
from tests.system.prefect_server import Prefect, fake_project, find, webhook
from tests.system.programs import wait_until

NIGHTLY = "retrain/nightly"
END = ("Completed", "Failed", "Crashed", "Cancelled")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every output of the eight stages."""
    return prepare_workspace(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def alerts() -> Iterator[tuple[str, list[str]]]:
    """The address of a webhook, and the texts that it gets."""
    with webhook() as (url, texts):
        yield url, texts


@pytest.fixture(scope="module")
def prefect(
    tmp_path_factory: pytest.TempPathFactory, alerts: tuple[str, list[str]]
) -> Iterator[Prefect]:
    """A running server; its processes know the webhook."""
    server = Prefect(tmp_path_factory.mktemp("prefect"))
    server.environment["CATIMAGE_ALERT_WEBHOOK"] = alerts[0]
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, prepared: Path, prefect: Prefect) -> Path:
    """A project whose deployments are on the server, with a worker."""
    folder = fake_project(tmp_path_factory.mktemp("projects") / "project", prepared)
    prefect.environment["PYTHONPATH"] = str(folder)
    for _ in range(2):  # the command is idempotent
        process = prefect.process("setup", "-m", "flows.setup", folder=folder)
        assert process.wait(300) == 0, prefect.log("setup")
    worker = ("-m", "prefect", "worker", "start", "--pool", "catimage-cpu")
    prefect.process("worker", *worker, folder=folder)
    return folder


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    """Remove the failures and delays of the stages that an earlier test requested."""
    if "project" in request.fixturenames:
        folder: Path = request.getfixturevalue("project")
        for pattern in ("fail-*", "sleep-*", "status-*"):
            for path in folder.glob(pattern):
                path.unlink()


def stage_process(project: Path, stage: str) -> psutil.Process | None:
    """Return the process of a stage in a project; None if it does not run."""
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        is_stage = len(line) > 1 and line[1].endswith("fake_stage.py") and line[-1] == stage
        if is_stage and process.info["cwd"] == str(project):
            return process
    return None


def started_process(project: Path, stage: str) -> psutil.Process | None:
    """Return the process of a stage after it has written its name to ``ran.txt``."""
    path = project / "ran.txt"
    names = path.read_text().split() if path.exists() else []
    return stage_process(project, stage) if names[-1:] == [stage] else None


def flow_process(stage: psutil.Process) -> psutil.Process:
    """Return the process of the flow that a stage belongs to."""
    parents = stage.parents()
    guard = next(i for i, p in enumerate(parents) if "stage_guard.py" in " ".join(p.cmdline()))
    return parents[guard + 1]


def force(project: Path, stage: str, seconds: float) -> None:
    """Make a stage run again, and take a time."""
    (project / f"sleep-{stage}").write_text(str(seconds))
    params = project / "params.yaml"
    number = int(params.stat().st_mtime_ns) % 10**9
    text = params.read_text().partition("# run")[0]
    params.write_text(f"{text}# run {number}\n")
    out = {"label": "data/scores.parquet", "train": "models/estimators/one"}[stage]
    (project / out).unlink(missing_ok=True)


def test_setup_creates_pools_automations_and_deployments(prefect: Prefect, project: Path) -> None:
    log = prefect.log("setup")
    assert log.count("created the work pool") == log.count("updated the work pool") == 2
    assert log.count("created the automation") == log.count("updated the automation") == 3
    assert len(prefect.post("/automations/filter")) == 3
    pools = {p["name"]: p["concurrency_limit"] for p in prefect.post("/work_pools/filter")}
    assert pools["catimage-cpu"] == 4 and pools["catimage-gpu"] == 1
    names = sorted(d["name"] for d in prefect.post("/deployments/filter"))
    assert names == ["by-hand", "by-hand", "by-hand", "daily", "hourly", "nightly", "nightly-gpu"]


def test_a_kill_in_each_stage_leaves_no_process_and_the_next_run_resumes(
    prefect: Prefect, project: Path
) -> None:
    """The flow process gets SIGKILL in each stage; no stage that was complete runs again."""
    for stage in STAGES:
        (project / f"sleep-{stage}").write_text("120")
        flow = prefect.process("killed", "-m", "flows.retrain", folder=project)
        process = find(lambda s=stage: started_process(project, s), stage, 180)
        os.kill(flow.pid, signal.SIGKILL)
        flow.wait(10)
        wait_until(lambda p=process: not p.is_running(), f"the end of {stage}", 30)
        (project / f"sleep-{stage}").unlink()
    final = prefect.process("resumed", "-m", "flows.retrain", folder=project)
    assert final.wait(300) == 0, prefect.log("resumed")
    ran = (project / "ran.txt").read_text().split()
    assert ran == [stage for stage in STAGES for _ in range(2)], "killed once, then complete"
    assert "router version 1 (champion)" in prefect.log("resumed")


def test_a_killed_run_of_a_worker_crashes_is_reported_and_frees_its_slot(
    prefect: Prefect, project: Path, alerts: tuple[str, list[str]]
) -> None:
    force(project, "label", 120)
    run = prefect.run(NIGHTLY)
    stage = find(lambda: stage_process(project, "label"), "label", 240)
    assert prefect.slots(NIGHTLY) == 1
    flow_process(stage).kill()
    prefect.wait_state(run, "Crashed", seconds=120)
    wait_until(lambda: not stage.is_running(), "the end of the stage", 30)
    wait_until(lambda: prefect.slots(NIGHTLY) == 0, "the free slot", 60)
    wait_until(lambda: any("flow retrain" in t and "Crashed" in t for t in alerts[1]), "alert", 60)


def test_a_second_run_is_cancelled_and_a_cancelled_run_ends_its_stage(
    prefect: Prefect, project: Path
) -> None:
    force(project, "label", 120)
    first = prefect.run(NIGHTLY)
    stage = find(lambda: stage_process(project, "label"), "label", 240)
    second = prefect.run(NIGHTLY)
    prefect.wait_state(second, "Cancelled")
    third = prefect.process("third", "-m", "flows.retrain", folder=project)
    assert third.wait(240) == 1 and "another retrain is running" in prefect.log("third")
    assert stage.is_running() and prefect.state(first) == "Running"
    prefect.post(f"/flow_runs/{first}/set_state", {"state": {"type": "CANCELLING"}})
    prefect.wait_state(first, "Cancelled")
    wait_until(lambda: not stage.is_running(), "the end of the stage", 60)
    wait_until(lambda: prefect.slots(NIGHTLY) == 0, "the free slot", 60)


def test_a_failed_run_is_reported_with_its_reason(
    prefect: Prefect, project: Path, alerts: tuple[str, list[str]]
) -> None:
    force(project, "label", 0)
    (project / "fail-label").write_text("1")
    (project / "status-label").write_text("2")
    run = prefect.run(NIGHTLY)
    prefect.wait_state(run, *END)
    assert prefect.state(run) == "Failed"
    expected = "Failed. label: exited with status 2"
    wait_until(lambda: any(expected in text for text in alerts[1]), "alert", 60)


def test_a_full_disk_fails_the_run_and_keeps_the_champion(prefect: Prefect, project: Path) -> None:
    """A tmpfs that is full: the flow fails with the message of the operating system."""
    script = (
        "mount -t tmpfs -o size=60m tmpfs {mount} && cp -r {project}/. {mount} && rm -rf"
        " {mount}/data/scores.parquet && (dd if=/dev/zero of={mount}/fill bs=1k 2>/dev/null; true)"
        " && cd {mount} && {python} -m flows.retrain; status=$?; test -f data/prompts.parquet &&"
        " exit $status"
    )
    mount = prefect.folder / "full"
    mount.mkdir()
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    probe = subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
    if probe.returncode:
        pytest.skip("needs a user namespace that may mount")
    import sys

    command = script.format(mount=mount, project=project, python=sys.executable)
    done = subprocess.run(
        [*namespace, "bash", "-c", command],
        env=prefect.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr or "no space is left" in done.stderr
    champion = Workspace(project).root / "mlflow.db"
    assert champion.exists()
