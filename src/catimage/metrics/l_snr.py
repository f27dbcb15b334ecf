"""L-SNR (BudgetFusion paper, section 3.2): the share of an image's variance that is not detail."""

from __future__ import annotations

import numpy as np

from catimage.metrics.blur import LumaDetail, mean, power, score_detail
from catimage.metrics.metric import Metric


class LSnr(Metric):
    """1 - S / var(I), with S the power of the detail in L = I - G*I that is not noise.

    Lower is better; * denotes convolution. Equation 2 of the paper is SNR(I, G*I) for an image I
    and a Gaussian G of standard deviation 1, and the text says "Laplacian-filtered". Neither the
    equation nor the text defines SNR. This implementation makes these choices:

    - Filter: L = I - G*I compares I with G*I, as the equation does, and is the finest level of the
      Laplacian pyramid (Paris et al., which the paper cites).
    - Direction: Table 2 marks lower values as better, and noisy images (section 3.2) and blurry
      images (figure 6) must score worse. Figure 6 calls both the L-SNR of a blurry image and the
      D-SIM of a distorted image "low"; since D-SIM is a distance, "low" must refer to the quality.
      No ratio of the powers of I, G*I and L has this property, because noise and blur change such a
      ratio in opposite directions. The mean square of L is therefore split into detail and noise.
    - Noise: white Gaussian noise has a mean square of pi/2 times the square of its mean absolute
      value (Immerkaer 1996). Detail is sparse and adds little to the mean absolute value. Therefore
      S = max(0, mean(L^2) - pi/2 mean(|L|)^2).
    - Range: the filter 1 - G multiplies each frequency by a number between 0 and 1, and the mean by
      0, so that S <= mean(L^2) <= var(I). An image of one colour (0/0) scores 1, the limit of
      increasing blur.

    I is the luma (ITU-R 601), and borders are mirrored, as in the metric sharpness. Values are near
    1 (photographs: 0.96 to 0.99), so that small differences are meaningful. Texture that is as fine
    and dense as noise counts as noise. Scores are computed in float32; the difference from float64
    is about 1e-6.
    """

    name = "l_snr"
    range = (0.0, 1.0)
    higher_is_better = False

    def score(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
        """Return the scores, float64 (n,), of images, uint8 (n, h, w, 3); prompts are ignored."""
        return score_detail(images, _l_snr)


def _l_snr(images: LumaDetail) -> np.ndarray:
    total = power(images.detail)
    noise = np.pi / 2 * mean(np.abs(images.detail, out=images.detail)) ** 2
    detail = np.clip(total - noise, 0, images.variance)
    share = np.divide(detail, images.variance, out=np.zeros_like(detail), where=images.variance > 0)
    return np.asarray(1 - share)
