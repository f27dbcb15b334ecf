"""One temporary Prefect server for all tests of the flows in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """Run a temporary Prefect server."""
    with prefect_test_harness(server_startup_timeout=180):
        yield
