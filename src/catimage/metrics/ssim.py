"""SSIM, the structural similarity of an image and its reference (Wang et al. 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catimage.common.devices import device_of
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import compare_in_parts, to_tensor

if TYPE_CHECKING:
    import torch

RADIUS = 5
C1, C2 = 0.01**2, 0.03**2
_VALUES = 2**18
"""Array elements that are processed at once. They fit into the cache of a processor core, since a
blur reads its input eleven times."""


class Ssim(ReferenceMetric):
    """SSIM with a Gaussian window of 11 x 11 pixels and a standard deviation of 1.5.

    The score is equation 13 of Wang et al. 2004. Borders are mirrored, and the score is the mean
    over pixels and RGB. Scores equal those of ``torchmetrics`` with ``data_range=1``: the range of
    pixels is [0, 1] for every image, so that a score does not depend on the other images of the
    batch. This implementation is used because SSIM needs double precision, in which equal images
    score exactly 1, even in constant areas; the non-separable filter of ``torchmetrics`` is 35
    times slower in double than in single precision.

    Raises:
        InputError: the device is unavailable.
    """

    name = "ssim"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3).

        The references have the shape of the images.

        Raises:
            InputError: the references have another size.
        """
        return compare_in_parts(self.name, images, references, self._compare)

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        part_size = max(1, _VALUES // images[0].size) if len(images) else 1
        parts = [
            self._similarity(images[i : i + part_size], references[i : i + part_size])
            for i in range(0, len(images), part_size)
        ]
        return np.concatenate(parts).clip(-1, 1) if parts else np.zeros(0)

    def _similarity(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            a, b = (to_tensor(part, self.device, torch.float64) for part in (images, references))
            mean_a, mean_b = _blurred(a), _blurred(b)
            squares, product = mean_a * mean_a + mean_b * mean_b, mean_a * mean_b
            variances = _blurred(a * a + b * b) - squares
            covariance = _blurred(a * b) - product
            similarity = (
                (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
            )
        return np.asarray(similarity.mean((1, 2, 3)).cpu().numpy())


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """Return Gaussian means of images (n, channels, h, w), along columns and then along rows."""
    import torch

    window = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype) / 1.5) ** 2)
    weights = (window / window.sum()).tolist()
    for axis, pad in ((2, (0, 0, RADIUS, RADIUS)), (3, (RADIUS, RADIUS, 0, 0))):
        padded, n = torch.nn.functional.pad(x, pad, mode="reflect"), x.shape[axis]
        x = weights[0] * padded.narrow(axis, 0, n)
        for i, weight in enumerate(weights[1:], 1):
            x.add_(padded.narrow(axis, i, n), alpha=weight)
    return x
