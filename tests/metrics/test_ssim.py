import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.image import structural_similarity_index_measure

from catimage.errors import InputError
from catimage.metrics import pairs
from catimage.metrics.registry import get_metric

IMAGES = arrays(np.uint8, st.tuples(st.just(4), st.integers(8, 20), st.integers(8, 20), st.just(3)))


def _score(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    return get_metric("ssim", device="cpu").score(images, ["x"] * len(images), references)


def _by_scipy(image: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean over pixels and channels of equation 13 of Wang et al. 2004.

    Local means are computed by scipy's Gaussian filter of 11 x 11 pixels.
    """
    a, b = image / 255, reference / 255

    def mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, (1.5, 1.5, 0), truncate=3.5, mode="mirror")

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    structure = (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4)
    return float((luminance * structure).mean())


def test_the_score_equals_the_formula_and_the_score_of_torchmetrics():
    rng = np.random.default_rng(0)
    references = rng.integers(0, 256, (3, 31, 17, 3), np.uint8)
    references[1] //= 40  # a smaller range of values
    images = np.clip(references + rng.normal(0, 25, references.shape), 0, 255).astype(np.uint8)
    expected = [_by_scipy(i, r) for i, r in zip(images, references, strict=True)]
    assert _score(images, references) == pytest.approx(expected, abs=1e-12)
    pair = [torch.tensor(part).permute(0, 3, 1, 2).double() / 255 for part in (images, references)]
    expected = structural_similarity_index_measure(*pair, data_range=1.0, reduction="none")
    assert _score(images, references) == pytest.approx(
        expected.numpy(), abs=1e-6
    )  # torchmetrics computes its window in single precision


@settings(max_examples=15, deadline=None)
@given(IMAGES)
def test_equal_images_score_1_and_the_metric_is_symmetric(images: np.ndarray):
    a, b = images[:2], images[2:]
    assert (_score(a, a) == 1).all()
    assert _score(a, b) == pytest.approx(_score(b, a), abs=1e-12)
    assert (np.abs(_score(a, b)) <= 1).all()


def test_scores_do_not_depend_on_the_batch(
    monkeypatch: pytest.MonkeyPatch,
):
    images, references = np.random.default_rng(1).integers(0, 256, (2, 5, 16, 16, 3), np.uint8)
    references[2] = 0
    together = _score(images, references)
    monkeypatch.setattr(pairs, "MAX_PIXELS", 2 * 16 * 16)
    assert _score(images, references) == pytest.approx(together, abs=1e-12)
    assert _score(images[2:3], references[2:3]) == pytest.approx(together[2:3], abs=1e-12)


def test_noise_and_blur_lower_the_score():
    rng = np.random.default_rng(2)
    image = np.kron(rng.integers(0, 256, (8, 8, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    noisy = [
        np.clip(image + rng.normal(0, s, image.shape), 0, 255).astype(np.uint8) for s in (0, 10, 40)
    ]
    blurred = [
        np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(r))) for r in (0, 1, 3)
    ]
    for degraded in (noisy, blurred):
        values = _score(np.stack(degraded), np.stack([image] * 3))
        assert values[0] == 1
        assert values[0] > values[1] > values[2]


def test_a_reference_of_another_size_is_refused():
    with pytest.raises(
        InputError,
        match=(
            r"ssim: the image has 20x16 pixels and its reference has 32x16\. Generate the images"
            r" of both candidates at the same size"
        ),
    ):
        _score(np.zeros((1, 16, 20, 3), np.uint8), np.zeros((1, 16, 32, 3), np.uint8))
