"""Sharpness: the relative power that a Gaussian blur removes from an image.

See the CATImage paper, section 5.1.
"""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import LumaDetail, power, score_detail
from catimage.metrics.metric import Metric


class Sharpness(Metric):
    """sum_ij (i - i*G)^2 / sum_ij i^2, with G a Gaussian of standard deviation 1 pixel.

    The sums are over pixels, and * denotes convolution. The paper leaves some choices open. Here
    the intensity i is the luma (ITU-R 601) in [0, 1], without rounding; the kernel has a radius of
    4 pixels and weights that sum to 1, and borders are mirrored, as by default in
    ``scipy.ndimage.gaussian_filter``; and a black image (0/0) has the score 0. The filter
    1 - G multiplies each frequency by a number between 0 and 1, so that the score is in this range
    too. Scores are computed in float32 since version 2; the relative difference from scipy's filter
    in float64 is about 1e-6.
    """

    name = "sharpness"
    range = (0.0, 1.0)
    version = "2"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3); prompts are ignored."""
        return score_detail(images, _sharpness)


def _sharpness(images: LumaDetail) -> np.ndarray:
    total = images.variance + images.mean**2
    return np.asarray(
        np.divide(power(images.detail), total, out=np.zeros_like(total), where=total > 0)
    )
