"""An engine with three generators of the tiny pool."""

import pytest

from catimage.pool.loading import load_pool
from catimage.serving.generator.engine import Engine
from tests.serving.generator.helpers import start

GENERATORS = ("tiny-sd", "tiny-turbo", "tiny-infinity")


@pytest.fixture(scope="session")
def engine():
    engine = start(Engine(load_pool("tiny"), "cpu", GENERATORS, "cpu"))
    yield engine
    engine.close()
