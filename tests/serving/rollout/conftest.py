"""A trained router, and a state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catimage.serving.state.store import State
from catimage.workspace import Workspace
from tests.trained_workspace import train_workspace


@pytest.fixture(scope="session")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a calibrated router."""
    return train_workspace(tmp_path_factory.mktemp("rollout"))[0]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """A state in a SQLite file."""
    state = State.open(f"sqlite:///{tmp_path}/state.db")
    yield state
    state.close()
