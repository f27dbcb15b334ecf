"""Environment variables and fixtures of all tests.

The variables prevent downloads and usage tracking, and limit computations to one thread.
"""

import os
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared_folder import shared_folder

os.environ.update(
    GX_ANALYTICS_ENABLED="false",
    BENTOML_DO_NOT_TRACK="True",
    DO_NOT_TRACK="1",
    HF_HUB_OFFLINE="1",
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    OMP_NUM_THREADS="1",
)


LONGEST = (
    "flows/test_retrain.py",
    "bentos/test_service.py",
    "tracking/test_places.py",
    "tracking/test_promotion.py",
    "commands/test_dvc_outputs.py",
    "stages/test_generate.py",
    "stages/test_generate_reuse.py",
    "flows/test_dvc_process.py",
    "serving/generator/test_engine.py",
    "pool/test_tiny.py",
    "stages/test_validate.py",
    "stages/test_kills.py",
    "pool/generators/hosted/test_refusals.py",
    "validation/test_suites.py",
    "tracking/test_registry.py",
)
"""Files whose tests take longest. They come first, so that no process is idle at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {Path(__file__).parent / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path, len(order)))


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

    return shared_folder(tmp_path_factory, "pool", save_pool) / "miniature.yaml"


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


@pytest.fixture(scope="session")
def sqlite_without_synchronisation() -> None:
    """Let SQLAlchemy not wait for the disk when it writes to a SQLite database."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def set_option(connection: object, _: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="session")
def mlflow_database(
    sqlite_without_synchronisation: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A SQLite database with the tables of MLflow, which needs seconds to create them."""
    from mlflow import MlflowClient

    def create(folder: Path) -> None:
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()

    return shared_folder(tmp_path_factory, "mlflow", create) / "mlflow.db"
