import pytest

from tests.pool.generators.next_scale.miniature import save_generator


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    return save_generator(tmp_path_factory.mktemp("next-scale"))
