"""Sharpness (CATImage 5.1): the relative power that a Gaussian blur removes from an image."""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import LumaDetail, power, score_detail
from catimage.metrics.metric import Metric


class Sharpness(Metric):
    """sum_ij (i - i*G)^2 / sum_ij i^2, with G a Gaussian of standard deviation 1 pixel.

    The paper leaves some choices open. Here the intensity i is the luma (ITU-R 601) in [0, 1],
    without rounding; the kernel has a radius of 4 pixels and weights of sum one, and borders are
    mirrored at the edges of the pixels, as by default in ``scipy.ndimage.gaussian_filter``; and a
    black image (0/0) has the score 0. The gain of the filter 1 - G is between 0 and 1, and so
    is the score. Scores are computed in float32 since version 2, and equal those of scipy's float64
    filter to about 1e-6 of the score.
    """

    name = "sharpness"
    range = (0.0, 1.0)
    version = "2"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Score uint8 (n, h, w, 3) images: float64 (n,). The prompts are ignored."""
        return score_detail(images, _sharpness)


def _sharpness(images: LumaDetail) -> np.ndarray:
    total = images.variance + images.mean**2
    return np.asarray(
        np.divide(power(images.detail), total, out=np.zeros_like(total), where=total > 0)
    )
