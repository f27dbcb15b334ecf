"""Settings of every test: offline, untracked, one thread."""

import os
from pathlib import Path

import pytest

os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    BENTOML_DO_NOT_TRACK="True",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
)


@pytest.fixture(scope="session")
def miniature_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a pool with random weights; ``sd/`` and ``clip/`` lie beside it."""
    from tests.miniature import save_pool

    return save_pool(tmp_path_factory.mktemp("pool"))
