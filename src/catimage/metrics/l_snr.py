"""L-SNR, BudgetFusion 3.2: how little of an image is detail, without a reference."""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import Level, mean, of_levels, power
from catimage.metrics.metric import Metric


class LSnr(Metric):
    """1 - S / var(I): S is the power of the detail in L = I - G*I that is not noise; lower is
    better, in [0, 1].

    Equation 2 says SNR(I, G*I) with a Gaussian G of standard deviation 1, the text says
    "Laplacian-filtered", and neither what the SNR is. What is settled here, and why:

    - Gaussian or Laplacian: both. I - G*I is the finest level of the Laplacian pyramid (Paris et
    al., whom the paper cites) that G makes.
    - Direction. The arrow and Table 2 say lower is better; the text wants noisy images (3.2) and
    blurry ones (figure 6) to score worse.
      (Figure 6 calls a blurry image's L-SNR and a distorted one's D-SIM "low": it means the
      quality, since D-SIM is a distance.) No ratio of the powers of I, G*I and L does that, since
      noise and blur move them in opposite ways. The power of L is therefore split: L's mean square
      is detail plus noise.
    - Noise, white and Gaussian, has a mean square of pi/2 times the square of its mean absolute
    value (the estimator of Immerkaer, 1996).
      Detail is sparse and adds little to the latter. So S = max(0, mean(L^2) - pi/2 mean(|L|)^2).
    - Range. The gain of 1 - G lies between 0 and 1 and is 0 for the mean, so that S <= mean(L^2) <=
    var(I). An image of one colour, 0/0, is
      the limit of blurring and scores 1.

    I is the luma (ITU-R 601) and borders are mirrored, as in sharpness. Values are near 1
    (photographs 0.96 to 0.99): differences count. Texture as fine and dense as noise is taken for
    noise. Computed in float32, equal to float64 to about 1e-6.
    """

    name = "l_snr"
    range = (0.0, 1.0)
    higher_is_better = False

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """uint8 (n, h, w, 3) to float64 (n,); the prompts do not matter."""
        return of_levels(images, _l_snr)


def _l_snr(level: Level) -> np.ndarray:
    whole = power(level.detail)
    noise = np.pi / 2 * mean(np.abs(level.detail, out=level.detail)) ** 2
    detail = np.clip(whole - noise, 0, level.variance)
    return np.asarray(
        1 - np.divide(detail, level.variance, out=np.zeros_like(detail), where=level.variance > 0)
    )
