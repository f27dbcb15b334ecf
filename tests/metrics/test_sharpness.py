import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy.signal import convolve2d

from catimage.metrics import get_metric

IMAGES = arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 20), st.integers(1, 20), st.just(3)))


def _by_convolution(image: np.ndarray) -> float:
    """CATImage 5.1 as it stands: a two-dimensional convolution with an explicit Gaussian kernel of standard deviation 1."""
    r, g, b = np.moveaxis(image.astype(float), 2, 0)
    i = (0.299 * r + 0.587 * g + 0.114 * b) / 255
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.exp(-(x**2 + y**2) / 2)
    blurred = convolve2d(i, kernel / kernel.sum(), mode="same", boundary="symm")
    return float(((i - blurred) ** 2).sum() / (i**2).sum())


def _score(images: np.ndarray) -> np.ndarray:
    return get_metric("sharpness").score(images, ["x"] * len(images))


def test_it_is_the_papers_formula_by_an_independent_convolution():
    images = np.random.default_rng(0).integers(0, 256, (4, 31, 17, 3), np.uint8)
    images[1] = images[1] // 40
    assert _score(images) == pytest.approx([_by_convolution(i) for i in images], rel=1e-10)


def test_a_black_image_has_none_and_a_plain_one_neither():
    images = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 200, np.uint8)])
    assert _score(images) == pytest.approx([0.0, 0.0], abs=1e-20)


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_it_stays_in_its_range_and_images_do_not_influence_each_other(images: np.ndarray):
    low, high = get_metric("sharpness").range
    values = _score(images)
    assert ((values >= low) & (values <= high)).all()
    assert values[1] == _score(images[1:])[0]


def test_blur_lowers_it():
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2)]
    values = _score(np.stack([np.asarray(i) for i in blurred]))
    assert values[0] > values[1] > values[2] > 0
