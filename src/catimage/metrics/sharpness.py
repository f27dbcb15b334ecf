"""Sharpness, CATImage 5.1: how far an image is from itself under a Gaussian blur."""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import Level, of_levels, power
from catimage.metrics.metric import Metric


class Sharpness(Metric):
    """sum_ij (i - i*G)^2 / sum_ij i^2, with G a Gaussian of standard deviation 1 pixel.

    The paper leaves open: the pixel intensity i, here the luma (ITU-R 601) in [0, 1], not rounded;
    the kernel's extent, here 4 pixels to each side, its weights summing to one; the border, here
    mirrored at the pixels' edges (both are what ``scipy.ndimage.gaussian_filter`` does by default);
    and a wholly black image, which is 0/0 and here 0: nothing is sharp. The range is that of the
    filter 1 - G, whose gain lies between 0 and 1. Computed in float32 (since version 2), equal to
    scipy's float64 to about 1e-6 of the score.
    """

    name = "sharpness"
    range = (0.0, 1.0)
    version = "2"

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) to float64 (n,); the prompts do not matter."""
        return of_levels(images, _sharpness)


def _sharpness(level: Level) -> np.ndarray:
    whole = level.variance + level.mean**2
    return np.asarray(
        np.divide(power(level.detail), whole, out=np.zeros_like(whole), where=whole > 0)
    )
