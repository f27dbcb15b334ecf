"""The state in a SQLite file; tests/system/test_state.py runs the same tests on PostgreSQL."""

import pytest

from catimage.serving.state.store import State
from tests.serving.state.helpers import Clock, Processes


@pytest.fixture
def url(tmp_path):
    """The address of an empty database."""
    return f"sqlite:///{tmp_path / 'state.db'}"


@pytest.fixture(scope="session")
def processes():
    """Two processes, which are started once because that takes seconds."""
    processes = Processes()
    yield processes
    processes.pool.shutdown()


@pytest.fixture
def clock():
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def state(url, clock):
    state = State.open(url, clock=clock)
    yield state
    state.close()
