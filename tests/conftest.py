"""Environment variables and fixtures of all tests.

The variables prevent downloads and usage tracking, and limit computations to one thread.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    BENTOML_DO_NOT_TRACK="True",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    OMP_NUM_THREADS="1",
)


@pytest.fixture(scope="module", autouse=True)
def encoders_with_torch() -> Iterator[None]:
    """Undo :func:`catimage.encoders.cache.prefer_light_encoder`, which a server calls."""
    yield
    cache = sys.modules.get("catimage.encoders.cache")
    if cache is not None and cache._LIGHT:
        cache._LIGHT.clear()
        cache._cached_encoder.cache_clear()


@pytest.fixture(scope="session")
def miniature_pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The YAML file of a pool with random weights, which are in ``sd/`` and ``clip/`` beside it."""
    from tests.miniature import save_pool

    return save_pool(tmp_path_factory.mktemp("pool"))


@pytest.fixture(scope="session")
def packaged(miniature_pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace after the stage package.

    The text encoder of the router is the CLIP of the miniature pool. The store of BentoML is the
    folder ``bentoml`` of the workspace.
    """
    from catimage.stages import package
    from tests.trained_workspace import train_workspace

    root = tmp_path_factory.mktemp("packaged")
    os.environ["BENTOML_HOME"] = str(root / "bentoml")
    encoder = {"model": f"local-dir:{miniature_pool.parent / 'clip'}"}
    workspace, params = train_workspace(
        root, pool=str(miniature_pool), encoder=encoder, train={"estimators": ["knn"]}
    )
    package.run(workspace, params)
    return root


@pytest.fixture(scope="session")
def calibrated_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace with tables, a trained estimator and a calibrated router."""
    from tests.trained_workspace import train_workspace

    root = tmp_path_factory.mktemp("calibrated")
    train_workspace(root)
    return root
