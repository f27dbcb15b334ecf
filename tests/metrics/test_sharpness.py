import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d

from catimage.metrics.registry import get_metric

IMAGES = arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 40), st.integers(1, 40), st.just(3)))


def _luma(image: np.ndarray) -> np.ndarray:
    r, g, b = np.moveaxis(image.astype(float), 2, 0)
    return (0.299 * r + 0.587 * g + 0.114 * b) / 255


def _by_convolution(image: np.ndarray) -> float:
    """Return the sharpness by the CATImage paper's formula (section 5.1), with a 2-D kernel."""
    i = _luma(image)
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.exp(-(x**2 + y**2) / 2)
    blurred = convolve2d(i, kernel / kernel.sum(), mode="same", boundary="symm")
    return float(((i - blurred) ** 2).sum() / (i**2).sum())


def _by_scipy(image: np.ndarray) -> float:
    """Return the sharpness of one image, computed with scipy's filter."""
    i = _luma(image)
    return float(((i - gaussian_filter(i, 1)) ** 2).sum() / (i**2).sum()) if i.any() else 0.0


def _score(images: np.ndarray) -> np.ndarray:
    return get_metric("sharpness").score(images, ["x"] * len(images))


def test_the_score_equals_the_formula_of_the_paper():
    images = np.random.default_rng(0).integers(0, 256, (4, 31, 17, 3), np.uint8)
    images[1] = images[1] // 40
    assert _score(images) == pytest.approx([_by_convolution(i) for i in images], rel=1e-6)


@pytest.mark.parametrize(
    "shape", [(700, 64, 64), (2, 600, 450), (2, 3, 70), (3, 1, 1), (0, 64, 64)]
)
def test_the_score_equals_the_formula_computed_with_scipy(shape: tuple[int, int, int]):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    smooth = np.stack([gaussian_filter(i, (3, 3, 0)) for i in noise]) if len(noise) else noise
    for images in (noise, smooth):
        assert _score(images) == pytest.approx([_by_scipy(i) for i in images], rel=2e-6, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_scores_lie_in_the_range_and_do_not_depend_on_the_batch_or_on_mirroring(images: np.ndarray):
    low, high = get_metric("sharpness").range
    values = _score(images)
    assert ((values >= low) & (values <= high)).all()
    assert values[1] == pytest.approx(_score(images[1:])[0], rel=1e-6, abs=1e-12)
    assert values == pytest.approx([_by_scipy(i) for i in images], rel=1e-6, abs=1e-12)
    assert values == pytest.approx(_score(images[:, :, ::-1]), rel=1e-6, abs=1e-12)


def test_images_of_one_colour_score_0():
    images = np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 200, np.uint8)])
    assert _score(images) == pytest.approx([0.0, 0.0], abs=1e-20)


def test_blur_lowers_the_score():
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8))
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0, 1, 2)]
    values = _score(np.stack([np.asarray(i) for i in blurred]))
    assert values[0] > values[1] > values[2] > 0
