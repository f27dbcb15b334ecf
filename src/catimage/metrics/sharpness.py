"""Sharpness, CATImage 5.1: how far an image is from itself under a Gaussian blur."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from catimage.params import Encoder

_LUMA = np.array([0.299, 0.587, 0.114])


class Sharpness:
    """sum_ij (i - i*G)^2 / sum_ij i^2, with G a Gaussian of standard deviation 1 pixel.

    The paper leaves open: the pixel intensity i, here the luma (ITU-R 601) in [0, 1], not rounded; the kernel's extent,
    here 4 pixels to each side, its weights summing to one; the border, here mirrored at the pixels' edges (both are what
    ``scipy.ndimage.gaussian_filter`` does by default); and a wholly black image, which is 0/0 and here 0: nothing is sharp.
    The range is that of the filter 1 - G, whose gain lies between 0 and 1.
    """

    name = "sharpness"
    version = "1"
    higher_is_better = True
    range = (0.0, 1.0)
    needs_reference = False

    def __init__(self, encoder: Encoder | None = None, device: str = "auto") -> None:
        """Takes what every metric takes, and needs neither."""

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) to float64 (n,); the prompts do not matter."""
        return np.array([_sharpness(image) for image in images], float)


def _sharpness(image: np.ndarray) -> float:
    intensity = image @ (_LUMA / 255)
    power = float(np.square(intensity).sum())
    return float(np.square(intensity - gaussian_filter(intensity, sigma=1.0)).sum()) / power if power else 0.0
