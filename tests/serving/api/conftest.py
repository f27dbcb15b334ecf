"""A workspace with a trained router, and a server of it, shared by the tests of the application."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.serving.api.server import Server, serving
from tests.serving.cores import CANDIDATES
from tests.serving.groups import ScriptedGroup


@pytest.fixture
def root(calibrated_folder: Path) -> Path:
    """The folder of a workspace whose candidates are ``mini-1``, ``mini-2`` and ``mini-4``."""
    return calibrated_folder


@pytest.fixture(scope="session")
def server(calibrated_folder: Path) -> Iterator[Server]:
    """A server of the workspace, whose generators always work and whose queue has no limit."""
    group = ScriptedGroup("g", *CANDIDATES)
    with serving(calibrated_folder, group, max_queue_seconds=1000.0) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """An HTTP client of the server."""
    with httpx.Client(base_url=server.url) as client:
        yield client
