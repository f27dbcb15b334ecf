"""Real servers for the system tests, which ``make test-system`` runs.

A test whose program is not installed is skipped with the reason; the number of skipped tests and
the reasons are at the end of the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.mlflow_server import MlflowServer
from tests.system.programs import S3, PostgreSQL, Redis, find_program

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder as system tests."""
    for item in items:
        if FOLDER in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A running PostgreSQL server."""
    server = PostgreSQL()
    server.start()
    yield server
    server.stop()
    server.remove()


@pytest.fixture(scope="session")
def redis() -> Iterator[Redis]:
    """A running Redis server."""
    server = Redis()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """A running server of S3's HTTP interface."""
    server = S3()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Chromium."""
    return find_program("chromium")


@pytest.fixture(scope="session")
def node() -> str:
    """The path of Node.js; npm is installed too."""
    find_program("npm")
    return find_program("node")


@pytest.fixture(scope="session")
def mlflow_server(
    postgresql: PostgreSQL, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """A running server of MLflow, with a database of PostgreSQL and artifacts in a bucket."""
    log, bucket = tmp_path_factory.mktemp("mlflow") / "log", s3.new_bucket()
    server = MlflowServer(log, postgresql.new_database(), f"s3://{bucket}", s3.environment)
    server.start()
    yield server
    server.kill()
