"""Routers of the trained workspace, loaded as versions of a service."""

from pathlib import Path

import pytest

from catimage.encoders import cache
from catimage.router import Router
from catimage.serving.decisions.versions import RouterVersion
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="session")
def ridge(calibrated_folder: Path) -> RouterVersion:
    """A router without a text encoder."""
    return RouterVersion("1", Router.load(Workspace(calibrated_folder).router))


@pytest.fixture(scope="session")
def knn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a router with the text encoder of the embedded pool."""
    workspace, _ = train_workspace(
        tmp_path_factory.mktemp("knn"), train={"estimators": ["knn"]}, budget="50%"
    )
    return workspace.router


@pytest.fixture(scope="session")
def knn(knn_folder: Path) -> RouterVersion:
    """A router with the text encoder of the embedded pool."""
    cache._cached_encoder.cache_clear()  # the training has loaded the text encoder of open_clip
    return RouterVersion("2", Router.load(knn_folder))
