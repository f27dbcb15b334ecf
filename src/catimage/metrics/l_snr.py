"""L-SNR (BudgetFusion 3.2): the share of an image's variance that is not detail."""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import LumaDetail, mean, power, score_detail
from catimage.metrics.metric import Metric


class LSnr(Metric):
    """1 - S / var(I), with S the power of the detail in L = I - G*I that is not noise.

    Lower is better. Equation 2 of the paper is SNR(I, G*I), with a Gaussian G of standard deviation
    1. The text says "Laplacian-filtered", and neither defines SNR. These choices are made:

    - Filter: I - G*I is both, as it is the finest level of the Laplacian pyramid of G (Paris et
      al., whom the paper cites).
    - Direction: the arrow in Table 2 says lower is better, and noisy images (3.2) and blurry ones
      (figure 6) must score worse. (Figure 6 calls the L-SNR of a blurry image and the D-SIM of a
      distorted one "low". It means their quality, since D-SIM is a distance.) No ratio of the
      powers of I, G*I and L has this property, because noise and blur change them in opposite
      directions. The mean square of L is therefore split into detail and noise.
    - Noise: white Gaussian noise has a mean square of pi/2 times the square of its mean absolute
      value (Immerkaer 1996). Detail is sparse and adds little to the latter. Therefore
      S = max(0, mean(L^2) - pi/2 mean(|L|)^2).
    - Range: the gain of 1 - G is between 0 and 1, and 0 for the mean, so that
      S <= mean(L^2) <= var(I). An image of one colour (0/0) scores 1, the limit of blurring.

    I is the luma (ITU-R 601) and borders are mirrored, as in sharpness. Values are near 1
    (photographs: 0.96 to 0.99), so differences matter. Texture that is as fine and dense as noise
    counts as noise. Scores are computed in float32 and equal float64 to about 1e-6.
    """

    name = "l_snr"
    range = (0.0, 1.0)
    higher_is_better = False

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Score uint8 (n, h, w, 3) images: float64 (n,). The prompts are ignored."""
        return score_detail(images, _l_snr)


def _l_snr(images: LumaDetail) -> np.ndarray:
    total = power(images.detail)
    noise = np.pi / 2 * mean(np.abs(images.detail, out=images.detail)) ** 2
    detail = np.clip(total - noise, 0, images.variance)
    share = np.divide(detail, images.variance, out=np.zeros_like(detail), where=images.variance > 0)
    return np.asarray(1 - share)
