from functools import partial

import pytest

from tests.commands import image_lists


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a list of images, and the images, to the temporary folder."""
    return partial(image_lists.write_images, tmp_path)


@pytest.fixture
def metrics(monkeypatch):
    """Replace the built-in metrics by those of tests/commands/image_lists.py."""
    classes = (image_lists.Level, image_lists.Darkness, image_lists.Distance)
    locations = {c.name: f"{c.__module__}:{c.__name__}" for c in classes}
    monkeypatch.setattr("catimage.metrics.registry.METRICS", locations)
