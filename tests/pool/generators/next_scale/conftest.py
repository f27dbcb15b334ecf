"""A next-scale generator with random weights."""

import pytest

from tests.pool.generators.next_scale.miniature import save_generator


@pytest.fixture(scope="package")
def folder(tmp_path_factory):
    """The folder of a miniature next-scale generator."""
    return save_generator(tmp_path_factory.mktemp("next-scale"))
