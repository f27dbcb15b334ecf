"""An evaluated workspace, which tests copy or register."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from catimage.params import Params
from catimage.stages import evaluate
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, Params]]:
    """An evaluated workspace, and its parameters."""
    tracking_uri = os.environ.pop("MLFLOW_TRACKING_URI", None)
    workspace, params = train_workspace(tmp_path_factory.mktemp("registry"))
    evaluate.run(workspace, params)
    (workspace.root / "dvc.lock").write_text(
        "stages:\n  train:\n    outs:\n    - {path: models/estimators, md5: abc.dir}\n"
    )
    yield workspace, params
    if tracking_uri:
        os.environ["MLFLOW_TRACKING_URI"] = tracking_uri


@pytest.fixture
def workspace(evaluated: tuple[Workspace, Params], tmp_path: Path) -> Workspace:
    """A copy of the evaluated workspace, without a registry."""
    ignored = shutil.ignore_patterns("mlflow.db", "mlruns")
    return Workspace(shutil.copytree(evaluated[0].root, tmp_path / "workspace", ignore=ignored))
