import numpy as np
import pytest


@pytest.fixture(scope="session")
def prompts():
    """Return twelve prompts that differ in number, size and colour."""
    return np.array(
        [
            f"{number} {size} {colour} circles"
            for number in ("one", "two")
            for size in ("small", "large")
            for colour in ("red", "blue", "green")
        ],
        object,
    )
