"""L-SNR compared with its formula computed with scipy, and its change by noise and blur."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from catimage.metrics.registry import get_metric
from catimage.scenes.parse import parse
from catimage.scenes.render import render

IMAGES = arrays(np.uint8, st.tuples(st.just(2), st.integers(1, 40), st.integers(1, 40), st.just(3)))
CAPTIONS = [
    "two small red rings and a large blue square on a plain grey background",
    "three green stars on a plain white background",
    "a large yellow circle on a plain black background",
]


def _by_scipy(image: np.ndarray) -> float:
    """Return the L-SNR of one image, computed with scipy's filter."""
    r, g, b = np.moveaxis(image.astype(float), 2, 0)
    i = (0.299 * r + 0.587 * g + 0.114 * b) / 255
    level = i - gaussian_filter(i, 1)
    detail = max(0.0, float((level**2).mean() - np.pi / 2 * np.abs(level).mean() ** 2))
    return (
        1 - detail / float(i.var())
        if np.ptp(image.reshape(-1, 3), axis=0).any() and i.var() > 1e-12
        else 1.0
    )


def _score(images: np.ndarray) -> np.ndarray:
    return get_metric("l_snr").score(images, ["x"] * len(images))


def _blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.rint(gaussian_filter(image.astype(float), (sigma, sigma, 0))).astype(np.uint8)


def _noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Return two photographs, cropped and scaled to half their size, and three scenes."""
    photos = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    scenes = [scene for caption in CAPTIONS if (scene := parse(caption)) is not None]
    assert len(scenes) == len(CAPTIONS)
    return [
        *(p[50:306, 100:356] for p in photos),
        *(p[::2, ::2] for p in photos),
        *(render(s, np.random.default_rng(0)) for s in scenes),
    ]


@pytest.mark.parametrize("shape", [(70, 64, 64), (2, 600, 450), (2, 3, 70), (3, 1, 1), (0, 64, 64)])
def test_the_score_equals_the_formula_computed_with_scipy(shape: tuple[int, int, int]):
    noise = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    smooth = np.stack([gaussian_filter(i, (3, 3, 0)) for i in noise]) if len(noise) else noise
    for images in (noise, smooth):
        assert _score(images) == pytest.approx([_by_scipy(i) for i in images], abs=1e-6)


def test_the_scores_of_photographs_and_scenes_equal_the_formula(pictures: list[np.ndarray]):
    assert [_score(p[None])[0] for p in pictures] == pytest.approx(
        [_by_scipy(p) for p in pictures], abs=1e-6
    )


@settings(max_examples=60, deadline=None)
@given(IMAGES)
def test_scores_lie_in_the_range_and_do_not_depend_on_the_batch_or_on_mirroring(images: np.ndarray):
    values = _score(images)
    assert ((values >= 0) & (values <= 1)).all()
    assert values == pytest.approx(_score(images[:, :, ::-1]), abs=1e-5)
    assert values[1] == pytest.approx(_score(images[1:])[0], abs=1e-5)


def test_noise_and_blur_raise_the_score(pictures: list[np.ndarray]):
    assert get_metric("l_snr").higher_is_better is False
    for picture in pictures:
        blurred = _score(np.stack([picture, *(_blurred(picture, s) for s in (0.5, 1, 2, 4))]))
        noisy = _score(np.stack([picture, *(_noisy(picture, s) for s in (2, 5, 10))]))
        assert (np.diff(blurred) > 0).all()
        assert (np.diff(noisy) > 0).all()
        assert _score(_noisy(picture, 80)[None])[0] > noisy[0]


def test_an_image_of_one_colour_scores_1():
    images = np.stack([np.full((20, 30, 3), value, np.uint8) for value in (0, 77, 255)])
    assert (_score(images) == 1).all()


def test_contrast_does_not_change_the_score():
    image = np.random.default_rng(2).integers(0, 100, (1, 32, 32, 3), np.uint8)
    assert _score(2 * image) == pytest.approx(_score(image), abs=1e-6)
