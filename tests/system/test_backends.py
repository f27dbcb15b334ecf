"""The same flow on local files and on the servers of a team, which environment variables choose.

The stages copy prepared outputs; DVC, MLflow, Prefect, PostgreSQL, S3's interface and the flow are
real. On the servers, the flow also meets outages: PostgreSQL, which is the database of Prefect and
of MLflow, is stopped and started again, and the server of MLflow is killed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from catimage.common.hashing import folder_digest
from catimage.tracking.client import CHALLENGER, CHAMPION, MODEL
from catimage.workspace import STAGES, Workspace
from tests.flows.prepared_workspace import prepare_workspace
from tests.system.mlflow_server import MlflowServer
from tests.system.prefect_server import Prefect, fake_project, find, own_environment
from tests.system.programs import S3, PostgreSQL
from tests.system.test_flows import started_process

OUTAGE = 15.0
"""Seconds that PostgreSQL is away, and that MLflow is away before it starts. The flow waits for
almost two minutes.
"""


@dataclass
class Backend:
    """Where a flow stores things.

    Attributes:
        environment: the variables of its process.
        runs: the address of Prefect's database.
        registry: the address of MLflow; ``{workspace}`` is the folder of the workspace.
        data: the DVC remote.
    """

    environment: dict[str, str]
    runs: str
    registry: str
    data: str


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with every output of the eight stages."""
    return prepare_workspace(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """SQLite and local files: only the folder of the DVC remote is set."""
    folder = tmp_path_factory.mktemp("files")
    data = str(folder / "remote")
    environment = own_environment(folder) | {"CATIMAGE_DVC_REMOTE": data}
    runs = f"sqlite:///{folder / 'home' / 'prefect.db'}"
    return Backend(environment, runs, "sqlite:///{workspace}/mlflow.db", data)


@pytest.fixture(scope="module")
def servers(
    postgresql: PostgreSQL,
    s3: S3,
    mlflow_server: MlflowServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Backend]:
    """PostgreSQL for Prefect and MLflow, and S3's interface for DVC and the artifacts of MLflow."""
    runs, data = postgresql.new_database(), f"s3://{s3.new_bucket()}/team"
    mlflow_server.clear()
    address = runs.replace("+psycopg", "+asyncpg")
    prefect = Prefect(
        tmp_path_factory.mktemp("servers"), PREFECT_API_DATABASE_CONNECTION_URL=address
    )
    prefect.start()
    environment = prefect.environment | s3.environment | {"CATIMAGE_DVC_REMOTE": data}
    environment["MLFLOW_TRACKING_URI"] = mlflow_server.url
    del environment["PREFECT_API_DATABASE_CONNECTION_URL"]  # only the server has it
    yield Backend(environment, runs, mlflow_server.url, data)
    prefect.stop()


class Flow:
    """A run of the flow in its own process."""

    def __init__(self, project: Path, backend: Backend) -> None:
        self._log = project.with_suffix(".log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.retrain"],
            cwd=project,
            env=backend.environment | {"PYTHONPATH": str(project)},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def output(self) -> str:
        """Wait until the flow has succeeded; return what it has printed."""
        status = self._process.wait(300)
        self._log.seek(0)
        printed = self._log.read()
        self._log.close()
        assert status == 0, printed[-6000:]
        return printed


def ran(project: Path) -> list[str]:
    """Return the stages that have run since the last call."""
    path = project / "ran.txt"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def registry_of(backend: Backend, project: Path) -> Any:
    import mlflow

    return mlflow.MlflowClient(backend.registry.format(workspace=project))


def states(backend: Backend, kind: str = "flow_run") -> list[str]:
    """Return the states of the runs in Prefect's database, oldest first."""
    engine = create_engine(backend.runs)
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT state_type FROM {kind} ORDER BY created"))
        found = [str(row[0]).rpartition(".")[2] for row in rows]
    engine.dispose()
    return found


def lose_data(project: Path) -> None:
    """Delete the outputs of the stages and the cache of DVC, as on a new machine."""
    for name in ("data", "models", "reports", "dist", ".dvc/cache"):
        shutil.rmtree(project / name)


@pytest.mark.parametrize("name", ["files", "servers"])
def test_the_same_flow_passes_on_files_and_on_servers(
    name: str, prepared: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The second run is on a machine without data: it downloads them, and no stage runs."""
    backend: Backend = request.getfixturevalue(name)
    project = fake_project(tmp_path / "project", prepared)
    assert "MLflow   router version 1 (champion)" in Flow(project, backend).output()
    assert ran(project) == list(STAGES)
    router = folder_digest(Workspace(project).router)
    lose_data(project)
    printed = Flow(project, backend).output()
    assert "MLflow   router version 1 (champion): this version is already the champion" in printed
    assert f"downloaded data/scores.parquet from {backend.data}" in printed
    assert ran(project) == [] and folder_digest(Workspace(project).router) == router
    assert states(backend) == ["COMPLETED"] * 2
    assert set(states(backend, "task_run")) == {"COMPLETED"}
    client = registry_of(backend, project)
    version = client.get_model_version_by_alias(MODEL, CHAMPION)
    assert str(version.version) == "1" and version.tags["router_digest"] == router
    artifacts = client.get_run(version.run_id).info.artifact_uri
    assert artifacts.startswith("mlflow-artifacts:" if name == "servers" else "file:")
    assert {"params.yaml", "dvc.lock"} <= {a.path for a in client.list_artifacts(version.run_id)}


@pytest.fixture
def project(prepared: Path, servers: Backend, tmp_path: Path) -> Path:
    """A project on the servers, whose stage ``label`` takes five seconds."""
    folder = fake_project(tmp_path / "project", prepared)
    (folder / "sleep-label").write_text("5")
    return folder


def test_a_flow_waits_for_a_database_that_is_stopped_and_started_again(
    project: Path, servers: Backend, postgresql: PostgreSQL
) -> None:
    """The database of Prefect and of MLflow: no stage runs twice, and the run completes."""
    flow = Flow(project, servers)
    find(lambda: started_process(project, "label"), "label", 180)
    postgresql.stop()
    time.sleep(OUTAGE)
    postgresql.start()
    assert "MLflow   router version 1 (champion)" in flow.output()
    assert ran(project) == list(STAGES)
    assert states(servers)[-1] == "COMPLETED"


def test_a_flow_waits_for_a_registry_that_is_killed_and_started_again(
    project: Path, servers: Backend, mlflow_server: MlflowServer
) -> None:
    """The task ``register`` is repeated; one version has both aliases."""
    mlflow_server.clear()
    (project / "sleep-label").rename(project / "sleep-package")
    flow = Flow(project, servers)
    find(lambda: started_process(project, "package"), "package", 240)
    mlflow_server.kill()
    time.sleep(OUTAGE)
    mlflow_server.start()
    printed = flow.output()
    assert "no server responds at" in printed and "Transient failure" in printed
    assert "MLflow   router version 1 (champion): there was no champion" in printed
    aliases = mlflow_server.client().get_registered_model(MODEL).aliases
    assert aliases == {CHAMPION: "1", CHALLENGER: "1"}
    assert ran(project) == list(STAGES) and states(servers)[-1] == "COMPLETED"
