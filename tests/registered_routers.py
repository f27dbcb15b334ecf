"""A registry with several versions of the router of a workspace."""

from __future__ import annotations

import shutil

import pytest

from catimage.common.hashing import folder_digest
from catimage.router import Router
from catimage.tracking import registry
from catimage.tracking.client import connection
from catimage.workspace import Workspace
from tests.serving.rollout.routers import changed_router


def register_routers(workspace: Workspace, versions: int) -> None:
    """Register changed routers of a workspace as versions 1, 2, ... of its registry.

    They have the files of a registration, but the wheel is empty, and no gate is applied.
    """
    import mlflow

    wheel = workspace.root / "catimage.whl"
    wheel.write_bytes(b"")
    with pytest.MonkeyPatch.context() as patch, connection(workspace):
        patch.setattr(registry, "build_wheel", lambda folder: wheel)
        for version in map(str, range(1, versions + 1)):
            folder = changed_router(
                workspace.router, workspace.root / f"models-{version}" / "router", estimator=version
            )
            copy = Workspace(workspace.root / f"copy-{version}")
            shutil.copytree(folder, copy.router)
            with mlflow.start_run():
                logged = registry._log_model(copy, Router.load(folder), folder_digest(folder))
            assert logged == version
