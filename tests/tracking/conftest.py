"""An evaluated workspace and a registered one, which tests copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from catimage.params import Params, load_params
from catimage.stages import evaluate
from catimage.tracking.registry import register
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def evaluated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluated workspace without a registry."""
    workspace, params = train_workspace(tmp_path_factory.mktemp("evaluated"))
    evaluate.run(workspace, params)
    (workspace.root / "dvc.lock").write_text(
        "stages:\n  train:\n    outs:\n    - {path: models/estimators, md5: abc.dir}\n"
    )
    return workspace.root


@pytest.fixture(scope="session")
def registered_folder(
    evaluated_folder: Path, mlflow_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a workspace whose router is version 1 and the champion."""
    root = shutil.copytree(evaluated_folder, tmp_path_factory.mktemp("registered") / "workspace")
    shutil.copy(mlflow_database, root / "mlflow.db")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        result = register(Workspace(root), load_params(root / "params.yaml"))
    assert (result.version, result.champion) == ("1", True)
    return root


@pytest.fixture(scope="module")
def evaluated(
    evaluated_folder: Path,
    sqlite_without_synchronisation: None,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Workspace, Params]:
    """An evaluated workspace without a registry, and its parameters."""
    root = shutil.copytree(evaluated_folder, tmp_path_factory.mktemp("registry") / "workspace")
    return Workspace(root), load_params(root / "params.yaml")


@pytest.fixture
def workspace(evaluated_folder: Path, mlflow_database: Path, tmp_path: Path) -> Workspace:
    """A copy of the evaluated workspace, with an empty registry."""
    root = shutil.copytree(evaluated_folder, tmp_path / "workspace")
    shutil.copy(mlflow_database, root / "mlflow.db")
    return Workspace(root)


@pytest.fixture
def registered(registered_folder: Path, tmp_path: Path) -> Workspace:
    """A copy of the registered workspace."""
    return Workspace(shutil.copytree(registered_folder, tmp_path / "workspace"))
