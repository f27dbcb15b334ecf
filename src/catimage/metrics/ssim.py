"""SSIM, the structural similarity of an image and its reference (Wang et al. 2004)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from catimage.common.devices import device_of
from catimage.metrics.metric import MetricContext, ReferenceMetric
from catimage.metrics.pairs import compared, tensor_of

if TYPE_CHECKING:
    import torch

RADIUS = 5
C1, C2 = 0.01**2, 0.03**2
_NUMBERS = 2**18
"""Of images that are worked on at once: what fits a core's cache, since a blur reads its whole
input eleven times.
"""


class Ssim(ReferenceMetric):
    """Equation 13 with a Gaussian window of standard deviation 1.5 and 11 x 11 pixels, borders
    mirrored, mean over pixels and RGB.

    The values are those of ``torchmetrics`` with ``data_range=1``: an image's range is [0, 1]
    whatever it holds, or its score would depend on its neighbours in the batch. They are computed
    here because double precision is wanted, in which an image is exactly 1 like itself, flat areas
    included; torchmetrics' whole (not separable) filter takes 35 times as long in that as in single
    precision.

    Raises:
        InputError: the device is not to be had.
    """

    name = "ssim"
    range = (-1.0, 1.0)

    def __init__(self, context: MetricContext) -> None:
        self.device = device_of(context.device)

    def score(self, images: np.ndarray, prompts: list[str], references: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) and references of the same shape to float64 (n,); the prompts do not
        matter.

        Raises:
            InputError: the references have another size.
        """
        return compared(self.name, images, references, self._compare)

    def _compare(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        at_once = max(1, _NUMBERS // images[0].size) if len(images) else 1
        starts = range(0, len(images), at_once)
        parts = [
            self._similarity(images[i : i + at_once], references[i : i + at_once]) for i in starts
        ]
        return np.concatenate(parts).clip(-1, 1) if parts else np.zeros(0)

    def _similarity(self, images: np.ndarray, references: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            a, b = (tensor_of(part, self.device, torch.float64) for part in (images, references))
            ma, mb = _blurred(a), _blurred(b)
            squares, product = ma * ma + mb * mb, ma * mb
            variances = _blurred(a * a + b * b) - squares
            covariance = _blurred(a * b) - product
            every = (2 * product + C1) * (2 * covariance + C2) / ((squares + C1) * (variances + C2))
            found: np.ndarray = every.mean((1, 2, 3)).cpu().numpy()
        return found


def _blurred(x: torch.Tensor) -> torch.Tensor:
    """Gaussian means of (n, channels, h, w), by columns and then by rows."""
    import torch

    window = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, dtype=x.dtype) / 1.5) ** 2)
    weights = (window / window.sum()).tolist()
    for axis, pad in ((2, (0, 0, RADIUS, RADIUS)), (3, (RADIUS, RADIUS, 0, 0))):
        padded, n = torch.nn.functional.pad(x, pad, mode="reflect"), x.shape[axis]
        x = weights[0] * padded.narrow(axis, 0, n)
        for i, weight in enumerate(weights[1:], 1):
            x.add_(padded.narrow(axis, i, n), alpha=weight)
    return x
